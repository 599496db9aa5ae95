"""One instances file of COCO: its images, categories and annotations."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.annotation_check import Annotation, AnnotationCheck, ImageCheck
from detector.datasets.formats.coco_annotation import CocoObject
from detector.datasets.formats.list_files import class_list, relative
from detector.datasets.formats.text_files import read_json
from detector.datasets.formats.values import flag, key, normalise_keys, shown, side
from detector.datasets.layout import Entry
from detector.datasets.problems import Problem, ProblemLog
from detector.errors import DatasetError
from detector.structures.classes import ClassList

KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class CocoImage:
    """One picture as the file lists it. ``name`` is its ``file_name``; a size not stated is 0. ``partial``:
    whether the file says that objects in it may be unlabelled."""

    image_id: str
    name: str
    width: int = 0
    height: int = 0
    odd: Sequence[str] = ()
    partial: bool = False


@dataclass(frozen=True)
class CocoFile:
    """What one instances file says, as it says it.

    ``categories`` maps ids to names in the order of the ids, ``supercategories`` names to those above them,
    ``numbers`` names to the ids as the file has them; ``objects`` maps a picture's id to its objects.
    ``problems`` are those of entries that belong to none of ``images``: they are left out, and so are
    pictures that share an id or a file, since nobody can tell whose boxes are whose. Ids are compared as
    text (:func:`detector.datasets.formats.values.key`). Where some objects name no picture
    (``has_orphan_objects``), one without objects may have lost its own, and is no background.
    """

    path: Path
    images: Sequence[CocoImage]
    categories: Mapping[str, str]
    supercategories: Mapping[str, str]
    numbers: Mapping[str, int | str]
    objects: Mapping[str, Sequence[CocoObject]]
    problems: Sequence[Problem]
    has_orphan_objects: bool = False

    @classmethod
    def load(cls, path: Path) -> "CocoFile":
        """Read a file. Raises DatasetError if it is no instances file, or two categories share an id."""
        content = read_json(path)
        if not isinstance(content, dict):
            raise DatasetError(f"{path} is no instances file of COCO: it holds no object with {_keys(KEYS)}")
        file = normalise_keys(content, KEYS)
        missing = [name for name in KEYS if not isinstance(file.get(name), list)]
        if missing:
            raise DatasetError(f"{path} is no instances file of COCO: it lacks a list of {_keys(missing)}")
        problems: list[Problem] = []
        categories, above, numbers = _categories(path, file["categories"])
        images = _images(path, file["images"], problems)
        ids = {image.image_id for image in images} | {problem.image_id for problem in problems}
        objects: dict[str, list[CocoObject]] = {image.image_id: [] for image in images}
        names, has_orphan_objects = _ids_by_name(images), False
        for position, entry in enumerate(file["annotations"], start=1):
            image_id = key(normalise_keys(entry, ["image_id"]).get("image_id"))
            if image_id is None:
                message = f"{path}: annotation {position} names no picture, and is left out: {shown(entry)}"
                problems.append(Problem(f"annotation {position}", "unreadable_object", message))
                has_orphan_objects = True
                continue
            image_id = image_id if image_id in ids else names.get(image_id, image_id)
            found = CocoObject.of(entry, position)
            if image_id in objects:
                objects[image_id].append(found)
            elif image_id not in ids:
                ids.add(image_id)
                message = f"{path} has objects of a picture it does not list"
                problems.append(Problem(image_id, "missing_image", message))
        return cls(path, images, categories, above, numbers, objects, problems, has_orphan_objects)

    def class_list(self) -> ClassList:
        """Return all categories in the order of their ids. Raises DatasetError if two have the same name."""
        return class_list(self.path, self.categories.values())

    def entries(self, images: Path, classes: ClassList, dropped: int = 0) -> list[Entry]:
        """Return the pictures of the file, which lie in the folder ``images``, in its order.

        Of the path in a ``file_name`` the first ``dropped`` folders are passed over. Pictures that come to
        one file by it are problems.
        """
        labels = classes.index()
        paths = [images / relative(image.name, dropped) for image in self.images]
        times = Counter(paths)
        return [
            self._entry(image, picture, labels, times[picture] > 1)
            for image, picture in zip(self.images, paths, strict=True)
        ]

    def unlisted(self, log: ProblemLog) -> None:
        """Report what belongs to no picture: objects of unlisted ones, entries that cannot be read."""
        for problem in self.problems:
            log.report(problem.image_id, problem.kind, problem.message)

    def _entry(self, image: CocoImage, picture: Path, labels: Mapping[str, int], is_shared: bool) -> Entry:
        def read(log: ProblemLog, check_images: ImageCheck) -> AnnotatedImage | None:
            if is_shared:
                message = f"{self.path} lists {picture} more than once: whose boxes are in it is not known"
                log.report(image.image_id, "duplicate_id", message)
                return None
            annotated = self.objects[image.image_id]
            boxed = [thing for thing in annotated if thing.category is not None and thing.box is not None]
            sound = [thing for thing in boxed if not thing.crowd]
            crowds = [thing.box for thing in annotated if thing.crowd]
            annotation = Annotation(
                image.width,
                image.height,
                [self.categories.get(str(thing.category), f"category {thing.category}") for thing in sound],
                np.array([thing.box for thing in sound], np.float32).reshape(-1, 4),
                unreadable=[f"{self.path}: {thing.wrong}" for thing in annotated if thing.wrong],
                odd=[*image.odd, *(f"{self.path}: {thing.odd}" for thing in annotated if thing.odd)],
                crowds=np.array(crowds, np.float32).reshape(-1, 4),
            )
            partial = image.partial or (self.has_orphan_objects and not annotated)
            return AnnotationCheck(labels, log, check_images).record(
                image.image_id, picture, annotation, partial=partial
            )

        return Entry(image.image_id, picture, read)


def _ids_by_name(images: Sequence[CocoImage]) -> dict[str, str]:
    """Return the id of each picture whose ``file_name`` no other has: what some write in place of the id."""
    times = Counter(image.name for image in images)
    return {image.name: image.image_id for image in images if times[image.name] == 1}


def _keys(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _categories(
    path: Path, entries: Sequence[Any]
) -> tuple[dict[str, str], dict[str, str], dict[str, int | str]]:
    """Return names by id, the names above them, and the ids by name, in the order of the ids."""
    found: dict[str, tuple[str, str, int | str]] = {}
    for position, entry in enumerate(entries, start=1):
        fields = normalise_keys(entry, ("id", "name", "supercategory"))
        category, name = key(fields.get("id")), fields.get("name")
        if isinstance(name, int) and not isinstance(name, bool):
            name = str(name)
        if category is None or not isinstance(name, str) or not name.strip():
            raise DatasetError(
                f"{path}: category {position} lacks an id or a name, or garbles it "
                f"({shown(entry)}): correct it"
            )
        name = name.strip()
        if category in found and found[category][0] != name:
            raise DatasetError(
                f"{path}: the categories {found[category][0]!r} and {name!r} both have the id {category}, so "
                "that the class of their objects is not known: give each an id of its own"
            )
        above = fields.get("supercategory")
        as_written = fields["id"] if isinstance(fields["id"], int) else category
        found[category] = name, above if isinstance(above, str) else "", as_written
    ordered = sorted(found, key=lambda key: (not key.isdecimal(), int(key) if key.isdecimal() else 0, key))
    return (
        {key: found[key][0] for key in ordered},
        {found[key][0]: found[key][1] for key in ordered},
        {found[key][0]: found[key][2] for key in ordered},
    )


def _images(path: Path, entries: Sequence[Any], problems: list[Problem]) -> list[CocoImage]:
    """Return the pictures that have an id of their own and a name; each listed once."""
    found: dict[str, list[CocoImage]] = {}
    for position, entry in enumerate(entries, start=1):
        fields = normalise_keys(entry, ("id", "file_name", "width", "height", "partial"))
        image_id, name = key(fields.get("id")), fields.get("file_name")
        if image_id is None or not isinstance(name, str) or not name.strip() or "\0" in name:
            message = f"{path}: picture {position} lacks an id or a file_name, or garbles it: {shown(entry)}"
            problems.append(Problem(image_id or f"picture {position}", "unreadable_annotation", message))
            continue
        if _has_objects(fields):
            message = (
                f"{path}: picture {position} ({name}) holds its objects itself, outside of 'annotations'"
            )
            problems.append(Problem(image_id, "unreadable_annotation", message))
            continue
        (width, wide), (height, high) = side(fields.get("width")), side(fields.get("height"))
        stated = f"{shown(fields.get('width'))} x {shown(fields.get('height'))}"
        odd = [] if wide and high else [f"{path} states the size {stated}: that of the picture is taken"]
        partial = flag(fields.get("partial"))
        if partial is None:  # whatever it means, somebody doubted that all is labelled
            partial = True
            odd.append(f"{path} has the partial {shown(fields.get('partial'))}, neither 0 nor 1: 1 is taken")
        found.setdefault(image_id, []).append(CocoImage(image_id, name, width, height, odd, partial))
    images = []
    for image_id, same in found.items():
        names = sorted({image.name for image in same})
        if len(names) == 1:
            images.append(same[0])
        else:
            some = ", ".join(names[:3])
            message = (
                f"{path} has {len(names)} pictures with this id: {some}. Whose its boxes are is not known"
            )
            problems += [
                Problem(image_id, "duplicate_id", f"{message}: {name} is left out") for name in names
            ]
    return images


def _has_objects(image: Mapping[str, Any]) -> bool:
    """Return whether the entry of a picture has objects that belong among the annotations (ids of them may
    be)."""
    names = ("annotations", "objects", "bboxes", "boxes")
    fields = normalise_keys(image, names)
    lists = [fields[name] for name in names if isinstance(fields.get(name), list)]
    return any(isinstance(entry, list | dict) for entries in lists for entry in entries)

"""One annotation of COCO: its category and its box, or what is wrong with them.

Reader of COCO's instances files.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.datasets.annotated_image import AnnotatedImage, Dataset, OnProblem, Problem, ProblemLog
from detector.datasets.annotation_check import Annotation, AnnotationCheck, ImageCheck
from detector.datasets.entries import Entry, read_entries
from detector.datasets.formats.files import class_list, read_json
from detector.datasets.formats.json_keys import spelled
from detector.datasets.formats.values import flag, key, number, shown, side
from detector.errors import DatasetError
from detector.structures.classes import ClassList

XYXY = tuple[float, float, float, float]

_KEYS = ("id", "category_id", "bbox", "iscrowd", "segmentation")

# The sides of a box that is an object: x, y, width, height, or its corners.
_SIDES = (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"))
_CORNERS = (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"))


@dataclass(frozen=True)
class CocoObject:
    """``category`` is its id as text; ``box`` x1, y1, x2, y2. ``wrong`` says what cannot be read, if anything
    cannot: it is then no object to learn from. ``odd`` says what was made up for. A ``crowd`` is a region of
    many objects."""

    category: str | None
    box: XYXY | None
    wrong: str = ""
    odd: str = ""
    crowd: bool = False

    @classmethod
    def of(cls, entry: Mapping[str, Any], position: int) -> "CocoObject":
        """Read an annotation, the one at this position of its file."""
        entry = spelled(entry, _KEYS)
        which = f"annotation {position}"
        if key(entry.get("id")) is not None:
            which += f" (id {key(entry['id'])})"
        crowd = flag(entry.get("iscrowd"))
        category, box, odd = key(entry.get("category_id")), _box(entry.get("bbox")), ""
        if box is None and entry.get("bbox") in (None, [], ""):
            box = _around(entry.get("segmentation"))
            odd = f"{which} has the bbox {shown(entry.get('bbox'))}: the box around its outline is taken"
        if crowd is None:
            return cls(None, None, f"{which} has the iscrowd {shown(entry.get('iscrowd'))}, neither 0 nor 1")
        if category is None and not crowd:
            return cls(None, box, f"{which} has the category_id {shown(entry.get('category_id'))}, no id")
        if crowd and box is not None:
            return cls(category, box, crowd=True)
        if box is None:
            wanted = "no four numbers, and no outline to take its place"
            return cls(category, None, f"{which} has the bbox {shown(entry.get('bbox'))}: {wanted}")
        return cls(category, box, odd=odd)


def _box(bbox: object) -> XYXY | None:
    if isinstance(bbox, Mapping):
        return _named_box(bbox)
    return _from_sides(_numbers(bbox if isinstance(bbox, list) else []))


def _named_box(bbox: Mapping[str, Any]) -> XYXY | None:
    """A box whose numbers have names. If the names of several forms are there, it may be any of them."""
    found: list[XYXY | None] = []
    for names in (*_SIDES, *_CORNERS):
        said = spelled(bbox, names)
        if all(name in said for name in names):
            numbers = _numbers([said[name] for name in names])
            found.append(numbers if names in _CORNERS else _from_sides(numbers))
    return found[0] if len(found) == 1 else None


def _from_sides(sides: XYXY | None) -> XYXY | None:
    return None if sides is None else (sides[0], sides[1], sides[0] + sides[2], sides[1] + sides[3])


def _numbers(values: Sequence[object]) -> XYXY | None:
    """Four numbers, None if they are not four or one is none."""
    found = [one for one in map(number, values) if one is not None]
    return (found[0], found[1], found[2], found[3]) if len(found) == len(values) == 4 else None


def _around(segmentation: object) -> XYXY | None:
    """The box around polygons ``[[x, y, x, y, ...], ...]``, None if it is anything else."""
    polygons = segmentation if isinstance(segmentation, list) else []
    points: list[float] = []
    for polygon in polygons:
        found = [number(one) for one in polygon] if isinstance(polygon, list) else []
        sound = [one for one in found if one is not None]
        if len(found) < 6 or len(found) % 2 or len(sound) < len(found):
            return None
        points += sound
    if not points:
        return None
    corners = np.array(points).reshape(-1, 2)  # P x (x, y)
    (x1, y1), (x2, y2) = corners.min(axis=0), corners.max(axis=0)
    return float(x1), float(y1), float(x2), float(y2)


KEYS = ("images", "annotations", "categories")


@dataclass(frozen=True)
class CocoImage:
    """One picture as the file lists it. ``name`` is its ``file_name``; a size not stated is 0."""

    image_id: str
    name: str
    width: int = 0
    height: int = 0
    odd: Sequence[str] = ()


@dataclass(frozen=True)
class CocoFile:
    """What one instances file says, as it says it.

    ``categories`` maps ids to names in the order of the ids, ``supercategories`` names to those above them,
    ``numbers`` names to the ids as the file has them; ``objects`` maps a picture's id to its objects.
    ``problems`` are those of entries that belong to none of ``images``: they are left out, and so are
    pictures that share an id or a file, since nobody can tell whose boxes are whose. Ids are compared as
    text (:func:`detector.datasets.formats.values.key`). With ``nobodys`` objects, those that name no picture,
    one without objects may have lost its own, and is no background.
    """

    path: Path
    images: Sequence[CocoImage]
    categories: Mapping[str, str]
    supercategories: Mapping[str, str]
    numbers: Mapping[str, int | str]
    objects: Mapping[str, Sequence[CocoObject]]
    problems: Sequence[Problem]
    nobodys: bool = False

    @classmethod
    def load(cls, path: Path) -> "CocoFile":
        """Read a file. Raises DatasetError if it is no instances file, or two categories share an id."""
        content = read_json(path)
        if not isinstance(content, dict):
            raise DatasetError(f"{path} is no instances file of COCO: it holds no object with {_keys(KEYS)}")
        file = spelled(content, KEYS)
        missing = [name for name in KEYS if not isinstance(file.get(name), list)]
        if missing:
            raise DatasetError(f"{path} is no instances file of COCO: it lacks a list of {_keys(missing)}")
        problems: list[Problem] = []
        categories, above, numbers = _categories(path, file["categories"])
        images = _images(path, file["images"], problems)
        ids = {image.image_id for image in images} | {problem.image_id for problem in problems}
        objects: dict[str, list[CocoObject]] = {image.image_id: [] for image in images}
        names, nobodys = _ids_by_name(images), False
        for position, entry in enumerate(file["annotations"], start=1):
            image_id = key(spelled(entry, ["image_id"]).get("image_id"))
            if image_id is None:
                message = f"{path}: annotation {position} names no picture, and is left out: {shown(entry)}"
                problems.append(Problem(f"annotation {position}", "unreadable_object", message))
                nobodys = True
                continue
            image_id = image_id if image_id in ids else names.get(image_id, image_id)
            found = CocoObject.of(entry, position)
            if image_id in objects:
                objects[image_id].append(found)
            elif image_id not in ids:
                ids.add(image_id)
                message = f"{path} has objects of a picture it does not list"
                problems.append(Problem(image_id, "missing_image", message))
        return cls(path, images, categories, above, numbers, objects, problems, nobodys)

    def class_list(self) -> ClassList:
        """All categories in the order of their ids. Raises DatasetError if two have the same name."""
        return class_list(self.path, self.categories.values())

    def entries(self, images: Path, classes: ClassList, dropped: int = 0) -> list[Entry]:
        """The pictures of the file, which lie in the folder ``images``, in its order.

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
            mine = self.objects[image.image_id]
            boxed = [one for one in mine if one.category is not None and one.box is not None]
            sound = [one for one in boxed if not one.crowd]
            crowds = [one.box for one in mine if one.crowd]
            said = Annotation(
                image.width,
                image.height,
                [self.categories.get(str(one.category), f"category {one.category}") for one in sound],
                np.array([one.box for one in sound], np.float32).reshape(-1, 4),
                unreadable=[f"{self.path}: {one.wrong}" for one in mine if one.wrong],
                odd=[*image.odd, *(f"{self.path}: {one.odd}" for one in mine if one.odd)],
                crowds=np.array(crowds, np.float32).reshape(-1, 4),
            )
            partial = self.nobodys and not mine
            return AnnotationCheck(labels, log, check_images).record(
                image.image_id, picture, said, partial=partial
            )

        return Entry(image.image_id, picture, read)


def relative(name: str, dropped: int = 0) -> Path:
    """The path of a ``file_name``, also one of Windows, without its first so many folders."""
    path = Path(name if "/" in name else name.replace("\\", "/"))
    parts = [part for part in path.parts if part not in (".", "..")]
    return Path(*parts[min(dropped, len(parts) - 1) :]) if dropped and parts else path


def read_coco(
    annotations: Path,
    images: Path,
    *,
    classes: ClassList | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
    check_images: ImageCheck = True,
) -> Dataset:
    """Read one instances file (``instances_val2017.json``) and the folder of its pictures.

    Records come in the file's order; an ``image_id`` is COCO's number as text. A file's box is x, y, width
    and height, continuous as ours are; where it is absent, it is that around the outline. Annotations with
    ``iscrowd`` are no objects but a record's ``crowds``: each is a box around many, which none of them fills.

    classes:
        The classes to read, by COCO's names; by default all categories of the file in the order of their
        ids. Objects of others are problems.
    on_problem, check_pictures:
        As for :func:`detector.datasets.formats.ilsvrc_det.read_ilsvrc_det`.

    Raises DatasetError if the file is no instances file, or at the first problem with ``OnProblem.STOP``.
    """
    file = CocoFile.load(annotations)
    classes = file.class_list() if classes is None else classes
    log = ProblemLog(on_problem)
    records = read_entries(file.entries(images, classes), log, check_images)
    file.unlisted(log)
    return Dataset(records, list(classes.ids), log.problems)


def _ids_by_name(images: Sequence[CocoImage]) -> dict[str, str]:
    """The id of each picture whose ``file_name`` no other has: what some write in place of the id."""
    times = Counter(image.name for image in images)
    return {image.name: image.image_id for image in images if times[image.name] == 1}


def _keys(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names)


def _categories(
    path: Path, entries: Sequence[Any]
) -> tuple[dict[str, str], dict[str, str], dict[str, int | str]]:
    """Names by id, the names above them, and the ids by name, in the order of the ids."""
    found: dict[str, tuple[str, str, int | str]] = {}
    for position, entry in enumerate(entries, start=1):
        said = spelled(entry, ("id", "name", "supercategory"))
        category, name = key(said.get("id")), said.get("name")
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
        above = said.get("supercategory")
        as_written = said["id"] if isinstance(said["id"], int) else category
        found[category] = name, above if isinstance(above, str) else "", as_written
    ordered = sorted(found, key=lambda one: (not one.isdecimal(), int(one) if one.isdecimal() else 0, one))
    return (
        {one: found[one][0] for one in ordered},
        {found[one][0]: found[one][1] for one in ordered},
        {found[one][0]: found[one][2] for one in ordered},
    )


def _has_objects(image: Mapping[str, Any]) -> bool:
    """Whether the entry of a picture has objects that belong among the annotations (ids of them may be)."""
    names = ("annotations", "objects", "bboxes", "boxes")
    said = spelled(image, names)
    lists = [said[name] for name in names if isinstance(said.get(name), list)]
    return any(isinstance(one, list | dict) for mine in lists for one in mine)


def _images(path: Path, entries: Sequence[Any], problems: list[Problem]) -> list[CocoImage]:
    """The pictures that have an id of their own and a name; each listed once."""
    found: dict[str, list[CocoImage]] = {}
    for position, entry in enumerate(entries, start=1):
        said = spelled(entry, ("id", "file_name", "width", "height"))
        image_id, name = key(said.get("id")), said.get("file_name")
        if image_id is None or not isinstance(name, str) or not name.strip() or "\0" in name:
            message = f"{path}: picture {position} lacks an id or a file_name, or garbles it: {shown(entry)}"
            problems.append(Problem(image_id or f"picture {position}", "unreadable_annotation", message))
            continue
        if _has_objects(said):
            message = (
                f"{path}: picture {position} ({name}) holds its objects itself, outside of 'annotations'"
            )
            problems.append(Problem(image_id, "unreadable_annotation", message))
            continue
        (width, wide), (height, high) = side(said.get("width")), side(said.get("height"))
        stated = f"{shown(said.get('width'))} x {shown(said.get('height'))}"
        odd = [] if wide and high else [f"{path} states the size {stated}: that of the picture is taken"]
        found.setdefault(image_id, []).append(CocoImage(image_id, name, width, height, odd))
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

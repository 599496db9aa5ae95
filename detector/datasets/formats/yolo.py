"""Reader of YOLO's layout: a data.yaml or a list of class names, images, and label files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.annotation_check import Annotation, AnnotationCheck, ImageCheck
from detector.datasets.folder_tree import FolderTree, unread_of
from detector.datasets.formats.yolo_description import YoloDescription
from detector.datasets.formats.yolo_labels import (
    CLASS_FILES,
    LabelFile,
    LabelFinder,
    YoloLabels,
    has_objects,
    named_in_file,
    parse_yolo,
)
from detector.datasets.formats.yolo_splits import images_of_splits
from detector.datasets.layout import Entry, once
from detector.datasets.problems import Problem, ProblemLog
from detector.datasets.split_names import in_order, split_of
from detector.errors import DatasetError, ImageError
from detector.io.image_header import read_header
from detector.io.image_paths import IMAGE_SUFFIXES, unread_kinds
from detector.io.readable_files import is_file
from detector.structures.boxes import Boxes
from detector.structures.classes import ClassList

_SAMPLE = 50  # text files that say whether they are label files


_NOT_LABELS = (
    *CLASS_FILES,
    "readme.txt",
    "train.txt",
    "val.txt",
    "valid.txt",
    "test.txt",
    "labelmap.txt",
    "requirements.txt",
)


Labelled = tuple[str, Path, LabelFile]  # image id, picture, label file


@dataclass(frozen=True)
class YoloFolder:
    """The pictures of each split and the label file that belongs to each; ``problems`` of its list files."""

    tree: FolderTree
    labels: LabelFinder
    images: Mapping[str, Sequence[Labelled]]
    classes: ClassList
    keypoints: bool = False
    problems: Mapping[str, Sequence[Problem]] = field(default_factory=dict)

    @classmethod
    def find(cls, tree: FolderTree) -> "YoloFolder | None":
        """Return the data set below a folder, None if it holds no label files of YOLO.

        Raises DatasetError if it does but the names of the classes, the pictures, or any label file of a
        picture are not found.
        """
        described = YoloDescription.find(tree)
        labels = LabelFinder(tree)
        if described is None:
            if not _has_labels(labels):
                return None
            images = _told_apart(_by_folder(tree, labels))
            return cls(tree, labels, _without_lost(images, tree, labels), named_in_file(tree))
        listed = images_of_splits(described, tree)
        images = {
            split: [(tree.image_id(image), image, labels.find(image)) for image in of_split]
            for split, of_split in listed.images.items()
        } or _by_folder(tree, labels)
        paths = [label.path for pairs in images.values() for _, _, label in pairs]
        if paths and not any(is_file(path) for path in paths):
            first = next(iter(images.values()))[0][1]
            raise DatasetError(
                f"{described.path} describes a data set, but of its {len(paths)} pictures none has a label "
                f"file: that of {first} would be {paths[0]}. Lay the label files there"
            )
        images = _without_lost(_told_apart(images), tree, labels)
        return cls(tree, labels, images, described.classes(), described.keypoints, listed.problems)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in in_order(self.images) if split)

    def entries(self, split: str | None) -> list[Entry]:
        return once(
            yolo_entry(
                image_id,
                image,
                label.path,
                self.classes,
                keypoints=self.keypoints,
                problem=label.problem,
            )
            for name in self._chosen(split)
            for image_id, image, label in self.images[name]
        )

    def unmatched_annotations(self, split: str | None, log: ProblemLog) -> None:
        """Report lines of lists that name nothing; label files without a picture, but those in the folders of
        other splits."""
        for name in self._chosen(split):
            for problem in self.problems.get(name, ()):
                log.report(problem.image_id, problem.kind, problem.message)
        own = {label.path.parent for name in self._chosen(split) for _, _, label in self.images[name]}
        others = {label.path.parent for pairs in self.images.values() for _, _, label in pairs} - own
        unread = {image.stem: f", but {unread_kinds([image])}" for image in unread_of(self.tree)}
        for path in _orphans(self.images, self.tree, self.labels):
            if path.parent not in others and has_objects(path):
                message = f"label file {path} has no picture{unread.get(path.stem, '')}"
                log.report(path.stem, "missing_image", message)

    def _chosen(self, split: str | None) -> tuple[str, ...]:
        return tuple(in_order(self.images)) if split is None else (split,)


def _told_apart(images: Mapping[str, Sequence[Labelled]]) -> dict[str, list[Labelled]]:
    """Return the pictures; those that share a label file (a.jpg, a.png) have that as their problem."""
    owners: dict[Path, set[Path]] = {}
    for pairs in images.values():
        for _, image, label in pairs:
            owners.setdefault(label.path, set()).add(image)
    shared = {path for path, pictures in owners.items() if len(pictures) > 1 and is_file(path)}

    def told(image: Path, label: LabelFile) -> LabelFile:
        if label.problem or label.path not in shared:
            return label
        other = min(owners[label.path] - {image})
        return LabelFile(label.path, f"{label.path} may be of {image} or of {other}: leave one of them")

    return {
        split: [(image_id, image, told(image, label)) for image_id, image, label in pairs]
        for split, pairs in images.items()
    }


def _without_lost(
    images: Mapping[str, Sequence[Labelled]], tree: FolderTree, labels: LabelFinder
) -> dict[str, list[Labelled]]:
    """Return the pictures; those without a label file have as their problem one that is called like them,
    lies where none of theirs belongs and is no other picture's: without objects they would be learnt as
    background."""
    orphans: dict[str, list[Path]] = {}
    if not all(is_file(label.path) for pairs in images.values() for _, _, label in pairs):
        for path in _orphans(images, tree, labels):
            orphans.setdefault(path.stem, []).append(path)

    def told(image: Path, label: LabelFile) -> LabelFile:
        if label.problem or is_file(label.path):
            return label
        lost = next(filter(has_objects, orphans.get(image.stem, ())), None)
        if lost is None:
            return label
        return LabelFile(
            lost, f"{image} has no label file, but {lost} is called like it: lay it at {label.path}"
        )

    return {
        split: [(image_id, image, told(image, label)) for image_id, image, label in pairs]
        for split, pairs in images.items()
    }


def _orphans(images: Mapping[str, Sequence[Labelled]], tree: FolderTree, labels: LabelFinder) -> list[Path]:
    """Return the text files that belong to no picture and are not known to be something else, sorted."""
    everything = (*images.values(), *_by_folder(tree, labels).values())
    owned = {label.path for pairs in everything for _, _, label in pairs}
    return sorted(
        path for path in labels.every() if path not in owned and path.name.lower() not in _NOT_LABELS
    )


def _has_labels(labels: LabelFinder) -> bool:
    """Return whether some of the first text files are label files with objects."""
    found = (path for path in labels.every() if path.name.lower() not in _NOT_LABELS)
    return any(has_objects(path) for path in islice(found, _SAMPLE))


def _by_folder(tree: FolderTree, labels: LabelFinder) -> dict[str, list[Labelled]]:
    """Return all pictures below the root, by the folder named after a split that they lie in."""
    found: dict[str, list[Labelled]] = {}
    for folder, names in tree.with_suffix(*IMAGE_SUFFIXES):
        split = split_of(folder.relative_to(tree.root)) or ""
        for name in names:
            image = folder / name
            found.setdefault(split, []).append((tree.image_id(image), image, labels.find(image)))
    return found


_ROUNDING = 0.5
"""Pixels that a box may lie outside by its file's rounding: four digits of a picture of 5,000 pixels."""


def yolo_entry(
    image_id: str,
    image: Path,
    label_file: Path,
    classes: ClassList,
    *,
    keypoints: bool = False,
    problem: str = "",
) -> Entry:
    """Return a picture and its label file, which may be empty or absent: the picture then has no objects.

    Boxes are shares of the upright picture. The header of a picture is read even without ``check_images``:
    label files do not state a size. A ``problem`` with the label file is reported and leaves the picture out.
    """

    def read(log: ProblemLog, check_images: ImageCheck) -> AnnotatedImage | None:
        del check_images
        if problem:
            log.report(image_id, "unreadable_annotation", problem)
            return None
        try:
            content = parse_yolo(label_file, keypoints, classes.ids)
        except FileNotFoundError:
            if label_file.is_symlink():
                message = f"label file {label_file} is a link to nowhere: lay there what it links to"
                log.report(image_id, "unreadable_annotation", message)
                return None
            content = YoloLabels([], np.zeros((0, 4), np.float32))
        except DatasetError as error:
            log.report(image_id, "unreadable_annotation", str(error))
            return None
        try:
            width, height = read_header(image).upright_size
        except FileNotFoundError:
            log.report(image_id, "missing_image", f"picture {image} is missing")
            return None
        except ImageError as error:
            log.report(image_id, "unreadable_image", str(error))
            return None
        known = {number: classes.ids[number] for number in content.numbers if 0 <= number < len(classes)}
        names = [known.get(number, f"number {number}") for number in content.numbers]
        boxes = _pixels(content.boxes, width, height)
        labels = {name: number for number, name in known.items()}
        check = AnnotationCheck(labels, log, check_images=False)  # the size is already the file's own
        return check.record(
            image_id, image, Annotation(width, height, names, boxes, unreadable=content.unreadable)
        )

    return Entry(image_id, image, read)


def _pixels(shares: Boxes, width: int, height: int) -> Boxes:
    """Return boxes [G,4] in pixels; sides that are outside by no more than rounding come to the edge."""
    sides = np.array([width, height, width, height], np.float32)
    boxes = shares * sides
    inside = np.clip(boxes, 0, sides)
    return np.where(np.abs(boxes - inside) <= _ROUNDING, inside, boxes).astype(np.float32)

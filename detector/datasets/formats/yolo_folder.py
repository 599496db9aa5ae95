"""Folders in YOLO's layout: a data.yaml or a list of class names, pictures, and label files beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from detector.datasets.entries import Entry, once
from detector.datasets.folder_tree import FolderTree
from detector.datasets.formats.yolo import parse_yolo, yolo_entry
from detector.datasets.formats.yolo_description import CLASS_FILES, YoloDescription, named_in_file
from detector.datasets.formats.yolo_labels import LabelFile, LabelFinder
from detector.datasets.presence import is_file
from detector.datasets.problems import ProblemLog
from detector.datasets.record import Problem
from detector.datasets.split_names import in_order, split_of
from detector.datasets.unread_images import unread_of
from detector.errors import DatasetError
from detector.io.image_paths import PICTURE_SUFFIXES, unread_kinds
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
    pictures: Mapping[str, Sequence[Labelled]]
    classes: ClassList
    keypoints: bool = False
    problems: Mapping[str, Sequence[Problem]] = field(default_factory=dict)

    @classmethod
    def find(cls, tree: FolderTree) -> "YoloFolder | None":
        """The data set below a folder, None if it holds no label files of YOLO.

        Raises DatasetError if it does but the names of the classes, the pictures, or any label file of a
        picture are not found.
        """
        described = YoloDescription.find(tree)
        labels = LabelFinder(tree)
        if described is None:
            if not _has_labels(labels):
                return None
            pictures = _told_apart(_by_folder(tree, labels))
            return cls(tree, labels, _without_lost(pictures, tree, labels), named_in_file(tree))
        listed = described.pictures(tree)
        pictures = {
            split: [(tree.image_id(picture), picture, labels.find(picture)) for picture in mine]
            for split, mine in listed.pictures.items()
        } or _by_folder(tree, labels)
        mine = [label.path for pairs in pictures.values() for _, _, label in pairs]
        if mine and not any(is_file(path) for path in mine):
            first = next(iter(pictures.values()))[0][1]
            raise DatasetError(
                f"{described.path} describes a data set, but of its {len(mine)} pictures none has a label "
                f"file: that of {first} would be {mine[0]}. Lay the label files there"
            )
        pictures = _without_lost(_told_apart(pictures), tree, labels)
        return cls(tree, labels, pictures, described.classes(), described.keypoints, listed.problems)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in in_order(self.pictures) if split)

    def entries(self, split: str | None) -> list[Entry]:
        return once(
            yolo_entry(
                image_id,
                picture,
                label.path,
                self.classes,
                keypoints=self.keypoints,
                problem=label.problem,
            )
            for name in self._chosen(split)
            for image_id, picture, label in self.pictures[name]
        )

    def strays(self, split: str | None, log: ProblemLog) -> None:
        """Lines of lists that name nothing; label files without a picture, but those in the folders of other
        splits."""
        for name in self._chosen(split):
            for problem in self.problems.get(name, ()):
                log.report(problem.image_id, problem.kind, problem.message)
        mine = {label.path.parent for name in self._chosen(split) for _, _, label in self.pictures[name]}
        others = {label.path.parent for pairs in self.pictures.values() for _, _, label in pairs} - mine
        unread = {picture.stem: f", but {unread_kinds([picture])}" for picture in unread_of(self.tree)}
        for path in _orphans(self.pictures, self.tree, self.labels):
            if path.parent not in others and _has_objects(path):
                message = f"label file {path} has no picture{unread.get(path.stem, '')}"
                log.report(path.stem, "missing_image", message)

    def _chosen(self, split: str | None) -> tuple[str, ...]:
        return tuple(in_order(self.pictures)) if split is None else (split,)


def _told_apart(pictures: Mapping[str, Sequence[Labelled]]) -> dict[str, list[Labelled]]:
    """The pictures; those that share a label file (a.jpg, a.png) have that as their problem."""
    owners: dict[Path, set[Path]] = {}
    for pairs in pictures.values():
        for _, picture, label in pairs:
            owners.setdefault(label.path, set()).add(picture)
    shared = {path for path, mine in owners.items() if len(mine) > 1 and is_file(path)}

    def told(picture: Path, label: LabelFile) -> LabelFile:
        if label.problem or label.path not in shared:
            return label
        other = min(owners[label.path] - {picture})
        return LabelFile(label.path, f"{label.path} may be of {picture} or of {other}: leave one of them")

    return {
        split: [(image_id, picture, told(picture, label)) for image_id, picture, label in pairs]
        for split, pairs in pictures.items()
    }


def _without_lost(
    pictures: Mapping[str, Sequence[Labelled]], tree: FolderTree, labels: LabelFinder
) -> dict[str, list[Labelled]]:
    """The pictures; those without a label file have as their problem one that is called like them, lies where
    none of theirs belongs and is no other picture's: without objects they would be learnt as background."""
    orphans: dict[str, list[Path]] = {}
    if not all(is_file(label.path) for pairs in pictures.values() for _, _, label in pairs):
        for path in _orphans(pictures, tree, labels):
            orphans.setdefault(path.stem, []).append(path)

    def told(picture: Path, label: LabelFile) -> LabelFile:
        if label.problem or is_file(label.path):
            return label
        lost = next(filter(_has_objects, orphans.get(picture.stem, ())), None)
        if lost is None:
            return label
        return LabelFile(
            lost, f"{picture} has no label file, but {lost} is called like it: lay it at {label.path}"
        )

    return {
        split: [(image_id, picture, told(picture, label)) for image_id, picture, label in pairs]
        for split, pairs in pictures.items()
    }


def _orphans(pictures: Mapping[str, Sequence[Labelled]], tree: FolderTree, labels: LabelFinder) -> list[Path]:
    """The text files that belong to no picture and are not known to be something else, sorted."""
    everything = (*pictures.values(), *_by_folder(tree, labels).values())
    owned = {label.path for pairs in everything for _, _, label in pairs}
    return sorted(
        path for path in labels.every() if path not in owned and path.name.lower() not in _NOT_LABELS
    )


def _has_labels(labels: LabelFinder) -> bool:
    """Whether some of the first text files are label files with objects."""
    found = (path for path in labels.every() if path.name.lower() not in _NOT_LABELS)
    return any(_has_objects(path) for path in islice(found, _SAMPLE))


def _has_objects(path: Path) -> bool:
    try:
        return bool(parse_yolo(path).numbers)
    except (OSError, DatasetError):
        return False


def _by_folder(tree: FolderTree, labels: LabelFinder) -> dict[str, list[Labelled]]:
    """All pictures below the root, by the folder named after a split that they lie in."""
    found: dict[str, list[Labelled]] = {}
    for folder, names in tree.with_suffix(*PICTURE_SUFFIXES):
        split = split_of(folder.relative_to(tree.root)) or ""
        for name in names:
            picture = folder / name
            found.setdefault(split, []).append((tree.image_id(picture), picture, labels.find(picture)))
    return found

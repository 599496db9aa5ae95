"""Folders in YOLO's layout: a data.yaml or a list of class names, pictures, and label files beside them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from detector.classes import ClassList
from detector.datasets.entries import Entry, once
from detector.datasets.folder_tree import PICTURES, FolderTree
from detector.datasets.problems import ProblemLog
from detector.datasets.split_names import in_order, split_of
from detector.datasets.yolo import parse_yolo, yolo_entry
from detector.datasets.yolo_description import CLASS_FILES, YoloDescription, named_in_file
from detector.errors import DatasetError

_SAMPLE = 50  # text files that say whether they are label files
_NOT_LABELS = (
    *CLASS_FILES,
    "readme.txt",
    "train.txt",
    "val.txt",
    "valid.txt",
    "test.txt",
    "requirements.txt",
)


@dataclass(frozen=True)
class YoloFolder:
    """The pictures of each split and the label file that belongs to each."""

    tree: FolderTree
    pictures: Mapping[str, Sequence[tuple[str, Path, Path]]]
    classes: ClassList
    keypoints: bool = False

    @classmethod
    def find(cls, tree: FolderTree) -> "YoloFolder | None":
        """The data set below a folder, None if it holds no label files of YOLO.

        Raises DatasetError if it does but the names of the classes or the pictures are not found.
        """
        described = YoloDescription.find(tree)
        if described is None:
            return cls(tree, _by_folder(tree), named_in_file(tree)) if _has_labels(tree) else None
        pictures = {
            split: [(tree.image_id(picture), picture, _labels(picture, tree)) for picture in mine]
            for split, mine in described.pictures(tree).items()
        }
        return cls(tree, pictures or _by_folder(tree), described.classes(), described.keypoints)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in in_order(self.pictures) if split)

    def entries(self, split: str | None) -> list[Entry]:
        return once(
            yolo_entry(image_id, picture, labels, self.classes, keypoints=self.keypoints)
            for name in self._chosen(split)
            for image_id, picture, labels in self.pictures[name]
        )

    def strays(self, split: str | None, log: ProblemLog) -> None:
        """Label files without a picture, in the folders where the split's label files are."""
        folders = {labels.parent for name in self._chosen(split) for _, _, labels in self.pictures[name]}
        owned = {labels for mine in _by_folder(self.tree).values() for _, _, labels in mine}
        for folder in sorted(folders):
            for path in (folder / name for name in self.tree.files.get(folder, ())):
                if path.suffix != ".txt" or path.name in _NOT_LABELS or path in owned:
                    continue
                if _has_objects(path):
                    log.report(path.stem, "missing_image", f"label file {path} has no picture")

    def _chosen(self, split: str | None) -> tuple[str, ...]:
        return (self.splits or tuple(self.pictures)) if split is None else (split,)


def _labels(picture: Path, tree: FolderTree) -> Path:
    """The label file of a picture: ``labels`` for the last ``images`` in its path, else beside it."""
    name = f"{picture.stem}.txt"
    parts = picture.parent.parts
    for index in range(len(parts) - 1, -1, -1):
        if parts[index] == "images":
            folder = Path(*parts[:index], "labels", *parts[index + 1 :])
            if folder in tree.files or folder.is_dir():
                return folder / name
            break
    return picture.with_name(name)


def _has_labels(tree: FolderTree) -> bool:
    """Whether some of the first text files are label files with objects."""
    found = (
        folder / name
        for folder, names in tree.with_suffix(".txt")
        for name in names
        if name not in _NOT_LABELS
    )
    return any(_has_objects(path) for path in islice(found, _SAMPLE))


def _has_objects(path: Path) -> bool:
    try:
        return bool(parse_yolo(path).numbers)
    except (OSError, DatasetError):
        return False


def _by_folder(tree: FolderTree) -> dict[str, list[tuple[str, Path, Path]]]:
    """All pictures below the root, by the folder named after a split that they lie in."""
    found: dict[str, list[tuple[str, Path, Path]]] = {}
    for folder, names in tree.with_suffix(*PICTURES):
        split = split_of(folder.relative_to(tree.root)) or ""
        for name in names:
            picture = folder / name
            found.setdefault(split, []).append((tree.image_id(picture), picture, _labels(picture, tree)))
    return found

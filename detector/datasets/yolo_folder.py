"""Folders in YOLO's layout: a data.yaml or a list of class names, pictures, and label files beside them."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import yaml

from detector.classes import ClassList
from detector.datasets.entries import Entry, once
from detector.datasets.folder_tree import PICTURES, FolderTree
from detector.datasets.split_names import in_order, split_of
from detector.datasets.yolo import parse_yolo, yolo_entry
from detector.errors import DatasetError, ParameterError

CLASS_FILES = ("classes.txt", "obj.names", "labels.txt")
"""Where class names stand, one a line, if there is no data.yaml: labelImg's, Darknet's."""

_SAMPLE = 50  # text files that say whether they are label files
_SPLITS = ("train", "val", "valid", "test")  # keys of a data.yaml
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

    pictures: Mapping[str, Sequence[tuple[str, Path, Path]]]
    classes: ClassList
    keypoints: bool = False

    @classmethod
    def find(cls, tree: FolderTree) -> "YoloFolder | None":
        """The data set below a folder, None if it holds no label files of YOLO.

        Raises DatasetError if it does but the names of the classes or the pictures are not found.
        """
        described = _description(tree)
        if described is None and not _has_labels(tree):
            return None
        if described is None:
            return cls(_by_folder(tree), _named_in_file(tree))
        path, said = described
        splits = {name: said[name] for name in _SPLITS if said.get(name)}
        pictures = {
            split: [
                (tree.image_id(picture), picture, _labels(picture, tree))
                for picture in _listed(tree, path, said, split, where)
            ]
            for split, where in splits.items()
        }
        found = {split: mine for split, mine in pictures.items() if mine}
        return cls(found or _by_folder(tree), _class_list(path, said["names"]), "kpt_shape" in said)

    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(split for split in in_order(self.pictures) if split)

    def entries(self, split: str | None) -> list[Entry]:
        chosen = self.splits or tuple(self.pictures) if split is None else (split,)
        return once(
            yolo_entry(image_id, picture, labels, self.classes, keypoints=self.keypoints)
            for name in chosen
            for image_id, picture, labels in self.pictures[name]
        )


def _description(tree: FolderTree) -> tuple[Path, Mapping[str, Any]] | None:
    """The data.yaml: a YAML file in the root, or one folder below it, that lists ``names``."""
    found = []
    for folder, names in tree.with_suffix(".yaml", ".yml"):
        if len(folder.relative_to(tree.root).parts) > 1:
            continue
        for name in names:
            try:
                said = yaml.safe_load((folder / name).read_text(encoding="utf-8"))
            except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
                if name in ("data.yaml", "data.yml", "dataset.yaml"):
                    raise DatasetError(f"{folder / name} cannot be read: {error}") from error
                continue
            if isinstance(said, dict) and isinstance(said.get("names"), list | dict):
                found.append((folder / name, said))
    if len(found) > 1:
        paths = ", ".join(str(path) for path, _ in found)
        raise DatasetError(f"{paths} all describe a data set: leave one of them in {tree.root}")
    return found[0] if found else None


def _class_list(path: Path, names: Sequence[Any] | Mapping[Any, Any]) -> ClassList:
    """The classes by their numbers. Raises DatasetError if numbers are left out or a name stands twice."""
    if isinstance(names, Mapping):
        missing = [number for number in range(len(names)) if number not in names]
        if missing:
            raise DatasetError(f"{path}: names lacks number {missing[0]}: number its classes 0, 1, 2 and on")
        names = [names[number] for number in range(len(names))]
    try:
        return ClassList.of(str(name) for name in names)
    except ParameterError as error:
        raise DatasetError(f"{path}: {error}: give every class a name of its own") from error


def _named_in_file(tree: FolderTree) -> ClassList:
    found = [folder / name for folder, names in tree.files.items() for name in names if name in CLASS_FILES]
    lists = {
        tuple(
            line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()
        ): path
        for path in found
    }
    if len(lists) != 1:
        what = f"{', '.join(map(str, lists.values()))} differ" if lists else f"none lies below {tree.root}"
        raise DatasetError(
            "label files of YOLO give classes by number, whose names stand in a data.yaml "
            f"(names: [cat, dog]) or one a line in a {CLASS_FILES[0]}; {what}: write one"
        )
    ((names, path),) = lists.items()
    return _class_list(path, names)


def _listed(tree: FolderTree, path: Path, said: Mapping[str, Any], split: str, where: Any) -> list[Path]:
    """The pictures that one key of a data.yaml stands for: a folder, a list file, or several of them."""
    pictures: list[Path] = []
    for one in where if isinstance(where, list) else [where]:
        place = _place(path, said, str(one))
        if place is None and split == "test":
            return []  # exports name a test folder whether or not they have one
        if place is None:
            raise DatasetError(f"{path}: {split}: {one} is not there: correct it, or lay the folder there")
        if place.is_file():
            lines = place.read_text(encoding="utf-8-sig").splitlines()
            pictures += [place.parent / line.strip() for line in lines if line.strip()]
        else:
            below = tree if place.is_relative_to(tree.root) else FolderTree.scan(place)
            pictures += [
                folder / name
                for folder, names in below.with_suffix(*PICTURES)
                if folder.is_relative_to(place)
                for name in names
            ]
    return pictures


def _place(path: Path, said: Mapping[str, Any], text: str) -> Path | None:
    """The folder or file that a data.yaml means.

    Paths are relative to its ``path``, or else to where it lies. ``path`` is often that of another machine,
    and Roboflow writes ``../train/images`` for what lies beside the file: both are taken as meant.
    """
    base = Path(str(said.get("path") or "."))
    beside = Path(*(part for part in Path(text).parts if part not in ("..", "/")))
    places = [path.parent / base / text, path.parent / text, path.parent / beside]
    places += [path.parent / base.name / text]
    return next((Path(os.path.normpath(place)) for place in places if place.exists()), None)


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

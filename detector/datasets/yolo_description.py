"""What a data.yaml says of a data set in YOLO's layout: its classes, and where its splits lie."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from detector.classes import ClassList
from detector.datasets.class_names import class_list
from detector.datasets.coco import relative
from detector.datasets.folder_tree import FolderTree
from detector.datasets.list_file import read_lines
from detector.datasets.split_names import split_of
from detector.datasets.text_file import read_text
from detector.datasets.values import key
from detector.errors import DatasetError
from detector.picture_paths import PICTURE_SUFFIXES
from detector.text import one_line

CLASS_FILES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels")
"""Where class names stand, one a line, if there is no data.yaml: labelImg's, Darknet's, Roboflow's."""

_SPLITS = ("train", "val", "valid", "test")  # keys of a data.yaml
_USUAL = ("data.yaml", "data.yml", "dataset.yaml")


@dataclass(frozen=True)
class YoloDescription:
    """One data.yaml: where it lies and what it says."""

    path: Path
    said: Mapping[str, Any]

    @classmethod
    def find(cls, tree: FolderTree) -> "YoloDescription | None":
        """The YAML file in the root, or one folder below it, that lists ``names``; None if there is none.

        Raises DatasetError if there are several, or the usual one cannot be read.
        """
        found = []
        for folder, names in tree.with_suffix(".yaml", ".yml"):
            if len(folder.relative_to(tree.root).parts) > 1:
                continue
            for path in (folder / name for name in names):
                try:
                    said = yaml.safe_load(read_text(path))
                except (OSError, DatasetError, yaml.YAMLError, ValueError, RecursionError) as error:
                    if path.name in _USUAL:
                        raise DatasetError(f"{path} cannot be read: {one_line(error)}") from error
                    continue
                if isinstance(said, dict) and isinstance(said.get("names"), list | dict):
                    found.append(cls(path, said))
        found = found or _darknet(tree)
        if len(found) > 1:
            paths = ", ".join(str(one.path) for one in found)
            raise DatasetError(f"{paths} all describe a data set: leave one of them in {tree.root}")
        return found[0] if found else None

    @property
    def keypoints(self) -> bool:
        """Whether lines go on with keypoints after the box (Ultralytics' pose format)."""
        return "kpt_shape" in self.said

    def classes(self) -> ClassList:
        """The classes by their numbers. Raises DatasetError if one is left out or a name stands twice."""
        names = self.said["names"]
        if isinstance(names, dict):
            names = {key(number): name for number, name in names.items()}
            missing = [number for number in range(len(names)) if str(number) not in names]
            if missing:
                raise DatasetError(
                    f"{self.path}: names lacks number {missing[0]}: number its classes 0, 1, 2 and on"
                )
            names = [names[str(number)] for number in range(len(names))]
        return class_list(self.path, names)

    def pictures(self, tree: FolderTree) -> dict[str, list[Path]]:
        """The pictures of each split that has some.

        A split is a folder, a list file, or several of them. Raises DatasetError if one is not there; a test
        split may be missing, since exports name one whether or not they have it.
        """
        found = {}
        for split in _SPLITS:
            where = self.said.get(split) or []
            places = [
                (text, self._place(str(text))) for text in (where if isinstance(where, list) else [where])
            ]
            missing = [text for text, place in places if place is None]
            if missing and split != "test":
                raise DatasetError(
                    f"{self.path}: {split}: {missing[0]} is not there: correct it, or lay the folder there"
                )
            mine = [picture for _, place in places if place is not None for picture in _in(place, tree)]
            if mine:
                found[split] = mine
        return found

    def _place(self, text: str) -> Path | None:
        """The folder or file that a split's text means, None if it is not there.

        It is relative to ``path``, or else to where the file lies. ``path`` is often that of another
        machine, and Roboflow writes ``../train/images`` for what lies beside the file: so the end of the
        path is looked for beside the file too, as long as it names the same split.
        """
        whole = Path(str(self.said.get("path") or ".")) / text
        here = self.path.parent
        parts = [part for part in whole.parts if part not in ("..", "/")]
        ends = [Path(*parts[start:]) for start in range(len(parts))]
        same = [here / end for end in ends if split_of(end) == split_of(whole)]
        places = [here / whole, here / text, *same]
        return next((Path(os.path.normpath(place)) for place in places if place.exists()), None)


def named_in_file(tree: FolderTree) -> ClassList:
    """The classes of a data set without data.yaml, from a file with a name a line.

    Raises DatasetError if there is no such file, or there are some that differ.
    """
    paths = [
        folder / name for folder, names in tree.files.items() for name in names if name.lower() in CLASS_FILES
    ]
    lists = {tuple(read_lines(path)): path for path in paths}
    if len(lists) != 1:
        what = f"{', '.join(map(str, lists.values()))} differ" if lists else f"none lies below {tree.root}"
        raise DatasetError(
            "label files of YOLO give classes by number, whose names stand in a data.yaml "
            f"(names: [cat, dog]) or one a line in a {CLASS_FILES[0]}; {what}: write one"
        )
    ((names, path),) = lists.items()
    return class_list(path, names)


def _darknet(tree: FolderTree) -> list[YoloDescription]:
    """What Darknet's ``*.data`` files say, as CVAT writes them: ``names = data/obj.names``."""
    found = []
    for folder, names in tree.with_suffix(".data"):
        for path in (folder / name for name in names):
            pairs = [line.split("=", 1) for line in read_lines(path) if "=" in line]
            said: dict[str, Any] = {name.strip(): value.strip() for name, value in pairs}
            described = YoloDescription(path, said)
            listed = described._place(said["names"]) if "names" in said else None
            if listed is not None:
                said["names"] = read_lines(listed)
                found.append(described)
    return found


def _in(place: Path, tree: FolderTree) -> list[Path]:
    """The pictures of a list file, or all in a folder and below it."""
    if place.is_file():
        return [_listed(place, line) for line in read_lines(place) if not line.startswith("#")]
    below = tree if place.is_relative_to(tree.root) else FolderTree.scan(place)
    return [
        folder / name
        for folder, names in below.with_suffix(*PICTURE_SUFFIXES)
        if folder.is_relative_to(place)
        for name in names
    ]


def _listed(place: Path, line: str) -> Path:
    """The picture that a line of a list names: relative to the list; or the end of the path beside it, where
    the line begins with folders of another machine (CVAT's ``data/obj_train_data/a.jpg``)."""
    if len(line) > 1 and line[0] == line[-1] and line[0] in "\"'":
        line = line[1:-1]
    path = Path(os.path.normpath(place.parent / line))
    whole = relative(line, 0)
    ends = (relative(line, dropped) for dropped in range(len(whole.parts)))
    same = (place.parent / end for end in ends if split_of(end.parent) == split_of(whole.parent))
    return next((one for one in (path, *same) if one.is_file()), path)

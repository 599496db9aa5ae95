"""What a data.yaml says of a data set in YOLO's layout: its classes, and where its splits lie."""

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from detector.datasets.folder_tree import FolderTree
from detector.datasets.formats.list_files import class_list, read_names, relative
from detector.datasets.formats.text_files import all_lines, read_text
from detector.datasets.formats.values import shown
from detector.datasets.formats.yaml_file import is_null, read_yaml
from detector.datasets.split_names import Role, role_of, split_of
from detector.errors import DatasetError
from detector.io.image_paths import without_suffix
from detector.io.readable_files import LONGEST, is_file, is_there
from detector.structures.classes import ClassList

ENDS = 32
"""So many of the last folders of a path of another machine are looked for here."""


SPLITS = ("train", "val", "valid", "test")  # keys of a data.yaml


_KEYS = (*SPLITS, "names", "path", "nc", "kpt_shape")


_USUAL = ("data.yaml", "data.yml", "dataset.yaml", "obj.data")


@dataclass(frozen=True)
class YoloDescription:
    """One data.yaml, or Darknet's obj.data: where it lies and what it says."""

    path: Path
    values: Mapping[str, Any]

    @classmethod
    def find(cls, tree: FolderTree) -> "YoloDescription | None":
        """Return the YAML file in the root, or one folder below it, that lists ``names``; None if there is
        none.

        Raises DatasetError if there are several, or one that is meant to be it cannot be read.
        """
        found = []
        for folder, names in tree.with_suffix(".yaml", ".yml"):
            if len(folder.relative_to(tree.root).parts) > 1:
                continue
            for path in (folder / name for name in names):
                try:
                    values = read_yaml(path)
                except FileNotFoundError as error:
                    if path.name in _USUAL:
                        raise DatasetError(f"{path} cannot be read: it is a link to nowhere") from error
                    continue
                except DatasetError:
                    if path.name in _USUAL or _has_names(path):
                        raise
                    continue
                if not isinstance(values, dict):
                    continue
                if path.name in _USUAL or "names" in values:
                    _check_keys(path, values)
                if "names" in values:
                    is_list = isinstance(values["names"], list | dict)
                    if is_list or path.name in _USUAL or any(split in values for split in SPLITS):
                        found.append(cls(path, values))
        found = found or _darknet(tree)
        if len(found) > 1:
            paths = ", ".join(str(description.path) for description in found)
            raise DatasetError(f"{paths} all describe a data set: leave one of them in {tree.root}")
        return found[0] if found else None

    @property
    def keypoints(self) -> bool:
        """Whether lines go on with keypoints after the box (Ultralytics' pose format)."""
        return "kpt_shape" in self.values and not is_null(self.values["kpt_shape"])

    def classes(self) -> ClassList:
        """Return the classes by their numbers, their names as they are written.

        Raises DatasetError if a number is left out or stands twice, a name is no text, is empty or stands
        twice, or there are not as many as ``nc`` says.
        """
        names = self.values["names"]
        if isinstance(names, dict):
            names = self._in_order(names)
        if not isinstance(names, list | tuple) or not names:
            what = f"is {shown(names)}" if names else "is empty"
            raise self.wrong("names", f"{what}: list the classes in their order (names: [cat, dog])")
        for number, name in enumerate(names):
            if not isinstance(name, str):
                raise self.wrong(
                    "names", f"that of number {number} is {kind_of(name)}: write one text a class"
                )
        self._check_count(len(names))
        return class_list(self.path, (str(name) for name in names))

    def _in_order(self, names: Mapping[Any, Any]) -> list[Any]:
        by_number: dict[int, Any] = {}
        keys: dict[int, Any] = {}
        for text in names:
            whole = re.fullmatch(r"\s*\+?([0-9]{1,9})(\.0*)?\s*", text)
            if whole is None:
                raise DatasetError(
                    f"{self.path}, line {text.line}: names: {shown(str(text))} is no class's number: "
                    "write 0: cat, 1: dog"
                )
            number = int(whole[1])
            if number in by_number:
                first = f"line {keys[number].line} ({_short(by_number[number])})"
                raise DatasetError(
                    f"{self.path}, line {text.line}: names: {_short(names[text])} has the number {number}, "
                    f"which {first} has too: give every class a number of its own"
                )
            by_number[number], keys[number] = names[text], text
        missing = [number for number in range(len(by_number)) if number not in by_number]
        if missing:
            raise DatasetError(
                f"{self.path}: names lacks number {missing[0]}: number its classes 0, 1, 2 and on"
            )
        return [by_number[number] for number in range(len(by_number))]

    def _check_count(self, count: int) -> None:
        for name in ("nc", "classes"):  # Ultralytics' and Darknet's
            value = self.values.get(name)
            if value is None or is_null(value) or (name == "classes" and not isinstance(value, str)):
                continue
            whole = re.fullmatch(r"\+?([0-9]{1,9})(\.0*)?", value) if isinstance(value, str) else None
            if whole is None:
                if name == "nc":
                    raise self.wrong(name, f"is {_short(value)}, and no number: write how many classes")
            elif int(whole[1]) != count:
                raise self.wrong(
                    name,
                    f"is {int(whole[1])}, but names has {count}: correct one of them, as which class a "
                    "number means is not known",
                )

    @property
    def base(self) -> str:
        base = self.values.get("path")
        if base is None or is_null(base):
            return "."
        if not isinstance(base, str):
            raise self.wrong("path", f"{kind_of(base)} where a folder belongs: write the path of one")
        if len(os.fsencode(base)) > LONGEST:
            raise self.wrong("path", f"{_short(base)} is longer than a path may be: correct it")
        if base and is_file(self.path.parent / base):
            raise self.wrong(
                "path", f"{_short(base)} is a file where a folder belongs: write the path of one"
            )
        return str(base) or "."

    def place(self, text: str) -> Path | None:
        """Return the folder or file that a split's text means, None if it is not there.

        It is relative to ``path``, or else to where the file lies. ``path`` is often that of another
        machine, and Roboflow writes ``../train/images`` for what lies beside the file: so the end of the
        path is looked for beside the file too, as long as it names the same split.
        """
        here = self.path.parent
        base = self.base
        if max(len(os.fsencode(text)), len(os.fsencode(base))) > LONGEST:
            return None
        whole = relative(base) / relative(text)
        parts = [part for part in whole.parts if part not in ("..", "/")]
        ends = [Path(*parts[start:]) for start in range(max(0, len(parts) - ENDS), len(parts))]
        split = split_of(whole)
        same = [here / end for end in ends if split_of(end) == split]
        places = [here / base / text, here / whole, here / text, *same]
        return next((Path(os.path.normpath(place)) for place in places if is_there(place)), None)

    def wrong(self, name: str, message: str) -> DatasetError:
        line = next((key.line for key in self.values if key == name and hasattr(key, "line")), None)
        where = f"{self.path}, line {line}" if line else f"{self.path}"
        return DatasetError(f"{where}: {name}: {message}")


def _darknet(tree: FolderTree) -> list[YoloDescription]:
    """Return what Darknet's ``*.data`` files say, as CVAT writes them: ``names = data/obj.names``.

    Raises DatasetError if one of them gives a value twice, or obj.data cannot be read.
    """
    found = []
    for folder, names in tree.with_suffix(".data"):
        for path in (folder / name for name in names):
            try:
                lines = all_lines(path)
            except DatasetError:
                if path.name in _USUAL:
                    raise
                continue  # somebody's data, not Darknet's
            values: dict[str, Any] = {}
            twice = ""
            for number, line in enumerate(lines, start=1):
                name, equals, value = (part.strip() for part in line.partition("="))
                if equals and not name.startswith("#"):
                    twice = twice or (f"line {number}: {name} is given twice" if name in values else "")
                    values[name] = value
            described = YoloDescription(path, values)
            listed = described.place(values["names"]) if "names" in values else None
            if listed is not None:
                if twice:
                    raise DatasetError(f"{path}, {twice}: leave one of them")
                values["names"] = read_names(listed)
                found.append(described)
    return found


def _check_keys(path: Path, values: Mapping[Any, Any]) -> None:
    """Raise DatasetError for a key that is meant for one of ours and would be passed over: ``Train``;
    ``training``, or ``trian``, or any that gives ``images/train``, where there is no ``train``."""
    for wanted in ("names", "train", "val", "path"):
        if wanted in values or (wanted == "val" and "valid" in values):
            continue
        for key, value in values.items():
            if key not in _KEYS and (
                get_close_matches(key.lower(), [wanted], cutoff=0.75)
                or role_of(wanted) in {role_of(key), *_roles(value)} - {None}
            ):
                raise DatasetError(f"{path}, line {key.line}: {shown(str(key))} is not read: write {wanted}")


def _roles(value: Any) -> Iterator[Role | None]:
    """Yield what the paths in a value are for, by the names in them: ``images/train``, ``val.txt``."""
    for text in value if isinstance(value, list) else [value]:
        if isinstance(text, str) and len(text) <= LONGEST:
            place = without_suffix(relative(text))
            yield role_of(split_of(place) or "")


def _has_names(path: Path) -> bool:
    """Return whether a file that is no YAML is meant to list classes."""
    try:
        return re.search(r"^[\"']?names[\"']?[ \t]*:", read_text(path), re.MULTILINE) is not None
    except (OSError, DatasetError):
        return False


def kind_of(value: Any) -> str:
    """Return what a value is, in words."""
    return "a mapping" if isinstance(value, dict) else "a list"


def _short(value: Any) -> str:
    return shown(str(value)) if isinstance(value, str) else kind_of(value)

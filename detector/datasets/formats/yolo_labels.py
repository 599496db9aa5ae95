"""YOLO's label files: which belongs to an image, and what it says."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detector.datasets.folder_tree import FolderTree
from detector.datasets.formats.list_files import class_list, read_names
from detector.datasets.formats.text_files import read_bytes, read_text
from detector.errors import DatasetError
from detector.io.readable_files import is_file
from detector.structures.boxes import Boxes
from detector.structures.classes import ClassList

CLASS_FILES = ("classes.txt", "obj.names", "labels.txt", "_darknet.labels")
"""Where class names stand, one a line, if there is no data.yaml: labelImg's, Darknet's, Roboflow's."""


@dataclass(frozen=True)
class YoloLabels:
    """What one label file says: class numbers [G], and boxes [G,4] as shares of the picture's sides.

    unreadable: a message for each line that says something else.
    """

    numbers: list[int]
    boxes: Boxes
    unreadable: list[str] = field(default_factory=list)


def parse_yolo(path: Path, keypoints: bool = False, names: Sequence[str] = ()) -> YoloLabels:
    """Read one label file.

    A line is ``class cx cy w h``, or ``class x1 y1 x2 y2 x3 y3 ...``, an outline, of which the bounding box
    is taken; all are shares of the picture's width or height. Columns are apart by spaces, tabs or commas;
    the class is a number, or one of ``names``. With ``keypoints``, what follows the box is passed over
    (Ultralytics' pose format).

    Raises FileNotFoundError if there is none, DatasetError if it cannot be read.
    """
    numbers, boxes, unreadable = [], [], []
    for number, line in enumerate(re.split("\r\n|\r|\n", read_text(path)), start=1):
        if not line.strip():
            continue
        try:
            label, box = _line(_columns(line), keypoints, names)
        except ValueError as error:
            unreadable.append(f"label file {path}, line {number}: {error}: {line.strip()[:80]!r}")
            continue
        numbers.append(label)
        boxes.append(box)
    return YoloLabels(numbers, np.array(boxes, np.float32).reshape(-1, 4), unreadable)


def _columns(line: str) -> list[str]:
    """Return the columns of a line. Commas part them only where they do so everywhere: in ``0,5 0,5`` they
    stand for points, and the line is left as it is."""
    columns = line.split()
    if len(columns) == 1 or all(column.endswith((",", ";")) for column in columns[:-1]):
        columns = [column.strip() for column in re.split("[,;]", line.strip())]
    return columns


def _line(columns: Sequence[str], keypoints: bool, names: Sequence[str]) -> tuple[int, list[float]]:
    named = " ".join(columns[:-4])  # a name may hold spaces
    if named in names and not _is_number(named):
        columns = [str(names.index(named)), *columns[-4:]]
    try:
        label, *rest = (float(column) for column in columns)
    except ValueError:
        raise ValueError("something else where a number belongs") from None
    values = np.array(rest[:4] if keypoints else rest, np.float64)
    if not np.isfinite(label) or label != int(label):
        raise ValueError("its class is no whole number")
    if not np.isfinite(values).all():
        raise ValueError("a number that is not finite")
    if len(values) == 4:
        cx, cy, w, h = values
        box = np.array([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2])
    elif len(values) >= 6 and len(values) % 2 == 0:
        points = values.reshape(-1, 2)  # P x (x, y)
        box = np.concatenate([points.min(axis=0), points.max(axis=0)])
    elif len(values) == 5:
        raise ValueError(
            "5 numbers after the class, as predictions have them, with a confidence: a box has 4, an outline "
            "6 or more in pairs"
        )
    else:
        raise ValueError(
            f"{len(values)} numbers after the class, where a box has 4 and an outline 6 or more, in pairs"
        )
    if np.abs(values).max() > 2:
        raise ValueError("numbers far over 1, where shares of the picture belong, not pixels")
    return int(label), box.tolist()


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class LabelFile:
    """The label file of a picture, which may be absent; ``problem`` says why it is not known which it is."""

    path: Path
    problem: str = ""


@dataclass(frozen=True)
class LabelFinder:
    """Finds label files: in ``labels`` where the picture's path says ``images``, or beside the picture; else
    in a ``labels`` in or beside the picture's folder, as X-AnyLabeling writes them."""

    tree: FolderTree
    _texts: dict[str, list[Path]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for folder, names in self.tree.with_suffix(".txt"):
            for name in names:
                path = folder / name
                self._texts.setdefault(_folded(path.with_suffix("")), []).append(path)

    def find(self, image: Path) -> LabelFile:
        """Return the label file of a picture.

        Folders and suffixes are compared without case, names with it: what differs from a picture's name in
        case only is not taken for it, and is a problem where it belongs to no other picture.
        """
        places = list(self._places(image))
        found, twins = self._texts_of(image, places)
        if not found and not twins:
            near = (folder / "labels" for folder in (image.parent, image.parent.parent))
            inside = [folder for folder in near if folder.is_relative_to(self.tree.root)]
            found, twins = self._texts_of(image, inside)
        if len(found) > 1 and _differ(found):
            some = " and ".join(map(str, found[:2]))
            return LabelFile(found[0], f"{some} are both label files of {image}: leave one of them")
        if found:
            return LabelFile(found[0])
        for twin in twins:
            if not any(
                name.rpartition(".")[0] == twin.stem for name in self.tree.files.get(image.parent, ())
            ):
                message = f"{image} has no label file, but {twin} differs from its name in case only"
                return LabelFile(twin, f"{message}: rename one of them")
        expected = places[0] / f"{image.stem}.txt"
        above = (places[0], *places[0].parents) if self.tree.unread else ()
        lost = next((holder for holder in above if holder in self.tree.unread), None)
        if lost is not None:
            why = self.tree.unread[lost]
            return LabelFile(
                expected, f"the label file of {image} would lie in {lost}, which cannot be read ({why})"
            )
        beside = image.with_name(expected.name)
        return LabelFile(expected if places[0] in self.tree.files else beside)

    def _texts_of(self, image: Path, places: Sequence[Path]) -> tuple[list[Path], list[Path]]:
        """Return the text files in some folders that are called like a picture, and those but for the
        case."""
        found: list[Path] = []
        twins: list[Path] = []
        for place in places:
            for stem in (image.stem, image.name):  # also a.jpg.txt
                outside = [] if place.is_relative_to(self.tree.root) else [place / f"{stem}.txt"]
                outside = [path for path in outside if is_file(path)]  # a data.yaml may lead elsewhere
                for path in [*self._texts.get(_folded(place / stem), []), *outside]:
                    (found if path.stem == stem else twins).append(path)
        return list(dict.fromkeys(found)), list(dict.fromkeys(twins))

    def every(self) -> list[Path]:
        """Return all text files of the tree, which may be label files."""
        return [path for paths in self._texts.values() for path in paths]

    def _places(self, image: Path) -> Iterator[Path]:
        """Yield the folder of label files that mirrors that of a picture, and the picture's own."""
        parts = image.parent.parts
        for index in range(len(parts) - 1, -1, -1):
            if parts[index].lower() == "images":
                yield Path(*parts[:index], "labels", *parts[index + 1 :])
                break
        yield image.parent


def _folded(path: Path) -> str:
    return str(path).lower()


def _differ(paths: Sequence[Path]) -> bool:
    """Return whether files do not all say the same; those that cannot be read may say anything."""
    try:
        return len({read_bytes(path) for path in paths}) > 1
    except (OSError, DatasetError):
        return True


def has_objects(path: Path) -> bool:
    """Return whether a file is a label file with an object; False where it cannot be read."""
    try:
        return bool(parse_yolo(path).numbers)
    except (OSError, DatasetError):
        return False


def named_in_file(tree: FolderTree) -> ClassList:
    """Return the classes of a data set without data.yaml, from a file with a name a line.

    Raises DatasetError if there is no such file, there are some that differ, or one cannot be read.
    """
    paths = [
        folder / name for folder, names in tree.files.items() for name in names if name.lower() in CLASS_FILES
    ]
    lists = {read_names(path): path for path in paths}
    if len(lists) != 1:
        what = f"{', '.join(map(str, lists.values()))} differ" if lists else f"none lies below {tree.root}"
        raise DatasetError(
            "label files of YOLO give classes by number, whose names stand in a data.yaml "
            f"(names: [cat, dog]) or one a line in a {CLASS_FILES[0]}; {what}: write one"
        )
    ((names, path),) = lists.items()
    return class_list(path, names)

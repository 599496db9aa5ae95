"""Files of what was found, in the forms that people and programs read: JSON, JSON lines, CSV, and the layouts
of COCO, YOLO and PASCAL VOC, which training reads again.

Each takes one picture's results at a time, as :data:`Result`. Files that are written as results come hold
whole pictures only, whenever they are looked at.
"""

import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from enum import StrEnum
from io import StringIO
from pathlib import Path
from typing import Any, Protocol
from xml.etree import ElementTree

from detector.errors import ParameterError, WriteError
from detector.io.atomic_write import check_writable, write_error, write_whole
from detector.io.terminal_text import printable_path
from detector.structures.classes import ClassList

Result = dict[str, Any]
"""What is known of one picture: ``image`` (its path), ``width``, ``height``, ``frames``; of a video's frame
``frame`` and ``seconds``; and ``detections``, or ``classes``, as their ``as_dicts`` has them."""


class Format(StrEnum):
    """The forms that results are written in."""

    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    COCO = "coco"
    YOLO = "yolo"
    VOC = "voc"


SUFFIXES = {".json": Format.JSON, ".jsonl": Format.JSONL, ".ndjson": Format.JSONL, ".csv": Format.CSV}
"""Which form a file's name asks for."""

FOLDERS = (Format.YOLO, Format.VOC)
"""Forms of a file for each picture."""


def format_of(path: Path) -> Format:
    """Return the form that the name of a file asks for. Raises ParameterError for one that asks for none."""
    form = SUFFIXES.get(path.suffix.lower())
    if form is None:
        raise ParameterError(
            f"{printable_path(path)} does not say what is to be written: name it .json, .jsonl or .csv, or "
            f"say --format {'|'.join(Format)}"
        )
    return form


class ResultFile(Protocol):
    """Takes the results of one picture after the other."""

    def add(self, result: Result, below: Path) -> None:
        """Take a picture's results; ``below`` is what files of its own are called by. Raises WriteError."""

    def close(self) -> None:
        """Write what is written at the end. Raises WriteError."""


class JsonFile:
    """One JSON list of all results, written at the end."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._results: list[Result] = []

    def add(self, result: Result, below: Path) -> None:
        self._results.append(result)

    def close(self) -> None:
        write_whole(self._path, self.text().encode())

    def text(self) -> str:
        """Return the list as text."""
        return json.dumps(self._results, indent=1)


class JsonLines:
    """A JSON object a line, written as results come. The one file that a run can go on with."""

    def __init__(self, path: Path, *, resume: bool) -> None:
        """Begin a file, or, with ``resume``, go on with one that is there.

        Raises ParameterError for a file that is there, where nobody asked to go on with it, and for one that
        ends in something else; WriteError for one that cannot be written.
        """
        self._path = path
        self._failed = False
        try:
            if not resume and path.is_file() and path.stat().st_size:
                raise ParameterError(
                    f"{printable_path(path)} is there: go on with it by --resume, or delete it"
                )
            path.parent.mkdir(parents=True, exist_ok=True)
            if resume and path.is_file():
                _cut_off_half_a_line(path)
            self._file = path.open("ab")
        except OSError as error:
            raise write_error(path, error) from error

    def earlier(self, kind: str) -> Iterator[Result]:
        """Yield what the file holds already. Raises ParameterError for lines that are no results of a
        ``kind``: ``detections`` or ``classes``."""
        if not self._path.is_file():
            return
        with self._path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                result = _result_of(line)
                if result is None or kind not in result:
                    raise ParameterError(
                        f"line {number} of {printable_path(self._path)} holds no {kind} of this program: "
                        "give the output another name"
                    )
                yield result

    def add(self, result: Result, below: Path) -> None:
        try:
            self._file.write(json.dumps(result).encode() + b"\n")
            self._file.flush()  # whoever kills this loses none that was found
        except OSError as error:
            self._failed = True
            raise write_error(self._path, error) from error

    def close(self) -> None:
        if self._failed:  # that was told
            with suppress(OSError):
                self._file.close()
            return
        try:
            self._file.flush()
            if self._path.is_file():
                os.fsync(self._file.fileno())
            self._file.close()
        except OSError as error:
            raise write_error(self._path, error) from error


class FailuresFile:
    """A JSON object a line for each picture that failed, written as they fail: ``image``, ``error`` (a code),
    ``message``, and ``frame`` of a video. Where none failed there is no file: that of a run before goes."""

    def __init__(self, path: Path) -> None:
        """Raises WriteError for a path that cannot be written, ParameterError for a file of other things."""
        check_writable(path)
        self._path = path
        self._lines: JsonLines | None = None
        if path.is_file() and not _holds_failures(path):
            raise ParameterError(
                f"{printable_path(path)} is there, and is no list of failures: give another name"
            )

    def add(self, failure: dict[str, Any]) -> None:
        """Add a picture. Raises WriteError."""
        if self._lines is None:
            self._remove()
            self._lines = JsonLines(self._path, resume=False)
        self._lines.add(failure, self._path)

    def close(self) -> None:
        """Raises WriteError."""
        if self._lines is not None:
            self._lines.close()
        else:
            self._remove()

    def _remove(self) -> None:
        if self._path.is_file():
            self._path.unlink()


def _holds_failures(path: Path) -> bool:
    with path.open(encoding="utf-8", errors="replace") as lines:
        first = lines.readline(1 << 20)
    try:
        return not first or {"image", "error"} <= json.loads(first).keys()
    except (ValueError, AttributeError):
        return False


class CsvFile:
    """A line an object: image, frame, label, class_id, score, xmin, ymin, xmax, ymax; written at the end.

    Of whole pictures a line a class, without box.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._text = StringIO()
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(
            ("image", "frame", "label", "class_id", "score", "xmin", "ymin", "xmax", "ymax")
        )

    def add(self, result: Result, below: Path) -> None:
        for entry in result["detections"] if "detections" in result else result["classes"]:
            box = entry.get("box") or {}
            corners = [box.get(side, "") for side in ("xmin", "ymin", "xmax", "ymax")]
            about = (result["image"], result.get("frame", ""), entry["label"], _class_id(entry))
            self._writer.writerow((*about, entry["score"], *corners))

    def close(self) -> None:
        write_whole(self._path, self._text.getvalue().encode("utf-8", "backslashreplace"))


class CocoFile:
    """One COCO data set (cocodataset.org/#format-data), written at the end: annotations have a ``score``;
    categories are all classes, a category's id is its label + 1."""

    def __init__(self, path: Path, classes: ClassList) -> None:
        self._path, self._labels = path, classes.index()
        self._categories = [{"id": label + 1, "name": name} for label, name in enumerate(classes.names)]
        self._images: list[dict[str, Any]] = []
        self._annotations: list[dict[str, Any]] = []

    def add(self, result: Result, below: Path) -> None:
        image_id = len(self._images) + 1
        name = f"{result['image']}#{result['frame']}" if "frame" in result else result["image"]
        about = {"id": image_id, "file_name": name, "width": result["width"], "height": result["height"]}
        self._images.append(about)
        for entry in result["detections"]:
            x1, y1, x2, y2 = _corners(entry)
            width, height = round(x2 - x1, 1), round(y2 - y1, 1)
            self._annotations.append(
                {
                    "id": len(self._annotations) + 1,
                    "image_id": image_id,
                    "category_id": self._labels[_class_id(entry)] + 1,
                    "bbox": [x1, y1, width, height],
                    "area": round(width * height, 1),
                    "score": entry["score"],
                    "iscrowd": 0,
                }
            )

    def close(self) -> None:
        whole = {"images": self._images, "categories": self._categories, "annotations": self._annotations}
        write_whole(self._path, json.dumps(whole).encode())


class YoloFolder:
    """A text file for each picture, a line an object: class, centre, width and height in shares of the
    picture; and ``data.yaml`` with the names. Scores are left out: so are labels, which these become."""

    def __init__(self, folder: Path, classes: ClassList) -> None:
        self._folder, self._classes, self._labels = folder, classes, classes.index()
        self._taken: set[Path] = set()

    def add(self, result: Result, below: Path) -> None:
        lines = []
        for entry in result["detections"]:
            x1, y1, x2, y2 = _corners(entry)
            width, height = result["width"], result["height"]
            shares = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
            lines.append(
                f"{self._labels[_class_id(entry)]} " + " ".join(f"{share:.6f}" for share in shares) + "\n"
            )
        path = _file_of(self._folder, result, below, ".txt", self._taken)
        write_whole(path, "".join(lines).encode())

    def close(self) -> None:
        names = "".join(f"  {label}: {json.dumps(name)}\n" for label, name in enumerate(self._classes.names))
        write_whole(self._folder / "data.yaml", f"names:\n{names}".encode())


class VocFolder:
    """An XML file of PASCAL VOC's form for each picture: corners are whole pixels from 1 on, both part of the
    object; ``confidence`` is the score."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[Path] = set()

    def add(self, result: Result, below: Path) -> None:
        root = ElementTree.Element("annotation")
        _text(root, "filename", Path(result["image"]).name)
        size = ElementTree.SubElement(root, "size")
        for name, value in (("width", result["width"]), ("height", result["height"]), ("depth", 3)):
            _text(size, name, value)
        for entry in result["detections"]:
            thing = ElementTree.SubElement(root, "object")
            _text(thing, "name", entry["label"])
            _text(thing, "difficult", 0)
            _text(thing, "confidence", entry["score"])
            x1, y1, x2, y2 = _corners(entry)
            left, top = int(x1) + 1, int(y1) + 1
            box = ElementTree.SubElement(thing, "bndbox")
            for name, value in (
                ("xmin", left),
                ("ymin", top),
                ("xmax", max(round(x2), left)),
                ("ymax", max(round(y2), top)),
            ):
                _text(box, name, value)
        ElementTree.indent(root)
        path = _file_of(self._folder, result, below, ".xml", self._taken)
        write_whole(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))

    def close(self) -> None:
        """Do nothing: all is written."""


def open_result_file(path: Path, form: Format, classes: ClassList, *, resume: bool = False) -> ResultFile:
    """Return what writes results in a form, to a file or, for YOLO and VOC, into a folder."""
    makers: dict[Format, Callable[[], ResultFile]] = {
        Format.JSON: lambda: JsonFile(path),
        Format.JSONL: lambda: JsonLines(path, resume=resume),
        Format.CSV: lambda: CsvFile(path),
        Format.COCO: lambda: CocoFile(path, classes),
        Format.YOLO: lambda: YoloFolder(path, classes),
        Format.VOC: lambda: VocFolder(path),
    }
    return makers[form]()


_BEGINNING = b'{"image": '  # of a line


def _cut_off_half_a_line(path: Path) -> None:
    """Cut a file off behind its last whole line: what a kill left of the one that was being written.

    Raises ParameterError where something else stands there: the file is somebody else's.
    """
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        block = 65536
        while end:
            start = max(end - block, 0)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.seek(end)
        half = file.read(len(_BEGINNING))
        if not _BEGINNING.startswith(half):
            raise ParameterError(
                f"{printable_path(path)} ends in something that is no result of this program: give the "
                "output another name"
            )
        file.truncate(end)


def _result_of(line: bytes) -> Result | None:
    """Return the result that a line of JSON holds; None for something else."""
    with suppress(ValueError):
        result = json.loads(line)
        if isinstance(result, dict) and {"image", "width", "height"} <= result.keys():
            return result
    return None


def _file_of(folder: Path, result: Result, below: Path, suffix: str, taken: set[Path]) -> Path:
    """Return the path of a picture's own file, within the folder. Raises WriteError where another picture has
    it."""
    if below.is_absolute() or ".." in below.parts:
        raise ValueError(f"{below} does not lie below a folder")
    stem = f"{below.stem}-{result['frame']:06d}" if "frame" in result else below.stem
    path = folder / below.parent / f"{stem}{suffix}"
    if path in taken:
        raise WriteError(
            f"cannot write {printable_path(path)}: another picture of the same name has it; rename one of "
            "them, or take their folders one by one"
        )
    taken.add(path)
    return path


def _class_id(entry: dict[str, Any]) -> str:
    return entry["wnid"] if "wnid" in entry else entry["class_id"]


def _corners(entry: dict[str, Any]) -> tuple[float, float, float, float]:
    box = entry["box"]
    return box["xmin"], box["ymin"], box["xmax"], box["ymax"]


_NO_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def _text(parent: ElementTree.Element, name: str, value: object) -> None:
    ElementTree.SubElement(parent, name).text = _NO_XML.sub("?", str(value))

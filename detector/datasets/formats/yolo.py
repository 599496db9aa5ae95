"""Reader of label files in YOLO's format: one text file a picture, one line an object."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from detector.datasets.annotated_image import AnnotatedImage, ProblemLog
from detector.datasets.annotation_check import Annotation, AnnotationCheck, ImageCheck
from detector.datasets.entries import Entry
from detector.datasets.formats.files import read_text
from detector.datasets.image_header import read_header
from detector.errors import DatasetError, ImageError
from detector.structures.boxes import Boxes
from detector.structures.classes import ClassList

_ROUNDING = 0.5
"""Pixels that a box may lie outside by its file's rounding: four digits of a picture of 5,000 pixels."""


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
    """The columns of a line. Commas part them only where they do so everywhere: in ``0,5 0,5`` they stand for
    points, and the line is left as it is."""
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


def yolo_entry(
    image_id: str,
    image: Path,
    label_file: Path,
    classes: ClassList,
    *,
    keypoints: bool = False,
    problem: str = "",
) -> Entry:
    """A picture and its label file, which may be empty or absent: the picture then has no objects.

    Boxes are shares of the upright picture. The header of a picture is read even without ``check_images``:
    label files do not state a size. A ``problem`` with the label file is reported and leaves the picture out.
    """

    def read(log: ProblemLog, check_images: ImageCheck) -> AnnotatedImage | None:
        del check_images
        if problem:
            log.report(image_id, "unreadable_annotation", problem)
            return None
        try:
            said = parse_yolo(label_file, keypoints, classes.ids)
        except FileNotFoundError:
            if label_file.is_symlink():
                message = f"label file {label_file} is a link to nowhere: lay there what it links to"
                log.report(image_id, "unreadable_annotation", message)
                return None
            said = YoloLabels([], np.zeros((0, 4), np.float32))
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
        known = {number: classes.ids[number] for number in said.numbers if 0 <= number < len(classes)}
        names = [known.get(number, f"number {number}") for number in said.numbers]
        boxes = _pixels(said.boxes, width, height)
        labels = {name: number for number, name in known.items()}
        check = AnnotationCheck(labels, log, check_images=False)  # the size is already the file's own
        return check.record(
            image_id, image, Annotation(width, height, names, boxes, unreadable=said.unreadable)
        )

    return Entry(image_id, image, read)


def _pixels(shares: Boxes, width: int, height: int) -> Boxes:
    """Boxes [G,4] in pixels; sides that are outside by no more than rounding come to the edge."""
    sides = np.array([width, height, width, height], np.float32)
    boxes = shares * sides
    inside = np.clip(boxes, 0, sides)
    return np.where(np.abs(boxes - inside) <= _ROUNDING, inside, boxes).astype(np.float32)

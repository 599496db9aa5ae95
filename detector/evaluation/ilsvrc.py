"""The rule of the ILSVRC detection task, its blacklist, and detections in its results form.

The rule: ILSVRC2014 development kit, section 2.3 and ``eval_detection.m``; Russakovsky et al., arXiv
1409.0575, section 4.3. The form: readme, section 2.4, one detection a line: ``image class confidence xmin
ymin xmax ymax``. Images are numbered from 1 in the order of the official list, classes from 1 in the official
order; corners are pixels, counted from 0, that belong to the object. Letters for shapes: D detections and G
ground truths of one class in one image.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.datasets.formats.ilsvrc import read_list
from detector.datasets.formats.values import number
from detector.errors import DatasetError, ParameterError
from detector.evaluation.average_precision import average_precision
from detector.evaluation.matching import Rule
from detector.io.atomic_write import write_whole
from detector.structures.boxes import Boxes, exact_iou, from_corners, to_corners
from detector.structures.classes import ClassList, ilsvrc_det
from detector.structures.detections import Detections


def read_blacklist(
    path: Path, list_file: Path, *, classes: ClassList | None = None
) -> frozenset[tuple[str, int]]:
    """Return pairs of image id and label from ``ILSVRC2014_det_validation_blacklist.txt``.

    Each line names a picture by its number in ``list_file`` (the official ``ImageSets/DET/val.txt``, from 1:
    the whole list, even where only part of it is measured), and a class by its WordNet id, as the development
    kit does, or by its official number from 1. Classes outside ``classes`` are passed over anyway.

    Raises DatasetError if a file cannot be read or a line is of another form.
    """
    labels = (ilsvrc_det() if classes is None else classes).index()
    image_ids = [columns[0] for columns in read_list(list_file)]
    pairs = set()
    for line, columns in enumerate(read_list(path), start=1):
        try:
            if len(columns) < 2:
                raise ValueError("the class is missing")
            class_id = _class_id(columns[1])
            image_id = image_ids[_numbered("pictures", columns[0], len(image_ids)) - 1]
        except ValueError as error:
            raise DatasetError(
                f"{path}, line {line}: expected the number of a picture of {list_file.name} and a class, "
                f"got {' '.join(columns)!r} ({error})"
            ) from error
        if class_id in labels:
            pairs.add((image_id, labels[class_id]))
    return frozenset(pairs)


def _class_id(text: str) -> str:
    official = ilsvrc_det().ids
    if text in official:
        return text
    return official[_numbered("classes", text, len(official)) - 1]


def _numbered(what: str, text: str, count: int) -> int:
    number = int(text) if text.isdecimal() and len(text) < 10 else 0
    if not 1 <= number <= count:
        raise ValueError(f"{what} are numbered 1 to {count}, and {text[:40]!r} is none of these")
    return number


_IOU = 0.5
_TOLERANCE = 10  # pixels that a drawn box may be longer and wider than a small object


def iou_thresholds(boxes: Boxes) -> NDArray[np.float64]:
    """Return the IoU [G] at which each ground truth counts as found: 0.5, less for objects under about 25
    pixels."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).T
    return np.minimum(_IOU, width * height / ((width + _TOLERANCE) * (height + _TOLERANCE)))


def match(boxes: Boxes, ground_truth: Boxes, difficult: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Return which ground truth [G,4] each detection [D,4], best first, finds: indices [D], -1 for none.

    All are of one class and one picture. Each detection in turn takes, among the ground truths not yet taken
    whose own threshold its IoU reaches, the one with the highest IoU: the first of equals. ILSVRC knows no
    ``difficult`` objects.
    """
    iou = exact_iou(boxes, ground_truth)  # D x G
    iou[iou < iou_thresholds(ground_truth)] = 0
    taken = np.full(len(boxes), -1, np.int64)
    for index in np.flatnonzero(iou.any(axis=1)):
        best = int(iou[index].argmax())
        if iou[index, best] > 0:
            taken[index] = best
            iou[:, best] = 0
    return taken


ILSVRC = Rule("ILSVRC", iou_thresholds, match, average_precision)
"""IoU by object size, the best free object, the area under the curve."""


_COLUMNS = 7


def write_ilsvrc_results(path: Path, detections: Mapping[str, Detections], image_ids: Sequence[str]) -> None:
    """Write detections, by image id, with the number of each picture among ``image_ids``: the whole list.

    Boxes are rounded to whole pixels, as the form wants; scores keep all they have. Labels are written as
    they are, from 1: those of the official classes in official order. Raises ParameterError for a picture
    outside the list.
    """
    numbers = {image_id: number for number, image_id in enumerate(image_ids, start=1)}
    foreign = [image_id for image_id in detections if image_id not in numbers]
    if foreign:
        raise ParameterError(
            f"{len(foreign)} pictures have detections but stand in no line of the list, {foreign[0]} first: "
            "give the list that they are of"
        )
    lines = [
        # str() of a float32 is the shortest text that reads back as the same number.
        f"{numbers[image_id]} {label + 1} {score!s} {' '.join(map(str, corners))}\n"
        for image_id in sorted(detections, key=numbers.__getitem__)
        for label, score, corners in zip(
            detections[image_id].labels.tolist(),
            detections[image_id].scores.astype(np.float32),
            to_corners(detections[image_id].boxes).tolist(),
            strict=True,
        )
    ]
    write_whole(path, "".join(lines).encode())


def read_ilsvrc_results(path: Path, image_ids: Sequence[str], num_classes: int) -> dict[str, Detections]:
    """Return detections by image id, those of a picture in the file's order; pictures without any are absent.

    Raises DatasetError if the file cannot be read or a line is of another form.
    """
    rows: dict[str, list[list[float]]] = {}
    for line, columns in enumerate(read_list(path), start=1):
        try:
            image, label, *numbers = _parsed(columns)
            if not 1 <= image <= len(image_ids):
                raise ValueError(f"pictures are numbered 1 to {len(image_ids)}")
            if not 1 <= label <= num_classes:
                raise ValueError(f"classes are numbered 1 to {num_classes}")
        except ValueError as error:
            raise DatasetError(
                f"{path}, line {line}: expected picture, class, confidence, xmin, ymin, xmax, ymax, got "
                f"{' '.join(columns)[:80]!r} ({error})"
            ) from error
        rows.setdefault(image_ids[int(image) - 1], []).append([label - 1, *numbers])
    return {image_id: _detections(np.array(of_image)) for image_id, of_image in rows.items()}


def _parsed(columns: Sequence[str]) -> list[float]:
    if len(columns) != _COLUMNS:
        raise ValueError(f"{len(columns)} columns")
    numbers = []
    for column in columns:
        value = number(column)
        if value is None:
            raise ValueError(f"{column[:40]!r} is no finite number")
        numbers.append(value)
    if numbers[0] != int(numbers[0]) or numbers[1] != int(numbers[1]):
        raise ValueError("picture and class must be whole numbers")
    return numbers


def _detections(rows: NDArray[np.float64]) -> Detections:
    """Return the detections of one picture's rows: label, score and corners."""
    return Detections(from_corners(rows[:, 2:]), rows[:, 0].astype(np.int64), rows[:, 1].astype(np.float32))

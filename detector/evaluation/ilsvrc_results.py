"""Files of detections in the form that the ILSVRC detection task takes.

ILSVRC2014 development kit, readme section 2.4: one detection a line, ``image class confidence xmin ymin xmax
ymax``. Pictures are numbered from 1 in the order of the official list, classes from 1 in the official order,
and corners are pixels, counted from 0, that belong to the object.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.datasets.formats.corners import from_corners, to_corners
from detector.datasets.formats.ilsvrc import read_list
from detector.datasets.formats.values import number
from detector.errors import DatasetError, ParameterError
from detector.io.atomic_write import write_whole
from detector.structures.detections import Detections

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
    """Detections by image id, those of a picture in the file's order; pictures without any are absent.

    Raises DatasetError if the file cannot be read or a line is of another form.
    """
    rows: dict[str, list[list[float]]] = {}
    for line, columns in enumerate(read_list(path), start=1):
        try:
            picture, label, *numbers = _parsed(columns)
            if not 1 <= picture <= len(image_ids):
                raise ValueError(f"pictures are numbered 1 to {len(image_ids)}")
            if not 1 <= label <= num_classes:
                raise ValueError(f"classes are numbered 1 to {num_classes}")
        except ValueError as error:
            raise DatasetError(
                f"{path}, line {line}: expected picture, class, confidence, xmin, ymin, xmax, ymax, got "
                f"{' '.join(columns)[:80]!r} ({error})"
            ) from error
        rows.setdefault(image_ids[int(picture) - 1], []).append([label - 1, *numbers])
    return {image_id: _detections(np.array(mine)) for image_id, mine in rows.items()}


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
    """Of one picture's rows: label, score and corners."""
    return Detections(from_corners(rows[:, 2:]), rows[:, 0].astype(np.int64), rows[:, 1].astype(np.float32))

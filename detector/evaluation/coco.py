"""COCO's measures, by pycocotools, and detections in COCO's results form.

The form is a JSON list with one object a detection: ``image_id``, ``category_id``, ``bbox`` (x, y, width,
height) and ``score``; https://cocodataset.org/#format-results.
"""

import io
import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.formats.text_files import read_json
from detector.datasets.formats.values import key, number, shown
from detector.errors import DatasetError, ParameterError
from detector.evaluation.matching import EvaluatedImage, evaluated_images
from detector.io.atomic_write import write_whole
from detector.structures.boxes import Boxes
from detector.structures.detections import Detections


@dataclass(frozen=True)
class CocoFigures:
    """Mean AP and mean recall in 0..1, NaN where the set holds no object that they are of.

    ap is the mean over IoU of 0.5, 0.55 ... 0.95, ap50 and ap75 are at one IoU. Small objects are under 32 x
    32 pixels, large ones over 96 x 96. ar1, ar10 and ar100: with so many detections a picture and class.
    """

    ap: float
    ap50: float
    ap75: float
    ap_small: float
    ap_medium: float
    ap_large: float
    ar1: float
    ar10: float
    ar100: float


def evaluate_coco(
    ground_truth: Sequence[AnnotatedImage],
    detections: Mapping[str, Detections],
    num_classes: int,
    blacklist: Collection[tuple[str, int]] = frozenset(),
) -> CocoFigures:
    """Measure detections, by image id, against the records of a set; a picture without any may be absent.

    What is passed over, and errors, are as for :func:`detector.evaluation.det_evaluation.evaluate`: in a
    partial picture detections of classes that it does not list are left out. An object's area, which COCO
    takes from its outline, is here that of its box. The readers leave crowds out, so a detection within one
    is false here; and COCO has no difficult objects, so those of VOC are to be found like all others.
    """
    try:  # here: everything else of an evaluation works without the extra that brings it
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ModuleNotFoundError as error:
        raise ParameterError(
            "COCO's measures need pycocotools: pip install 'googlenet-detector[training]'"
        ) from error

    seen = list(evaluated_images(ground_truth, detections, num_classes, blacklist))
    with redirect_stdout(io.StringIO()):  # they report their progress there
        sets = []
        for annotations in (_objects(seen), _detections(seen)):
            data = COCO()
            data.dataset = {
                "images": [{"id": number} for number in range(len(seen))],
                "categories": [{"id": label} for label in range(num_classes)],
                # An id of 0 would read as no match.
                "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
            }
            data.createIndex()
            sets.append(data)
        evaluation = COCOeval(*sets, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = [float(value) if value >= 0 else float("nan") for value in evaluation.stats[:9]]
    return CocoFigures(*figures)


def _objects(seen: Sequence[EvaluatedImage]) -> list[dict[str, Any]]:
    return [
        {"image_id": number, "category_id": int(label), "iscrowd": 0, **_box(box)}
        for number, image in enumerate(seen)
        for label, box in zip(image.labels, image.boxes, strict=True)
    ]


def _detections(seen: Sequence[EvaluatedImage]) -> list[dict[str, Any]]:
    return [
        {"image_id": number, "category_id": int(label), "score": float(score), **_box(box)}
        for number, image in enumerate(seen)
        for label, score, box in zip(image.found.labels, image.found.scores, image.found.boxes, strict=True)
    ]


def _box(box: Boxes) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(side) for side in box)
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}


_FIELDS = ("image_id", "category_id", "bbox", "score")


def write_coco_results(
    path: Path, detections: Mapping[str, Detections], category_ids: Sequence[int | str]
) -> None:
    """Write detections, by image id, with the category id of each label.

    An image id that is the text of a whole number is written as one, as COCO's are; any other as the text
    that it is. Raises ParameterError for a label without a category id.
    """
    entries = []
    for image_id, found in detections.items():
        if len(found) and int(found.labels.max()) >= len(category_ids):
            raise ParameterError(
                f"picture {image_id} has label {found.labels.max()}, "
                f"but there are {len(category_ids)} category ids"
            )
        for label, score, box in zip(found.labels, found.scores, found.boxes, strict=True):
            # The shortest text of a float32, which reads back as the same number.
            x1, y1, x2, y2 = (float(str(side)) for side in box)
            entries.append(
                {
                    "image_id": _number_or_text(image_id),
                    "category_id": category_ids[label],
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "score": float(str(np.float32(score))),
                }
            )
    write_whole(path, json.dumps(entries).encode())


def read_coco_results(
    path: Path, category_ids: Sequence[int | str], image_ids: Collection[str] = ()
) -> dict[str, Detections]:
    """Return detections by image id, those of a picture in the file's order; pictures without any are absent.

    Ids are compared as the annotations' are (:func:`detector.datasets.formats.values.key`): 1, 1.0 and "1"
    are one. An id that is one of ``image_ids`` as it is written stays so.

    Raises DatasetError if the file cannot be read, is of another form, or names an unknown category.
    """
    labels = {key(category): label for label, category in enumerate(category_ids)}
    entries = read_json(path, pipes=True)
    if not isinstance(entries, list):
        raise DatasetError(f"{path} is no file of results: COCO's are a list, with one object a detection")
    rows: dict[str, list[tuple[int, float, Boxes]]] = {}
    for position, entry in enumerate(entries, start=1):
        try:
            _check_fields(entry)
            category = key(entry["category_id"])
            if category not in labels:
                known = _some(category_ids)
                raise ValueError(
                    f"category_id is {shown(entry['category_id'])}; known categories are {known}"
                )
            score = number(entry["score"])
            if score is None:
                raise ValueError(f"score is {shown(entry['score'])}, where a finite number belongs")
            row = labels[category], score, _result_box(entry["bbox"])
            rows.setdefault(_image_id(entry["image_id"], image_ids), []).append(row)
        except ValueError as error:
            raise DatasetError(f"{path}, detection {position}: {error}") from error
    return {
        image_id: Detections(
            np.stack([box for *_, box in of_image]),
            np.array([label for label, *_ in of_image], np.int64),
            np.array([score for _, score, _ in of_image], np.float32),
        )
        for image_id, of_image in rows.items()
    }


def _check_fields(entry: object) -> None:
    """Raises ValueError for what is no object, or lacks a field."""
    if not isinstance(entry, dict):
        raise ValueError(f"it is {shown(entry)}, where an object with {', '.join(_FIELDS)} belongs")
    missing = [name for name in _FIELDS if name not in entry]
    if missing:
        raise ValueError(f"it lacks {', '.join(missing)}")


def _number_or_text(image_id: str) -> int | str:
    return int(image_id) if image_id.isdecimal() and str(int(image_id)) == image_id else image_id


def _image_id(value: object, image_ids: Collection[str]) -> str:
    found = value if isinstance(value, str) and value in image_ids else key(value)
    if found is None:
        raise ValueError(f"image_id is {shown(value)}, where a number or a text belongs")
    return found


def _result_box(xywh: object) -> Boxes:
    sides = [number(side) for side in xywh] if isinstance(xywh, list) else []
    x, y, width, height = sides if len(sides) == 4 else [None] * 4
    if x is None or y is None or width is None or height is None or min(width, height) < 0:
        raise ValueError(
            f"bbox is {shown(xywh)}, where four finite numbers belong: x, y, width and height, "
            "the last two 0 or more"
        )
    return np.array([x, y, x + width, y + height], np.float32)


def _some(category_ids: Sequence[int | str]) -> str:
    shown = ", ".join(map(str, category_ids[:5]))
    return shown if len(category_ids) <= 5 else f"{shown}, ... ({len(category_ids)} in all)"

"""The measures of COCO, by its own code (pycocotools)."""

import io
from collections.abc import Collection, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

from detector.datasets.record import Record
from detector.errors import ParameterError
from detector.evaluation.by_class import Picture, pictures
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
    ground_truth: Sequence[Record],
    detections: Mapping[str, Detections],
    num_classes: int,
    blacklist: Collection[tuple[str, int]] = frozenset(),
) -> CocoFigures:
    """Measure detections, by image id, against the records of a set; a picture without any may be absent.

    What is passed over, and errors, are as for :func:`detector.evaluation.by_class.evaluate`: in a partial
    picture detections of classes that it does not list are left out. An object's area, which COCO takes from
    its outline, is here that of its box. The readers leave crowds out, so a detection within one is false
    here; and COCO has no difficult objects, so those of VOC are to be found like all others.
    """
    try:  # here: everything else of an evaluation works without the extra that brings it
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ModuleNotFoundError as error:
        raise ParameterError(
            "COCO's measures need pycocotools: pip install 'googlenet-detector[training]'"
        ) from error

    seen = list(pictures(ground_truth, detections, num_classes, blacklist))
    with redirect_stdout(io.StringIO()):  # they report their progress there
        sets = []
        for annotations in (_objects(seen), _detections(seen)):
            one = COCO()
            one.dataset = {
                "images": [{"id": number} for number in range(len(seen))],
                "categories": [{"id": label} for label in range(num_classes)],
                # An id of 0 would read as no match.
                "annotations": [{"id": number, **entry} for number, entry in enumerate(annotations, start=1)],
            }
            one.createIndex()
            sets.append(one)
        evaluation = COCOeval(*sets, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    figures = [float(value) if value >= 0 else float("nan") for value in evaluation.stats[:9]]
    return CocoFigures(*figures)


def _objects(seen: Sequence[Picture]) -> list[dict[str, Any]]:
    return [
        {"image_id": number, "category_id": int(label), "iscrowd": 0, **_box(box)}
        for number, picture in enumerate(seen)
        for label, box in zip(picture.labels, picture.boxes, strict=True)
    ]


def _detections(seen: Sequence[Picture]) -> list[dict[str, Any]]:
    return [
        {"image_id": number, "category_id": int(label), "score": float(score), **_box(box)}
        for number, picture in enumerate(seen)
        for label, score, box in zip(
            picture.found.labels, picture.found.scores, picture.found.boxes, strict=True
        )
    ]


def _box(box: Boxes) -> dict[str, Any]:
    x1, y1, x2, y2 = (float(side) for side in box)
    return {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}

"""Figures by the size of objects. Letters for shapes: D detections and G objects of one picture."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.det_evaluation import figures
from detector.evaluation.matching import EvaluatedImage, Rule, match_detections
from detector.structures.boxes import Boxes, area

SIZES = {"small": (0.0, 0.04), "medium": (0.04, 0.25), "large": (0.25, 1.0)}
"""The share of the picture's area that a box of each size has, from and below (the last ``to``).

A square of 4 % is a fifth as long as the picture's sides, one of 25 % half as long. The share is what tells
objects apart for a network that sees pictures at whatever size they were kept in; COCO's sizes count pixels.
"""


@dataclass(frozen=True)
class SizeFigures:
    """Of the objects of one size: their number, and recall and mean AP in 0..1, NaN without objects."""

    name: str
    objects: int
    recall: float
    mean_ap: float


def by_size(seen: Sequence[EvaluatedImage], num_classes: int, rule: Rule) -> tuple[SizeFigures, ...]:
    """Return figures of each size, small first, as COCO has them by area.

    All objects take part in the matching. Those of another size are not asked for, and a detection that
    finds one of them, or finds none and is of another size itself, does not count.
    """
    found = [match_detections(image, rule) for image in seen]
    return tuple(_of_size(name, seen, found, num_classes, rule) for name in SIZES)


def _of_size(
    name: str,
    seen: Sequence[EvaluatedImage],
    found: Sequence[NDArray[np.int64]],
    num_classes: int,
    rule: Rule,
) -> SizeFigures:
    positives = np.zeros(num_classes, np.int64)
    labels, scores, correct = [np.zeros(0, np.int64)], [np.zeros(0, np.float32)], [np.zeros(0, np.bool_)]
    for image, finds in zip(seen, found, strict=True):
        counted = _is_of_size(name, image, image.boxes) & image.wanted(rule)
        positives += np.bincount(image.labels[counted], minlength=num_classes)
        is_right = finds >= 0
        # -1, for none, reads what is appended, and the other branch is taken.
        counts = np.where(
            is_right, np.append(counted, False)[finds], _is_of_size(name, image, image.found.boxes)
        )
        labels.append(image.found.labels[counts])
        scores.append(image.found.scores[counts])
        correct.append(is_right[counts])
    parts = np.concatenate(labels), np.concatenate(scores), np.concatenate(correct)
    objects = int(positives.sum())
    recall = float(parts[2].sum() / objects) if objects else float("nan")
    return SizeFigures(name, objects, recall, figures(*parts, positives, rule).mean_ap)


def _is_of_size(name: str, image: EvaluatedImage, boxes: Boxes) -> NDArray[np.bool_]:
    return is_of_size(area(boxes) / (image.record.width * image.record.height), name)


def is_of_size(shares: NDArray[np.floating], name: str) -> NDArray[np.bool_]:
    """Tell which objects, by their shares [*] of the picture's area, are of a size of :data:`SIZES`."""
    low, high = SIZES[name]
    return (shares >= low) & ((shares < high) | (high == 1))

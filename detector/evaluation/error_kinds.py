"""What is wrong with each wrong detection of a picture.

The kinds of TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020,
arXiv 2008.08115, section 2.2), which go back to Hoiem et al., "Diagnosing Error in Object Detectors", ECCV
2012; with the benchmark's own matching, and its IoU for each object, in place of a foreground threshold of
0.5. Letters for shapes: D detections, G objects of one picture.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.by_class import Picture, Rule, find
from detector.evaluation.overlaps import exact_iou

BACKGROUND_IOU = 0.1
"""A detection that overlaps no object by more than this shows none."""


class ErrorKind(IntEnum):
    """Why mean AP is lost. All but the last are of detections, the last is of objects."""

    CONFUSION = 0
    """It would have found an object of another class."""

    LOCALISATION = 1
    """Its box is beside an object of its class, by an IoU of 0.1 to what would do."""

    BOTH = 2
    """Its box is beside an object of another class."""

    DUPLICATE = 3
    """It shows an object that a better detection has found."""

    BACKGROUND = 4
    """It shows no object."""

    MISSED = 5
    """An object that no detection finds, nor would, were its class or its box put right."""


@dataclass(frozen=True)
class Verdicts:
    """What each detection of a picture is, best first.

    found [D]: the object that it finds, -1 for none. kind [D]: the :class:`ErrorKind` of one that finds none,
    else -1. target [D]: the object that it was meant for, where its kind is CONFUSION or LOCALISATION, else
    -1.
    """

    found: NDArray[np.int64]
    kind: NDArray[np.int64]
    target: NDArray[np.int64]


def verdicts(picture: Picture, rule: Rule) -> Verdicts:
    """Judge each detection, in the order of TIDE's own code: of two kinds that fit the first is taken.

    LOCALISATION, CONFUSION, DUPLICATE, BACKGROUND, and BOTH for what is left.
    """
    found = find(picture, rule)
    wrong = found < 0
    kind = np.where(wrong, ErrorKind.BACKGROUND, -1).astype(np.int64)
    target = np.full(len(found), -1, np.int64)
    if not len(picture.boxes):
        return Verdicts(found, kind, target)

    iou = exact_iou(picture.found.boxes, picture.boxes)  # D x G
    enough = iou >= rule.thresholds(picture.boxes)
    same = picture.found.labels[:, None] == picture.labels
    its_class, others = np.where(same, iou, 0), np.where(~same, iou, 0)
    reached = (enough & same).any(axis=1)
    confused = np.where(~same & enough, iou, 0)

    conditions = [
        ~reached & (its_class.max(axis=1) >= BACKGROUND_IOU),
        confused.any(axis=1),
        reached,
        iou.max(axis=1) <= BACKGROUND_IOU,
        others.any(axis=1),
    ]
    kinds = [
        ErrorKind.LOCALISATION,
        ErrorKind.CONFUSION,
        ErrorKind.DUPLICATE,
        ErrorKind.BACKGROUND,
        ErrorKind.BOTH,
    ]
    kind = np.where(wrong, np.select(conditions, kinds), -1).astype(np.int64)
    target = np.select(
        [kind == ErrorKind.LOCALISATION, kind == ErrorKind.CONFUSION],
        [its_class.argmax(axis=1), confused.argmax(axis=1)],
        -1,
    ).astype(np.int64)
    return Verdicts(found, kind, target)

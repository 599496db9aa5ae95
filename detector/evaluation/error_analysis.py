"""Error analysis: what is wrong with each wrong detection, and what mean AP mending each kind would gain.

The kinds are those of TIDE (Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors",
ECCV 2020, arXiv 2008.08115, sections 2.2 and 2.3), which go back to Hoiem et al., "Diagnosing Error in Object
Detectors", ECCV 2012. Matching and IoU thresholds are the benchmark's own, in place of one threshold of 0.5.
Letters for shapes: D detections, G objects, of one image or of all.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import ParameterError
from detector.evaluation.det_evaluation import figures
from detector.evaluation.ilsvrc import ILSVRC
from detector.evaluation.matching import EvaluatedImage, Rule, evaluated_images, match_detections
from detector.evaluation.sizes import SizeFigures, by_size
from detector.structures.boxes import Boxes, exact_iou
from detector.structures.detections import Detections

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
class DetectionErrors:
    """What each detection of a picture is, best first.

    found [D]: the object that it finds, -1 for none. kind [D]: the :class:`ErrorKind` of one that finds none,
    else -1. target [D]: the object that it was meant for, where its kind is CONFUSION or LOCALISATION, else
    -1.
    """

    found: NDArray[np.int64]
    kind: NDArray[np.int64]
    target: NDArray[np.int64]


def verdicts(image: EvaluatedImage, rule: Rule) -> DetectionErrors:
    """Judge each detection, in the order of TIDE's own code: of two kinds that fit the first is taken.

    LOCALISATION, CONFUSION, DUPLICATE, BACKGROUND, and BOTH for what is left.
    """
    found = match_detections(image, rule)
    wrong = found < 0
    kind = np.where(wrong, ErrorKind.BACKGROUND, -1).astype(np.int64)
    target = np.full(len(found), -1, np.int64)
    if not len(image.boxes):
        return DetectionErrors(found, kind, target)

    iou = exact_iou(image.found.boxes, image.boxes)  # D x G
    enough = iou >= rule.thresholds(image.boxes)
    same = image.found.labels[:, None] == image.labels
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
    return DetectionErrors(found, kind, target)


@dataclass(frozen=True)
class ErrorBreakdown:
    """Mean AP, and where the rest of it is.

    Gains are in 0..1, as mean_ap is; each is of mending one kind alone, so they do not add up to what is
    lost. ``counts`` are detections, for MISSED objects. ``no_false_positives`` and ``no_misses``: the gains
    were there no wrong detection at all, and no object that is not found. ``sizes``: small, medium, large.
    ``objects`` counts all that are to be found; ``uncovered`` those that no proposal overlaps at the rule's
    IoU, None where proposals are not known: box regression may yet reach them, the classifier cannot.
    """

    mean_ap: float
    gains: Mapping[ErrorKind, float]
    counts: Mapping[ErrorKind, int]
    no_false_positives: float
    no_misses: float
    sizes: tuple[SizeFigures, ...]
    objects: int
    uncovered: int | None


def break_down(
    ground_truth: Sequence[AnnotatedImage],
    detections: Mapping[str, Detections],
    num_classes: int,
    rule: Rule = ILSVRC,
    blacklist: Collection[tuple[str, int]] = frozenset(),
    proposals: Mapping[str, Boxes] | None = None,
) -> ErrorBreakdown:
    """Mend each kind of error in turn, under the rule's own matching.

    - CONFUSION takes the class of the object it was meant for, LOCALISATION its box; either finds the object
      only if nothing else does and nothing better of its kind was meant for it, else it is taken away.
    - BOTH, DUPLICATE and BACKGROUND are taken away.
    - MISSED objects are not asked for. A class with no others drops out of the mean, as it would in a set
      without them.

    TIDE's published code (tidecv 1.0.1) finds the same errors, but mends otherwise in two places: there a
    CONFUSION loses its object to a LOCALISATION of a better score, though only one of the kinds is mended;
    and a class without objects left to ask for counts 0.

    ``proposals`` holds the boxes [R,4] of each picture. What is passed over is passed over here too, and
    errors are those of :func:`detector.evaluation.det_evaluation.evaluate`; ParameterError too if
    proposals lack a picture.
    """
    seen = list(evaluated_images(ground_truth, detections, num_classes, blacklist))
    pool = _Pool.of(seen, rule)
    positives = np.bincount(pool.truth_labels[pool.wanted], minlength=num_classes)

    def mean_ap(
        keep: NDArray[np.bool_], labels: NDArray[np.int64], correct: NDArray[np.bool_], of: NDArray[np.int64]
    ) -> float:
        return figures(labels[keep], pool.scores[keep], correct[keep], of, rule).mean_ap

    correct = pool.counts & (pool.found >= 0)
    now = mean_ap(pool.counts, pool.labels, correct, positives)
    gains, counts = {}, {}
    for kind in ErrorKind:
        of_kind = pool.kind == kind
        keep, labels, right, asked_for = pool.counts & ~of_kind, pool.labels.copy(), correct.copy(), positives
        counts[kind] = int(of_kind.sum())
        if kind in (ErrorKind.CONFUSION, ErrorKind.LOCALISATION):
            put_right = pool.best_for_what_nothing_finds(of_kind)
            keep[put_right] = right[put_right] = True
            labels[put_right] = pool.truth_labels[pool.target[put_right]]
        if kind is ErrorKind.MISSED:
            missed = pool.missed()
            asked_for = positives - np.bincount(pool.truth_labels[missed], minlength=num_classes)
            counts[kind] = int(missed.sum())
        gains[kind] = mean_ap(keep, labels, right, asked_for) - now

    found = np.bincount(pool.labels[correct], minlength=num_classes)
    return ErrorBreakdown(
        mean_ap=now,
        gains=gains,
        counts=counts,
        no_false_positives=mean_ap(correct, pool.labels, correct, positives) - now,
        no_misses=mean_ap(pool.counts, pool.labels, correct, found) - now,
        sizes=by_size(seen, num_classes, rule),
        objects=int(positives.sum()),
        uncovered=None if proposals is None else _uncovered(seen, proposals, rule),
    )


@dataclass(frozen=True)
class _Pool:
    """All pictures at once: labels, scores, found, kind, target [D], objects being numbered on through all
    pictures; counts [D], false for what the rule leaves aside; truth_labels and wanted [G]."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    found: NDArray[np.int64]
    kind: NDArray[np.int64]
    target: NDArray[np.int64]
    counts: NDArray[np.bool_]
    truth_labels: NDArray[np.int64]
    wanted: NDArray[np.bool_]

    @classmethod
    def of(cls, seen: Sequence[EvaluatedImage], rule: Rule) -> "_Pool":
        none = np.zeros(0, np.int64)
        columns = [[none, np.zeros(0, np.float32), none, none, none]]
        truth_labels, wanted = [none], [np.zeros(0, np.bool_)]
        objects = 0
        for image in seen:
            judged = verdicts(image, rule)
            found, target = (
                np.where(which >= 0, which + objects, -1) for which in (judged.found, judged.target)
            )
            columns.append([image.found.labels, image.found.scores, found, judged.kind, target])
            truth_labels.append(image.labels)
            wanted.append(image.wanted(rule))
            objects += len(image.labels)
        labels, scores, found, kind, target = (
            np.concatenate(column) for column in zip(*columns, strict=True)
        )
        asked_for = np.concatenate(wanted)
        counts = np.append(asked_for, True)[found]  # -1, for none, reads what is appended
        return cls(labels, scores, found, kind, target, counts, np.concatenate(truth_labels), asked_for)

    def best_for_what_nothing_finds(self, detections: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Return the indices of the best of some detections for each object that is not found yet."""
        rows = np.flatnonzero(detections)
        rows = rows[np.argsort(-self.scores[rows], kind="stable")]
        objects, first = np.unique(self.target[rows], return_index=True)
        return rows[first][self.wanted[objects] & ~np.isin(objects, self.found)]

    def missed(self) -> NDArray[np.bool_]:
        """Return objects [G] to be found, that no detection finds or was meant for."""
        reached = np.isin(np.arange(len(self.wanted)), np.concatenate([self.found, self.target]))
        return self.wanted & ~reached


def _uncovered(seen: Sequence[EvaluatedImage], proposals: Mapping[str, Boxes], rule: Rule) -> int:
    absent = [image.record.image_id for image in seen if image.record.image_id not in proposals]
    if absent:
        raise ParameterError(f"{len(absent)} pictures have no proposals, {absent[0]} first: give all or none")
    return sum(
        int((~_covered(image, proposals[image.record.image_id], rule))[image.wanted(rule)].sum())
        for image in seen
    )


def _covered(image: EvaluatedImage, boxes: Boxes, rule: Rule) -> NDArray[np.bool_]:
    overlaps = exact_iou(image.boxes, boxes)  # G x R
    return overlaps.max(axis=1, initial=0) >= rule.thresholds(image.boxes)

"""Average precision class by class, whatever the rule. Letters for shapes: D detections, C classes."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.annotated_image import AnnotatedImage
from detector.evaluation.average_precision import PrecisionRecall, precision_recall
from detector.evaluation.matching import Rule, evaluated_images, match_detections
from detector.structures.detections import Detections


@dataclass(frozen=True)
class DetEvaluation:
    """Figures of every class, and their mean.

    ap [C] and recall [C] float64 in 0..1, NaN where the set holds no object of the class; ground_truths [C]
    and detections [C] int64, without what was passed over; curves: one a class.
    """

    ap: NDArray[np.float64]
    recall: NDArray[np.float64]
    ground_truths: NDArray[np.int64]
    detections: NDArray[np.int64]
    curves: tuple[PrecisionRecall, ...]

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Which classes [C] the set holds an object of: those that :attr:`mean_ap` is a mean over."""
        return self.ground_truths > 0

    @property
    def mean_ap(self) -> float:
        """Mean AP over the measured classes; NaN if there are none."""
        return float(self.ap[self.measured].mean()) if self.measured.any() else float("nan")

    def at_score(self, least: float) -> tuple[float, float]:
        """Return precision and recall, over the measured classes together, of detections with this score or
        a higher one: what somebody sees who shows just those. The precision of none is NaN."""
        kept = found = 0
        for label in np.flatnonzero(self.measured):
            curve = self.curves[label]
            count = int((curve.scores >= least).sum())
            kept += count
            found += round(float(curve.recall[count - 1]) * int(self.ground_truths[label])) if count else 0
        objects = int(self.ground_truths[self.measured].sum())
        return found / kept if kept else float("nan"), found / objects if objects else float("nan")


def evaluate(
    ground_truth: Sequence[AnnotatedImage],
    detections: Mapping[str, Detections],
    num_classes: int,
    rule: Rule,
    blacklist: Collection[tuple[str, int]] = frozenset(),
) -> DetEvaluation:
    """Measure detections, by image id, against the records of a set; a picture without any may be absent.

    ``blacklist`` holds pairs of image id and label that are passed over, objects and detections alike
    (:func:`detector.evaluation.ilsvrc.read_blacklist`). A partial record counts as blacklisted for every
    class that it does not list. Equal scores rank in the order of ``ground_truth``.

    Raises ParameterError if a picture stands twice in ``ground_truth``, if there are detections for one that
    does not, if a label is not in 0..num_classes-1, or if a score is NaN.
    """
    positives = np.zeros(num_classes, np.int64)
    judged = [_Judged(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.bool_))]
    for image in evaluated_images(ground_truth, detections, num_classes, blacklist):
        wanted = image.wanted(rule)
        positives += np.bincount(image.labels[wanted], minlength=num_classes)
        found = match_detections(image, rule)
        counts = np.append(wanted, True)[found]  # -1, for none, reads what is appended
        parts = image.found.labels, image.found.scores, found >= 0
        judged.append(_Judged(*(part[counts] for part in parts)))
    labels, scores, correct = (np.concatenate(column) for column in zip(*judged, strict=True))
    return figures(labels, scores, correct, positives, rule)


def figures(
    labels: NDArray[np.int64],
    scores: NDArray[np.floating],
    correct: NDArray[np.bool_],
    positives: NDArray[np.int64],
    rule: Rule,
) -> DetEvaluation:
    """Return figures from the labels, scores and truth, all [*], of every picture's detections, and objects
    [C]."""
    by_label = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=len(positives)))
    curves = tuple(
        precision_recall(scores[of_class], correct[of_class], int(count))
        for of_class, count in zip(np.split(by_label, ends[:-1]), positives, strict=True)
    )
    measured = positives > 0
    return DetEvaluation(
        ap=np.where(measured, [rule.average_precision(curve) for curve in curves], np.nan),
        recall=np.where(
            measured, [curve.recall[-1] if len(curve.recall) else 0.0 for curve in curves], np.nan
        ),
        ground_truths=positives,
        detections=np.array([len(curve.scores) for curve in curves], np.int64),
        curves=curves,
    )


class _Judged(NamedTuple):
    """Detections of one picture, best first: labels, scores, and whether each is correct, all [D]."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    correct: NDArray[np.bool_]

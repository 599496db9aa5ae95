"""Precision-recall curves, and the figures that rules draw from them.

Letters for shapes: D detections of one class, best first.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PrecisionRecall:
    """One point a detection, by falling score: what keeping it and all better ones gives.

    recall [D], precision [D], scores [D], all float64. Without ground truth the recall is NaN throughout.
    """

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]

    @property
    def correct(self) -> NDArray[np.bool_]:
        """Which of the detections [D] are true."""
        true = np.rint(self.precision * np.arange(1, len(self.precision) + 1))
        return np.diff(true, prepend=0) > 0


def precision_recall(
    scores: NDArray[np.floating], correct: NDArray[np.bool_], ground_truths: int
) -> PrecisionRecall:
    """Return the curve of detections with scores [D] of which correct [D] are true, against that many ground
    truths.

    Equal scores keep the order in which they come.
    """
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(correct[order])
    return PrecisionRecall(
        recall=true / ground_truths if ground_truths else np.full(len(order), np.nan),
        precision=true / np.arange(1, len(order) + 1),
        scores=scores[order].astype(np.float64),
    )


def average_precision(curve: PrecisionRecall) -> float:
    """Return the area under the curve after precision is made monotone: at each recall the best at that or a
    higher one.

    The rule of PASCAL VOC since 2010 and of ILSVRC; not the eleven points of VOC 2007. 0 without
    detections; NaN where the recall is.
    """
    best_from_here = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * best_from_here))


def eleven_point_precision(curve: PrecisionRecall) -> float:
    """Return the mean, over recalls of 0, 0.1 ... 1, of the best precision at that or a higher recall.

    0 without detections; NaN where the recall is.
    """
    if np.isnan(curve.recall).any():
        return float("nan")
    steps = np.arange(11) / 10
    return float(np.mean([curve.precision[curve.recall >= step].max(initial=0) for step in steps]))

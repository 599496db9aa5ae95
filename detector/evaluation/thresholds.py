"""Measure the lowest score of each class from which on a wanted share of detections is right.

A held-out set has a handful of objects of most classes: of three detections that happen to be right nothing
follows. Intervals for each class alone would leave most classes without a threshold. So classes are pooled in
part, as empirical Bayes does (Efron and Morris, J. Am. Stat. Assoc. 70, 1975): each class's own detections
count, and beside them :data:`PRIOR` detections that are right as often as those of all classes together are
from that score on, by the lower bound of Wilson's interval. A class without detections of its own has the
common threshold, one with hundreds its own, and nothing jumps in between. Letters for shapes: C classes, T
scores.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.det_evaluation import DetEvaluation
from detector.evaluation.reliability import counts_from, wilson_interval
from detector.inference.thresholds import Thresholds, check_precision

PRECISION = 0.7
"""The share that is wanted right unless another is asked for."""

PRIOR = 10
"""How many detections of a class what is known of all classes counts for (``benchmarks/thresholds.py``)."""

_ONE_SIDED = 1.645  # the true share is below the bound in one case of twenty

_SCORES = np.arange(1, 1001) / 1000  # that a threshold may have


@dataclass(frozen=True)
class ThresholdFigures:
    """What a class's threshold shows of the pictures that it was measured on: the detections ``shown`` and
    those of them that are ``right``, of so many ``objects``."""

    threshold: float | None
    shown: int
    right: int
    objects: int


def measure_thresholds(
    evaluation: DetEvaluation, precision: float = PRECISION, measured_on: str = "", prior: float = PRIOR
) -> Thresholds:
    """Return the thresholds of an evaluation's classes, to three decimals. With a ``prior`` of nearly nothing
    each class is taken at its own word, with an infinite one all have the common threshold.

    Raises ParameterError for a precision that is no share.
    """
    check_precision(precision)
    shown, right = counts_from(evaluation.curves, _SCORES)
    bound, _ = wilson_interval(right, shown, _ONE_SIDED)
    scores = []
    for curve in evaluation.curves:
        shown, right = counts_from([curve], _SCORES)
        scores.append(_lowest((right + prior * bound) / (shown + prior) >= precision))
    return Thresholds(precision, _lowest(bound >= precision), tuple(scores), measured_on)


def threshold_figures(evaluation: DetEvaluation, thresholds: Thresholds) -> list[ThresholdFigures]:
    """Count, class by class, what an evaluation's detections look like from their thresholds on."""
    figures = []
    for curve, score, objects in zip(
        evaluation.curves, thresholds.scores, evaluation.ground_truths.tolist(), strict=True
    ):
        shown, right = counts_from([curve], np.array([np.inf if score is None else score]))
        figures.append(ThresholdFigures(score, int(shown[0]), int(right[0]), objects))
    return figures


def _lowest(reached: NDArray[np.bool_]) -> float | None:
    """Return the lowest score [T] at which something is reached."""
    return float(_SCORES[reached.argmax()]) if reached.any() else None

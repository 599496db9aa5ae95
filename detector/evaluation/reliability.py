"""How far a score can be trusted: the share of detections that is right, score by score.

What is right, the rule of a benchmark decides (:mod:`detector.evaluation.matching`); its curves say it of
each detection. Letters for shapes: B bins of scores, T thresholds.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.average_precision import PrecisionRecall

LEAST_SCORE = 0.1
"""Evaluations keep detections from a score of 0.001 on, most of them near it: what nobody would show would be
nearly all of an average."""


@dataclass(frozen=True)
class Reliability:
    """Detections in bins of their scores.

    edges [B+1] of the bins, the upper one of the last included; shown [B] and right [B] int64, how many
    detections lie in each and how many of these are right; score [B] float64, their mean score, NaN in an
    empty bin.
    """

    edges: NDArray[np.float64]
    shown: NDArray[np.int64]
    right: NDArray[np.int64]
    score: NDArray[np.float64]

    @property
    def share(self) -> NDArray[np.float64]:
        """The share of each bin [B] that is right; NaN in an empty one."""
        return _share(self.right, self.shown)

    @property
    def expected_calibration_error(self) -> float:
        """The mean distance of score and share right over all detections, bin by bin (Guo et al., arXiv
        1706.04599, equation 5). NaN without detections."""
        gaps = np.nan_to_num(np.abs(self.share - self.score))
        return float(gaps @ self.shown / self.shown.sum()) if self.shown.any() else float("nan")


def reliability(
    curves: Sequence[PrecisionRecall], *, bins: int = 9, least: float = LEAST_SCORE
) -> Reliability:
    """Sort the detections of some classes from a score ``least`` on into bins of equal width up to 1."""
    edges = np.linspace(least, 1, bins + 1)
    shown, right, total = np.zeros(bins, np.int64), np.zeros(bins, np.int64), np.zeros(bins)
    for curve in curves:
        inside = curve.scores >= least
        place = np.minimum(np.searchsorted(edges, curve.scores[inside], side="right") - 1, bins - 1)
        shown += np.bincount(place, minlength=bins)
        right += np.bincount(place[curve.correct[inside]], minlength=bins)
        total += np.bincount(place, curve.scores[inside], bins)
    return Reliability(edges, shown, right, _share(total, shown))


def counts_from(
    curves: Sequence[PrecisionRecall], least: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Count the detections of some classes together that have each of some scores [T] or a higher one, and
    those of them that are right: [T] int64 each."""
    shown, right = np.zeros(len(least), np.int64), np.zeros(len(least), np.int64)
    for curve in curves:
        count = np.searchsorted(-curve.scores, -least, side="right")  # curves fall
        shown += count
        right += np.append(0, np.cumsum(curve.correct))[count]
    return shown, right


def wilson_interval(
    right: NDArray[np.int64], shown: NDArray[np.int64], z: float = 1.96
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return in what interval the true share lies, of which ``right`` of ``shown`` are a sample: two arrays.

    Wilson's score interval (J. Am. Stat. Assoc. 22, 1927, p. 209): sound for few counts too, of none it is
    0..1. ``z`` is the normal quantile: 1.96 for 95 % within.
    """
    square = z * z
    middle = (right + square / 2) / (shown + square)
    share = np.where(shown > 0, right / np.maximum(shown, 1), 0.5)
    half = z * np.sqrt(shown * share * (1 - share) + square / 4) / (shown + square)
    return np.clip(middle - half, 0, 1), np.clip(middle + half, 0, 1)


def _share(part: NDArray[np.integer] | NDArray[np.float64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)

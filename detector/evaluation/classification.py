"""Top-k error of a classifier. Letters for shapes: N pictures, C classes."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError


def top_k_error(
    scores: NDArray[np.floating], labels: NDArray[np.integer], ks: Sequence[int] = (1, 5)
) -> dict[int, float]:
    """For each k the share of pictures, in 0..1, whose label is not among the k best of scores [N,C].

    labels [N] hold the true class of each picture. Of equal scores the lower label ranks first, so a network
    that says the same of every class gains nothing by it. NaN if N is 0.

    Raises ParameterError if shapes do not agree, a label is not in 0..C-1, a score is NaN, or k is below 1.
    """
    if scores.ndim != 2 or labels.shape != scores.shape[:1]:
        raise ParameterError(
            f"scores must be [N,C] and labels [N], got {list(scores.shape)} and {list(labels.shape)}"
        )
    if np.isnan(scores).any():
        raise ParameterError("a score is NaN")
    if len(labels) and not 0 <= labels.min() <= labels.max() < scores.shape[1]:
        raise ParameterError(
            f"labels must be in 0..{scores.shape[1] - 1}, got {labels.min()}..{labels.max()}"
        )
    if any(k < 1 for k in ks):
        raise ParameterError(f"k must be at least 1, got {list(ks)}")
    own = scores[np.arange(len(labels)), labels][:, None]  # N x 1
    tied_before = (scores == own) & (np.arange(scores.shape[1]) < labels[:, None])
    rank = ((scores > own) | tied_before).sum(axis=1)  # [N], 0 for the best
    return {k: float((rank >= k).mean()) if len(labels) else float("nan") for k in ks}

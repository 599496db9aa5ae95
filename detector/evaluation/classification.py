"""Top-k error of a classifier. Letters for shapes: N pictures, C classes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError


def top_k_error(
    scores: NDArray[np.floating], labels: NDArray[np.integer], ks: Sequence[int] = (1, 5)
) -> dict[int, float]:
    """Return for each k the share of pictures, in 0..1, whose label is not among the k best of scores [N,C].

    labels [N] hold the true class of each picture. NaN if N is 0. Raises the errors of :func:`label_ranks`.
    """
    return rank_error(label_ranks(scores, labels), ks)


def label_ranks(scores: NDArray[np.floating], labels: NDArray[np.integer]) -> NDArray[np.int64]:
    """Return how many classes rank before each picture's own [N]: 0 where it is the best of scores [N,C].

    labels [N] hold the true class of each picture. Of equal scores the lower label ranks first, so a network
    that says the same of every class gains nothing by it.

    Raises ParameterError if shapes do not agree, a label is not in 0..C-1, or a score is NaN.
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
    own = scores[np.arange(len(labels)), labels][:, None]  # N x 1
    tied_before = (scores == own) & (np.arange(scores.shape[1]) < labels[:, None])
    return ((scores > own) | tied_before).sum(axis=1)


def rank_error(ranks: NDArray[np.integer], ks: Sequence[int] = (1, 5)) -> dict[int, float]:
    """Return for each k the share of ranks [N], as :func:`label_ranks` counts them, that are k or more.

    NaN if N is 0. Raises ParameterError if k is below 1.
    """
    if any(k < 1 for k in ks):
        raise ParameterError(f"k must be at least 1, got {list(ks)}")
    return {k: float((ranks >= k).mean()) if len(ranks) else float("nan") for k in ks}


@dataclass(frozen=True)
class ClassificationFigures:
    """What a table of classifiers says of one of them, as table 3 of arXiv 1409.4842 does.

    ``networks`` are averaged over so many ``crops`` of a picture; errors are shares in 0..1. ``seconds`` is
    the mean a picture without its decoding, None where others ran in the same passes.
    """

    name: str
    networks: int
    crops: int
    top1_error: float
    top5_error: float
    precision: str = "auto"
    seconds: float | None = None

    @property
    def cost(self) -> int:
        """Crops that go through a network for one picture."""
        return self.networks * self.crops

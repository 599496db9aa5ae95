"""Drawing minibatches: R-CNN's 32 positives and 96 backgrounds, and some whole pictures to remember by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.feature_cache import WHOLE


@dataclass(frozen=True)
class BatchSettings:
    """Regions of each kind in a minibatch (R-CNN, arXiv 1311.2524, section 2.3, has the first two).

    ``balance`` is between 0 (every positive region is equally likely) and 1 (every class is).
    """

    positives: int = 32
    background: int = 96
    whole: int = 16
    balance: float = 0.5


class Sampler:
    """Indices of a minibatch, a function of the iteration alone: a resumed run draws what it would have."""

    def __init__(
        self, labels: NDArray[np.int64], background_label: int, settings: BatchSettings, seed: int
    ) -> None:
        """labels [M]: a class, the background label, or WHOLE."""
        self._settings, self._seed = settings, seed
        self._whole = np.flatnonzero(labels == WHOLE)
        self._background = np.flatnonzero(labels == background_label)
        self._positive = np.flatnonzero((labels != WHOLE) & (labels != background_label))
        classes, inverse, counts = np.unique(labels[self._positive], return_inverse=True, return_counts=True)
        weight = counts.astype(np.float64)[inverse] ** -settings.balance
        self._weight = weight / weight.sum() if len(classes) else weight

    def draw(self, iteration: int) -> NDArray[np.int64]:
        """Indices of the regions of minibatch ``iteration``."""
        rng = np.random.default_rng([self._seed, iteration])
        settings = self._settings
        return np.concatenate(
            [
                rng.choice(self._positive, settings.positives, p=self._weight),
                rng.choice(self._background, settings.background),
                rng.choice(self._whole, settings.whole),
            ]
        )

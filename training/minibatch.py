"""Drawing minibatches: R-CNN's 32 positives and 96 backgrounds, and some whole pictures to remember by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.feature_cache import WHOLE
from training.sampling import NEAR_IOU, UNKNOWN


@dataclass(frozen=True)
class BatchSettings:
    """Regions of each kind in a minibatch (R-CNN, arXiv 1311.2524, section 2.3, has the first two).

    ``near`` is the share of backgrounds that overlap an object, by NEAR_IOU or more: parts of objects are
    what a classifier of pictures takes for the whole. ``balance`` is between 0 (every positive region is
    equally likely) and 1 (every class is).
    """

    positives: int = 32
    background: int = 96
    whole: int = 16
    near: float = 0.5
    balance: float = 0.5


class Sampler:
    """Indices of a minibatch, a function of the iteration alone: a resumed run draws what it would have."""

    def __init__(
        self,
        labels: NDArray[np.int64],
        overlaps: NDArray[np.float32],
        background_label: int,
        settings: BatchSettings,
        seed: int,
    ) -> None:
        """labels [M]: a class, the background label, or WHOLE; overlaps [M]: IoU with the nearest object."""
        self._settings, self._seed = settings, seed
        self._whole = np.flatnonzero(labels == WHOLE)
        self._background = np.flatnonzero(labels == background_label)
        near = self._background[overlaps[self._background] >= NEAR_IOU]
        self._near = near if len(near) else self._background
        self._positive = np.flatnonzero(~np.isin(labels, (WHOLE, UNKNOWN, background_label)))
        classes, inverse, counts = np.unique(labels[self._positive], return_inverse=True, return_counts=True)
        weight = counts.astype(np.float64)[inverse] ** -settings.balance
        self._weight = weight / weight.sum() if len(classes) else weight

    def draw(self, iteration: int) -> NDArray[np.int64]:
        """Indices of the regions of minibatch ``iteration``."""
        rng = np.random.default_rng([self._seed, iteration])
        settings = self._settings
        near = round(settings.near * settings.background)
        return np.concatenate(
            [
                rng.choice(self._positive, settings.positives, p=self._weight),
                rng.choice(self._near, near),
                rng.choice(self._background, settings.background - near),
                rng.choice(self._whole, settings.whole),
            ]
        )

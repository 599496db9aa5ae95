"""Drawing minibatches: R-CNN's 32 positives and 96 backgrounds, and some whole pictures to remember by."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.rcnn.feature_cache import WHOLE
from training.rcnn.sampling import NEAR_IOU, UNKNOWN
from training.trainer.optimization import SHARE, check_ranges


@dataclass(frozen=True)
class BatchSettings:
    """Regions of each kind in a minibatch (R-CNN, arXiv 1311.2524, section 2.3, has the first two).

    ``near`` is the share of backgrounds that overlap an object, by NEAR_IOU or more: parts of objects are
    what a classifier of pictures takes for the whole. ``balance`` is between 0 (every positive region is
    equally likely) and 1 (every class is). ``unknown`` regions show objects whose class is not known.

    ``mined`` is the share of backgrounds that are the hardest ones of a pool ``pool`` times as large
    (Shrivastava et al., arXiv 1604.03540, mine within the minibatch as well): regions that may be an object
    nobody labelled are never in it. ``images`` is how many pictures a minibatch of the stream is drawn
    from.
    """

    positives: int = 32
    background: int = 96
    whole: int = 16
    unknown: int = 8
    near: float = 0.5
    balance: float = 0.5
    mined: float = 0.0
    pool: int = 4
    images: int = 16

    def __post_init__(self) -> None:
        """Raises ParameterError for a setting outside its range."""
        check_ranges(self, balance=SHARE, mined=SHARE, near=SHARE)

    @property
    def hardest(self) -> int:
        """How many backgrounds of the pool are kept."""
        return round(self.mined * self.background)

    @property
    def pool_size(self) -> int:
        """How many backgrounds they are chosen from."""
        return self.hardest * self.pool


class Sampler:
    """Indices of a minibatch, a function of the iteration alone: a resumed run draws what it would have."""

    def __init__(
        self,
        labels: NDArray[np.int64],
        overlaps: NDArray[np.float32],
        background_label: int,
        settings: BatchSettings,
        seed: int,
        *,
        sure: NDArray[np.bool_] | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """labels [M]: a class, the background label, UNKNOWN or WHOLE; overlaps [M]: IoU with the nearest
        object; sure [M]: false for what may be an object (all are sure); weights [M]: how much more often
        than others of its kind a region is drawn (alike)."""
        self._settings, self._seed = settings, seed
        self._weights = np.ones(len(labels)) if weights is None else weights
        self._whole = np.flatnonzero(labels == WHOLE)
        self._unknown = np.flatnonzero(labels == UNKNOWN)
        self._background = np.flatnonzero(labels == background_label)
        near = self._background[overlaps[self._background] >= NEAR_IOU]
        self._near = near if len(near) else self._background
        self._minable = self._background if sure is None else self._background[sure[self._background]]
        self._positive = np.flatnonzero(~np.isin(labels, (WHOLE, UNKNOWN, background_label)))
        _, inverse, counts = np.unique(labels[self._positive], return_inverse=True, return_counts=True)
        self._balance = counts.astype(np.float64)[inverse] ** -settings.balance

    def draw(self, iteration: int) -> NDArray[np.int64]:
        """Indices of the regions of minibatch ``iteration``, but for those chosen from the pool.

        Of a kind of which there is no region there is none in the minibatch either.
        """
        rng = np.random.default_rng([self._seed, iteration])
        settings = self._settings
        background = settings.background - settings.hardest
        near = round(settings.near * background)
        return np.concatenate(
            [
                self._some(rng, self._positive, settings.positives, self._balance),
                self._some(rng, self._near, near),
                self._some(rng, self._background, background - near),
                self._some(rng, self._whole, settings.whole),
                self._some(rng, self._unknown, settings.unknown),
            ]
        )

    def pool(self, iteration: int) -> NDArray[np.int64]:
        """Indices of the backgrounds that the hardest of minibatch ``iteration`` are chosen from."""
        rng = np.random.default_rng([self._seed, iteration, 1])
        return self._some(rng, self._minable, self._settings.pool_size)

    def _some(
        self,
        rng: np.random.Generator,
        among: NDArray[np.int64],
        count: int,
        more: NDArray[np.float64] | float = 1.0,
    ) -> NDArray[np.int64]:
        if not len(among) or not count:
            return np.zeros(0, np.int64)
        weight = self._weights[among] * more
        if (weight == weight[0]).all():
            return rng.choice(among, count)
        return rng.choice(among, count, p=weight / weight.sum())

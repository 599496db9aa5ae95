"""Minibatches of regions: which regions are drawn, and the dataloader that reads them from cached maps.

Letters for shapes: M regions to draw from, B regions of this process' share of a minibatch; a map is [K,h,w]
after the frozen stages.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset
from tyro.conf import arg

from detector.cli.command_line import at_least
from training.rcnn.feature_cache import FeatureCache
from training.rcnn.losses import Targets
from training.rcnn.sampling import NEAR_IOU, UNKNOWN, WHOLE
from training.trainer.dataloader import load_items
from training.trainer.distributed import ProcessGroup
from training.trainer.optimization import SHARE, check_ranges


class RegionBatch(NamedTuple):
    """One process' share of a minibatch, on its device.

    maps [B,K,h,w] are the outputs of the frozen stages. slots [B] int64 are -1, or the place in the pool of
    backgrounds of which only the hardest stay.
    """

    maps: Tensor
    targets: Targets
    slots: Tensor

    def pieces(self, count: int) -> "list[RegionBatch]":
        """Split into ``count`` pieces of nearly the same size, or as many as there are regions."""
        count = min(count, len(self.maps))
        columns = (part.tensor_split(count) for part in (self.maps, *self.targets, self.slots))
        return [
            RegionBatch(maps, Targets(*targets), slots)
            for maps, *targets, slots in zip(*columns, strict=True)
        ]


@dataclass(frozen=True)
class BatchSettings:
    """Regions of each kind in a minibatch (R-CNN, arXiv 1311.2524, section 2.3, has the first two).

    ``mined`` are the hardest of a pool (Shrivastava et al., arXiv 1604.03540, mine within the minibatch as
    well); regions that may be an object nobody labelled are never in it.
    """

    positives: Annotated[int, at_least(1), arg(name="batch-positives")] = 16
    """Object regions of a minibatch."""
    background: Annotated[int, at_least(1), arg(name="batch-background")] = 40
    """Background regions of a minibatch."""
    whole: Annotated[int, at_least(0), arg(name="batch-whole")] = 8
    """Whole images of a minibatch, for distillation."""
    unknown: Annotated[int, at_least(0), arg(name="batch-unknown")] = 8
    """Regions of a minibatch that show objects whose class is not known."""
    near: Annotated[float, arg(name="batch-near")] = 0.5
    """Share of the backgrounds that overlap an object: a classifier of images takes a part for the whole."""
    balance: float = 0.5
    """0: all object regions are as likely; 1: all classes are."""
    mined: float = 0.0
    """Share of the backgrounds that are the hardest of a larger pool."""
    pool: Annotated[int, at_least(1), arg(name="mined-pool")] = 4
    """How many times as large that pool is."""
    images: Annotated[int, at_least(1), arg(name="batch-images")] = 16
    """Images that a streamed minibatch is drawn from."""

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


class RegionSampler:
    """Draws the regions of a minibatch, as a function of its number alone."""

    def __init__(
        self,
        labels: NDArray[np.int64],
        overlaps: NDArray[np.float32],
        background_label: int,
        settings: BatchSettings,
        seed: int,
        *,
        certain: NDArray[np.bool_] | None = None,
        weights: NDArray[np.float64] | None = None,
    ) -> None:
        """Sort regions by kind.

        labels [M]: a class, the background label, UNKNOWN or WHOLE; overlaps [M]: IoU with the nearest
        object; certain [M]: false for what may be an object [all true]; weights [M]: how much more often than
        others of its kind a region is drawn [all the same].
        """
        self._settings, self._seed = settings, seed
        self._weights = np.ones(len(labels)) if weights is None else weights
        self._whole = np.flatnonzero(labels == WHOLE)
        self._unknown = np.flatnonzero(labels == UNKNOWN)
        self._background = np.flatnonzero(labels == background_label)
        near = self._background[overlaps[self._background] >= NEAR_IOU]
        self._near = near if len(near) else self._background
        self._minable = self._background if certain is None else self._background[certain[self._background]]
        self._positive = np.flatnonzero(~np.isin(labels, (WHOLE, UNKNOWN, background_label)))
        _, inverse, counts = np.unique(labels[self._positive], return_inverse=True, return_counts=True)
        self._balance = counts.astype(np.float64)[inverse] ** -settings.balance

    def draw(self, iteration: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Draw the regions of minibatch ``iteration`` -> their indices and their slots, [B] each.

        A slot is -1, or the place in the pool of backgrounds of which only the hardest stay. Of a kind of
        which there is no region the minibatch has none.
        """
        drawn, pool = self._batch(iteration), self._pool(iteration)
        return np.concatenate([drawn, pool]), np.concatenate([np.full(len(drawn), -1), np.arange(len(pool))])

    def _batch(self, iteration: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self._seed, iteration])
        settings = self._settings
        background = settings.background - settings.hardest
        near = round(settings.near * background)
        return np.concatenate(
            [
                self._choose(rng, self._positive, settings.positives, self._balance),
                self._choose(rng, self._near, near),
                self._choose(rng, self._background, background - near),
                self._choose(rng, self._whole, settings.whole),
                self._choose(rng, self._unknown, settings.unknown),
            ]
        )

    def _pool(self, iteration: int) -> NDArray[np.int64]:
        rng = np.random.default_rng([self._seed, iteration, 1])
        return self._choose(rng, self._minable, self._settings.pool_size)

    def _choose(
        self,
        rng: np.random.Generator,
        among: NDArray[np.int64],
        count: int,
        balance: NDArray[np.float64] | float = 1.0,
    ) -> NDArray[np.int64]:
        if not len(among) or not count:
            return np.zeros(0, np.int64)
        weight = self._weights[among] * balance
        if (weight == weight[0]).all():
            return rng.choice(among, count)
        return rng.choice(among, count, p=weight / weight.sum())


class RegionDataLoader(Protocol):
    """Minibatches by number: the same number, the same minibatch, however often a run was resumed.

    ``epoch_length`` is how many iterations see as many images as there are.
    """

    epoch_length: int

    def minibatches(self, first: int, last: int) -> Iterator[RegionBatch]:
        """Yield those from ``first`` to before ``last``, in order."""

    def digest(self) -> bytes:
        """Return what tells these minibatches from others."""


class CachedDataLoader:
    """Minibatches from maps on disk (:mod:`training.rcnn.feature_cache`)."""

    def __init__(
        self,
        cache: FeatureCache,
        distilled_classes: int,
        background_label: int,
        settings: BatchSettings,
        *,
        seed: int,
        weights: NDArray[np.float64],
        device: torch.device,
        world: ProcessGroup,
        workers: int = 0,
    ) -> None:
        """Draw from ``cache``; weights [N]: how much more often than others an image's regions are drawn."""
        self._cache, self._device, self._workers = cache, device, workers
        sampler = RegionSampler(
            cache.labels.numpy(),
            cache.overlaps.numpy(),
            background_label,
            settings,
            seed,
            certain=cache.certain.numpy(),
            weights=weights[cache.images.numpy()],
        )
        self._batches = _CachedBatches(cache, distilled_classes, sampler, world)
        positive = (cache.labels >= 0) & (cache.labels != background_label)
        self.epoch_length = max(int(positive.sum()) // settings.positives, 1)
        self._weights = weights

    def minibatches(self, first: int, last: int) -> Iterator[RegionBatch]:
        for maps, targets, slots in load_items(
            self._batches, range(first, last), self._device, self._workers
        ):
            yield RegionBatch(
                maps.to(self._device, non_blocking=True, memory_format=torch.channels_last),
                targets.to(self._device),
                slots.to(self._device, non_blocking=True),
            )

    def digest(self) -> bytes:
        cache = self._cache
        digest = hashlib.sha256(b"cached" + self._weights.tobytes())
        for part in (cache.labels, cache.overlaps, cache.deltas, cache.certain):
            digest.update(part.numpy().tobytes())
        return digest.digest()


class _CachedBatches(Dataset[RegionBatch]):
    """This process' share of a minibatch, still in main memory, by the minibatch's number."""

    def __init__(
        self, cache: FeatureCache, distilled_classes: int, sampler: RegionSampler, world: ProcessGroup
    ) -> None:
        self._cache, self._distilled_classes = cache, distilled_classes
        self._sampler, self._world = sampler, world

    def __getitem__(self, iteration: int) -> RegionBatch:
        index, slots = self._sampler.draw(iteration)
        share = np.arange(self._world.rank, len(index), self._world.size)
        share = share[np.argsort(index[share], kind="stable")]  # in the file's order: fewer seeks
        rows = torch.from_numpy(index[share])
        targets = cached_targets(self._cache, rows, self._distilled_classes)
        return RegionBatch(self._cache.maps[rows], targets, torch.from_numpy(slots[share]))


def cached_targets(cache: FeatureCache, rows: Tensor, distilled_classes: int) -> Targets:
    """Read the targets of regions ``rows`` [B] of a cache."""
    return Targets(
        cache.labels[rows],
        cache.overlaps[rows],
        cache.deltas[rows],
        cache.certain[rows],
        cache.teacher[rows][:, :distilled_classes],
    )

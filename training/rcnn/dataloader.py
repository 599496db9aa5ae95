"""Where minibatches come from: one protocol, and the feed that draws them from cached maps.

Letters for shapes: B regions of this process' share of a minibatch; a map is [K,h,w] after the frozen stages.
"""

import hashlib
import os
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from detector.errors import DatasetError, DetectorError
from training.rcnn.feature_cache import FeatureCache
from training.rcnn.losses import Targets
from training.rcnn.minibatch import BatchSettings, Sampler
from training.trainer.distributed import World


class Minibatch(NamedTuple):
    """One process' share of a minibatch, on its device.

    maps [B,K,h,w] are what the frozen stages make of the regions. slots [B] int64 are -1, or the place in the
    pool of backgrounds of which only the hardest stay.
    """

    maps: Tensor
    targets: Targets
    slots: Tensor


class Feed(Protocol):
    """Minibatches by number: the same number, the same minibatch, however often a run was cut off.

    ``an_epoch`` is how many iterations see as many pictures as there are.
    """

    an_epoch: int

    def minibatches(self, first: int, last: int) -> Iterator[Minibatch]:
        """Those from ``first`` to before ``last``, in order."""

    def digest(self) -> bytes:
        """What tells these minibatches from others."""


class CachedFeed:
    """Minibatches from maps on disk (:mod:`training.rcnn.feature_cache`)."""

    def __init__(
        self,
        cache: FeatureCache,
        known: int,
        background_label: int,
        settings: BatchSettings,
        *,
        seed: int,
        weights: np.ndarray,
        device: torch.device,
        world: World,
        workers: int = 0,
    ) -> None:
        """``known`` rows of the classifier are to be remembered; ``weights`` [N]: how much more often than
        others a picture's regions are drawn."""
        self._cache, self._device, self._workers = cache, device, workers
        sampler = Sampler(
            cache.labels.numpy(),
            cache.overlaps.numpy(),
            background_label,
            settings,
            seed,
            sure=cache.sure.numpy(),
            weights=weights[cache.images.numpy()],
        )
        self._rows = _CachedRows(cache, known, sampler, world)
        positive = (cache.labels >= 0) & (cache.labels != background_label)
        self.an_epoch = max(int(positive.sum()) // settings.positives, 1)
        self._weights = weights

    def minibatches(self, first: int, last: int) -> Iterator[Minibatch]:
        for maps, targets, slots in loader(self._rows, first, last, self._device, self._workers):
            yield Minibatch(
                maps.to(self._device, non_blocking=True, memory_format=torch.channels_last),
                on_device(targets, self._device),
                slots.to(self._device, non_blocking=True),
            )

    def digest(self) -> bytes:
        cache = self._cache
        digest = hashlib.sha256(b"cached" + self._weights.tobytes())
        for part in (cache.labels, cache.overlaps, cache.deltas, cache.sure):
            digest.update(part.numpy().tobytes())
        return digest.digest()


class _CachedRows(Dataset[Minibatch]):
    """This process' share of a minibatch, still in main memory, by the minibatch's number."""

    def __init__(self, cache: FeatureCache, known: int, sampler: Sampler, world: World) -> None:
        self._cache, self._known, self._sampler, self._world = cache, known, sampler, world

    def __getitem__(self, iteration: int) -> Minibatch:
        drawn, pool = self._sampler.draw(iteration), self._sampler.pool(iteration)
        index = np.concatenate([drawn, pool])
        slots = np.concatenate([np.full(len(drawn), -1), np.arange(len(pool))])
        mine = np.arange(self._world.rank, len(index), self._world.size)
        mine = mine[np.argsort(index[mine], kind="stable")]  # in the file's order: fewer seeks
        rows, cache = torch.from_numpy(index[mine]), self._cache
        targets = cached_targets(cache, rows, self._known)
        return Minibatch(cache.maps[rows], targets, torch.from_numpy(slots[mine]))


class _Failure:
    """An error on its way from the process that makes items: raised there, it would come as its traceback."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class _Caught(Dataset[Any]):
    """A data set whose errors of data and files come as items."""

    def __init__(self, dataset: Dataset[Any]) -> None:
        self._dataset = dataset

    def __getitem__(self, index: int) -> Any:
        try:
            return self._dataset[index]
        except DetectorError as error:
            return _Failure(DatasetError(str(error)))
        except OSError as error:
            return _Failure(error)


def loader(dataset: Dataset[Any], first: int, last: int, device: torch.device, workers: int) -> Iterator[Any]:
    """Items ``first`` to before ``last`` of a data set, made ahead by so many processes, in order."""
    items = DataLoader(
        _Caught(dataset),
        batch_size=None,
        sampler=range(first, last),
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_calm,
    )
    for item in items:
        if isinstance(item, _Failure):
            raise item.error
        yield item


def workers_for(device: torch.device, world: World) -> int:
    """Processes that make minibatches ahead: a GPU waits for them, a CPU's cores are all taken already."""
    return min(16, max((os.cpu_count() or 1) // world.size - 1, 1)) if device.type == "cuda" else 0


def cached_targets(cache: FeatureCache, rows: Tensor, known: int) -> Targets:
    """What is asked of regions ``rows`` [B] of a cache; ``known`` rows of the classifier are remembered."""
    return Targets(
        cache.labels[rows],
        cache.overlaps[rows],
        cache.deltas[rows],
        cache.sure[rows],
        cache.teacher[rows][:, :known],
    )


def on_device(targets: Targets, device: torch.device) -> Targets:
    """The same, there."""
    return Targets(*(part.to(device, non_blocking=True) for part in targets))


def _calm(worker: int) -> None:
    cv2.setNumThreads(0)  # one thread a worker: there are as many workers as cores

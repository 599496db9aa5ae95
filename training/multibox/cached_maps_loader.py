"""Minibatches of images whose maps are kept."""

import hashlib
import json
from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import ParameterError
from training.multibox.map_cache import MapCache
from training.multibox.mapped_images import MappedImages
from training.trainer.dataloader import load_items, workers_for
from training.trainer.distributed import ProcessGroup


class CachedMapsLoader:
    """Minibatches of images whose maps are kept (a :class:`training.multibox.mapped_images.MapsLoader`): all
    of them once an epoch, in another order each time, and each as it stands."""

    def __init__(
        self,
        cache: MapCache,
        records: Sequence[AnnotatedImage],
        kept: NDArray[np.int64],
        batch: int,
        seed: int,
        *,
        device: torch.device,
        world: ProcessGroup,
    ) -> None:
        """Draw ``batch`` images a minibatch of those numbered ``kept`` of ``records``.

        Raises ParameterError where fewer are left than there are processes.
        """
        self._batch = min(batch, len(kept))
        if self._batch < world.size:
            raise ParameterError(f"{self._batch} pictures a minibatch are too few for {world.size} processes")
        self._cache, self._records, self._kept, self._seed = cache, records, kept, seed
        self._device, self._world = device, world

    @property
    def epoch_length(self) -> int:
        return len(self._kept) // self._batch

    def digest(self) -> bytes:
        digest = hashlib.sha256(self._cache.digest() + self._kept.tobytes())
        digest.update(json.dumps([self._batch, self._seed]).encode())
        for record in self._records:
            digest.update(record.boxes.tobytes() + record.unknown.tobytes())
            digest.update(record.crowds.tobytes() + bytes([record.partial]))
        return digest.digest()

    def minibatches(self, first: int, last: int) -> Iterator[Sequence[MappedImages]]:
        yield from load_items(
            _CachedMinibatches(self), range(first, last), self._device, workers_for(self._device, self._world)
        )

    def minibatch(self, iteration: int) -> list[MappedImages]:
        """Read this process' share of a minibatch, an image a piece."""
        epoch, place = divmod(iteration, self.epoch_length)
        order = np.random.default_rng([self._seed, epoch, 9]).permutation(self._kept)
        drawn = order[place * self._batch : (place + 1) * self._batch].tolist()
        objects = [max(_count_objects(self._records[index]), 1) for index in drawn]
        return [
            self._cache.read(index)._replace(share=count / sum(objects))
            for index, count in list(zip(drawn, objects, strict=True))[self._world.rank :: self._world.size]
        ]


class _CachedMinibatches(Dataset[list[MappedImages]]):
    """Item ``i`` is minibatch ``i``."""

    def __init__(self, loader: CachedMapsLoader) -> None:
        self._loader = loader

    def __getitem__(self, iteration: int) -> list[MappedImages]:
        return self._loader.minibatch(iteration)


def _count_objects(record: AnnotatedImage) -> int:
    return len(record.boxes) + len(record.unknown)

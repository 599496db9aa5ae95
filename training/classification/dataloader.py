"""Minibatches of whole pictures for a classifier: patches to learn from, views to be measured on.

Letters for shapes: N pictures of a piece of a minibatch; S the side of the network's input.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from detector.errors import ImageError
from detector.inference.region_crops import Preprocessing, normalise, warp
from detector.inference.test_time_crops import crop_windows
from detector.io.decoding import RGB, load
from training.classification.augmentation import (
    Distortion,
    Patch,
    PatchSettings,
    cut,
    distort,
    draw_patch,
    generator,
)
from training.classification.dataset import ImageList
from training.common.distributed import World

_VIEWS = 50
"""Pictures that are measured at a time."""


@dataclass(frozen=True)
class Augmentation:
    """How pictures are changed (arXiv 1409.4842, section 6): which part is seen, in what light.

    From epoch ``random_interpolation_from`` on, patches are resized by one of four methods: the authors
    began that some time into their training.
    """

    patches: PatchSettings = field(default_factory=PatchSettings)
    distortion: Distortion | None = field(default_factory=Distortion)
    random_interpolation_from: int = 40


class Piece(NamedTuple):
    """Some pictures and what they show, in main memory.

    pixels [N,S,S,3] uint8 of training, [N,3,S,S] float32 and normalised of measuring; labels [N] int64;
    ``broken`` says of each picture that could not be read, which therefore is not among the N, why.
    """

    pixels: Tensor
    labels: Tensor
    broken: dict[int, str]


class TrainingPieces(Dataset[Piece]):
    """This process' share of the minibatches, each in ``accumulate`` pieces: item ``i`` is a piece.

    A piece is a function of the seed and of its number. Every picture comes once an epoch, in another order
    and otherwise changed each time; what does not fill a minibatch, other pictures each time, is left out.
    """

    def __init__(
        self,
        images: ImageList,
        augmentation: Augmentation | None,
        *,
        size: int,
        batch: int,
        accumulate: int,
        seed: int,
        world: World,
    ) -> None:
        """Without ``augmentation`` the whole picture is seen, as it is."""
        self._images, self._augmentation, self._size = images, augmentation, size
        self.batch = min(batch, len(images))
        self._pieces, self._seed, self._world = accumulate, seed, world
        self.an_epoch = len(images) // self.batch
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __getitem__(self, number: int) -> Piece:
        iteration, piece = divmod(number, self._pieces)
        epoch, part = divmod(iteration, self.an_epoch)
        chosen = self.order(epoch)[part * self.batch : (part + 1) * self.batch]
        mine = chosen[self._world.rank :: self._world.size]
        return _read(
            self._images,
            np.array_split(mine, self._pieces)[piece],
            lambda image, index: self._seen(image, index, epoch),
            (self._size, self._size, 3),
            torch.uint8,
        )

    def digest(self) -> bytes:
        """What tells these minibatches from others; how they are shared out is no part of it."""
        what = repr((self._augmentation, self._size, self.batch, self._seed))
        return hashlib.sha256(what.encode() + self._images.digest()).digest()

    def order(self, epoch: int) -> NDArray[np.int64]:
        """In which order the pictures come in an epoch, [number of pictures]."""
        if self._order is None or self._order[0] != epoch:  # a million numbers are not drawn for each piece
            self._order = (epoch, generator(self._seed, epoch).permutation(len(self._images)))
        return self._order[1]

    def _seen(self, image: RGB, index: int, epoch: int) -> Tensor:
        height, width = image.shape[:2]
        how = self._augmentation
        if how is None:
            return torch.from_numpy(cut(image, Patch(0, 0, width, height), self._size))
        rng = generator(self._seed, epoch, index)
        late = epoch >= how.random_interpolation_from
        patch = draw_patch(width, height, how.patches, rng, random_interpolation=late)
        pixels = cut(image, patch, self._size)
        return torch.from_numpy(distort(pixels, how.distortion, rng) if how.distortion else pixels)


class MeasuredPieces(Dataset[Piece]):
    """Pictures as ``Classifier`` sees them with one crop: item ``i`` is a piece of them."""

    def __init__(self, images: ImageList, preprocessing: Preprocessing, world: World) -> None:
        """Each process measures its share."""
        self._images, self._preprocessing = images, replace(preprocessing, context=0)
        self._mine = np.arange(world.rank, len(images), world.size)

    def __len__(self) -> int:
        return -(-len(self._mine) // _VIEWS)

    def __getitem__(self, number: int) -> Piece:
        side = self._preprocessing.size
        return _read(
            self._images,
            self._mine[number * _VIEWS : (number + 1) * _VIEWS],
            lambda image, _: self._view(image),
            (3, side, side),
            torch.float32,
        )

    def _view(self, image: RGB) -> Tensor:
        box = crop_windows(image.shape[1], image.shape[0], 1).windows
        return warp(normalise(image, self._preprocessing, torch.device("cpu")), box, self._preprocessing)[0]


def loader(
    pieces: Dataset[Piece], numbers: Sequence[int], device: torch.device, workers: int
) -> DataLoader[Any]:
    """The pieces of these numbers, in order, made ahead by so many processes (0: by this one)."""
    return DataLoader(
        pieces,
        batch_size=None,
        sampler=numbers,
        num_workers=workers,
        pin_memory=device.type == "cuda",
        worker_init_fn=_calm,
    )


def _read(
    images: ImageList,
    chosen: NDArray[np.int64],
    seen: Any,
    shape: tuple[int, ...],
    dtype: torch.dtype,
) -> Piece:
    """The chosen pictures as ``seen(image, index)`` has them."""
    pixels = torch.empty(len(chosen), *shape, dtype=dtype)
    read: list[int] = []
    broken: dict[int, str] = {}
    for index in chosen.tolist():
        try:
            image = load(images.path(index))
        except (ImageError, OSError) as error:
            broken[index] = str(error)
            continue
        pixels[len(read)] = seen(image, index)
        read.append(index)
    labels = torch.from_numpy(images.labels[np.array(read, np.int64)].astype(np.int64))
    return Piece(pixels[: len(read)], labels, broken)


def _calm(worker: int) -> None:
    cv2.setNumThreads(0)  # one thread a worker: there are as many workers as cores

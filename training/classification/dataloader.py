"""Minibatches of whole images for a classifier: patches for training, single crops for validation.

Letters for shapes: N images of a batch; S the side of the network's input.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from detector.errors import ImageError
from detector.inference.preprocessing import Preprocessing
from detector.inference.region_crops import warp
from detector.inference.test_time_crops import crop_windows
from detector.inference.torch_arrays import TorchArrays
from detector.io.decoding import RGB, load
from training.classification.augmentation import (
    ColorJitter,
    Patch,
    PatchSettings,
    cut,
    draw_patch,
    generator,
    jitter_color,
)
from training.classification.dataset import ImageList
from training.trainer.distributed import ProcessGroup

_VALIDATION_BATCH = 50


@dataclass(frozen=True)
class Augmentation:
    """How images are augmented (arXiv 1409.4842, section 6): patches, and color jitter where it is not None.

    From epoch ``random_interpolation_from`` on, patches are resized by one of four methods: the authors
    began that some time into their training.
    """

    patches: PatchSettings = field(default_factory=PatchSettings)
    color_jitter: ColorJitter | None = field(default_factory=ColorJitter)
    random_interpolation_from: int = 40


class ImageBatch(NamedTuple):
    """Some images and their labels, in main memory.

    pixels [N,S,S,3] uint8 for training, [N,3,S,S] float32 and normalised for validation; labels [N] int64;
    ``broken`` says why each image could not be read that is therefore not among the N, by its index.
    """

    pixels: Tensor
    labels: Tensor
    broken: dict[int, str]


class TrainingBatches(Dataset[ImageBatch]):
    """This process' share of the minibatches, each in ``accumulate`` pieces: item ``i`` is a piece.

    A piece is a function of the seed and of its number. Every image comes once an epoch, in another order
    and with another augmentation each time; what does not fill a minibatch, other images each time, is left
    out.
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
        world: ProcessGroup,
    ) -> None:
        """Take minibatches of ``batch`` images; without ``augmentation`` whole images as they are."""
        self._images, self._augmentation, self._size = images, augmentation, size
        self.batch = min(batch, len(images))
        self._pieces, self._seed, self._world = accumulate, seed, world
        self.epoch_length = len(images) // self.batch
        self._order: tuple[int, NDArray[np.int64]] | None = None

    def __getitem__(self, number: int) -> ImageBatch:
        iteration, piece = divmod(number, self._pieces)
        epoch, part = divmod(iteration, self.epoch_length)
        chosen = self.order(epoch)[part * self.batch : (part + 1) * self.batch]
        share = chosen[self._world.rank :: self._world.size]
        return _read(
            self._images,
            np.array_split(share, self._pieces)[piece],
            lambda image, index: self._augment(image, index, epoch),
            (self._size, self._size, 3),
            torch.uint8,
        )

    def digest(self) -> bytes:
        """Return what tells these minibatches from others, whatever the number of processes."""
        settings = repr((self._augmentation, self._size, self.batch, self._seed))
        return hashlib.sha256(settings.encode() + self._images.digest()).digest()

    def order(self, epoch: int) -> NDArray[np.int64]:
        """Return the order of the images in an epoch, [number of images]."""
        if self._order is None or self._order[0] != epoch:  # a million numbers are not drawn for each piece
            self._order = (epoch, generator(self._seed, epoch).permutation(len(self._images)))
        return self._order[1]

    def _augment(self, image: RGB, index: int, epoch: int) -> Tensor:
        height, width = image.shape[:2]
        augmentation = self._augmentation
        if augmentation is None:
            return torch.from_numpy(cut(image, Patch(0, 0, width, height), self._size))
        rng = generator(self._seed, epoch, index)
        late = epoch >= augmentation.random_interpolation_from
        patch = draw_patch(width, height, augmentation.patches, rng, random_interpolation=late)
        pixels = cut(image, patch, self._size)
        return torch.from_numpy(
            jitter_color(pixels, augmentation.color_jitter, rng) if augmentation.color_jitter else pixels
        )


class ValidationBatches(Dataset[ImageBatch]):
    """This process' share of images, cut as ``Classifier`` does with one crop: item ``i`` is a batch."""

    def __init__(self, images: ImageList, preprocessing: Preprocessing, world: ProcessGroup) -> None:
        """Divide ``images`` among the processes."""
        self._images, self._preprocessing = images, replace(preprocessing, context=0)
        self._share = np.arange(world.rank, len(images), world.size)

    def __len__(self) -> int:
        return -(-len(self._share) // _VALIDATION_BATCH)

    def __getitem__(self, number: int) -> ImageBatch:
        side = self._preprocessing.size
        return _read(
            self._images,
            self._share[number * _VALIDATION_BATCH : (number + 1) * _VALIDATION_BATCH],
            lambda image, _: self._crop(image),
            (3, side, side),
            torch.float32,
        )

    def _crop(self, image: RGB) -> Tensor:
        box = crop_windows(image.shape[1], image.shape[0], 1).windows
        arrays = TorchArrays(torch.device("cpu"))
        return warp(arrays.normalise(image, self._preprocessing), box, self._preprocessing, arrays)[0]


def _read(
    images: ImageList,
    chosen: NDArray[np.int64],
    prepare: Callable[[RGB, int], Tensor],
    shape: tuple[int, ...],
    dtype: torch.dtype,
) -> ImageBatch:
    """Read the chosen images, each made into pixels by ``prepare(image, index)``."""
    pixels = torch.empty(len(chosen), *shape, dtype=dtype)
    read: list[int] = []
    broken: dict[int, str] = {}
    for index in chosen.tolist():
        try:
            image = load(images.path(index))
        except (ImageError, OSError) as error:
            broken[index] = str(error)
            continue
        pixels[len(read)] = prepare(image, index)
        read.append(index)
    labels = torch.from_numpy(images.labels[np.array(read, np.int64)].astype(np.int64))
    return ImageBatch(pixels[: len(read)], labels, broken)

"""Minibatches for MultiBox: random windows of images, each stretched to the network's square input.

Letters for shapes: N images of a minibatch, G objects of one.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image
from detector.errors import DatasetError, ImageError
from detector.inference.region_crops import Preprocessing, normalise, resize_to_short_side, warp
from detector.structures.boxes import Boxes, area, as_boxes, flip, intersection
from training.trainer.dataloader import load_items
from training.trainer.distributed import ProcessGroup


@dataclass(frozen=True)
class WindowSettings:
    """How windows are drawn.

    ``whole`` is how often the whole image is taken. Else the window's area is ``least`` to ``most`` of the
    image's, its aspect that of the image by a factor of 3/4 to 4/3 (arXiv 1409.4842, section 6); beyond the
    image it holds the mean color. An object counts where ``visible`` of its area is inside and its shorter
    side is at least ``min_side`` pixels of the input.
    """

    whole: float = 0.25
    least: float = 0.2
    most: float = 1.5
    aspect: float = 4 / 3
    visible: float = 0.5
    min_side: float = 6.0
    tries: int = 8


@dataclass(frozen=True)
class Window:
    """A part ``box`` [4] of an image, in its pixels, and its objects [G,4], in pixels of the input."""

    box: Boxes
    mirrored: bool
    objects: Boxes


def draw_window(
    width: int, height: int, objects: Boxes, size: int, settings: WindowSettings, rng: np.random.Generator
) -> Window:
    """Draw a window of an image with at least one of its objects [G,4]; else take the whole image."""
    mirrored = bool(rng.random() < 0.5)
    if rng.random() >= settings.whole:
        for _ in range(settings.tries):
            box = _random_box(width, height, settings, rng)
            inside = objects_in(box, objects, size, settings)
            if len(inside):
                return Window(box, mirrored, flip(inside, size) if mirrored else inside)
    box = as_boxes([(0, 0, width, height)])[0]
    inside = objects_in(box, objects, size, settings)
    return Window(box, mirrored, flip(inside, size) if mirrored else inside)


def objects_in(window: Boxes, objects: Boxes, size: int, settings: WindowSettings) -> Boxes:
    """Cut the objects [G,4] that a window [4] of the image shows to it -> in pixels of the input."""
    share = intersection(objects, window[None])[:, 0] / np.maximum(area(objects), 1e-6)
    corner, sides = np.tile(window[:2], 2), np.tile(window[2:] - window[:2], 2)
    seen = np.clip((objects - corner) / sides, 0, 1) * size
    large = ((seen[:, 2:] - seen[:, :2]) >= settings.min_side).all(axis=1)
    return seen[(share >= settings.visible) & large].astype(np.float32)


def _random_box(width: int, height: int, settings: WindowSettings, rng: np.random.Generator) -> Boxes:
    share = np.exp(rng.uniform(np.log(settings.least), np.log(settings.most)))
    stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(settings.aspect))
    w, h = width * np.sqrt(share) * stretch, height * np.sqrt(share) / stretch
    # Where the window is larger than the image, the image lies somewhere inside it.
    x, y = (
        rng.uniform(min(0, width - w), max(0, width - w)),
        rng.uniform(min(0, height - h), max(0, height - h)),
    )
    return as_boxes([(x, y, x + w, y + h)])[0]


@dataclass(frozen=True)
class WindowBatch:
    """One process' share of a minibatch.

    images [N,3,size,size] float32; objects: the boxes [G,4] of each image, in pixels of the input; partial:
    whether each image may hold objects that nobody labelled; ``broken`` says why each image could not be read
    in whose place another one is.
    """

    images: Tensor
    objects: list[Boxes]
    partial: list[bool]
    broken: dict[str, str]


class WindowBatches(Dataset[WindowBatch]):
    """Item ``i`` is minibatch ``i``, a function of the seed and ``i`` alone.

    Every image comes once an epoch, in another order and another window each time; what does not fill a
    minibatch, other images each time, is left out. In the place of an image that cannot be read comes a later
    one of the epoch's order that can: a function of the seed, the number and the files.
    """

    def __init__(
        self,
        records: Sequence[AnnotatedImage],
        preprocessing: Preprocessing,
        settings: WindowSettings,
        *,
        batch: int,
        seed: int,
        world: ProcessGroup | None = None,
    ) -> None:
        """Take minibatches of ``batch`` images, shared by the processes of ``world`` [this one alone].

        ``preprocessing.size`` is the side of the network's input.
        """
        self._records = records
        self._preprocessing = replace(preprocessing, context=0)
        self._settings = settings
        self._batch, self._seed = batch, seed
        self._world = world or ProcessGroup()
        self.epoch_length = max(len(records) // batch, 1)

    def window(self, index: int, epoch: int) -> Window:
        """Draw the window of an image in an epoch."""
        rng = np.random.default_rng([self._seed, epoch, index])
        record, size = self._records[index], self._preprocessing.size
        return draw_window(record.width, record.height, record.boxes, size, self._settings, rng)

    def sides(self, epoch: int) -> NDArray[np.float32]:
        """Return widths and heights [G,2] of all objects of an epoch, in pixels of the input."""
        objects = [self.window(index, epoch).objects for index in range(len(self._records))]
        boxes = np.concatenate(objects)
        return boxes[:, 2:] - boxes[:, :2]

    def digest(self) -> bytes:
        """Return what tells these minibatches from others."""
        digest = hashlib.sha256(repr((self._preprocessing, self._settings, self._batch, self._seed)).encode())
        for record in self._records:
            digest.update(os.fsencode(record.path.name) + record.boxes.tobytes() + bytes([record.partial]))
        return digest.digest()

    def minibatches(self, first: int, last: int, device: torch.device, workers: int) -> Iterator[WindowBatch]:
        """Yield the minibatches from ``first`` to before ``last``, made ahead by ``workers`` processes."""
        return load_items(self, range(first, last), device, workers)

    def __getitem__(self, iteration: int) -> WindowBatch:
        """Make the minibatch of an iteration. Raises DatasetError if no image can be read."""
        epoch, part = divmod(iteration, self.epoch_length)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._records))
        order = np.roll(order, -part * self._batch)
        size = min(self._batch, len(order))
        images: list[Tensor] = []
        objects: list[Boxes] = []
        partial: list[bool] = []
        broken: dict[str, str] = {}
        for place in range(self._world.rank, size, self._world.size):
            index, window, pixels = self._first_readable(_candidates(order, place, size), epoch, broken)
            images.append(pixels)
            objects.append(window.objects)
            partial.append(self._records[index].partial)
        return WindowBatch(torch.cat(images), objects, partial, broken)

    def _first_readable(
        self, candidates: NDArray[np.int64], epoch: int, broken: dict[str, str]
    ) -> tuple[int, Window, Tensor]:
        for index in candidates.tolist():
            record, window = self._records[index], self.window(index, epoch)
            try:
                return index, window, self._pixels(record, window)
            except ImageError as error:
                broken[record.image_id] = str(error)
        raise DatasetError(f"none of {len(candidates)} pictures can be read ({next(iter(broken.values()))})")

    def _pixels(self, record: AnnotatedImage, window: Window) -> Tensor:
        """The window [1,3,size,size], read from an image reduced to no more than it needs."""
        image = load_image(record)
        sides = window.box[2:] - window.box[:2]
        shrink = self._preprocessing.size / float(sides.min())
        fitting = max(1, round(min(image.shape[:2]) * shrink))
        image, factors = resize_to_short_side(image, replace(self._preprocessing, short_side=fitting))
        normalised = normalise(image, self._preprocessing, torch.device("cpu"))
        crop = warp(normalised, window.box[None] * factors, self._preprocessing)
        return crop.flip(3) if window.mirrored else crop


def _candidates(order: NDArray[np.int64], place: int, size: int) -> NDArray[np.int64]:
    """Order all images for a place of a minibatch: its own, those beyond the minibatch, the rest of it.

    Beyond the minibatch each place begins at another image, so that two broken images are not replaced by the
    same one; no process needs to know what another one could read.
    """
    return np.concatenate(
        [order[place : place + 1], np.roll(order[size:], -place), np.delete(order[:size], place)]
    )

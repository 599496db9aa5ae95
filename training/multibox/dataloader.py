"""Windows of pictures, each stretched to the network's square input: crops, scales and flips in one.

Letters for shapes: G objects of a picture.

Minibatches for MultiBox: windows of pictures, made ahead of their use on a thread.

Letters for shapes: N pictures of a minibatch, G objects of one.
"""

import hashlib
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.datasets.pixels import load_record
from detector.datasets.record import Record
from detector.errors import DatasetError, ImageError
from detector.inference.region_crops import Preprocessing, normalise, reduced, warp
from detector.structures.boxes import Boxes, area, as_boxes, flip, intersection


@dataclass(frozen=True)
class WindowSettings:
    """How windows are drawn.

    ``whole`` is how often the whole picture is taken. Else the window's area is ``least`` to ``most`` of the
    picture's, its aspect off the picture's by 3/4 to 4/3 (arXiv 1409.4842, section 6); what it holds beyond
    the picture is the mean colour. An object counts where ``visible`` of its area is inside and its shorter
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
    """A part of a picture ``box`` [4] in its pixels, perhaps mirrored, and the objects [G,4] in it, in pixels
    of the network's input."""

    box: Boxes
    mirrored: bool
    objects: Boxes


def draw_window(
    width: int, height: int, objects: Boxes, size: int, settings: WindowSettings, rng: np.random.Generator
) -> Window:
    """A random window of a picture with at least one of its objects [G,4], or the whole picture."""
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
    """The objects [G,4] that a window [4] of the picture shows, cut to it, in pixels of the input."""
    share = intersection(objects, window[None])[:, 0] / np.maximum(area(objects), 1e-6)
    corner, sides = np.tile(window[:2], 2), np.tile(window[2:] - window[:2], 2)
    seen = np.clip((objects - corner) / sides, 0, 1) * size
    large = ((seen[:, 2:] - seen[:, :2]) >= settings.min_side).all(axis=1)
    return seen[(share >= settings.visible) & large].astype(np.float32)


def _random_box(width: int, height: int, settings: WindowSettings, rng: np.random.Generator) -> Boxes:
    share = np.exp(rng.uniform(np.log(settings.least), np.log(settings.most)))
    stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(settings.aspect))
    w, h = width * np.sqrt(share) * stretch, height * np.sqrt(share) / stretch
    # Where the window is larger than the picture, the picture lies somewhere inside it.
    x, y = (
        rng.uniform(min(0, width - w), max(0, width - w)),
        rng.uniform(min(0, height - h), max(0, height - h)),
    )
    return as_boxes([(x, y, x + w, y + h)])[0]


_AHEAD = 3


@dataclass(frozen=True)
class Minibatch:
    """pictures [N,3,size,size] float32; the boxes [G,4] of each, in pixels of the input; whether each picture
    may hold objects that nobody labelled; ``broken`` says why each picture that could not be read was
    replaced by another."""

    images: Tensor
    objects: list[Boxes]
    partial: list[bool]
    broken: dict[str, str]


class Batches:
    """Minibatch ``i`` is a function of the seed and ``i`` alone: a resumed run sees what it would have.

    Every picture comes once an epoch, in another order and another window each time; what does not fill a
    minibatch, other pictures each time, is left out. In the place of a picture that cannot be read comes the
    next one of the epoch's order that can: a function of the seed, the number and the files.
    """

    def __init__(
        self,
        records: Sequence[Record],
        preprocessing: Preprocessing,
        settings: WindowSettings,
        *,
        batch: int,
        seed: int,
    ) -> None:
        """``preprocessing.size`` is the side of the network's input."""
        self._records = records
        self._preprocessing = replace(preprocessing, context=0)
        self._settings = settings
        self._batch, self._seed = batch, seed
        self.an_epoch = max(len(records) // batch, 1)

    def window(self, record: int, epoch: int) -> Window:
        """What is seen of a picture in an epoch."""
        rng = np.random.default_rng([self._seed, epoch, record])
        one = self._records[record]
        return draw_window(one.width, one.height, one.boxes, self._preprocessing.size, self._settings, rng)

    def sides(self, epoch: int) -> NDArray[np.float32]:
        """Widths and heights [G,2] of all objects of an epoch, in pixels of the input."""
        objects = [self.window(index, epoch).objects for index in range(len(self._records))]
        boxes = np.concatenate(objects)
        return boxes[:, 2:] - boxes[:, :2]

    def digest(self) -> bytes:
        """What tells these minibatches from others."""
        digest = hashlib.sha256(repr((self._preprocessing, self._settings, self._batch, self._seed)).encode())
        for record in self._records:
            digest.update(os.fsencode(record.path.name) + record.boxes.tobytes() + bytes([record.partial]))
        return digest.digest()

    def make(self, iteration: int) -> Minibatch:
        """The minibatch of an iteration. Raises DatasetError if no picture can be read."""
        epoch, part = divmod(iteration, self.an_epoch)
        order = np.random.default_rng([self._seed, epoch]).permutation(len(self._records))
        size = min(self._batch, len(order))
        images: list[Tensor] = []
        objects: list[Boxes] = []
        partial: list[bool] = []
        broken: dict[str, str] = {}
        for index in np.roll(order, -part * self._batch):
            record, window = self._records[index], self.window(int(index), epoch)
            try:
                images.append(self._pixels(record, window))
            except ImageError as error:
                broken[record.image_id] = str(error)
                continue
            objects.append(window.objects)
            partial.append(record.partial)
            if len(images) == size:
                break
        if not images:
            raise DatasetError(f"none of {len(order)} pictures can be read ({next(iter(broken.values()))})")
        return Minibatch(torch.cat(images), objects, partial, broken)

    def run(self, first: int, last: int) -> Iterator[Minibatch]:
        """The minibatches from ``first`` to before ``last``, a few of them made ahead on a thread."""
        with ThreadPoolExecutor(1) as pool:
            coming: deque[Future[Minibatch]] = deque()
            for iteration in range(first, last + _AHEAD):
                if iteration < last:
                    coming.append(pool.submit(self.make, iteration))
                if iteration - first >= _AHEAD or iteration >= last:
                    if not coming:
                        return
                    yield coming.popleft().result()

    def _pixels(self, record: Record, window: Window) -> Tensor:
        """The window [1,3,size,size], read from a picture no larger than it needs."""
        image = load_record(record)
        sides = window.box[2:] - window.box[:2]
        shrink = self._preprocessing.size / float(sides.min())
        fitting = max(1, round(min(image.shape[:2]) * shrink))
        work, factors = reduced(image, replace(self._preprocessing, short_side=fitting))
        picture = normalise(work, self._preprocessing, torch.device("cpu"))
        crop = warp(picture, window.box[None] * factors, self._preprocessing)
        return crop.flip(3) if window.mirrored else crop

"""Minibatches for MultiBox: windows of pictures, made ahead of their use on a thread.

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

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.pixels import load_image
from detector.errors import DatasetError, ImageError
from detector.inference.region_crops import Preprocessing, normalise, reduced, warp
from detector.structures.boxes import Boxes
from training.multibox.windows import Window, WindowSettings, draw_window

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
        records: Sequence[AnnotatedImage],
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

    def _pixels(self, record: AnnotatedImage, window: Window) -> Tensor:
        """The window [1,3,size,size], read from a picture no larger than it needs."""
        image = load_image(record)
        sides = window.box[2:] - window.box[:2]
        shrink = self._preprocessing.size / float(sides.min())
        fitting = max(1, round(min(image.shape[:2]) * shrink))
        work, factors = reduced(image, replace(self._preprocessing, short_side=fitting))
        picture = normalise(work, self._preprocessing, torch.device("cpu"))
        crop = warp(picture, window.box[None] * factors, self._preprocessing)
        return crop.flip(3) if window.mirrored else crop

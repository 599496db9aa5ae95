"""Minibatches of images as the maps that a MultiBox head reads of them.

The trunk keeps its weights: what it makes of an image is the same whenever it is asked. Letters for shapes: N
images, K channels, h x w cells.
"""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from detector.datasets.annotated_image import AnnotatedImage
from detector.inference.image_scales import STRIDE, ImageScales
from detector.inference.preprocessing import Preprocessing
from detector.inference.torch_engine import choose_precision
from detector.models.checkpoint import Checkpoint
from detector.models.image_trunk import MappedStages
from training.scaled_images import ImageBatch, ImageBatches, PixelsAtScale
from training.trainer.dataloader import workers_for
from training.trainer.distributed import ProcessGroup
from training.trainer.excluded_images import BrokenImages


class MappedImages(NamedTuple):
    """Images of a minibatch, as the trunk maps them at each scale.

    ``maps`` are the fine [N,K,h,w] and the coarse ones of each scale, ``sizes`` the height and width of the
    padded pixels that they are of; ``factors`` [N,4] turn boxes of an image into boxes of these pixels,
    without the padding; ``records`` say what is known of each image. ``share`` is how much of the whole
    minibatch's loss these images are; None for a process' whole share of it, whose losses are divided by
    what is matched in all processes.
    """

    maps: list[tuple[Tensor, Tensor]]
    sizes: list[tuple[int, int]]
    factors: list[Tensor]
    records: list[AnnotatedImage]
    share: float | None = None


class MapsLoader(Protocol):
    """Where minibatches of maps come from."""

    @property
    def epoch_length(self) -> int:
        """Minibatches that see as many images as there are."""

    def digest(self) -> bytes:
        """Return what tells these minibatches from others."""

    def minibatches(self, first: int, last: int) -> Iterator[Sequence[MappedImages]]:
        """Yield this process' share of the minibatches ``first`` to before ``last``, each in pieces."""


class FrozenTrunk:
    """The stages that a head reads, with weights that stay, on a device in its precision."""

    def __init__(self, init: Checkpoint, stages: tuple[str, str], device: torch.device) -> None:
        """Copy the ``stages`` of the trunk of ``init``, the finer one first."""
        self.device, self.precision = device, choose_precision("auto", device)
        mapped = MappedStages(copy.deepcopy(init.backbone.features), stages)
        self._mapped = mapped.to(device, self.precision).eval().to(memory_format=torch.channels_last)
        self._stages = stages

    @property
    def channels(self) -> tuple[int, int]:
        """Channels of the fine and of the coarse maps."""
        pixels = torch.zeros(1, 3, 4 * STRIDE, 4 * STRIDE, device=self.device, dtype=self.precision)
        with torch.inference_mode():
            maps = self._mapped(pixels)
        fine, coarse = self._stages
        return maps[fine].shape[1], maps[coarse].shape[1]

    def digest(self) -> bytes:
        """Return what tells these weights and stages from others."""
        digest = hashlib.sha256(repr(self._stages).encode())
        for value in self._mapped.state_dict().values():
            digest.update(value.cpu().float().contiguous().numpy().tobytes())
        return digest.digest()

    @torch.no_grad()
    def maps(
        self, pixels: PixelsAtScale, scales: ImageScales, preprocessing: Preprocessing
    ) -> tuple[Tensor, Tensor]:
        """Run the trunk over images at one scale -> fine and coarse maps."""
        x = pixels.normalised(scales, preprocessing, self.device).to(self.precision)
        maps = self._mapped(x.to(memory_format=torch.channels_last))
        fine, coarse = self._stages
        return maps[fine], maps[coarse]


class StreamingMapsLoader:
    """Images straight from the files, changed at random, through the trunk each time (a
    :class:`MapsLoader`)."""

    def __init__(
        self, images: ImageBatches, trunk: FrozenTrunk, *, broken: BrokenImages, world: ProcessGroup
    ) -> None:
        """Take minibatches of ``images``; ``broken`` is told of those that cannot be read."""
        self._images, self._trunk, self._broken, self._world = images, trunk, broken, world

    @property
    def epoch_length(self) -> int:
        return self._images.epoch_length

    def digest(self) -> bytes:
        return self._images.digest() + self._trunk.digest()

    def minibatches(self, first: int, last: int) -> Iterator[Sequence[MappedImages]]:
        device = self._trunk.device
        workers = workers_for(device, self._world)
        for batch in self._images.minibatches(first, last, device, workers, self._world):
            self._broken.report(batch.broken)
            yield [self._mapped(batch)]

    def _mapped(self, batch: ImageBatch) -> MappedImages:
        images = self._images
        return MappedImages(
            [self._trunk.maps(pixels, images.scales, images.preprocessing) for pixels in batch.scales],
            [pixels.size for pixels in batch.scales],
            [pixels.factors for pixels in batch.scales],
            batch.records,
        )

"""Minibatches of whole images at the scales at which a trunk sees them, straight from the files.

Letters for shapes: N images of this process' share of a minibatch, H and W pixels of its padded images.
"""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image, tolerated
from detector.errors import DatasetError, ImageError
from detector.inference.image_scales import STRIDE, ImageScales, padded_side, resize_to_scale, zoomed
from detector.inference.preprocessing import Preprocessing, resize_to_short_side
from detector.io.decoding import RGB
from detector.structures.boxes import flip
from training.classification.augmentation import ColorJitter, jitter_color
from training.trainer.dataloader import load_items
from training.trainer.distributed import ProcessGroup

_ZOOMS = 2
"""Steps between the images' own scales and the largest zoom, and as many down: few shapes, for a GPU."""


class PixelsAtScale(NamedTuple):
    """The images of a minibatch at one scale.

    pixels [N,H,W,3] uint8, each image with the padding before it and its end wherever it is; sizes [N,2]
    int64, height and width of each; factors [N,4] float32 turn boxes of an image into boxes of its resized
    pixels, without the padding.
    """

    pixels: Tensor
    sizes: Tensor
    factors: Tensor

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the padded images."""
        return self.pixels.shape[1], self.pixels.shape[2]

    def normalised(self, settings: ImageScales, preprocessing: Preprocessing, device: torch.device) -> Tensor:
        """Return images [N,3,H,W] float32 on the device, zero in the padding as an engine's are."""
        pixels = self.pixels.to(device, non_blocking=True).permute(0, 3, 1, 2).float()
        mean = torch.tensor(preprocessing.mean, device=device)[:, None, None]
        std = torch.tensor(preprocessing.std, device=device)[:, None, None]
        inside = [
            (at >= settings.padding) & (at < settings.padding + size[:, None])  # N x H, N x W
            for at, size in (
                (torch.arange(pixels.shape[2 + axis], device=device), self.sizes[:, axis].to(device))
                for axis in (0, 1)
            )
        ]
        return (pixels - mean) / std * (inside[0][:, None, :, None] & inside[1][:, None, None, :])


class ImageBatch(NamedTuple):
    """One process' share of minibatch number ``iteration``.

    ``scales`` are the images at each scale, ``records`` what is known of each, mirrored where the image is;
    ``places`` are their places in the whole minibatch. ``broken`` says why each image could not be read in
    whose place another one is.
    """

    iteration: int
    scales: list[PixelsAtScale]
    records: list[AnnotatedImage]
    places: list[int]
    broken: dict[str, str]

    def pieces(self, count: int) -> "list[ImageBatch]":
        """Split into ``count`` pieces of nearly as many images, or as many as there are images."""
        groups = np.array_split(np.arange(len(self.records)), min(count, len(self.records)))
        return [
            ImageBatch(
                self.iteration,
                [PixelsAtScale(*(part[torch.from_numpy(group)] for part in scale)) for scale in self.scales],
                [self.records[index] for index in group],
                [self.places[index] for index in group],
                self.broken,
            )
            for group in groups
        ]


@dataclass(frozen=True)
class ImageBatches:
    """How minibatches of images are made.

    ``weights`` [M] says how much more often than others each of the M records is drawn. Each minibatch is
    seen larger or smaller by a factor of up to ``zoom``, its images mirrored or not, changed in color with
    ``color_jitter``.
    """

    records: Sequence[AnnotatedImage]
    weights: NDArray[np.float64]
    scales: ImageScales
    preprocessing: Preprocessing
    batch: int
    seed: int
    zoom: float = 1.0
    color_jitter: bool = False
    mirror: bool = True

    @property
    def epoch_length(self) -> int:
        """Minibatches that see as many images as there are."""
        return max(len(self.records) // self.batch, 1)

    def digest(self) -> bytes:
        """Return what tells these minibatches from others."""
        settings = (
            self.scales,
            self.preprocessing,
            self.batch,
            self.seed,
            self.zoom,
            self.color_jitter,
            self.mirror,
        )
        digest = hashlib.sha256(repr(settings).encode() + self.weights.tobytes())
        for record in self.records:
            digest.update(os.fsencode(record.path.name) + record.boxes.tobytes() + record.labels.tobytes())
            digest.update(record.unknown.tobytes() + record.crowds.tobytes() + bytes([record.partial]))
        return digest.digest()

    def minibatches(
        self, first: int, last: int, device: torch.device, workers: int, world: ProcessGroup | None = None
    ) -> Iterator[ImageBatch]:
        """Yield minibatches ``first`` to before ``last``, this process' share of each, made ahead by
        ``workers`` processes."""
        items = _ScaledImages(self, world or ProcessGroup(), few_shapes=device.type != "cpu")
        return load_items(items, range(first, last), device, workers)


class _ScaledImages(Dataset[ImageBatch]):
    """Item ``i`` is minibatch ``i``: a function of the seed, the number and the files."""

    def __init__(self, settings: ImageBatches, world: ProcessGroup, *, few_shapes: bool) -> None:
        """Make minibatches of ``settings``; ``few_shapes`` pads their images to sizes that come again and
        again."""
        self._settings, self._world, self._few_shapes = settings, world, few_shapes
        self._probability = settings.weights / settings.weights.sum()
        self._tall = np.array([record.height > record.width for record in settings.records])

    def __getitem__(self, iteration: int) -> ImageBatch:
        """Make a minibatch. Raises DatasetError if too many images cannot be read."""
        settings = self._settings
        probability = self._lying_alike(iteration)
        zoom = self._zoom(iteration)
        scales = zoomed(settings.scales, zoom) if zoom != 1.0 else settings.scales
        broken: dict[str, str] = {}
        places = list(range(self._world.rank, settings.batch, self._world.size))
        images: list[list[tuple[RGB, NDArray[np.float32]]]] = []
        records: list[AnnotatedImage] = []
        for place in places:
            rng = np.random.default_rng([settings.seed, iteration, 2, place])
            record, image = self._first_readable(probability, rng, broken)
            mirrored = settings.mirror and bool(rng.random() < 0.5)
            if settings.color_jitter:
                image = jitter_color(image, ColorJitter(), rng)
            images.append(_at_every_scale(image, scales, settings.preprocessing, mirrored))
            records.append(mirrored_record(record) if mirrored else record)
        at_scales = [
            _at_scale(
                [image[index] for image in images],
                scales.padding,
                _coarse_grain(scale) if self._few_shapes else STRIDE,
            )
            for index, scale in enumerate(scales.scales)
        ]
        return ImageBatch(iteration, at_scales, records, places, broken)

    def _lying_alike(self, iteration: int) -> NDArray[np.float64]:
        """Return how likely each image is drawn in a minibatch: all of it stand upright or none, to fill the
        same rectangle; over all minibatches each image keeps its share."""
        rng = np.random.default_rng([self._settings.seed, iteration, 2])
        tall = rng.random() < self._probability[self._tall].sum()
        probability = self._probability * (self._tall == tall)
        return probability / probability.sum()

    def _first_readable(
        self, probability: NDArray[np.float64], rng: np.random.Generator, broken: dict[str, str]
    ) -> tuple[AnnotatedImage, RGB]:
        records = self._settings.records
        most = tolerated(len(records))
        tried: set[str] = set()  # of this place alone: other places may be with other processes
        while True:
            record = records[int(rng.choice(len(records), p=probability))]
            try:
                return record, load_image(record)
            except ImageError as error:
                broken[record.image_id] = str(error)
                tried.add(record.image_id)
            if len(broken) > most or len(broken) >= len(records):
                raise DatasetError(
                    f"{len(broken)} of {len(records)} pictures can no longer be read "
                    f"({next(iter(broken.values()))}): is the disk still there?"
                )
            probability = probability * [other.image_id not in tried for other in records]
            if not probability.any():
                probability = self._probability * [other.image_id not in tried for other in records]
            probability = probability / probability.sum()

    def _zoom(self, iteration: int) -> float:
        most = self._settings.zoom
        rng = np.random.default_rng([self._settings.seed, iteration, 5])
        return float(most ** (rng.integers(-_ZOOMS, _ZOOMS + 1) / _ZOOMS)) if most > 1 else 1.0


def mirrored_record(record: AnnotatedImage) -> AnnotatedImage:
    """Return what is known of an image that is turned left to right."""
    boxes, unknown, crowds = (
        flip(part, record.width) for part in (record.boxes, record.unknown, record.crowds)
    )
    return replace(record, boxes=boxes, unknown=unknown, crowds=crowds)


def _at_every_scale(
    image: RGB, scales: ImageScales, preprocessing: Preprocessing, mirrored: bool
) -> list[tuple[RGB, NDArray[np.float32]]]:
    """Resize an image to each scale as a detector does, which reduces it to the largest one first."""
    view, first = resize_to_short_side(image, replace(preprocessing, short_side=max(scales.scales)))
    resized = [resize_to_scale(view, scale, scales, mirrored=mirrored) for scale in scales.scales]
    return [(pixels, factors * first[0]) for pixels, factors in resized]


def image_at_scales(
    image: RGB, scales: ImageScales, preprocessing: Preprocessing, *, mirrored: bool
) -> list[PixelsAtScale]:
    """Resize and pad one image [H,W,3] at each scale, exactly as a detector does."""
    resized = _at_every_scale(image, scales, preprocessing, mirrored)
    return [_at_scale([part], scales.padding, STRIDE) for part in resized]


def _coarse_grain(scale: int) -> int:
    """Return what sides are rounded up to for a GPU, which chooses its programs by the shape and should meet
    few; to a CPU padding is work."""
    return max(STRIDE, 2 ** round(np.log2(scale / 4)))


def _at_scale(images: Sequence[tuple[RGB, NDArray[np.float32]]], padding: int, grain: int) -> PixelsAtScale:
    """Put resized images into one array, each at the padding from its upper left corner; its sides are
    multiples of ``grain``."""
    sizes = np.array([image.shape[:2] for image, _ in images])
    height, width = (-(-padded_side(int(side), padding) // grain) * grain for side in sizes.max(axis=0))
    pixels = np.zeros((len(images), height, width, 3), np.uint8)
    for canvas, (image, _) in zip(pixels, images, strict=True):
        canvas[padding : padding + image.shape[0], padding : padding + image.shape[1]] = image
    factors = np.stack([factors for _, factors in images])
    return PixelsAtScale(torch.from_numpy(pixels), torch.from_numpy(sizes), torch.from_numpy(factors))

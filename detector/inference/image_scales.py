"""The whole image at one or more scales, as the trunk reads it to make maps that regions and MultiBox share.

Several scales are those of SPP-net (arXiv 1406.4729, section 4.1). Letters for shapes: H, W pixels.
"""

from dataclasses import dataclass, replace
from math import ceil
from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.inference.arrays import Array, Arrays
from detector.inference.preprocessing import Preprocessing
from detector.io.decoding import RGB

MAX_SCALE = 2048
"""Most pixels of an image's shorter side: the maps of a larger one would not fit a machine's memory."""

STRIDE = 16
"""Pixels of the image from one cell of the maps to the next, for the stages of GoogLeNet from 4a to 4e."""


def first_centre(stride: int) -> float:
    """Return how many pixels from the image's edge the first cell of maps of a stride has its centre.

    It is not half a stride: the poolings of GoogLeNet have no padding, so each starts half a step later;
    layers with padding, which go beyond :data:`STRIDE`, leave it where it is.
    """
    return min(stride, STRIDE) - 1.5


@dataclass(frozen=True)
class ImageScales:
    """How an image is looked at as a whole; part of a checkpoint.

    ``scales`` are the image's shorter sides in pixels, ascending; no side is longer than ``long_side`` times
    the scale. ``padding`` pixels of the mean colour surround the image.
    """

    scales: tuple[int, ...] = (227, 454)
    long_side: float = 2.5
    padding: int = 32

    def __post_init__(self) -> None:
        """Raises ParameterError for settings that no maps can be made with."""
        scales = self.scales if isinstance(self.scales, tuple) else ()
        if not scales or not all(is_whole(scale, STRIDE, MAX_SCALE) for scale in scales):
            raise ParameterError(
                f"scales must be whole numbers in {STRIDE}..{MAX_SCALE}, got {self.scales!r}"
            )
        if list(scales) != sorted(set(scales)):
            raise ParameterError(f"scales must ascend, got {self.scales!r}")
        number = isinstance(self.long_side, int | float) and not isinstance(self.long_side, bool)
        if not number or not 1 <= self.long_side <= 10:
            raise ParameterError(f"long_side must lie in 1..10, got {self.long_side!r}")
        if not is_whole(self.padding, 0, 256):
            raise ParameterError(f"padding must be a whole number in 0..256, got {self.padding!r}")

    @property
    def image(self) -> "ImageScales":
        """The same without what a subclass adds."""
        return ImageScales(self.scales, self.long_side, self.padding)


@dataclass(frozen=True)
class Square:
    """An image stretched to one square of ``size`` pixels a side, whatever its aspect: what MultiBox heads of
    earlier checkpoints read."""

    size: int

    @property
    def scales(self) -> tuple[int, ...]:
        """The one scale."""
        return (self.size,)

    @property
    def padding(self) -> int:
        """Pixels around the image: none."""
        return 0


def is_whole(value: object, low: int, high: int) -> bool:
    """Tell whether a value is a whole number in ``low`` to ``high``."""
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


S = TypeVar("S", bound=ImageScales)


def zoomed(settings: S, factor: float) -> S:
    """Return settings of the same kind at scales larger by a factor."""
    return replace(settings, scales=tuple(max(round(scale * factor), STRIDE) for scale in settings.scales))


def resize_to_scale(
    image: RGB, scale: int, settings: ImageScales, *, mirrored: bool = False
) -> tuple[RGB, NDArray[np.float32]]:
    """Resize an image [H,W,3] to a shorter side of ``scale`` pixels.

    Returns it, turned left to right if ``mirrored``, and the factors [4] that turn boxes of the image into
    boxes of the resized one.
    """
    height, width = image.shape[:2]
    ratio = min(scale / min(height, width), settings.long_side * scale / max(height, width))
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    if size != (width, height):
        interpolation = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, size, interpolation=interpolation).astype(np.uint8, copy=False)
    if mirrored:
        image = image[:, ::-1]
    return np.ascontiguousarray(image), np.array([size[0] / width, size[1] / height] * 2, np.float32)


def padded_side(side: int, padding: int) -> int:
    """Return how many pixels a side has with padding at both ends, rounded up to a multiple of the stride."""
    return ceil((side + 2 * padding) / STRIDE) * STRIDE


@dataclass(frozen=True)
class ScaledImage:
    """An image at one scale, ready for the trunk.

    ``pixels`` [1,3,H,W] float32, normalised and padded, sides multiples of the stride; ``factors`` [4]
    float32 turn boxes of the image into boxes of its pixels at this scale, without the padding.
    """

    pixels: Array
    factors: NDArray[np.float32]


def scale_image(
    image: RGB,
    scale: int,
    settings: ImageScales,
    preprocessing: Preprocessing,
    arrays: Arrays,
    *,
    mirrored: bool = False,
) -> ScaledImage:
    """Resize an image [H,W,3] to a shorter side of ``scale`` pixels, normalise and pad it."""
    resized, factors = resize_to_scale(image, scale, settings, mirrored=mirrored)
    pad = settings.padding
    below, right = (padded_side(side, pad) - side - pad for side in resized.shape[:2])
    return ScaledImage(arrays.pad(arrays.normalise(resized, preprocessing), pad, right, below), factors)

"""Regions that share the trunk: its first stages run once over the image, RoIAlign cuts the regions out.

Fast R-CNN (arXiv 1504.08083) with RoIAlign (arXiv 1703.06870, section 3) in place of RoIPool, at one or more
scales of the image as SPP-net (arXiv 1406.4729, section 4.1) has them: a region is read at the scale at which
it is nearest to the crop that the network was trained on. Letters for shapes: R regions or windows,
K channels of the maps, h x w their cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.ops import roi_align

from detector.errors import ParameterError
from detector.inference.region_crops import Preprocessing, normalise
from detector.structures.boxes import Boxes

MAX_SCALE = 2048
"""Most pixels of an image's shorter side: the maps of a larger one would not fit a machine's memory."""

STRIDE = 16
"""Pixels of the image from one cell of the maps to the next, for the stages of GoogLeNet from 4a to 4e."""

_FIRST_CENTRE = 14.5
"""Pixels from the image's edge to the centre of what the first cell sees. It is not half a stride: the
poolings of GoogLeNet have no padding (each starts half a step later)."""

_DRIFT = _FIRST_CENTRE - STRIDE / 2


@dataclass(frozen=True)
class SharedMaps:
    """How an image is looked at as a whole, and regions are read from its maps; part of a checkpoint.

    ``stage`` is the last stage that runs over the whole image. ``scales`` are the image's shorter sides in
    pixels, ascending; no side is longer than ``long_side`` times the scale. ``padding`` pixels of the mean
    colour surround the image. A region is read as ``size`` x ``size`` cells.
    """

    stage: str = "inception_4e"
    scales: tuple[int, ...] = (227, 454)
    long_side: float = 2.5
    padding: int = 32
    size: int = 14

    def __post_init__(self) -> None:
        """Raises ParameterError for settings that no maps can be made with."""
        if not isinstance(self.stage, str) or not self.stage:
            raise ParameterError(f"stage must be the name of a stage, got {self.stage!r}")
        scales = self.scales if isinstance(self.scales, tuple) else ()
        if not scales or not all(_is_whole(scale, STRIDE, MAX_SCALE) for scale in scales):
            raise ParameterError(
                f"scales must be whole numbers in {STRIDE}..{MAX_SCALE}, got {self.scales!r}"
            )
        if list(scales) != sorted(set(scales)):
            raise ParameterError(f"scales must ascend, got {self.scales!r}")
        number = isinstance(self.long_side, int | float) and not isinstance(self.long_side, bool)
        if not number or not 1 <= self.long_side <= 10:
            raise ParameterError(f"long_side must lie in 1..10, got {self.long_side!r}")
        if not _is_whole(self.padding, 0, 256):
            raise ParameterError(f"padding must be a whole number in 0..256, got {self.padding!r}")
        if not _is_whole(self.size, 1, 56):
            raise ParameterError(f"size must be a whole number in 1..56, got {self.size!r}")

    def resized(self, factor: float) -> "SharedMaps":
        """Return the same at scales larger by a factor."""
        return replace(self, scales=tuple(round(scale * factor) for scale in self.scales))


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


@dataclass(frozen=True)
class ScaledImage:
    """An image at one scale, ready for the trunk.

    ``pixels`` [1,3,H,W] float32, normalised and padded, sides multiples of the stride; ``factors`` [4]
    float32 turn boxes of the image into boxes of its pixels at this scale, without the padding.
    """

    pixels: Tensor
    factors: NDArray[np.float32]


def scale_image(
    image: NDArray[np.uint8],
    scale: int,
    settings: SharedMaps,
    preprocessing: Preprocessing,
    device: torch.device,
    *,
    mirrored: bool = False,
) -> ScaledImage:
    """Resize an image [H,W,3] to a shorter side of ``scale`` pixels, normalise and pad it."""
    height, width = image.shape[:2]
    ratio = min(scale / min(height, width), settings.long_side * scale / max(height, width))
    size = (max(1, round(width * ratio)), max(1, round(height * ratio)))
    if size != (width, height):
        interpolation = cv2.INTER_AREA if ratio < 1 else cv2.INTER_LINEAR
        image = cv2.resize(image, size, interpolation=interpolation).astype(np.uint8, copy=False)
    if mirrored:
        image = image[:, ::-1]
    pixels = normalise(np.ascontiguousarray(image), preprocessing, device)  # 3 x H x W
    pad = settings.padding
    below, right = (ceil((side + 2 * pad) / STRIDE) * STRIDE - side - pad for side in (size[1], size[0]))
    padded = torch.nn.functional.pad(pixels, (pad, right, pad, below))
    factors = np.array([size[0] / width, size[1] / height] * 2, np.float32)
    return ScaledImage(padded[None], factors)


def nearest_scale(boxes: Boxes, factors: Sequence[NDArray[np.float32]], size: int) -> NDArray[np.int64]:
    """Return for each of boxes [R,4] the scale at which its area is nearest to that of a crop of ``size``.

    ``factors`` [4] of each scale are those of :class:`ScaledImage`.
    """
    sides = np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1))  # R
    zoom = np.array([np.sqrt(factor[0] * factor[1]) for factor in factors])
    distance = np.abs(np.log(sides[:, None] * zoom / size))  # R x scales
    return distance.argmin(axis=1)


def align(
    maps: Sequence[Tensor],
    windows: Boxes,
    factors: Sequence[NDArray[np.float32]],
    settings: SharedMaps,
    crop: int,
) -> Tensor:
    """Return the maps [R,K,size,size] of windows [R,4] of an image, as if each had been a crop.

    ``maps`` [1,K,h,w] and ``factors`` [4] are those of the image at each scale, windows in its own pixels;
    ``crop`` is the side of a crop, by which the scale is chosen. Bilinear, one sample a cell: at its scale a
    window has about as many cells as are read.
    """
    first = maps[0]
    count, channels = len(windows), first.shape[1]
    result = first.new_empty(count, channels, settings.size, settings.size)
    level = nearest_scale(windows, factors, crop)
    for index in np.unique(level).tolist():
        rows = np.flatnonzero(level == index)
        scaled = windows[rows] * factors[index]
        sides = np.tile(scaled[:, 2:] - scaled[:, :2], 2)
        # A cell of a crop sees its place a drift later than where it lies, and so does a cell of the image.
        placed = scaled + settings.padding + _DRIFT * (sides / crop - 1)
        regions = torch.from_numpy(np.ascontiguousarray(placed, np.float32)).to(first.device)
        cells = roi_align(
            maps[index],
            [regions],
            settings.size,
            spatial_scale=1 / STRIDE,
            sampling_ratio=1,
            aligned=True,
        )
        if len(rows) == count:
            return cells
        result[torch.from_numpy(rows).to(first.device)] = cells
    return result


def stages_through(names: Sequence[str], stage: str) -> int:
    """Return how many of a trunk's stages, by their names, end with the one called ``stage``.

    Raises ParameterError if there is none.
    """
    if stage not in names:
        raise ParameterError(f"the trunk has no stage {stage!r}, only {', '.join(names)}")
    return list(names).index(stage) + 1

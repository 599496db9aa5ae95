"""Regions that share the trunk: its first stages run once over the image, RoIAlign cuts the regions out.

Fast R-CNN (arXiv 1504.08083) with RoIAlign (arXiv 1703.06870, section 3) in place of RoIPool, at one or more
scales of the image as SPP-net (arXiv 1406.4729, section 4.1) has them: a region is read at the scale at which
it is nearest to the crop that the network was trained on. Letters for shapes: R regions or windows,
K channels of the maps, h x w their cells.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.inference.arrays import Array, Arrays
from detector.inference.image_scales import MAX_SCALE, STRIDE, ImageScales, first_centre, is_whole
from detector.structures.boxes import Boxes

_DRIFT = first_centre(STRIDE) - STRIDE / 2


@dataclass(frozen=True)
class SharedMaps(ImageScales):
    """How an image is looked at as a whole, and regions are read from its maps; part of a checkpoint.

    ``stage`` is the last stage that runs over the whole image. A region is read as ``size`` x ``size`` cells.
    """

    stage: str = "inception_4e"
    size: int = 14

    def __post_init__(self) -> None:
        """Raises ParameterError for settings that no maps can be made with."""
        super().__post_init__()
        if not isinstance(self.stage, str) or not self.stage:
            raise ParameterError(f"stage must be the name of a stage, got {self.stage!r}")
        if not is_whole(self.size, 1, 56):
            raise ParameterError(f"size must be a whole number in 1..56, got {self.size!r}")


def with_finer_scale(settings: SharedMaps) -> SharedMaps:
    """Return settings with one more scale, twice as large as the last, at which small objects are seen."""
    finer = min(2 * settings.scales[-1], MAX_SCALE)
    return replace(settings, scales=tuple(sorted({*settings.scales, finer})))


def nearest_scale(boxes: Boxes, factors: Sequence[NDArray[np.float32]], size: int) -> NDArray[np.int64]:
    """Return for each of boxes [R,4] the scale at which its area is nearest to that of a crop of ``size``.

    ``factors`` [4] of each scale are those of :func:`detector.inference.image_scales.resize_to_scale`.
    """
    sides = np.sqrt(np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1))  # R
    zoom = np.array([np.sqrt(factor[0] * factor[1]) for factor in factors])
    distance = np.abs(np.log(sides[:, None] * zoom / size))  # R x scales
    return distance.argmin(axis=1)


def align(
    maps: Sequence[Array],
    windows: Boxes,
    factors: Sequence[NDArray[np.float32]],
    settings: SharedMaps,
    crop: int,
    arrays: Arrays,
) -> Array:
    """Return the maps [R,K,size,size] of windows [R,4] of an image, as if each had been a crop.

    ``maps`` [1,K,h,w] and ``factors`` [4] are those of the image at each scale, windows in its own pixels;
    ``crop`` is the side of a crop, by which the scale is chosen. Bilinear, one sample a cell: at its scale a
    window has about as many cells as are read.
    """

    def at_scale(index: int, rows: NDArray[np.int64]) -> Array:
        placed = place_windows(windows[rows], factors[index], settings, crop)
        return arrays.align(maps[index], placed, settings.size, 1 / STRIDE)

    return arrays.in_groups(nearest_scale(windows, factors, crop), at_scale)


def place_windows(windows: Boxes, factors: NDArray[np.float32], settings: SharedMaps, crop: int) -> Boxes:
    """Return where windows [R,4] of an image lie in its padded pixels at a scale, as RoIAlign places cells.

    A cell of a crop sees its place a drift later than where it lies, and so does a cell of the image.
    """
    scaled = windows * factors
    sides = np.tile(scaled[:, 2:] - scaled[:, :2], 2)
    return np.ascontiguousarray(scaled + settings.padding + _DRIFT * (sides / crop - 1), np.float32)


def stages_through(names: Sequence[str], stage: str) -> int:
    """Return how many of a trunk's stages, by their names, end with the one called ``stage``.

    Raises ParameterError if there is none.
    """
    if stage not in names:
        raise ParameterError(f"the trunk has no stage {stage!r}, only {', '.join(names)}")
    return list(names).index(stage) + 1

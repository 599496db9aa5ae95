"""Maps of a whole image: the trunk runs over it once at each scale, for all that read its maps.

Regions are cut out of them (:mod:`detector.inference.region_features`), MultiBox proposes from them
(:mod:`detector.proposals.multibox`). Letters for shapes: K channels, h x w cells, A anchors.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from detector.inference.arrays import Array
from detector.inference.engine import Engine, Outputs
from detector.inference.executor import Executor, ForwardRequest, Priority
from detector.inference.image_scales import ImageScales, ScaledImage, Square, padded_side, scale_image
from detector.inference.preprocessing import Preprocessing
from detector.inference.region_crops import ImageView
from detector.options import CROP_COST


@dataclass(frozen=True)
class MapsAtScale:
    """What the trunk gave for an image at one scale.

    ``factors`` [4] float32 turn boxes of the image's view into boxes of its pixels at this scale, which are
    ``height`` x ``width`` with the padding; ``outputs`` are the maps, on the
    engine's device, and those of the MultiBox head.
    """

    factors: NDArray[np.float32]
    height: int
    width: int
    outputs: Outputs


class ImageMaps:
    """Makes the maps of images, and keeps them with the image's view."""

    def __init__(self, engine: Engine, scales: ImageScales | Square, preprocessing: Preprocessing) -> None:
        """``engine`` runs one image at a time: images [1,3,H,W] -> ``maps`` [1,K,h,w], if regions are cut out
        of them, and, if there is a MultiBox head, ``objectness`` [1,A] in 0..1 and ``offsets`` [1,A,4]."""
        self._scales, self._preprocessing = scales, preprocessing
        self._engine = engine
        # A single crop goes first: all further work on its image waits for it. An image at its own size is
        # most of its work, and has to wait for its turn.
        self._priority = Priority.URGENT if isinstance(scales, Square) else Priority.NORMAL

    def of(self, view: ImageView, *, mirrored: bool = False, executor: Executor) -> list[MapsAtScale]:
        """Return the maps of an image at each scale, made when they are first asked for."""
        return view.keep((self, mirrored), lambda: self._make(view, mirrored, executor))

    @property
    def cost(self) -> int:
        """What an image of 3:4 takes, in regions that take as long."""
        settings = self._scales
        if isinstance(settings, Square):
            return self._cost_of(settings.size, settings.size)
        sides = [
            [padded_side(side, settings.padding) for side in (scale, scale * 4 // 3)]
            for scale in settings.scales
        ]
        return sum(self._cost_of(height, width) for height, width in sides)

    def _cost_of(self, height: int, width: int) -> int:
        return max(round(CROP_COST * height * width / self._preprocessing.size**2), 1)

    def _make(self, view: ImageView, mirrored: bool, executor: Executor) -> list[MapsAtScale]:
        maps = []
        for image in self._images(view, mirrored):
            height, width = image.pixels.shape[2:]
            rows = partial(_rows_of, image.pixels)
            cost = self._cost_of(height, width)
            request = ForwardRequest(self._engine, 1, rows, self._priority, cost=cost)
            maps.append(MapsAtScale(image.factors, height, width, executor(request)))
        return maps

    def _images(self, view: ImageView, mirrored: bool) -> Iterator[ScaledImage]:
        """Make the image at each scale, when its turn comes."""
        settings, arrays = self._scales, self._engine.arrays
        if isinstance(settings, Square):
            height, width = view.pixels.shape[:2]
            crop = view.crops(view.whole, settings.size, arrays)
            factors = np.array([settings.size / width, settings.size / height] * 2, np.float32)
            yield ScaledImage(arrays.mirror(crop) if mirrored else crop, factors)
            return
        for scale in settings.scales:
            yield scale_image(view.pixels, scale, settings, self._preprocessing, arrays, mirrored=mirrored)


def _rows_of(rows: Array, first: int, last: int) -> Array:
    return rows[first:last]

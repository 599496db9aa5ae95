"""From boxes of an image to the crops that a network sees, batched, where the network's arrays live.

Letters for shapes: H and W of the image, R regions or windows; a crop is 224x224.
"""

from collections.abc import Callable, Hashable
from threading import Lock
from typing import Any, TypeVar

import numpy as np

from detector.inference.arrays import Array, Arrays
from detector.inference.preprocessing import Preprocessing, add_context, resize_to_short_side
from detector.io.decoding import ImageInput, as_rgb
from detector.structures.boxes import Boxes, as_boxes

T = TypeVar("T")


class Pyramid:
    """An image [3,H,W], and the same halved once, twice and so on, each made when first asked for."""

    def __init__(self, image: Array, arrays: Arrays) -> None:
        """``image`` comes from ``arrays.normalise``."""
        self.arrays = arrays
        self._levels = [image]
        self._growing = Lock()  # several threads may ask for crops of one image

    def level(self, times: int) -> Array:
        """Return the image halved so many times, [3,H/2^times,W/2^times], sides rounded up."""
        with self._growing:
            while len(self._levels) <= times:
                self._levels.append(self.arrays.halve(self._levels[-1]))
            return self._levels[times]


class ImageView:
    """An image [H,W,3] at the size that a network is used to, reduced once for all crops of it.

    ``pixels`` [H',W',3] uint8 is the reduced image, ``factors`` [1,4] what to multiply boxes of the image
    with to have them in it, ``width`` and ``height`` are the image's own. It keeps bytes until its first crop
    is wanted: in a service many wait for their turn. Several threads may ask for crops.
    """

    def __init__(self, image: ImageInput, preprocessing: Preprocessing) -> None:
        """``image`` is an array uint8 [H,W,3], or what :func:`detector.io.decoding.as_rgb` makes one of.

        Raises ParameterError for what is no image.
        """
        image = as_rgb(image)
        self.pixels, self.factors = resize_to_short_side(image, preprocessing)
        self.height, self.width = image.shape[:2]
        self._preprocessing = preprocessing
        self._pyramid: Pyramid | None = None
        self._making = Lock()
        self._kept: dict[Hashable, Any] = {}

    @classmethod
    def of(cls, image: "ImageInput | ImageView", preprocessing: Preprocessing) -> "ImageView":
        """Return the view of an image; a view is returned as it is."""
        return image if isinstance(image, ImageView) else cls(image, preprocessing)

    @property
    def whole(self) -> Boxes:
        """The window [1,4] of the whole reduced image."""
        height, width = self.pixels.shape[:2]
        return as_boxes([(0, 0, width, height)])

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` made when it was first asked for by this key: maps that several steps read."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def crops(self, windows: Boxes, size: int, arrays: Arrays) -> Array:
        """Return crops [R,3,size,size] of windows [R,4] of ``pixels``, float32, where ``arrays`` live: always
        the same place."""
        with self._making:
            if self._pyramid is None:
                self._pyramid = Pyramid(arrays.normalise(self.pixels, self._preprocessing), arrays)
        return sample(self._pyramid, windows, size)


def warp(image: Array, boxes: Boxes, preprocessing: Preprocessing, arrays: Arrays) -> Array:
    """Return crops [R,3,224,224] of boxes [R,4], with context, of a normalised ``image`` [3,H,W]."""
    return sample(Pyramid(image, arrays), add_context(boxes, preprocessing), preprocessing.size)


def sample(image: Pyramid, windows: Boxes, size: int) -> Array:
    """Return crops [R,3,size,size] of windows [R,4] of an image, float32, where the image's arrays live.

    Each window is stretched to the crop whatever its aspect, by bilinear interpolation; what lies outside the
    image is the mean colour, which is zero here. A window more than twice the crop's size is read from a
    halved image (or one halved again), so that large objects are not aliased.
    """
    sides = (windows[:, 2:] - windows[:, :2]).min(axis=1, initial=np.inf)
    levels = np.floor(np.log2(np.maximum(sides / size, 1))).astype(int)

    def of_level(level: int, rows: np.ndarray) -> Array:
        return image.arrays.sample(image.level(level), windows[rows] / 2**level, size)

    return image.arrays.in_groups(levels, of_level)

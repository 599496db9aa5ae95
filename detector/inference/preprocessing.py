"""How an image is made ready for a network: settings, reduction to the size it is used to, context.

Letters for shapes: H and W of the image, R regions.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.io.rgb import check_image
from detector.structures.boxes import Boxes

MAX_SIZE = 1024
"""Most pixels a side of a crop: a batch of larger ones would not fit a machine's memory."""

MAX_SHORT_SIDE = 65_535


@dataclass(frozen=True)
class Preprocessing:
    """How crops are made for a network; part of its checkpoint.

    ``mean`` and ``std`` are per RGB channel on the scale 0..255. ``context`` is how many of the crop's
    ``size`` pixels on each side show what lies around the proposal (R-CNN, arXiv 1311.2524, appendix A).
    ``short_side`` is the shorter side in pixels of the pictures a detector was trained on: larger ones are
    reduced to it, for a crop of a sharper picture is another thing to the network (None: none are).
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int = 224
    context: int = 16
    short_side: int | None = None

    def __post_init__(self) -> None:
        """Raises ParameterError for numbers that no crop can be made with."""
        # Pixels lie in 0..255: a mean beyond them, or a deviation that they cannot have, is a damaged number.
        _check_colour("mean", self.mean, -255, 255)
        _check_colour("std", self.std, 0.01, 255)
        _check_whole("size", self.size, 1, MAX_SIZE)
        _check_whole("context", self.context, 0, (self.size - 1) // 2)
        if self.short_side is not None:
            _check_whole("short_side", self.short_side, 1, MAX_SHORT_SIDE)


def _check_colour(name: str, value: object, low: float, high: float) -> None:
    numbers = value if isinstance(value, tuple) else ()
    real = [isinstance(number, int | float) and not isinstance(number, bool) for number in numbers]
    if len(real) != 3 or not all(real) or not all(low <= number <= high for number in numbers):
        raise ParameterError(f"{name} must be three numbers in {low:g}..{high:g}, got {value!r}")


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ParameterError(f"{name} must be a whole number in {low}..{high}, got {value!r}")


def resize_to_short_side(
    image: NDArray[np.uint8], preprocessing: Preprocessing
) -> tuple[NDArray[np.uint8], Boxes]:
    """Return an image [H,W,3] at the size the network is used to, and factors [1,4] for boxes of the image.

    Boxes times the factors, float32, are those of the image that is returned. An image that is small enough
    is returned as it is. Raises ParameterError for an array that is no image.
    """
    check_image(image)
    height, width = image.shape[:2]
    size = reduced_size(width, height, preprocessing)
    factors = reduction(width, height, preprocessing)
    if size == (width, height):
        return image, factors
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False), factors


def reduced_size(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return width and height of an image at the size the network is used to."""
    shrink = (preprocessing.short_side or min(height, width)) / min(height, width)
    if shrink >= 1:
        return width, height
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def reduction(width: int, height: int, preprocessing: Preprocessing) -> Boxes:
    """Return the factors [1,4] that turn boxes of an image into boxes of it at the size the network is used
    to."""
    columns, rows = reduced_size(width, height, preprocessing)
    return np.array([[columns / width, rows / height] * 2], np.float32)


def add_context(boxes: Boxes, preprocessing: Preprocessing) -> Boxes:
    """Widen boxes [R,4] so that, warped to a crop, each keeps ``context`` pixels around it.

    A side below one pixel counts as one: there is nothing less to look at.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    half = sides / 2 * (preprocessing.size / (preprocessing.size - 2 * preprocessing.context))
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)

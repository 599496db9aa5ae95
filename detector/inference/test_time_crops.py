"""The 1, 10 or 144 test-time crops of the classifier, as windows of the original image.

Resizing an image and cutting a 224x224 crop from it is the same as warping one window of the original to
224x224; so classification runs through the same warp as detection does, and interpolates once. Letters for
shapes: K crops.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.structures.boxes import Boxes, as_boxes

CROP = 224
RESIZED = 256
SCALES = (256, 288, 320, 352)
COUNTS = (1, 10, 144)


@dataclass(frozen=True)
class CropWindows:
    """windows [K,4] in pixels of the image, mirrored [K] bool."""

    windows: Boxes
    mirrored: NDArray[np.bool_]


def crop_windows(width: int, height: int, count: int) -> CropWindows:
    """Return the 1, 10 or 144 crops of an image, none left out where several are the same.

    1: the whole image, whatever its aspect. The papers do not say what their single crop shows.

    10: the whole image is stretched to 256x256; of that the four corners (top left, top right, bottom left,
    bottom right) and the centre, 224x224 each, then their mirror images in the same order: the ten of
    Krizhevsky et al. 2012, section 4.1, from pictures prepared as the BVLC weights' were, which is what those
    weights want (docs/classification.md).

    144: the shorter side is resized to 256, 288, 320 and 352; of each the left, central and right square
    (top, central and bottom one of an upright image); of each square the four corners and the centre,
    224x224, and the square itself resized to 224x224; then the mirror images of all 72 in the same order
    (arXiv 1409.4842, section 7).

    Raises ParameterError for another count.
    """
    if count == 1:
        return CropWindows(as_boxes([(0, 0, width, height)]), np.array([False]))
    if count == 10:
        return _with_mirrored(_corners_and_centre(as_boxes([(0, 0, width, height)]), RESIZED))
    if count == 144:
        return _with_mirrored(np.concatenate([_of_scale(width, height, scale) for scale in SCALES]))
    raise ParameterError(f"crops must be 1, 10 or 144, got {count}")


def _square(width: int, height: int, position: float) -> Boxes:
    """Return the window [1,4] of a square as large as can be, from the start (0) to the end (1) of the longer
    side."""
    side = min(width, height)
    x, y = (width - side) * position, (height - side) * position
    return as_boxes([(x, y, x + side, y + side)])


def _corners_and_centre(area: Boxes, resized: int) -> Boxes:
    """Return windows [5,4], each 224x224 once the area [1,4] is resized to ``resized`` pixels a side."""
    left, top, right, bottom = area[0].tolist()
    width, height = ((end - start) * CROP / resized for start, end in ((left, right), (top, bottom)))
    starts = [
        (left, top),
        (right - width, top),
        (left, bottom - height),
        (right - width, bottom - height),
        ((left + right - width) / 2, (top + bottom - height) / 2),
    ]
    return as_boxes([(x, y, x + width, y + height) for x, y in starts])


def _of_scale(width: int, height: int, scale: int) -> Boxes:
    """Return the windows [18,4] of one scale, not mirrored: six of each of three squares."""
    squares = [_square(width, height, position) for position in (0, 0.5, 1)]
    parts = [part for square in squares for part in (_corners_and_centre(square, scale), square)]
    return np.concatenate(parts)


def _with_mirrored(windows: Boxes) -> CropWindows:
    return CropWindows(np.concatenate([windows, windows]), np.repeat([False, True], len(windows)))

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


@dataclass(frozen=True)
class CropWindows:
    """windows [K,4] in pixels of the image, mirrored [K] bool."""

    windows: Boxes
    mirrored: NDArray[np.bool_]


def crop_windows(width: int, height: int, count: int) -> CropWindows:
    """Return the 1, 10 or 144 crops of an image.

    1: the whole image. 10: the corners and the centre of the image stretched to 256x256, and their mirror
    images (Krizhevsky et al. 2012). 144: four scales of the shorter side, three squares along the longer
    one, of each square its corners, its centre and the whole of it, and their mirror images (arXiv
    1409.4842, section 7). Raises ParameterError for another count.
    """
    if count == 1:
        return CropWindows(as_boxes([(0, 0, width, height)]), np.array([False]))
    if count == 10:
        return _with_mirrored(_corners_and_centre(width, height, RESIZED, RESIZED))
    if count == 144:
        return _with_mirrored(np.concatenate([_of_scale(width, height, scale) for scale in SCALES]))
    raise ParameterError(f"crops must be 1, 10 or 144, got {count}")


def _corners_and_centre(width: float, height: float, columns: float, rows: float) -> Boxes:
    """Return windows [5,4], each 224x224 once the area is resized to columns x rows."""
    w, h = width * CROP / columns, height * CROP / rows
    corners = [
        (0, 0),
        (width - w, 0),
        (0, height - h),
        (width - w, height - h),
        ((width - w) / 2, (height - h) / 2),
    ]
    return as_boxes([(x, y, x + w, y + h) for x, y in corners])


def _of_scale(width: int, height: int, scale: int) -> Boxes:
    """Return the windows [18,4] of one scale, not mirrored."""
    side = min(width, height)
    parts = []
    for position in (0, 0.5, 1):
        x, y = (width - side) * position, (height - side) * position
        inside = np.concatenate(
            [_corners_and_centre(side, side, scale, scale), as_boxes([(0, 0, side, side)])]
        )
        parts.append(inside + np.array([x, y, x, y], np.float32))
    return np.concatenate(parts)


def _with_mirrored(windows: Boxes) -> CropWindows:
    return CropWindows(np.concatenate([windows, windows]), np.repeat([False, True], len(windows)))

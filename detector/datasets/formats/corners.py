"""The one place where the corners that files store become boxes, and boxes corners.

A file of ILSVRC or PASCAL VOC names the first and the last pixel that belong to the object. A box here is
continuous: it ends where its last pixel ends, one further. ILSVRC counts pixels from 0, PASCAL VOC from 1.
"""

import numpy as np
from numpy.typing import NDArray

from detector.structures.boxes import Boxes


def from_corners(corners: NDArray[np.float64], first_pixel: int = 0) -> Boxes:
    """Boxes [N,4] from corners [N,4]: xmin, ymin, xmax, ymax, both pixels part of the object.

    ``first_pixel`` is the number that the file gives to the leftmost and topmost pixel.
    """
    shift = np.array([0, 0, 1, 1]) - first_pixel
    return (corners + shift).astype(np.float32)


def to_corners(boxes: Boxes, first_pixel: int = 0) -> NDArray[np.int64]:
    """Whole-pixel corners [N,4] of boxes [N,4], at least one pixel each way: the inverse of from_corners."""
    edges = np.rint(boxes).astype(np.int64)
    first, last = edges[:, :2], edges[:, 2:] - 1
    return np.concatenate([first, np.maximum(first, last)], axis=1) + first_pixel

"""The EXIF orientation of an image (Exif 2.32, tag 274): reading it, turning pixels and boxes upright."""

import struct

import numpy as np
from PIL.Image import Transpose

from detector.structures.boxes import Boxes

TAG = 274

EXIF_HEAD = b"Exif\0\0"

UPRIGHT = {
    2: Transpose.FLIP_LEFT_RIGHT,
    3: Transpose.ROTATE_180,
    4: Transpose.FLIP_TOP_BOTTOM,
    5: Transpose.TRANSPOSE,
    6: Transpose.ROTATE_270,
    7: Transpose.TRANSVERSE,
    8: Transpose.ROTATE_90,
}
"""The operation that turns an image of each orientation upright; orientation 1 needs none."""

SIDEWAYS = (5, 6, 7, 8)
"""Orientations that exchange rows and columns."""

FIRST_ROW_LAST = (3, 4, 6, 7)
"""Orientations whose first stored row is the last row, or the last column, of the upright image."""

_MIRRORS_X = (2, 3, 6, 7)  # after the axes are exchanged
_MIRRORS_Y = (3, 4, 7, 8)

_LONG = 4  # the standard's type is 3 (SHORT); some programs write 4 (LONG)


def read_orientation(exif: bytes) -> int:
    """Read the orientation, 1 to 8, of an EXIF block (Exif 2.32, sections 4.5 and 4.6.4).

    Returns 1 for a block without one. Only the first directory's own entries are read, nothing they point to.
    """
    exif = exif.removeprefix(EXIF_HEAD)
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(exif[:4])
    try:
        if order is not None:
            (directory,) = struct.unpack_from(f"{order}L", exif, 4)
            (entries,) = struct.unpack_from(f"{order}H", exif, directory)
            for at in range(directory + 2, directory + 2 + 12 * entries, 12):
                tag, kind = struct.unpack_from(f"{order}HH", exif, at)
                if tag == TAG:
                    (value,) = struct.unpack_from(f"{order}{'L' if kind == _LONG else 'H'}", exif, at + 8)
                    return value if 1 <= value <= 8 else 1
    except struct.error:  # a block that is cut off must not make the image unreadable
        pass
    return 1


def turn_upright(boxes: Boxes, width: int, height: int, orientation: int) -> Boxes:
    """Turn boxes [N,4] over the stored pixels of an image to boxes [N,4] over the upright image.

    ``width`` and ``height`` are those of the upright image, in pixels.
    """
    points = boxes.reshape(-1, 2, 2).copy()  # N x corner x (x, y)
    if orientation in SIDEWAYS:
        points = points[..., ::-1]
    if orientation in _MIRRORS_X:
        points[..., 0] = width - points[..., 0]
    if orientation in _MIRRORS_Y:
        points[..., 1] = height - points[..., 1]
    return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)

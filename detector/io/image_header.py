"""The size and EXIF orientation of an image file, without decoding its pixels."""

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from detector.errors import ImageError
from detector.io.decoding import FORMATS
from detector.io.image_paths import has_unread_suffix, unread_kinds
from detector.structures.boxes import Boxes

# EXIF orientation 1..8, TIFF 6.0: 5 to 8 exchange the axes, then some mirror one or both of them.
_MIRRORS_X = (2, 3, 6, 7)


_MIRRORS_Y = (3, 4, 7, 8)


_READ = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # by Pillow's names: it reads more than we decode


@dataclass(frozen=True)
class ImageHeader:
    """The stored size in pixels, and the EXIF orientation that turns it upright (1: it is upright)."""

    width: int
    height: int
    orientation: int = 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height of the picture as it is shown, and as the detector sees it."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)

    def upright(self, boxes: Boxes) -> Boxes:
        """Boxes [N,4] over the stored pixels, as boxes over the upright picture."""
        if self.orientation == 1:
            return boxes
        points = boxes.reshape(-1, 2, 2).copy()  # N x corner x (x, y)
        if self.orientation >= 5:
            points = points[..., ::-1]
        width, height = self.upright_size
        if self.orientation in _MIRRORS_X:
            points[..., 0] = width - points[..., 0]
        if self.orientation in _MIRRORS_Y:
            points[..., 1] = height - points[..., 1]
        return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1)


def read_header(path: Path) -> ImageHeader:
    """Size and orientation of a picture file.

    Only the header is read: a file cut off further on passes here and fails when it is decoded. Raises
    FileNotFoundError if there is no such file, ImageError (``empty``, ``unreadable``) if it is no picture.
    """
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # which opening might wait for without end
            raise ImageError("unreadable", f"picture {path} is a pipe, a socket or a device, and no file")
        with Image.open(path, formats=_READ) as image:
            orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
            width, height = image.size
    except FileNotFoundError:
        raise
    except (
        *(OSError, SyntaxError, ValueError, TypeError, KeyError, EOFError, struct.error),  # broken EXIF
        Image.DecompressionBombError,
    ) as error:
        if os.path.isfile(path) and os.path.getsize(path) == 0:  # noqa: PTH113, PTH202 (False for a bad name)
            raise ImageError("empty", f"picture {path} is empty (0 bytes)") from error
        if isinstance(error, UnidentifiedImageError) and has_unread_suffix(path):
            raise ImageError(
                "unreadable", f"picture {path} cannot be read: {unread_kinds([path])}"
            ) from error
        if isinstance(error, UnidentifiedImageError):
            message = f"picture {path} cannot be read: it is not {FORMATS}, or is broken from its beginning"
            raise ImageError("unreadable", message) from error
        raise ImageError("unreadable", f"picture {path} cannot be read: {_reason(error)}") from error
    return ImageHeader(width, height, orientation if orientation in range(1, 9) else 1)


def _reason(error: Exception) -> str:
    """What is wrong with a picture, less what Pillow says of its own insides."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, Image.DecompressionBombError) else "its header is damaged"

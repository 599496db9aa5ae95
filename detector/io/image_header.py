"""The size and EXIF orientation of an image file, without decoding its pixels."""

import os
import stat
import struct
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from detector.errors import ImageError
from detector.io.decoding import FORMATS
from detector.io.file_contents import png_contents
from detector.io.image_paths import has_unread_suffix, unread_kinds
from detector.io.orientation import SIDEWAYS, TAG, UPRIGHT, read_orientation, turn_upright
from detector.structures.boxes import Boxes

_READ = ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF")  # Pillow's names; it reads more than we decode

_UNDONE_BY = {6: 8, 8: 6}
"""The quarter turn that undoes the other one; every other orientation undoes itself."""


@dataclass(frozen=True)
class ImageHeader:
    """The stored size of an image in pixels, and its EXIF orientation (1: it is stored upright)."""

    width: int
    height: int
    orientation: int = 1

    @property
    def upright_size(self) -> tuple[int, int]:
        """Return width and height in pixels of the image as it is shown, and as the detector sees it."""
        sideways = self.orientation in SIDEWAYS
        return (self.height, self.width) if sideways else (self.width, self.height)

    def upright(self, boxes: Boxes) -> Boxes:
        """Turn boxes [N,4] over the stored pixels to boxes [N,4] over the upright image."""
        if self.orientation == 1:
            return boxes
        return turn_upright(boxes, *self.upright_size, self.orientation)

    def stored(self, boxes: Boxes) -> Boxes:
        """Turn boxes [N,4] over the upright image to boxes [N,4] over the stored pixels."""
        if self.orientation == 1:
            return boxes
        return turn_upright(
            boxes, self.width, self.height, _UNDONE_BY.get(self.orientation, self.orientation)
        )


def read_header(path: Path) -> ImageHeader:
    """Read the size and orientation of an image file.

    Only the header is read: a file that is cut off after it passes here and fails when it is decoded.

    Raises FileNotFoundError if there is no such file, ImageError (``empty``, ``unreadable``) if it is no
    image.
    """
    try:
        mode = path.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):  # opening one might wait for ever
            raise ImageError("unreadable", f"picture {path} is a pipe, a socket or a device, and no file")
        with Image.open(path, formats=_READ) as image:
            return ImageHeader(*_stored_size(image), _orientation(image, path))
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


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Return width and height of the stored pixels; for a TIFF Pillow's own ``size`` is the upright one."""
    if isinstance(image, TiffImageFile):
        return image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    return image.size


def _orientation(image: Image.Image, path: Path) -> int:
    """Return the orientation of an opened file as decoding reads it: from EXIF alone, not from XMP."""
    if isinstance(image, TiffImageFile):
        stated = image.tag_v2.get(TAG, 1)
        return stated if stated in (1, *UPRIGHT) else 1
    if isinstance(image, PngImageFile):  # Pillow decodes all pixels to find a block behind them
        return read_orientation(png_contents(path.read_bytes()).exif)
    return read_orientation(image.info.get("exif", b""))


def _reason(error: Exception) -> str:
    """Return in words why an image cannot be read, without Pillow's internal messages."""
    if isinstance(error, OSError):
        return error.strerror or str(error)
    return str(error) if isinstance(error, Image.DecompressionBombError) else "its header is damaged"

"""Images in any form, as the bytes and the name of a file that the service reads."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from detector.errors import ParameterError
from detector.io.binary_file import BinaryFile, read_all
from detector.io.readable_files import check_path

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

JPEG_QUALITY = 95
"""Of arrays and Pillow images that are sent as JPEG: nothing that a network would notice is lost."""
_LONGEST_JPEG_SIDE = 65_500  # pixels, of the encoder
_FAST = 1  # zlib's level: a network in between is faster than a better one

Encoding: TypeAlias = Literal["png", "jpeg"]


ImageSource: TypeAlias = "str | PathLike[str] | bytes | BinaryFile | Image.Image | NDArray[np.uint8]"
"""An image: the path of a file, its bytes, an open file, a Pillow image, or an array uint8 [H,W,3] (RGB)."""


@dataclass(frozen=True)
class ImageUpload:
    """The bytes of an image's file, and its name if it has one."""

    data: bytes
    name: str | None = None


def is_several(images: object) -> bool:
    """Return whether ``images`` is a list or a tuple, and not one image."""
    return isinstance(images, list | tuple)


def read_upload(image: Any, encoding: Encoding | None = "png") -> ImageUpload:
    """Return an image as a file's bytes. Arrays and Pillow images are encoded; a Pillow image is turned
    upright as its EXIF data say.

    Raises ParameterError for what is no image, ImageError for a Pillow image that cannot be read, OSError for
    a file that cannot be.
    """
    if encoding is None:
        encoding = "png"
    if encoding not in ("png", "jpeg"):
        raise ParameterError(f"encoding must be 'png' or 'jpeg', got {encoding!r}")
    if isinstance(image, str | PathLike):
        path = Path(os.fspath(image))
        check_path(path)
        return ImageUpload(path.read_bytes(), _printable(path.name))
    if isinstance(image, bytes | bytearray | memoryview):
        return ImageUpload(bytes(image))
    if _is_pixels(image):
        return ImageUpload(_encode(image, encoding))
    if hasattr(image, "read"):
        return _read_file_object(image)
    advice = ""
    if type(image).__name__ == "Tensor":
        advice = ": use tensor.permute(1, 2, 0).cpu().numpy()"
    elif isinstance(image, Iterable):
        advice = ": several images are given as a list"
    raise ParameterError(
        "an image must be the path or the bytes of an image file, an open file, a Pillow image or a numpy "
        f"array uint8 [H,W,3], got {type(image).__name__}{advice}"
    )


def _is_pixels(image: object) -> bool:
    """Return whether it is an array or a Pillow image, without importing either package."""
    numpy, pillow = sys.modules.get("numpy"), sys.modules.get("PIL.Image")
    return bool(numpy and isinstance(image, numpy.ndarray)) or bool(
        pillow and isinstance(image, pillow.Image)
    )


def _encode(image: "Image.Image | NDArray[np.uint8]", encoding: Encoding) -> bytes:
    from PIL import Image

    from detector.io.decoding import as_rgb
    from detector.io.rgb import check_image

    pixels = as_rgb(image)  # [H,W,3]
    check_image(pixels)
    if encoding == "jpeg" and max(pixels.shape) > _LONGEST_JPEG_SIDE:
        raise ParameterError(
            f"a JPEG has sides of at most {_LONGEST_JPEG_SIDE:,} pixels, got {pixels.shape[1]} x "
            f"{pixels.shape[0]}: cut the image into parts, or leave encoding='jpeg' out"
        )
    buffer = BytesIO()
    if encoding == "png":
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=_FAST)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _read_file_object(file: Any) -> ImageUpload:
    data = read_all(file)
    name = getattr(file, "name", None)  # a number, for a file that was opened by its descriptor
    return ImageUpload(data, _printable(Path(name).name) if isinstance(name, str) else None)


def _printable(name: str) -> str:
    """Return a file's name as text that UTF-8 can carry, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "replace")

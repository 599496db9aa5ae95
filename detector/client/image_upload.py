"""Images in any form, as the bytes and the name of a file that the service reads."""

import os
import sys
from dataclasses import dataclass
from io import BytesIO
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeAlias

from detector.errors import ParameterError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

JPEG_QUALITY = 95
"""Of arrays and Pillow images that are sent as JPEG: nothing that a network would notice is lost."""
_FAST = 1  # zlib's level: a network in between is faster than a better one

Encoding: TypeAlias = Literal["png", "jpeg"]


class BinaryFile(Protocol):
    """A file object that was opened for reading bytes."""

    def read(self) -> bytes: ...


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


def read_upload(image: Any, encoding: Encoding = "png") -> ImageUpload:
    """Return an image as a file's bytes. Arrays and Pillow images are encoded; a Pillow image is turned
    upright as its EXIF data say.

    Raises ParameterError for what is no image, ImageError for a Pillow image that cannot be read, OSError for
    a file that cannot be.
    """
    if encoding not in ("png", "jpeg"):
        raise ParameterError(f"encoding must be 'png' or 'jpeg', got {encoding!r}")
    if isinstance(image, str | PathLike):
        path = Path(os.fspath(image))
        return ImageUpload(path.read_bytes(), _printable(path.name))
    if isinstance(image, bytes | bytearray | memoryview):
        return ImageUpload(bytes(image))
    if _is_pixels(image):
        return ImageUpload(_encode(image, encoding))
    if hasattr(image, "read"):
        return _read_file_object(image)
    advice = ": use tensor.permute(1, 2, 0).cpu().numpy()" if type(image).__name__ == "Tensor" else ""
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

    pixels = as_rgb(image)  # [H,W,3]
    if pixels.dtype.name != "uint8" or pixels.ndim != 3 or pixels.shape[2] != 3 or not pixels.size:
        raise ParameterError(
            f"an array must be an RGB image, uint8 [H,W,3], got {pixels.dtype} {list(pixels.shape)}"
        )
    buffer = BytesIO()
    if encoding == "png":
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=_FAST)
    else:
        Image.fromarray(pixels).save(buffer, "JPEG", quality=JPEG_QUALITY, subsampling=0)
    return buffer.getvalue()


def _read_file_object(file: Any) -> ImageUpload:
    data = file.read()
    if not isinstance(data, bytes):
        raise ParameterError(
            f"a file must be open for bytes (mode 'rb'), reading it gave {type(data).__name__}"
        )
    name = getattr(file, "name", None)  # a number, for a file that was opened by its descriptor
    return ImageUpload(data, _printable(Path(name).name) if isinstance(name, str) else None)


def _printable(name: str) -> str:
    """Return a file's name as text that UTF-8 can carry, whatever bytes it is made of."""
    return os.fsencode(name).decode("utf-8", "replace")

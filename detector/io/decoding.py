"""Decoding of image files to RGB pixels: formats, limits on size, orientation.

The header is read and checked first; pixels are decoded only afterwards, so that a decompression bomb
costs no more than its header. Nothing here touches Pillow's global settings: any number of threads may
decode at once, each with its own limits.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from io import BytesIO
from os import PathLike
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from detector.errors import ImageError, ParameterError
from detector.io import plugins
from detector.io.binary_file import BinaryFile, read_all
from detector.io.file_contents import (
    Contents,
    CutOffError,
    is_cut_off,
    jpeg_contents,
    png_contents,
    sniff,
    webp_size,
)
from detector.io.gif import gif_contents, gif_size
from detector.io.orientation import TAG, read_orientation
from detector.io.readable_files import check_path
from detector.io.rgb import to_rgb
from detector.io.tiff import tiff_contents
from detector.io.unended_jpeg import load_unended

RGB = NDArray[np.uint8]
"""An upright RGB image, uint8 [H,W,3]."""

ImageInput = RGB | str | PathLike[str] | bytes | BinaryFile | Image.Image
"""An image in any form that :func:`as_rgb` takes."""

# Readers are called directly: Image.open would first apply Pillow's global pixel limit, which is not ours.
_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
    "GIF": GifImageFile,
    "TIFF": TiffImageFile,
}
FORMATS = ", ".join(list(_READERS)[:-1]) + f" or {list(_READERS)[-1]}"
"""The formats that are decoded, as text for messages."""

_CONTENTS: dict[str, Callable[[bytes], Contents]] = {
    "JPEG": jpeg_contents,
    "PNG": png_contents,
    "WebP": Contents,
    "BMP": Contents,
    "GIF": gif_contents,
}

_RUN_LENGTH = (BmpImageFile.COMPRESSIONS["RLE8"], BmpImageFile.COMPRESSIONS["RLE4"])
_MAX_RUN_LENGTH = 1_000_000
_MAX_SIDE = 65_535  # the limit of JPEG; Pillow spends some bytes on each row, however short it is


@dataclass(frozen=True)
class Limits:
    """Limits on an image: the size of its file in bytes, and width times height in pixels."""

    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 50_000_000


@dataclass(frozen=True)
class Decoded:
    """An upright RGB image, uint8 [H,W,3], and the number of frames in its file: 1 for a still."""

    pixels: RGB
    frames: int = 1


def decode(data: bytes, limits: Limits = Limits()) -> RGB:
    """Decode the image in ``data`` to upright RGB, uint8 [H,W,3]. See :func:`read`; plugins are asked."""
    return read(data, limits, ask_plugins=True).pixels


def read(data: bytes, limits: Limits = Limits(), *, ask_plugins: bool = False) -> Decoded:
    """Decode the image in ``data`` to upright RGB, uint8 [H,W,3], and count its frames.

    JPEG, PNG, WebP, BMP, GIF and TIFF are recognised by their content. Grey, palette, CMYK and 16-bit images
    are converted to 8-bit RGB, transparent ones are laid on white. Of an animation the first frame is taken,
    of a TIFF the first page. The EXIF orientation is applied. With ``ask_plugins`` AVIF and HEIC are decoded
    too where their decoders are installed (:mod:`detector.io.plugins`).

    Raises ImageError, whose ``code`` gives the reason: ``empty``, ``too_many_bytes``, ``unsupported_format``,
    ``too_many_pixels``, ``truncated`` or ``unreadable``.
    """
    if not data:
        raise ImageError("empty", "The picture is empty (0 bytes). Send the content of a picture file.")
    if len(data) > limits.max_bytes:
        raise _too_many_bytes(len(data), limits)
    kind = sniff(data)
    if kind is None and ask_plugins and (plugin := plugins.kind_of(data)) is not None:
        return _read_by_plugin(data, plugin, limits)
    if kind is None:
        raise ImageError(
            "unsupported_format",
            f"This is not a picture in a supported format. Convert it to {FORMATS}.",
        )
    try:
        if kind == "WebP":  # its reader allocates the whole canvas before it tells the size
            _check_pixels(*webp_size(data), limits)
        if kind == "TIFF":  # all of its sizes and offsets are checked before its reader sees it
            contents, size = tiff_contents(data)
            _check_pixels(*size, limits)
        else:
            contents = _CONTENTS[kind](data)
        box = None
        if kind == "GIF":
            width, height, box = gif_size(contents.pixels)
            _check_pixels(width, height, limits)
        image: Image.Image = _READERS[kind](BytesIO(contents.pixels))
        _check_pixels(*image.size, limits)
        if kind == "BMP":
            _check_runs(image, len(data))
        if isinstance(image, JpegImageFile) and is_cut_off(data, kind):
            image = _load_jpeg(image, contents.pixels)
        else:
            image.load()
        if box is not None:
            image = _on_screen(image, box)
        if kind == "TIFF" and image.mode in ("F", "I"):
            raise ImageError(
                "unsupported_format",
                "The TIFF has numbers of 32 bits for pixels. Save it with 8 or 16 bits.",
            )
        if isinstance(image, WebPImageFile):
            contents = replace(contents, exif=image.info.get("exif", b""), frames=image.n_frames)
        return Decoded(to_rgb(image, read_orientation(contents.exif)), contents.frames)
    except (ImageError, MemoryError):
        raise
    except CutOffError as error:
        raise _truncated(kind) from error
    except Exception as error:  # a broken file makes Pillow's readers raise nearly anything
        raise _broken(data, kind) from error


def _read_by_plugin(data: bytes, kind: str, limits: Limits) -> Decoded:
    """Decode an AVIF or HEIC file. Raises ImageError as :func:`read`."""
    if not plugins.is_installed(kind):
        raise ImageError("unsupported_format", plugins.advice(kind))
    try:
        image = plugins.opened(data, kind)
        _check_pixels(*image.size, limits)
        image.load()
        return Decoded(to_rgb(image, image.getexif().get(TAG, 1)), getattr(image, "n_frames", 1))
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # as of the other formats
        raise _broken(data, kind) from error


def as_rgb(image: ImageInput) -> RGB:
    """Convert an image in any form that this library takes to upright RGB [H,W,3].

    An array is returned as it is. A path is read by :func:`load`, bytes and what is read of an open file are
    decoded by :func:`decode`, a Pillow image is converted and turned upright.

    Raises ParameterError for anything else, ImageError for an image that cannot be read, OSError for a file
    that cannot be opened.
    """
    if isinstance(image, np.ndarray):
        return np.asarray(image)
    if isinstance(image, str | PathLike):
        return load(Path(image))
    if isinstance(image, bytes | bytearray | memoryview):
        return decode(bytes(image))
    if isinstance(image, Image.Image):
        return _of_pillow(image)
    if hasattr(image, "read"):
        return decode(read_all(image))
    advice = ": use tensor.permute(1, 2, 0).cpu().numpy()" if type(image).__name__ == "Tensor" else ""
    raise ParameterError(
        "a picture must be a numpy array uint8 [H,W,3], the path or the bytes of a picture file, an open "
        f"file, or a Pillow image, got {type(image).__name__}{advice}"
    )


def as_several(images: ImageInput | Sequence[ImageInput]) -> tuple[Sequence[ImageInput], bool]:
    """Return images as a sequence, and whether it was one alone, in any form that :func:`as_rgb` takes.

    What is no image and holds none, such as the None that OpenCV returns for a file that it cannot read, is
    one alone: whoever reads it says so.
    """
    single = isinstance(images, str | PathLike | bytes | bytearray | memoryview | Image.Image)
    single = single or hasattr(images, "read")  # an open file, which is also iterated, line by line
    if single or not isinstance(images, Iterable) or (isinstance(images, np.ndarray) and images.ndim < 4):
        return [images], True  # type: ignore[list-item]
    return images, False  # type: ignore[return-value]


def _of_pillow(image: Image.Image) -> RGB:
    if image.mode in ("F", "I") or not min(image.size):
        raise ParameterError(
            f"a Pillow image must have pixels, of 8 or 16 bits, got mode {image.mode} of {image.width} x "
            f"{image.height}: convert it with image.convert('RGB')"
        )
    try:
        return to_rgb(image, image.getexif().get(TAG, 1))
    except (OSError, SyntaxError, ValueError) as error:  # the file behind it is read only now, if it is open
        raise ImageError("unreadable", f"The Pillow image cannot be read: {error}.") from error


def load(path: str | Path, limits: Limits = Limits()) -> RGB:
    """Decode an image file to upright RGB, uint8 [H,W,3]. See :func:`read_file`."""
    return read_file(path, limits).pixels


def read_file(path: str | Path, limits: Limits = Limits()) -> Decoded:
    """Decode an image file to upright RGB, uint8 [H,W,3], and count its frames. See :func:`read`.

    Raises ImageError with the path in its message, OSError if the file cannot be opened, and ParameterError
    for a path that no file can have.
    """
    path = Path(path)
    check_path(path)
    try:
        size = path.stat().st_size
        if size > limits.max_bytes:
            raise _too_many_bytes(size, limits)
        with path.open("rb") as file:
            data = file.read(limits.max_bytes + 1)  # a device or a pipe has no size, or no end
        return read(data, limits, ask_plugins=True)
    except ImageError as error:
        raise ImageError(error.code, f"{path}: {error}") from error


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(
            "too_many_pixels",
            f"The picture has {width} x {height} = {width * height:,} pixels, more than the "
            f"{limits.max_pixels:,} allowed. Scale it down; nothing is gained by more.",
        )
    if max(width, height) > _MAX_SIDE:
        raise ImageError(
            "too_many_pixels",
            f"The picture has {width} x {height} pixels; a side may have {_MAX_SIDE:,}. Cut it into parts.",
        )


def _check_runs(image: Image.Image, size: int) -> None:
    """Raise ImageError for a large run-length coded BMP.

    Pillow decodes these in Python, which takes long.
    """
    width, height = image.size
    if image.info["compression"] in _RUN_LENGTH and (
        width * height > _MAX_RUN_LENGTH or size > 4 * _MAX_RUN_LENGTH
    ):
        raise ImageError(
            "too_many_pixels",
            f"The picture is a run-length coded BMP of {width} x {height} pixels; such may have "
            f"{_MAX_RUN_LENGTH:,}. Save it as PNG.",
        )


def _load_jpeg(image: JpegImageFile, data: bytes) -> JpegImageFile:
    """Decode a JPEG that seems to lack its end marker.

    Raises OSError, as the decoder does, if pixels are missing.
    """
    try:
        image.load()
    except OSError:
        unended = load_unended(data)
        if unended is None:
            raise
        return unended
    return image


def _on_screen(image: Image.Image, box: tuple[int, int, int, int]) -> Image.Image:
    """Return the screen of a GIF with its first frame in ``box`` (left, top, right, bottom; pixels).

    The screen around the frame is transparent white.
    """
    if box == (0, 0, *image.size):
        return image
    screen = Image.new("RGBA", image.size, (255, 255, 255, 0))
    screen.paste(image.convert("RGBA").crop(box), box[:2])
    return screen


def _too_many_bytes(size: int, limits: Limits) -> ImageError:
    return ImageError(
        "too_many_bytes",
        f"The picture has {size:,} bytes, more than the {limits.max_bytes:,} allowed. "
        "Scale it down or compress it more.",
    )


def _broken(data: bytes, kind: str) -> ImageError:
    if is_cut_off(data, kind):
        return _truncated(kind)
    return ImageError(
        "unreadable",
        f"The {kind} picture is damaged or has no pixels. Open it in an image program and save it anew.",
    )


def _truncated(kind: str) -> ImageError:
    return ImageError("truncated", f"The {kind} picture ends before all of it was there. Send it again.")

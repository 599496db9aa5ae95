"""Bytes of a picture to RGB pixels: which formats are read, how large they may be, which way is up.

The header is read first and judged; pixels are decoded only afterwards, so that a decompression bomb
costs no more than its header. Nothing here touches Pillow's global settings: any number of threads may
decode at once, each with its own limits.
"""

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from detector.errors import ImageError

RGB = NDArray[np.uint8]
"""An upright picture [H,W,3], red first."""

# Readers are called directly, not through Image.open: that one would first apply Pillow's global pixel
# limit, which is not ours.
_READERS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WebP": WebPImageFile,
    "BMP": BmpImageFile,
}

# What brings a picture stored with this EXIF orientation upright (Exif 2.32, tag 274).
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Limits:
    """How large a picture may be: its file in bytes, and width times height in pixels."""

    max_bytes: int = 32 * 1024 * 1024
    max_pixels: int = 50_000_000


def decode(data: bytes, limits: Limits = Limits()) -> RGB:
    """The picture in ``data`` as upright RGB, uint8 [H,W,3].

    JPEG, PNG, WebP and BMP are told by their content. Grey, palette, CMYK and 16-bit pictures become
    8-bit RGB, transparent ones are laid on white, of an animation the first frame is taken, and the
    EXIF orientation is applied.

    Raises ImageError, whose ``code`` says why: ``empty``, ``too_many_bytes``, ``unsupported_format``,
    ``too_many_pixels``, ``truncated`` or ``unreadable``.
    """
    if not data:
        raise ImageError("empty", "The picture is empty (0 bytes). Send the content of a picture file.")
    if len(data) > limits.max_bytes:
        raise _too_many_bytes(len(data), limits)
    kind = _sniff(data)
    if kind is None:
        raise ImageError(
            "unsupported_format",
            "This is not a picture in a supported format. Convert it to JPEG, PNG, WebP or BMP.",
        )
    try:
        if kind == "WebP":  # its reader takes memory for the whole canvas before it tells the size
            _check_pixels(*_webp_size(data), limits)
        picture = _READERS[kind](BytesIO(data))
        _check_pixels(*picture.size, limits)
        picture.load()
        return _to_rgb(picture)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # a broken file makes Pillow's readers raise nearly anything
        raise _broken(data, kind) from error


def load(path: str | Path, limits: Limits = Limits()) -> RGB:
    """The picture in a file as upright RGB, uint8 [H,W,3]; see :func:`decode`.

    Raises ImageError with the path in its message, and OSError where the file cannot be opened.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if size > limits.max_bytes:
            raise _too_many_bytes(size, limits)
        return decode(path.read_bytes(), limits)
    except ImageError as error:
        raise ImageError(error.code, f"{path}: {error}") from error


def _sniff(data: bytes) -> str | None:
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith(b"BM"):
        return "BMP"
    return None


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height of the canvas that a WebP header states (RFC 9649, sections 2.5 to 2.7)."""
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    bits = int.from_bytes(data[26:30], "little")
    return bits & 0x3FFF, bits >> 16 & 0x3FFF


def _check_pixels(width: int, height: int, limits: Limits) -> None:
    if width * height > limits.max_pixels:
        raise ImageError(
            "too_many_pixels",
            f"The picture has {width} x {height} = {width * height:,} pixels, more than the "
            f"{limits.max_pixels:,} allowed. Scale it down; nothing is gained by more.",
        )


def _to_rgb(picture: Image.Image) -> RGB:
    upright = _UPRIGHT.get(_orientation(picture))
    if picture.mode.startswith("I"):
        picture = _eight_bits(picture)
    if picture.has_transparency_data:
        layer = picture.convert("RGBA")
        picture = Image.new("RGB", layer.size, "white")
        picture.paste(layer, mask=layer.getchannel("A"))
    picture = picture.convert("RGB")
    if upright is not None:
        picture = picture.transpose(upright)
    return np.array(picture)  # H x W x 3


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # EXIF that cannot be read must not cost a picture that can
        return 1


def _eight_bits(picture: Image.Image) -> Image.Image:
    """A 16-bit grey picture scaled to 8 bits; Pillow's own conversion would clip at 255."""
    wide = np.asarray(picture, dtype=np.uint32)  # H x W
    grey = Image.fromarray(((wide * 255 + 32767) // 65535).astype(np.uint8))
    transparent = picture.info.get("transparency")  # one grey level, of the 16-bit scale
    if transparent is not None:
        grey.putalpha(Image.fromarray(np.where(wide == transparent, 0, 255).astype(np.uint8)))
    return grey


def _too_many_bytes(size: int, limits: Limits) -> ImageError:
    return ImageError(
        "too_many_bytes",
        f"The picture has {size:,} bytes, more than the {limits.max_bytes:,} allowed. "
        "Scale it down or compress it more.",
    )


def _broken(data: bytes, kind: str) -> ImageError:
    if _is_cut_off(data, kind):
        return ImageError("truncated", f"The {kind} picture ends before all of it was there. Send it again.")
    return ImageError(
        "unreadable",
        f"The {kind} picture is damaged or has no pixels. Open it in an image program and save it anew.",
    )


def _is_cut_off(data: bytes, kind: str) -> bool:
    """Whether a file that could not be read lacks its end, by what its format says of its end."""
    if kind == "JPEG":
        return b"\xff\xd9" not in data[-64:]
    if kind == "PNG":
        return b"IEND" not in data[-64:]
    stated = (
        int.from_bytes(data[4:8], "little") + 8 if kind == "WebP" else int.from_bytes(data[2:6], "little")
    )
    return len(data) < max(stated, 30)  # 30: no header is shorter

"""Formats that plugins of Pillow decode, where they are installed: AVIF (a part of Pillow's usual builds) and
HEIC (pillow-heif, the extra ``heic``).

For files that a user names: the service does not take them, since what their decoders need cannot be bounded
by a look at the file.
"""

from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from io import BytesIO

from PIL import Image, features

AVIF, HEIC = "AVIF", "HEIC"

SUFFIXES = {AVIF: (".avif",), HEIC: (".heic", ".heif", ".hif")}
"""Suffixes, in lower case, of the files of each format."""

_BRANDS = {
    AVIF: (b"avif", b"avis"),
    HEIC: (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"),
}
"""What stands in the first box of a file (ISO/IEC 23008-12, 10; AV1 Image File Format, 6)."""


def kind_of(data: bytes) -> str | None:
    """Tell an AVIF or HEIC file by its first bytes; None is neither."""
    if data[4:8] != b"ftyp":
        return None
    brands = {data[8:12], *(data[at : at + 4] for at in range(16, min(_box_size(data), 256), 4))}
    # Both may name the general brand: the particular one decides.
    return next((kind for kind, known in _BRANDS.items() if brands & set(known)), None)


def is_installed(kind: str) -> bool:
    """Tell whether a format's decoder is here."""
    return bool(features.check("avif")) if kind == AVIF else find_spec("pillow_heif") is not None


@cache
def suffixes() -> tuple[str, ...]:
    """Return the suffixes, in lower case, of formats whose decoders are here."""
    return tuple(suffix for kind, names in SUFFIXES.items() if is_installed(kind) for suffix in names)


def opened(data: bytes, kind: str) -> Image.Image:
    """Open a file with its plugin: its size is known, its pixels are not decoded. Raises what Pillow raises
    for a broken file."""
    openers: dict[str, Callable[[], Image.Image]] = {AVIF: lambda: _avif(data), HEIC: lambda: _heic(data)}
    return openers[kind]()


def advice(kind: str) -> str:
    """Return what to do where a format's decoder is not here."""
    package = "pip install 'googlenet-detector[heic]'" if kind == HEIC else "a Pillow with AVIF"
    return f"This is {kind}, whose decoder is not installed: {package} brings it. Or convert it to JPEG."


def _box_size(data: bytes) -> int:
    return int.from_bytes(data[:4], "big")


def _avif(data: bytes) -> Image.Image:
    from PIL.AvifImagePlugin import AvifImageFile

    return AvifImageFile(BytesIO(data))


def _heic(data: bytes) -> Image.Image:
    import pillow_heif

    return pillow_heif.HeifImageFile(BytesIO(data))

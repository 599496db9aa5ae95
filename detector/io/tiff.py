"""The parts of a TIFF besides its pixels: pages, and the first page's directory, reduced to what pixels need.

Written from TIFF 6.0 (Adobe, 1992). A directory can point anywhere, name the same bytes millions of times and
hold any number of other entries; a decoder is given a new directory of a few entries that were checked.
"""

import ctypes
import struct
from functools import cache
from typing import Literal

from PIL import _imaging

from detector.errors import ImageError
from detector.io.file_contents import MAX_SEGMENTS, Contents, CutOffError

MAX_ENTRIES = 4096
"""Most entries of a directory that are read; cameras write some dozens."""

_WIDTH, _HEIGHT, _COMPRESSION = 256, 257, 259
_STRIP_OFFSETS, _STRIP_BYTES = 273, 279
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_BYTES = 322, 323, 324, 325
_ONE_NUMBER = (
    # photometric interpretation, fill order, samples, rows a strip, planes, fax options, predictor
    *(_WIDTH, _HEIGHT, _COMPRESSION, 262, 266, 277, 278, 284, 292, 293, 317, _TILE_WIDTH, _TILE_HEIGHT),
)
_SEVERAL = {
    258: 8,  # bits of each sample
    320: 3 << 16,  # palette
    338: 8,  # extra samples
    339: 8,  # format of each sample
    347: MAX_SEGMENTS,  # tables of JPEG
    529: 3,  # coefficients, subsampling and range of YCbCr
    530: 2,
    532: 6,
    _STRIP_OFFSETS: MAX_SEGMENTS,
    _STRIP_BYTES: MAX_SEGMENTS,
    _TILE_OFFSETS: MAX_SEGMENTS,
    _TILE_BYTES: MAX_SEGMENTS,
}
"""Entries with several values that pixels need, and how many values each may have."""

_TYPES = {1: 1, 3: 2, 4: 4, 5: 8, 7: 1}  # bytes of a value: BYTE, SHORT, LONG, RATIONAL, UNDEFINED
_COMPRESSIONS = {
    1: "none",
    2: "CCITT",
    3: "fax 3",
    4: "fax 4",
    5: "LZW",
    7: "JPEG",
    8: "deflate",
    32773: "PackBits",
    32946: "deflate",
}
_JPEG = 7
_MAX_SCANS = 64  # JPEG scans beyond one for each strip; see detector.io.file_contents.MAX_SCANS
_SMALL = 1 << 22  # pixels that tiles may have beyond twice the image's


def tiff_contents(data: bytes) -> tuple[Contents, tuple[int, int]]:
    """Return a TIFF of the first page alone, as its decoder needs it, and the page's width and height.

    The orientation is left out of ``pixels``; it is in ``exif``, as for the other formats.

    Raises CutOffError if the file ends within the page, ImageError (``unsupported_format``) for a compression
    that is not decoded, and ValueError for a page that is no image.
    """
    _silence()
    order = "<" if data[:2] == b"II" else ">"
    if len(data) < 8:
        raise CutOffError
    (first,) = struct.unpack_from(f"{order}L", data, 4)
    entries, pages = _directory(data, order, first), _pages(data, order, first)
    values = {tag: _numbers(data, order, entry)[0] for tag, entry in entries.items() if tag in _ONE_NUMBER}
    width, height, compression = values.get(_WIDTH, 0), values.get(_HEIGHT, 0), values.get(_COMPRESSION, 1)
    if not width or not height:
        raise ValueError("it has no size")
    if compression not in _COMPRESSIONS:
        raise ImageError(
            "unsupported_format",
            f"The TIFF is compressed by method {compression}, which is not read. Save it with "
            f"{', '.join(dict.fromkeys(_COMPRESSIONS.values()))}, or as PNG.",
        )
    _check_tiles(values, width, height)
    _check_strips(data, order, entries, compression)
    kept = [entry for tag, entry in sorted(entries.items()) if tag in _ONE_NUMBER or tag in _SEVERAL]
    start = len(data) + len(data) % 2
    head = data[:4] + struct.pack(f"{order}L", start) + data[8:] + b"\0" * (len(data) % 2)
    directory = struct.pack(f"{order}H", len(kept)) + b"".join(entry for entry in kept) + bytes(4)
    return Contents(head + directory, data, pages), (width, height)


def _directory(data: bytes, order: str, at: int) -> dict[int, bytes]:
    """Return the entries of a directory by tag, twelve bytes each; of two with the same tag the first counts.

    Raises CutOffError if the file ends within the directory or an entry's values, ValueError for too many
    entries or an entry of a wrong type or number of values.
    """
    if at + 2 > len(data):
        raise CutOffError
    (count,) = struct.unpack_from(f"{order}H", data, at)
    if count > MAX_ENTRIES:
        raise ValueError("it has more entries than any picture")
    if at + 2 + 12 * count > len(data):
        raise CutOffError
    entries: dict[int, bytes] = {}
    for begin in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(f"{order}HHL", data, begin)
        if tag not in _SEVERAL and tag not in _ONE_NUMBER:
            continue
        if kind not in _TYPES or not 1 <= values <= _SEVERAL.get(tag, 1):
            raise ValueError(f"entry {tag} has {values} values of type {kind}")
        size = values * _TYPES[kind]
        if size > 4 and int.from_bytes(data[begin + 8 : begin + 12], _endian(order)) + size > len(data):
            raise CutOffError
        entries.setdefault(tag, data[begin : begin + 12])
    return entries


def _numbers(data: bytes, order: str, entry: bytes) -> tuple[int, ...]:
    """Return the values of an entry as whole numbers. Raises ValueError for values of another type."""
    _, kind, values = struct.unpack_from(f"{order}HHL", entry)
    letter = {1: "B", 3: "H", 4: "L", 7: "B"}.get(kind)
    if letter is None:
        raise ValueError("a number is no whole one")
    form = struct.Struct(f"{order}{values}{letter}")
    if form.size <= 4:
        return form.unpack_from(entry, 8)
    return form.unpack_from(data, int.from_bytes(entry[8:12], _endian(order)))


def _check_tiles(one: dict[int, int], width: int, height: int) -> None:
    """Raise ValueError for tiles of no size, or with far more pixels together than the image.

    All pixels of all tiles would be decoded.
    """
    wide, high = one.get(_TILE_WIDTH, width), one.get(_TILE_HEIGHT, height)
    if not wide or not high:
        raise ValueError("its tiles have no size")
    covered = (-(-width // wide) * wide) * (-(-height // high) * high)
    if covered > 2 * width * height + _SMALL:
        raise ValueError("its tiles are far larger than the picture")


def _check_strips(data: bytes, order: str, entries: dict[int, bytes], compression: int) -> None:
    """Check the offsets and lengths of strips and tiles, and the number of JPEG scans.

    Raises CutOffError for strips outside of the file, ValueError for strips that overlap, for none, or for
    too many scans.
    """
    strips = 0
    for where, sizes in ((_STRIP_OFFSETS, _STRIP_BYTES), (_TILE_OFFSETS, _TILE_BYTES)):
        if where not in entries:
            continue
        offsets = _numbers(data, order, entries[where])
        strips += len(offsets)
        if max(offsets) >= len(data):
            raise CutOffError
        if sizes not in entries:
            continue
        lengths = _numbers(data, order, entries[sizes])
        if max(begin + length for begin, length in zip(offsets, lengths, strict=False)) > len(data):
            raise CutOffError
        if sum(lengths) > len(data):
            raise ValueError("its pieces overlap")
    if not strips:
        raise ValueError("it has no pixels")
    if compression == _JPEG and data.count(b"\xff\xda") > strips + _MAX_SCANS:
        raise ValueError("more scans than any picture has")


def _pages(data: bytes, order: str, at: int) -> int:
    seen: set[int] = set()
    while at and at not in seen and at + 2 <= len(data) and len(seen) < MAX_SEGMENTS:
        seen.add(at)
        (count,) = struct.unpack_from(f"{order}H", data, at)
        behind = at + 2 + 12 * count
        at = int.from_bytes(data[behind : behind + 4], _endian(order))
    return max(1, len(seen))


def _endian(order: str) -> Literal["little", "big"]:
    return "little" if order == "<" else "big"


@cache
def _silence() -> None:
    """Turn off libtiff's own printing of errors: standard error may be a pipe that nobody reads.

    Pillow turns libtiff's warnings off in the same way, and sees errors by what decoding returns.
    """
    try:
        set_handler = ctypes.CDLL(_imaging.__file__).TIFFSetErrorHandler
    except (AttributeError, OSError, TypeError):  # libtiff is linked into Pillow without exported symbols
        return
    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
    set_handler(None)

"""The parts of an image file besides its pixels: format, EXIF block, frames. No pixel is decoded here.

Decoders read far more than pixels, and some of it costs more than any image: an EXIF block of 32 MB can make
65,535 copies of itself, a million empty comments are a million objects, a PNG's texts are decompressed. So a
decoder is given only the segments that pixels need; what is needed from the others is read here, in place.
"""

import re
from dataclasses import dataclass

from detector.io.orientation import EXIF_HEAD

MAX_SEGMENTS = 65_536
"""Most segments of a JPEG before its pixels, or chunks of a PNG: encoders write one in 8 KB of pixels."""

MAX_SCANS = 64
"""Most scans of a JPEG. Each costs a pass over all pixels, however few bytes it has; encoders write about 10
(libjpeg-turbo.org/pmwiki/uploads/About/TwoIssueswiththeJPEGStandard.pdf).
"""

_PNG_CHUNKS = (b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND")
_JPEG_APPS = (0xE0, 0xEE)  # JFIF and Adobe: what the colours mean
_JPEG_PADDING = re.compile(rb"\xff+")  # a marker may be padded with its first byte
_JPEG_SCAN, _JPEG_END, _JPEG_EXIF = 0xDA, 0xD9, 0xE1
_JPEG_MARKER = re.compile(rb"\xff+([^\x00\xff\xd0-\xd7])")  # in a scan: all but stuffing and restarts


@dataclass(frozen=True)
class Contents:
    """The parts of an image file.

    ``pixels`` is a file of the same format, reduced to what a decoder needs. ``exif`` is the EXIF block's
    TIFF structure, or empty. ``frames`` is the number of frames that an animation states, 1 for a still.
    """

    pixels: bytes
    exif: bytes = b""
    frames: int = 1


class CutOffError(ValueError):
    """Error for a file that ends before its image does."""


def sniff(data: bytes) -> str | None:
    """Return the format of a file by its first bytes, None if it is unknown.

    It is one of ``JPEG``, ``PNG``, ``WebP``, ``BMP``, ``GIF`` and ``TIFF``.
    """
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data.startswith(b"BM"):
        return "BMP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith((b"II*\0", b"MM\0*")):
        return "TIFF"
    return None


def png_contents(data: bytes) -> Contents:
    """Split a PNG into its chunks (W3C PNG, sections 5 and 11) and keep those that pixels need.

    Of an animation the default image is kept, which is usually its first frame. Raises ValueError for more
    than MAX_SEGMENTS chunks.
    """
    kept, exif, frames = [data[:8]], b"", 1
    at = 8
    for _ in range(MAX_SEGMENTS):
        length, name = int.from_bytes(data[at : at + 4]), data[at + 4 : at + 8]
        end = at + 12 + length
        if name in _PNG_CHUNKS:
            kept.append(data[at:end])
        elif name == b"eXIf":
            exif = data[at + 8 : end - 4]
        elif name == b"acTL" and frames == 1:
            frames = max(1, int.from_bytes(data[at + 8 : at + 12]))
        at = end
        if name == b"IEND" or at >= len(data):
            return Contents(b"".join(kept), exif, frames)
    raise ValueError("more chunks than any picture has")


def jpeg_contents(data: bytes) -> Contents:
    """Split a JPEG into its segments (ITU T.81, annex B) and keep those that pixels need.

    The first scan and all that follows it are kept whole. Raises ValueError for more than MAX_SEGMENTS
    segments or MAX_SCANS scans.
    """
    kept, exif = [data[:2]], b""
    at = 2
    for _ in range(MAX_SEGMENTS):
        at = data.find(b"\xff", at)  # bytes between segments are skipped, as decoders do
        padding = _JPEG_PADDING.match(data, at) if at >= 0 else None
        if padding is not None:
            at = padding.end() - 1
        if at < 0 or at + 4 > len(data):
            break
        marker = data[at + 1]
        if marker == _JPEG_SCAN:
            if data.count(b"\xff\xda", at) > MAX_SCANS:  # a video after the image may hold these bytes too
                _check_scans(data, at)
            return Contents(b"".join([*kept, data[at:]]), exif)
        if marker == 0 or 0xD0 <= marker <= 0xD9:  # no segment: nothing follows the two bytes
            at += 2
            continue
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4])
        if marker < 0xE0 or marker in _JPEG_APPS:
            kept.append(data[at:end])
        elif marker == _JPEG_EXIF and not exif and data.startswith(EXIF_HEAD, at + 4):
            exif = data[at + 4 + len(EXIF_HEAD) : end]
        at = max(end, at + 2)
    else:
        raise ValueError("more segments than any picture has")
    return Contents(b"".join(kept), exif)  # there is no scan: the decoder says so


def webp_size(data: bytes) -> tuple[int, int]:
    """Return width and height of the canvas that a WebP header states (RFC 9649, sections 2.5 to 2.7)."""
    if data[12:16] == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if data[12:16] == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    bits = int.from_bytes(data[26:30], "little")
    return bits & 0x3FFF, bits >> 16 & 0x3FFF


def is_cut_off(data: bytes, kind: str) -> bool:
    """Return whether a file of format ``kind`` that could not be read lacks its end.

    The end is told by the format's end marker or by the length that the header states.
    """
    if kind == "JPEG":
        return b"\xff\xd9" not in data[-64:]
    if kind == "PNG":
        return b"IEND" not in data[-64:]
    if kind in ("GIF", "TIFF"):  # taking out their contents already raised CutOffError
        return False
    stated = (
        int.from_bytes(data[4:8], "little") + 8 if kind == "WebP" else int.from_bytes(data[2:6], "little")
    )
    return len(data) < max(stated, 30)  # 30: no header is shorter


def _check_scans(data: bytes, first: int) -> None:
    scans, at = 1, first + 2 + int.from_bytes(data[first + 2 : first + 4])
    for _ in range(MAX_SEGMENTS):
        marker = _JPEG_MARKER.search(data, at)
        if marker is None or marker[1][0] == _JPEG_END:
            return
        scans += marker[1][0] == _JPEG_SCAN
        if scans > MAX_SCANS:
            break
        at = marker.end() + max(2, int.from_bytes(data[marker.end() : marker.end() + 2]))
    raise ValueError("more scans than any picture has")

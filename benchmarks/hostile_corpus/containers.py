"""The containers of the formats, as far as it takes to build them wrongly and to cut them at their seams."""

import struct
import zlib
from collections.abc import Sequence
from functools import cache
from io import BytesIO
from typing import Any

import numpy as np
from PIL import Image

PNG = b"\x89PNG\r\n\x1a\n"
Chunk = tuple[bytes, bytes]


def png(chunks: Sequence[Chunk]) -> bytes:
    """Return a PNG of chunks (kind, data), each with a right length and checksum."""
    return PNG + b"".join(png_chunk(kind, data) for kind, data in chunks)


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_header(width: int, height: int, depth: int = 8, colour: int = 2, interlaced: int = 0) -> Chunk:
    """Make an IHDR; colour 0 grey, 2 RGB, 3 palette, 4 grey and alpha, 6 RGB and alpha."""
    return b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)


def png_chunks(data: bytes) -> list[Chunk]:
    """Return the chunks of a whole PNG."""
    chunks, at = [], len(PNG)
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    return chunks


def riff(chunks: Sequence[Chunk], form: bytes = b"WEBP") -> bytes:
    """Return a RIFF file of chunks, padded to even lengths."""
    body = form + b"".join(riff_chunk(kind, data) for kind, data in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def riff_chunk(kind: bytes, data: bytes) -> bytes:
    """Return one chunk."""
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def riff_chunks(data: bytes) -> list[Chunk]:
    """Return the chunks of a whole RIFF file."""
    chunks, at = [], 12
    while at + 8 <= len(data):
        (length,) = struct.unpack("<I", data[at + 4 : at + 8])
        chunks.append((data[at : at + 4], data[at + 8 : at + 8 + length]))
        at += 8 + length + length % 2
    return chunks


def jpeg_segment(marker: int, data: bytes) -> bytes:
    """Return one marker segment with its length."""
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def seams(data: bytes) -> list[int]:
    """Return where the parts of a whole picture begin, its end included: segments, chunks, headers."""
    if data.startswith(PNG):
        ends, at = [0, 8], 8
        for _, content in png_chunks(data):
            ends += [at + 4, at + 8, at + 8 + len(content), at + 12 + len(content)]
            at += 12 + len(content)
        return ends
    if data.startswith(b"RIFF"):
        ends, at = [0, 4, 8, 12], 12
        for _, content in riff_chunks(data):
            ends += [at + 4, at + 8, at + 8 + len(content)]
            at += 8 + len(content) + len(content) % 2
        return [*ends, len(data)]
    if data.startswith(b"BM"):
        (pixels,) = struct.unpack("<I", data[10:14])
        return [0, 2, 6, 10, 14, 18, 22, 26, 30, 34, 54, pixels, len(data)]
    if data.startswith(b"GIF8"):
        return [0, 6, 8, 10, 11, 13, len(data) // 2, len(data) - 1, len(data)]
    if data.startswith((b"II*\0", b"MM\0*")):
        (directory,) = struct.unpack(f"{'<' if data[:1] == b'I' else '>'}L", data[4:8])
        return [0, 2, 4, 8, *range(directory, min(directory + 200, len(data)), 2), len(data)]
    return _jpeg_seams(data)


def _jpeg_seams(data: bytes) -> list[int]:
    ends, at = [0, 2], 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        (length,) = struct.unpack(">H", data[at + 2 : at + 4])
        ends += [at + 2, at + 4]
        after = at + 2 + length
        if data[at + 1] == 0xDA:  # a scan lasts until the next marker that is no stuffing and no restart
            while after + 1 < len(data) and not (
                data[after] == 0xFF and data[after + 1] != 0 and not 0xD0 <= data[after + 1] <= 0xD7
            ):
                after += 1
        ends.append(after)
        at = after
    return [*ends, len(data)]


@cache
def good_images() -> dict[str, bytes]:
    """Return small whole pictures of every kind that is mutated, by name; the same on every run."""
    rows, columns = np.mgrid[0:48, 0:64]
    pixels = np.stack([columns * 4, rows * 5, (rows * columns) % 256], axis=2).astype(np.uint8)  # H x W x 3
    colour = Image.fromarray(pixels)
    alpha = colour.convert("RGBA")
    alpha.putalpha(Image.fromarray((columns * 4).astype(np.uint8)))
    wide = Image.fromarray(((rows * 64 + columns) * 20).astype(np.uint16))
    frames = [colour.rotate(angle) for angle in (90, 180)]
    exif = Image.Exif()
    exif[274] = 6
    return {
        "jpeg:baseline": encoded(colour, "JPEG"),
        "jpeg:progressive": encoded(colour, "JPEG", progressive=True),
        "jpeg:restarts": encoded(colour, "JPEG", restart_marker_blocks=2),
        "jpeg:exif": encoded(colour, "JPEG", exif=exif, icc_profile=b"icc" * 100, comment=b"hello"),
        "jpeg:cmyk": encoded(colour.convert("CMYK"), "JPEG"),
        "png:rgb": encoded(colour, "PNG"),
        "png:palette": encoded(colour.quantize(32), "PNG"),
        "png:alpha": encoded(alpha, "PNG"),
        "png:sixteen": encoded(wide, "PNG"),
        "png:animated": encoded(colour, "PNG", save_all=True, append_images=frames),
        "webp:lossy": encoded(colour, "WEBP"),
        "webp:lossless": encoded(colour, "WEBP", lossless=True),
        "webp:alpha": encoded(alpha, "WEBP", exif=exif),
        "webp:animated": encoded(colour, "WEBP", save_all=True, append_images=frames),
        "bmp:rgb": encoded(colour, "BMP"),
        "bmp:palette": encoded(colour.quantize(32), "BMP"),
        "gif:palette": encoded(colour.quantize(32), "GIF"),
        "gif:animated": encoded(colour, "GIF", save_all=True, append_images=frames),
        "tiff:plain": encoded(colour, "TIFF", exif=exif),
        "tiff:lzw": encoded(colour, "TIFF", compression="tiff_lzw"),
        "tiff:deflate": encoded(alpha, "TIFF", compression="tiff_adobe_deflate"),
        "tiff:pages": encoded(colour, "TIFF", save_all=True, append_images=frames),
    }


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    """Return a picture as a file of the format that Pillow calls ``kind``."""
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()

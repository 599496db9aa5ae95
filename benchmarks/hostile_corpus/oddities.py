"""Pictures that are right, and unlike any other: each must be answered."""

import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

from hostile_corpus.bombs import END
from hostile_corpus.containers import encoded, good_images, jpeg_segment, png, png_header
from hostile_corpus.hostile_file import BROKEN, FINE, HostileFile, one


def oddities() -> Iterator[HostileFile]:
    """Yield all of them."""
    yield from _sizes()
    yield from _modes()
    yield from _exif()
    yield from _profiles()


def _sizes() -> Iterator[HostileFile]:
    for width, height in ((1, 1), (1, 2), (2, 1), (1, 50_000), (50_000, 1), (3, 9999), (15, 15), (7, 600)):
        for kind in ("JPEG", "PNG", "WEBP", "BMP"):
            if kind == "WEBP" and max(width, height) > 16383:
                continue
            data = encoded(Image.new("RGB", (width, height), "teal"), kind)
            yield one(f"{kind.lower()}:{width}x{height}", data, FINE)


def _modes() -> Iterator[HostileFile]:
    pixels = np.arange(40 * 60 * 3, dtype=np.uint32).reshape(40, 60, 3)  # H x W x 3
    colour = Image.fromarray((pixels % 256).astype(np.uint8))
    for mode in ("1", "L", "P", "RGB", "CMYK", "YCbCr", "LA", "RGBA", "I;16"):
        image = (
            Image.fromarray((pixels[..., 0] * 27 % 65536).astype(np.uint16))
            if mode == "I;16"
            else colour.convert(mode)
        )
        for kind in ("JPEG", "PNG", "WEBP", "BMP"):
            try:
                data = encoded(image, kind)
            except OSError:  # a format without such a mode
                continue
            yield one(f"{kind.lower()}:mode {mode}", data, FINE)
    for depth, colours in ((1, (0, 3)), (2, (0, 3)), (4, (0, 3)), (8, (0, 2, 3, 4, 6)), (16, (0, 2, 4, 6))):
        for colour_type in colours:
            for interlaced in (0, 1):
                yield one(
                    f"png:{depth} bits, colour {colour_type}, interlaced {interlaced}",
                    _black_png(depth, colour_type, interlaced),
                    FINE,
                )
    for quality in (1, 100):
        for sampling in (0, 1, 2):
            data = encoded(colour, "JPEG", quality=quality, subsampling=sampling)
            yield one(f"jpeg:quality {quality}, subsampling {sampling}", data, FINE)
    clear = Image.new("RGBA", (30, 30), (0, 0, 0, 0))
    for kind in ("PNG", "WEBP"):
        yield one(f"{kind.lower()}:nothing but transparency", encoded(clear, kind), FINE)


def _black_png(depth: int, colour: int, interlaced: int) -> bytes:
    """Return 32 x 32 pixels of zeros."""
    bits = depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = (
        # Adam7: where each pass starts and its steps, in columns and rows (PNG, 8.2)
        [(0, 8, 0, 8), (4, 8, 0, 8), (0, 4, 4, 8), (2, 4, 0, 4), (0, 2, 2, 4), (1, 2, 0, 2), (0, 1, 1, 2)]
        if interlaced
        else [(0, 1, 0, 1)]
    )
    size = sum(len(range(y, 32, dy)) * (1 + -(-len(range(x, 32, dx)) * bits // 8)) for x, dx, y, dy in passes)
    palette = [(b"PLTE", bytes(range(6)))] if colour == 3 else []
    head = png_header(32, 32, depth, colour, interlaced)
    return png([head, *palette, (b"IDAT", zlib.compress(bytes(size))), END])


def _exif() -> Iterator[HostileFile]:
    """Yield EXIF that lies, which must not cost a picture that can be read."""
    for orientation in (*range(10), 255, 65535):
        yield _with_exif(f"orientation {orientation}", _entries([(274, 3, 1, orientation)]))
    for name, exif in {
        "a cyclic directory": _entries([(274, 3, 1, 6)], following=8),
        "a directory that is its own child": _entries([(0x8769, 4, 1, 8), (0x8825, 4, 1, 8)]),
        "a directory outside": _entries([(0x8769, 4, 1, 2**32 - 1)]),
        "four billion values": _entries([(274, 3, 2**32 - 1, 8)]),
        "an orientation in text": _entries([(274, 2, 4, 0x36363636)]),
        "an orientation over nothing": _entries([(274, 5, 1, 8)]),
        "65,535 entries of which none is there": struct.pack("<H", 65535),
        "an unknown type": _entries([(274, 99, 1, 6)]),
        "a thumbnail outside": _entries([(0x201, 4, 1, 2**31), (0x202, 4, 1, 2**31)]),
        "nothing": b"",
        "noise": bytes(range(256)) * 200,
    }.items():
        yield _with_exif(name, exif)
    good = good_images()["jpeg:baseline"]
    for name, content in (
        ("no TIFF header", b"Exif\0\0"),
        ("half a header", b"Exif\0\0II"),
        ("no text", b"Ex"),
    ):
        yield one(f"jpeg:EXIF with {name}", good[:2] + jpeg_segment(0xE1, content) + good[2:], FINE)


def _with_exif(name: str, directory: bytes) -> HostileFile:
    tiff = b"II*\0\x08\0\0\0" + directory
    good = good_images()["jpeg:baseline"]
    return one(f"jpeg:EXIF with {name}", good[:2] + jpeg_segment(0xE1, b"Exif\0\0" + tiff) + good[2:], FINE)


def _entries(entries: list[tuple[int, int, int, int]], following: int = 0) -> bytes:
    """Return a TIFF directory of entries (tag, type, count, value)."""
    packed = b"".join(struct.pack("<HHII", *entry) for entry in entries)
    return struct.pack("<H", len(entries)) + packed + struct.pack("<I", following)


def _profiles() -> Iterator[HostileFile]:
    """Yield colour profiles of nonsense, which nobody here applies."""
    image = Image.new("RGB", (30, 30), "olive")
    for name, profile in (("zeros", bytes(300)), ("one byte", b"x"), ("a megabyte", b"acsp" * 250_000)):
        for kind in ("JPEG", "PNG", "WEBP"):
            data = encoded(image, kind, icc_profile=profile)
            yield one(f"{kind.lower()}:profile of {name}", data, FINE, *BROKEN)

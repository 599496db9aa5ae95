"""Little files that would take much memory or time of whoever believes them."""

import struct
import zlib
from collections.abc import Iterator

from PIL import Image

from hostile_corpus.containers import (
    encoded,
    good_images,
    jpeg_segment,
    png,
    png_chunks,
    png_header,
    riff,
    riff_chunk,
    riff_chunks,
)
from hostile_corpus.hostile_file import BROKEN, FINE, HostileFile, one

END = (b"IEND", b"")
HUGE = ((65535, 65535), (30000, 30000), (50000, 2000))
"""More than the pixels that the service takes by default, in sizes that every format can state."""


def bombs() -> Iterator[HostileFile]:
    """Yield all of them."""
    yield from _png_sizes()
    yield from _png_ancillary()
    yield from _frames()
    yield from _jpeg()
    yield from _webp()
    yield from _bmp()
    yield from _slow()


def _png_sizes() -> Iterator[HostileFile]:
    zeros = zlib.compress(bytes(1 << 24), 9)
    for width, height in (*HUGE, (2**31 - 1, 2**31 - 1), (2**31 - 1, 1), (1, 2**31 - 1)):
        for depth, colour in ((8, 2), (16, 6), (1, 0), (8, 3)):
            head = png_header(width, height, depth, colour)
            data = png([head, (b"PLTE", bytes(6)), (b"IDAT", zeros), END])
            yield one(f"png:states {width}x{height}, {depth} bits, colour {colour}", data, "too_many_pixels")
    tower = zlib.compress(bytes((20000 * 3 + 1) * 20000 // 64), 9)
    data = png([png_header(20000, 20000), *[(b"IDAT", tower)] * 64, END])
    yield one("png:400 megapixels of black", data, "too_many_pixels")
    for width, height in ((0, 0), (0, 10), (10, 0), (2**32 - 1, 2**32 - 1), (2**31, 1)):
        data = png([png_header(width, height), (b"IDAT", zeros), END])
        yield one(f"png:states {width}x{height}", data, *BROKEN, "too_many_pixels")
    few = png([png_header(40, 40), (b"IDAT", zeros), END])
    yield one("png:16 MB of pixels where 5 kB are stated", few, FINE, *BROKEN)
    many = png(
        [png_header(600, 600), *[(b"IDAT", b"")] * 20000, (b"IDAT", zlib.compress(bytes(1080600))), END]
    )
    yield one("png:20,000 empty chunks of pixels", many, FINE, *BROKEN)


def _png_ancillary() -> Iterator[HostileFile]:
    pixels = [(b"IDAT", zlib.compress(bytes(121 * 40))), END]
    head = png_header(40, 40)
    bomb = zlib.compress(bytes(64 << 20), 9)
    deep = zlib.compress(zlib.compress(bytes(64 << 20), 9), 9)
    kinds = {
        "zTXt": b"Comment\0\0" + bomb,
        "iCCP": b"profile\0\0" + bomb,
        "iTXt": b"Comment\0\1\0\0\0" + bomb,
        "iCCP twice compressed": b"profile\0\0" + deep,
        "tEXt": b"Comment\0" + b"x" * (2 << 20),
        "eXIf": b"II*\0" + b"\xff" * 100_000,
        "tRNS": bytes(100_000),
        "PLTE": bytes(3 * 300),
        "gAMA": b"",
        "acTL": struct.pack(">II", 2**31 - 1, 0),
    }
    for name, data in kinds.items():
        kind = name[:4].encode()
        yield one(f"png:{name} of 64 MB or nonsense", png([head, (kind, data), *pixels]), FINE, *BROKEN)
    for kind in (b"zTXt", b"iTXt"):
        small = zlib.compress(bytes(1 << 20), 9)
        filler = (b"k\0\0" if kind == b"zTXt" else b"k\0\1\0\0\0") + small
        data = png([head, *[(kind, filler)] * 500, *pixels])
        yield one(f"png:500 {kind.decode()} of a megabyte each", data, FINE, *BROKEN)
    yield one("png:50,000 text chunks", png([head, *[(b"tEXt", b"a\0b")] * 50_000, *pixels]), FINE, *BROKEN)


def _frames() -> Iterator[HostileFile]:
    colour = png_chunks(good_images()["png:rgb"])
    head, data = colour[0], b"".join(content for kind, content in colour if kind == b"IDAT")
    frame = struct.pack(">IIIIIHHBB", 0, 64, 48, 0, 0, 1, 100, 0, 0)
    many = [head, (b"acTL", struct.pack(">II", 5000, 0)), (b"fcTL", frame), (b"IDAT", data)]
    for number in range(4999):
        many.append((b"fcTL", struct.pack(">I", 2 * number + 1) + frame[4:]))
        many.append((b"fdAT", struct.pack(">I", 2 * number + 2) + data[:40]))
    yield one("png:5,000 frames", png([*many, END]), FINE, *BROKEN)
    chunks = riff_chunks(good_images()["webp:animated"])
    still = next(content for kind, content in chunks if kind == b"ANMF")
    setup = [chunk for chunk in chunks if chunk[0] in (b"VP8X", b"ANIM")]
    yield one("webp:5,000 frames", riff([*setup, *[(b"ANMF", still)] * 5000]), FINE, *BROKEN)
    far = struct.pack("<I", 2**24 - 1)[:3] * 2 + still[6:]
    yield one("webp:a frame far outside", riff([*setup, (b"ANMF", far)]), FINE, *BROKEN)
    none = riff([*setup])
    yield one("webp:an animation without a frame", none, *BROKEN)


def _slow() -> Iterator[HostileFile]:
    """Yield what is small in memory, and long to read: what a limit of pixels does not bound."""
    pixels = [(b"IDAT", zlib.compress(bytes(121 * 40))), END]
    head = png_header(40, 40)
    for name, kind, text in (
        (
            "texts of a megabyte that are no UTF-8",
            b"iTXt",
            b"k\0\1\0\0\0" + zlib.compress(b"\xff" * (1 << 20), 9),
        ),
        ("profiles of a megabyte", b"iCCP", b"k\0\0" + zlib.compress(bytes(1 << 20), 9)),
    ):
        yield one(f"png:500 {name}", png([head, *[(kind, text)] * 500, *pixels]), FINE, *BROKEN)
    good = good_images()["jpeg:baseline"]
    yield one("jpeg:8 MB of fill bytes", good[:2] + b"\xff" * (8 << 20) + good[2:], FINE, *BROKEN)
    comments = jpeg_segment(0xFE, b"") * 1_000_000
    yield one("jpeg:a million empty comments", good[:2] + comments + good[2:], FINE, *BROKEN)
    large = endless_scans(7000, 7000, 1500)
    yield one("jpeg:1,500 scans of 49 megapixels", large, FINE, *BROKEN, "too_many_pixels")


def _jpeg() -> Iterator[HostileFile]:
    for name in ("jpeg:baseline", "jpeg:progressive", "jpeg:cmyk"):
        good = good_images()[name]
        for width, height in HUGE:
            yield one(f"{name} states {width}x{height}", _jpeg_sized(good, width, height), "too_many_pixels")
        yield one(f"{name} states 0x0", _jpeg_sized(good, 0, 0), *BROKEN)
        yield one(f"{name} states no height", _jpeg_sized(good, 64, 0), *BROKEN)
        # Stated but not there: libjpeg fills up with grey, or it is damaged.
        yield one(f"{name} states 900x900", _jpeg_sized(good, 900, 900), FINE, *BROKEN)
    yield one("jpeg:2,000 scans of nothing", endless_scans(640, 640, 2000), FINE, *BROKEN)
    good = good_images()["jpeg:baseline"]
    for marker, name in ((0xE1, "APP1"), (0xE2, "APP2"), (0xFE, "comments"), (0xDB, "tables")):
        filler = jpeg_segment(marker, b"ICC_PROFILE\0\1\xff" + bytes(60_000))
        data = good[:2] + filler * 100 + good[2:]
        yield one(f"jpeg:100 {name} of 60 kB", data, FINE, *BROKEN)
    yield one("jpeg:30,000 empty comments", good[:2] + jpeg_segment(0xFE, b"") * 30_000 + good[2:], FINE)
    yield one("jpeg:a megabyte of fill bytes", good[:2] + b"\xff" * (1 << 20) + good[2:], FINE, *BROKEN)
    thumbnail = b"Exif\0\0" + good * 20
    yield one("jpeg:pictures in APP1", good[:2] + jpeg_segment(0xE1, thumbnail) + good[2:], FINE)


def _jpeg_sized(good: bytes, width: int, height: int) -> bytes:
    at = next(good.index(marker) for marker in (b"\xff\xc0", b"\xff\xc2") if marker in good)
    return good[: at + 5] + struct.pack(">HH", height, width) + good[at + 9 :]


def endless_scans(width: int, height: int, scans: int) -> bytes:
    """Return a progressive grey JPEG that says "nothing new" of all its blocks again and again: each scan is
    some bytes and makes a decoder walk over every coefficient."""
    blocks = -(-width // 8) * -(-height // 8)
    quantisation = jpeg_segment(0xDB, b"\0" + b"\1" * 64)
    frame = jpeg_segment(0xC2, struct.pack(">BHHB", 8, height, width, 1) + b"\1\x11\0")
    one_code = b"\1" + bytes(15)  # of one bit, a zero
    no_change = jpeg_segment(0xC4, b"\0" + one_code + b"\0")  # DC: difference of no bits
    end_of_band = jpeg_segment(0xC4, b"\x10" + one_code + b"\xe0")  # AC: this block and many more are empty
    first = jpeg_segment(0xDA, b"\1\1\0\0\0\0") + bytes(-(-blocks // 8))
    runs, rest = [], blocks
    while rest >= 1 << 14:
        run = min(rest, (1 << 15) - 1)
        runs.append(f"0{run - (1 << 14):014b}")
        rest -= run
    bits = "".join(runs)
    padded = bits + "1" * (-len(bits) % 8)
    packed = bytes(int(padded[at : at + 8], 2) for at in range(0, len(padded), 8)).replace(b"\xff", b"\xff\0")
    again = jpeg_segment(0xDA, b"\1\1\0\1\x3f\0") + packed
    return b"\xff\xd8" + quantisation + frame + no_change + end_of_band + first + again * scans + b"\xff\xd9"


def _webp() -> Iterator[HostileFile]:
    good = good_images()
    for width, height in ((16383, 16383), (16383, 4000)):
        lossy = dict(riff_chunks(good["webp:lossy"]))[b"VP8 "]
        data = riff([(b"VP8 ", lossy[:6] + struct.pack("<HH", width, height) + lossy[10:])])
        yield one(f"webp:lossy states {width}x{height}", data, "too_many_pixels")
        solid = dict(riff_chunks(encoded(Image.new("RGB", (16, 16), "red"), "WEBP", lossless=True)))[b"VP8L"]
        data = riff([(b"VP8L", _lossless_sized(solid, width, height))])
        yield one(f"webp:lossless of one colour, {width}x{height}", data, "too_many_pixels")
    for width, height in ((1 << 24, 1 << 24), (1 << 14, 1 << 14), (1 << 24, 1)):
        canvas = b"\0\0\0\0" + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
        inner = riff_chunks(good["webp:lossy"])
        wanted = {"too_many_pixels"} if width * height > 50_000_000 else {FINE, *BROKEN, "too_many_pixels"}
        yield one(f"webp:canvas {width}x{height}", riff([(b"VP8X", canvas), *inner]), *wanted)
        animated = [chunk for chunk in riff_chunks(good["webp:animated"]) if chunk[0] != b"VP8X"]
        data = riff([(b"VP8X", b"\2" + canvas[1:]), *animated])
        yield one(f"webp:animated canvas {width}x{height}", data, *wanted)
    solid = dict(riff_chunks(encoded(Image.new("RGB", (16, 16), "red"), "WEBP", lossless=True)))[b"VP8L"]
    data = riff([(b"VP8L", _lossless_sized(solid, 990, 990))])
    yield one("webp:a megapixel from forty bytes", data, FINE, *BROKEN)
    for stated in (0, 4, 2**31, 2**32 - 1):
        data = b"RIFF" + struct.pack("<I", stated) + good["webp:lossy"][8:]
        yield one(f"webp:RIFF of {stated} bytes", data)
    padding = riff_chunk(b"JUNK", b"") * 50_000
    data = b"RIFF" + struct.pack("<I", len(padding) + 4) + b"WEBP" + padding
    yield one("webp:50,000 chunks of junk", data, *BROKEN, "too_many_pixels")


def _lossless_sized(solid: bytes, width: int, height: int) -> bytes:
    (bits,) = struct.unpack("<I", solid[1:5])
    bits = bits & ~0xFFFFFFF | (height - 1) << 14 | (width - 1)
    return solid[:1] + struct.pack("<I", bits) + solid[5:]


def _bmp() -> Iterator[HostileFile]:
    for width, height in (*HUGE, (2**31 - 1, 2**31 - 1), (2**31 - 1, -(2**31))):
        for bits, compression in ((24, 0), (8, 1), (4, 2), (1, 0), (32, 3)):
            data = bmp(width, height, bits, compression, bytes(400))
            codes = BROKEN | {"too_many_pixels"}
            yield one(f"bmp:{width}x{height}, {bits} bits, compression {compression}", data, *codes)
    yield one("bmp:RLE skips over a megapixel", bmp(990, 990, 8, 1, b"\0\2\xff\xff" * 4 + b"\0\1"))
    yield one("bmp:RLE without an end", bmp(990, 990, 8, 1, b"\xff\1" * 100))
    yield one("bmp:RLE of lines beyond the last", bmp(10, 10, 8, 1, b"\0\0" * 100_000))
    for number, (offset, used, header) in enumerate(
        [(0, 0, 40), (2**32 - 1, 0, 40), (54, 2**32 - 1, 40), (54, 0, 0), (54, 0, 12), (54, 0, 2**32 - 1)]
    ):
        data = bmp(8, 8, 8, 0, bytes(400), offset=offset, used=used, header=header)
        yield one(f"bmp:offset {offset}, {used} colours, header of {header} [{number}]", data)
    for bits in (0, 2, 3, 16, 64, 65535):
        yield one(f"bmp:{bits} bits", bmp(8, 8, bits, 0, bytes(4000)))
    for compression in (4, 5, 6, 11, 2**32 - 1):
        yield one(f"bmp:compression {compression}", bmp(8, 8, 24, compression, bytes(400)))


def bmp(
    width: int,
    height: int,
    bits: int,
    compression: int,
    pixels: bytes,
    *,
    offset: int = 54,
    used: int = 0,
    header: int = 40,
) -> bytes:
    """Return a BMP whose fields say whatever they are told to."""
    info = struct.pack(
        "<IiiHHIIiiII", header, width, height, 1, bits, compression, len(pixels), 2835, 2835, used, 0
    )
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, offset) + info + pixels

"""Pictures of every kind come out as upright RGB; everything else is refused with its code."""

import struct
import tracemalloc
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import ImageError, ParameterError
from detector.io.decoding import Limits, as_rgb, as_several, decode, load, read, read_file


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(width: int = 48, height: int = 32) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = 255, 0, 0
    pixels[: height // 2, width // 2 :] = 0, 255, 0
    pixels[height // 2 :, : width // 2] = 0, 0, 255
    pixels[height // 2 :, width // 2 :] = 255, 255, 255
    return Image.fromarray(pixels)


def chunk(name: bytes, data: bytes = b"") -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """A PNG written chunk by chunk, for headers that no encoder would write."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def transparency(value: bytes) -> bytes:
    return chunk(b"tRNS", value)


def segment(marker: int, data: bytes = b"") -> bytes:
    """A segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def exif(entries: list[tuple[int, int, int, bytes]], order: str = "<", tail: bytes = b"") -> bytes:
    """An EXIF block of one directory: tag, type, count and four bytes of value or offset each."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}LH", 8, len(entries))
    return head + b"".join(struct.pack(f"{order}HHL", *entry[:3]) + entry[3] for entry in entries) + tail


def bmp_runs(width: int, height: int, runs: bytes) -> bytes:
    """A BMP of 256 shades of red, run-length coded."""
    palette = b"".join(bytes((0, 0, shade, 0)) for shade in range(256))
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    start = 14 + len(header) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(runs), 0, 0, start) + header + palette + runs


JPEG = encoded(corners(), "JPEG", quality=95)
PNG = encoded(corners(), "PNG")
WEBP = encoded(corners(), "WEBP", lossless=True)
BMP = encoded(corners(), "BMP")
GIF = encoded(corners(), "GIF")
TIFF = encoded(corners(), "TIFF")
PROGRESSIVE = encoded(corners(), "JPEG", quality=95, progressive=True)


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def tiff(entries: list[tuple[int, int, int]], order: str = "<", after: bytes = b"", count: int = 1) -> bytes:
    """A TIFF of one directory at 8: tag, type and value of each entry, and what stands behind it."""
    head = {"<": b"II*\0", ">": b"MM\0*"}[order] + struct.pack(f"{order}LH", 8, len(entries))
    body = b"".join(
        struct.pack(f"{order}HHL", tag, kind, count)
        + (struct.pack(f"{order}HH", value, 0) if kind == 3 else struct.pack(f"{order}L", value))
        for tag, kind, value in entries
    )
    return head + body + bytes(4) + after


def grey_tiff(width: int = 2, height: int = 1, order: str = "<", **changed: int) -> bytes:
    """A grey picture; ``changed`` has other values for entries, as ``t259=5``."""
    entries = {256: (4, width), 257: (4, height), 258: (3, 8), 259: (3, 1), 262: (3, 1), 273: (4, 0)}
    entries |= {277: (3, 1), 278: (4, height), 279: (4, width * height)}
    for name, value in changed.items():
        entries[int(name[1:])] = entries.get(int(name[1:]), (4, 0))[0], value
    start = 8 + 2 + 12 * len(entries) + 4
    if not entries[273][1]:
        entries[273] = 4, start
    listed = [(tag, *entries[tag]) for tag in sorted(entries)]
    return tiff(listed, order, bytes(100 + shade for shade in range(min(width * height, 100))))


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        pytest.param(PNG, 0, id="png"),
        pytest.param(WEBP, 0, id="webp"),
        pytest.param(BMP, 0, id="bmp"),
        pytest.param(GIF, 0, id="gif"),
        pytest.param(encoded(corners(), "GIF", interlace=True), 0, id="interlaced gif"),
        pytest.param(GIF[:-1], 0, id="gif without its end"),
        pytest.param(GIF + b"something behind it", 0, id="gif with something behind it"),
        pytest.param(TIFF, 0, id="tiff"),
        pytest.param(TIFF + b"something behind it", 0, id="tiff with something behind it"),
        pytest.param(encoded(corners(), "TIFF", compression="tiff_lzw"), 0, id="tiff, lzw"),
        pytest.param(encoded(corners(), "TIFF", compression="tiff_adobe_deflate"), 0, id="tiff, deflate"),
        pytest.param(encoded(corners(), "TIFF", compression="packbits"), 0, id="tiff, packbits"),
        pytest.param(encoded(corners(), "TIFF", compression="jpeg", quality=95), 6, id="tiff, jpeg"),
        pytest.param(encoded(corners().convert("RGBA"), "TIFF"), 0, id="tiff with alpha"),
        pytest.param(encoded(corners().quantize(8), "TIFF"), 0, id="tiff with a palette"),
        pytest.param(encoded(corners().convert("CMYK"), "TIFF"), 0, id="cmyk tiff"),
        pytest.param(JPEG, 6, id="jpeg"),
        pytest.param(JPEG[:-2], 6, id="jpeg without its end marker"),
        pytest.param(JPEG[:-1], 6, id="jpeg with half of its end marker"),
        pytest.param(PROGRESSIVE[:-2], 6, id="progressive jpeg without its end marker"),
        pytest.param(encoded(corners().convert("CMYK"), "JPEG", quality=95)[:-2], 6, id="cmyk, the same"),
        pytest.param(encoded(corners(), "JPEG", quality=95, progressive=True), 6, id="progressive jpeg"),
        pytest.param(encoded(corners().convert("CMYK"), "JPEG", quality=95), 6, id="cmyk jpeg"),
        pytest.param(encoded(corners().quantize(8), "PNG"), 0, id="palette"),
        pytest.param(encoded(corners().convert("RGBA"), "PNG"), 0, id="opaque alpha"),
        pytest.param(encoded(corners().convert("RGBA"), "BMP"), 0, id="bmp with alpha"),
        pytest.param(PNG[:33] + chunk(b"zTXt", b"k") + PNG[33:], 0, id="png with a broken text"),
        pytest.param(PNG + b"something behind it", 0, id="png with something behind it"),
        pytest.param(JPEG + b"\xff\xda" * 100, 6, id="jpeg with what looks like scans behind it"),
        pytest.param(JPEG[:2] + b"\xff\xff" + JPEG[2:], 6, id="jpeg with padded markers"),
    ],
)
def test_every_format_gives_the_same_rgb(data: bytes, tolerance: int) -> None:
    image = decode(data)
    assert image.dtype == np.uint8
    assert image.shape == (32, 48, 3)
    inner = np.s_[4:12, 4:20]  # away from the edges, which JPEG blurs
    assert np.abs(image[inner].astype(int) - np.asarray(corners())[inner]).max() <= tolerance
    if tolerance == 0:
        assert np.array_equal(image, np.asarray(corners()))


def pixel(mode: str, value: object) -> bytes:
    return encoded(Image.new(mode, (1, 1), value), "PNG")


def grey16(value: int) -> bytes:
    return encoded(Image.fromarray(np.array([[value]], np.uint16)), "PNG")


def red_then_blue(kind: str, **options: object) -> bytes:
    red, blue = Image.new("RGB", (1, 1), "red"), Image.new("RGB", (1, 1), "blue")
    return encoded(red, kind, save_all=True, append_images=[blue], **options)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        pytest.param(pixel("L", 77), (77, 77, 77), id="grey"),
        pytest.param(pixel("1", 1), (255, 255, 255), id="one bit"),
        pytest.param(grey16(0x8080), (128, 128, 128), id="16-bit grey"),
        pytest.param(grey16(0xFFFF), (255, 255, 255), id="16-bit white"),
        pytest.param(grey16(300), (1, 1, 1), id="16-bit dark: scaled, not clipped"),
        pytest.param(png(1, 1, b"\0\x80\x00\x40\x00\xff\xff", depth=16), (128, 64, 255), id="16-bit rgb"),
        pytest.param(
            png(1, 1, b"\0\x01\x2c", depth=16, colour=0, extra=transparency(b"\x01\x2c")),
            (255, 255, 255),
            id="16-bit grey, that level transparent",
        ),
        pytest.param(
            png(1, 1, b"\0\x0a\x0b\x0c", extra=transparency(b"\0\x0a\0\x0b\0\x0c")),
            (255, 255, 255),
            id="rgb, that colour transparent",
        ),
        pytest.param(pixel("RGBA", (200, 0, 0, 0)), (255, 255, 255), id="transparent is white"),
        pytest.param(pixel("RGBA", (255, 0, 0, 51)), (255, 204, 204), id="a fifth of red on white"),
        pytest.param(pixel("LA", (0, 51)), (204, 204, 204), id="grey with alpha"),
        pytest.param(
            png(1, 1, b"\0\0\0\x33\x33", depth=16, colour=4), (204, 204, 204), id="16-bit grey with alpha"
        ),
        pytest.param(
            png(1, 1, b"\0\xff\xff\0\0\0\0\x33\x33", depth=16, colour=6), (255, 204, 204), id="16-bit alpha"
        ),
        pytest.param(
            png(1, 1, b"\0\1", colour=3, extra=chunk(b"PLTE", bytes(6)) + transparency(b"\xff\x33")),
            (204, 204, 204),
            id="palette with alpha",
        ),
        pytest.param(
            png(1, 1, b"\0\1", colour=3, extra=chunk(b"PLTE", bytes(6)) + transparency(b"\xff\0")),
            (255, 255, 255),
            id="palette with a transparent colour",
        ),
        pytest.param(bmp_runs(1, 1, b"\1\xc8\0\1"), (200, 0, 0), id="run-length coded bmp"),
        pytest.param(red_then_blue("WEBP", lossless=True), (255, 0, 0), id="animated webp: first frame"),
        pytest.param(red_then_blue("PNG"), (255, 0, 0), id="animated png: first frame"),
        pytest.param(red_then_blue("GIF"), (255, 0, 0), id="animated gif: first frame"),
        pytest.param(red_then_blue("TIFF"), (255, 0, 0), id="tiff of two pages: the first"),
        pytest.param(
            encoded(Image.new("P", (1, 1), 3), "GIF", transparency=3), (255, 255, 255), id="transparent gif"
        ),
        pytest.param(encoded(Image.new("1", (1, 1), 1), "TIFF"), (255, 255, 255), id="tiff of one bit"),
        pytest.param(
            encoded(Image.new("1", (1, 1), 1), "TIFF", compression="group4"), (255, 255, 255), id="fax"
        ),
        pytest.param(
            encoded(Image.fromarray(np.array([[0x8080]], np.uint16)), "TIFF"),
            (128, 128, 128),
            id="tiff of 16 bits",
        ),
        pytest.param(grey_tiff(1, 1, ">"), (100, 100, 100), id="big-endian tiff"),
        pytest.param(grey_tiff(1, 1), (100, 100, 100), id="little-endian tiff"),
    ],
)
def test_one_pixel(data: bytes, expected: tuple[int, int, int]) -> None:
    assert decode(data).tolist() == [[list(expected)]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_exif_orientation_is_applied(orientation: int, kind: str) -> None:
    undo = {2: "FLIP_LEFT_RIGHT", 3: "ROTATE_180", 4: "FLIP_TOP_BOTTOM", 5: "TRANSPOSE"}
    undo |= {6: "ROTATE_90", 7: "TRANSVERSE", 8: "ROTATE_270"}
    stored = corners()
    if orientation in undo:
        stored = stored.transpose(Image.Transpose[undo[orientation]])
    exif = Image.Exif()
    exif[0x0112] = orientation
    image = decode(encoded(stored, kind, quality=95, exif=exif))
    assert image.shape == (32, 48, 3)
    quarters = [image[8, 12], image[8, 36], image[24, 12], image[24, 36]]
    expected = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)]
    assert np.abs(np.array(quarters, int) - expected).max() <= 30  # chroma of JPEG and WebP is coarse


ROTATED = (0x0112, 3, 1)


@pytest.mark.parametrize(
    ("block", "turned"),
    [
        pytest.param(exif([(*ROTATED, b"\6\0\0\0")]), True, id="little-endian"),
        pytest.param(exif([(*ROTATED, b"\0\6\0\0")], ">"), True, id="big-endian"),
        pytest.param(exif([(0x0112, 4, 1, b"\0\0\0\6")], ">"), True, id="as a long number"),
        pytest.param(exif([(1, 2, 9, bytes(4)), (*ROTATED, b"\6\0\0\0")]), True, id="not the first"),
        pytest.param(exif([(*ROTATED, b"\x09\0\0\0")]), False, id="nine is none"),
        pytest.param(exif([(*ROTATED, b"\0\0\0\0")]), False, id="nor is zero"),
        pytest.param(exif([(*ROTATED, b"\6\0\0\0")])[:16], False, id="cut off"),
        pytest.param(b"II*\0" + b"\xff" * 4, False, id="a directory outside"),
        pytest.param(b"II*\0\4\0\0\0", False, id="a directory over its own offset"),
        pytest.param(b"", False, id="empty"),
        pytest.param(b"no TIFF at all", False, id="something else"),
    ],
)
def test_orientations_as_they_are_written(block: bytes, turned: bool) -> None:
    shape = (48, 32, 3) if turned else (32, 48, 3)
    assert decode(PNG[:33] + chunk(b"eXIf", block) + PNG[33:]).shape == shape
    assert decode(JPEG[:2] + segment(0xE1, b"Exif\0\0" + block) + JPEG[2:]).shape == shape


def test_unreadable_exif_does_not_cost_the_picture() -> None:
    data = encoded(corners(), "PNG", exif=b"Exif\0\0MM\0\x2a\xff\xff\xff\xff")
    assert np.array_equal(decode(data), np.asarray(corners()))


WEBP_BOMB = b"RIFF\x1a\0\0\0WEBPVP8L\x0e\0\0\0/\xfe\xbf\xff\x0f\x07\x10\x11\xfd\x0fDD\xff\x03"


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"", "empty", id="nothing"),
        pytest.param(b"hello, this is no picture", "unsupported_format", id="text"),
        pytest.param(b"\xff", "unsupported_format", id="one byte"),
        pytest.param(b"II+\0" + TIFF[4:], "unsupported_format", id="bigtiff"),
        pytest.param(grey_tiff(t259=50_000), "unsupported_format", id="tiff, a rare compression"),
        pytest.param(grey_tiff(t259=6), "unsupported_format", id="tiff, jpeg of the old kind"),
        pytest.param(
            encoded(Image.new("F", (4, 4)), "TIFF"), "unsupported_format", id="tiff of real numbers"
        ),
        pytest.param(grey_tiff(60_000, 60_000, t279=5), "too_many_pixels", id="tiff bomb"),
        pytest.param(grey_tiff(70_000, 1, t279=5), "too_many_pixels", id="tiff far too wide"),
        pytest.param(grey_tiff(0, 1, t279=5), "unreadable", id="tiff of width zero"),
        pytest.param(
            grey_tiff(t322=60_000, t323=60_000, t324=8, t325=2), "unreadable", id="tiff of a huge tile"
        ),
        pytest.param(grey_tiff(t322=0, t323=1), "unreadable", id="tiff of a tile of no width"),
        pytest.param(tiff([(256, 4, 2), (257, 4, 2)]), "unreadable", id="tiff without pixels"),
        pytest.param(tiff([(256, 4, 2)] * 4097), "unreadable", id="tiff of four thousand entries"),
        pytest.param(
            tiff([(256, 4, 8)], after=bytes(600_000), count=100_000), "unreadable", id="tiff of many widths"
        ),
        pytest.param(TIFF[:-100], "truncated", id="tiff without its end"),
        pytest.param(grey_tiff(t273=1000), "truncated", id="tiff whose pixels are behind its end"),
        pytest.param(grey_tiff(t279=1000), "truncated", id="tiff with more bytes than there are"),
        pytest.param(TIFF[:6], "truncated", id="tiff of six bytes"),
        pytest.param(GIF[: len(GIF) // 2], "truncated", id="half a gif"),
        pytest.param(GIF[:8], "truncated", id="gif of eight bytes"),
        pytest.param(GIF[:13] + b";", "truncated", id="gif without its palette"),
        pytest.param(b"GIF89a\1\0\1\0\0\0\0;", "unreadable", id="gif without frames"),
        pytest.param(GIF[: GIF.index(b",", 13) + 5], "truncated", id="gif cut off in its first frame's head"),
        pytest.param(b"GIF89a" + b"\xff" * 4 + b"\0\0\0" + GIF[-30:], "unreadable", id="gif of nonsense"),
        pytest.param(GIF[:6] + b"\xff" * 4 + GIF[10:], "too_many_pixels", id="gif bomb"),
        pytest.param(encoded(noise(64, 64), "JPEG")[:-1500], "truncated", id="jpeg that lacks many rows"),
        pytest.param(encoded(noise(8, 8), "JPEG")[:-9], "truncated", id="jpeg that lacks all there is"),
        pytest.param(
            encoded(noise(64, 64), "JPEG", progressive=True)[:-2000],
            "truncated",
            id="progressive jpeg that lacks scans",
        ),
        pytest.param(b"%!PS-Adobe-3.0 EPSF-3.0", "unsupported_format", id="postscript"),
        pytest.param(png(60_000, 60_000, b"\0"), "too_many_pixels", id="png bomb"),
        pytest.param(WEBP_BOMB, "too_many_pixels", id="webp bomb: 268 megapixels in 34 bytes"),
        pytest.param(JPEG[: len(JPEG) // 2], "truncated", id="half a jpeg"),
        pytest.param(JPEG[:40], "truncated", id="a tenth of a jpeg's header"),
        pytest.param(PNG[: len(PNG) // 2], "truncated", id="half a png"),
        pytest.param(PNG[:20], "truncated", id="a png cut in its header"),
        pytest.param(WEBP[:-9], "truncated", id="webp without its end"),
        pytest.param(BMP[: len(BMP) // 2], "truncated", id="half a bmp"),
        pytest.param(b"BM", "truncated", id="bmp of two bytes"),
        pytest.param(png(0, 5, b""), "unreadable", id="png of width zero"),
        pytest.param(png(5, 0, b""), "unreadable", id="png of height zero"),
        pytest.param(PNG.replace(b"IDAT", b"IDXX"), "unreadable", id="png without pixels"),
        pytest.param(b"\xff\xd8\xff\xd9", "unreadable", id="jpeg of start and end only"),
        pytest.param(
            png(1, 65_536, bytes(2), 1, 0), "too_many_pixels", id="one pixel wide, and far too high"
        ),
        pytest.param(
            png(65_536, 1, bytes(2), 1, 0), "too_many_pixels", id="one pixel high, and far too wide"
        ),
        pytest.param(bmp_runs(1001, 1000, b"\0\1"), "too_many_pixels", id="too large a run-length coded bmp"),
        pytest.param(bmp_runs(9, 9, b"\1\1" * 2_000_000), "too_many_pixels", id="runs that lead nowhere"),
        pytest.param(bmp_runs(-9, 9, b"\0\1"), "too_many_pixels", id="bmp of negative width"),
    ],
)
def test_refused(data: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.code == code
    assert str(caught.value).endswith(".")


def animated(kind: str, frames: int) -> bytes:
    images = [Image.new("RGB", (4, 4), (2 * shade, 0, 0)) for shade in range(frames)]
    return encoded(images[0], kind, save_all=True, append_images=images[1:], lossless=True)


@pytest.mark.parametrize(
    ("data", "frames"),
    [
        pytest.param(PNG, 1, id="png"),
        pytest.param(JPEG, 1, id="jpeg"),
        pytest.param(WEBP, 1, id="webp"),
        pytest.param(BMP, 1, id="bmp"),
        pytest.param(animated("PNG", 2), 2, id="png of two"),
        pytest.param(animated("WEBP", 3), 3, id="webp of three"),
        pytest.param(GIF, 1, id="gif"),
        pytest.param(animated("GIF", 3), 3, id="gif of three"),
        pytest.param(animated("GIF", 100)[:-30], 99, id="the last of a hundred is cut off"),
        pytest.param(TIFF, 1, id="tiff"),
        pytest.param(animated("TIFF", 3), 3, id="tiff of three pages"),
        pytest.param(grey_tiff()[:118] + b"\x08\0\0\0" + bytes(9), 1, id="a page that follows itself"),
        pytest.param(animated("PNG", 100), 100, id="png of a hundred"),
        pytest.param(animated("PNG", 100)[:400], 100, id="the first is there, the others are cut off"),
        pytest.param(PNG[:33] + chunk(b"acTL", bytes(8)) + PNG[33:], 1, id="an animation of none"),
        pytest.param(
            PNG[:33] + chunk(b"acTL", b"\x7f" * 8) + PNG[33:], 0x7F7F7F7F, id="as it says, not as it is"
        ),
    ],
)
def test_frames_are_counted(data: bytes, frames: int, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(data)
    assert read(data).frames == read_file(path).frames == frames


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(160, 160), (153, 97), (8, 8)], ids=str)
def test_of_a_jpeg_nothing_but_its_end_may_be_missing(
    size: tuple[int, int], subsampling: int, *, progressive: bool
) -> None:
    image = noise(*size)
    data = encoded(image, "JPEG", quality=90, subsampling=subsampling, progressive=progressive)
    for missing in (1, 2):
        assert np.array_equal(decode(data[:-missing]), decode(data)), missing
    for missing in (5, 6, 10, 100):
        with pytest.raises(ImageError) as caught:
            decode(data[:-missing])
        assert caught.value.code == "truncated", missing


def test_around_a_smaller_first_frame_there_is_nothing() -> None:
    """A screen of 3 x 2 whose first frame has one pixel, in the middle of the second row."""
    data = bytearray(encoded(Image.new("P", (1, 1), 0), "GIF"))
    data[6:10] = struct.pack("<HH", 3, 2)
    at = data.index(b",\0\0\0\0\1\0\1\0")
    data[at + 1 : at + 5] = struct.pack("<HH", 1, 1)
    inside = decode(encoded(Image.new("P", (1, 1), 0), "GIF"))[0, 0].tolist()
    expected = np.full((2, 3, 3), 255)
    expected[1, 1] = inside
    assert np.array_equal(decode(bytes(data)), expected)


TAGS = [(tag, 7, 1 << 20, struct.pack("<L", 8)) for tag in range(1000, 6000)]  # each points to a megabyte
TEXT = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1 << 20)))
HEAD, BODY = JPEG[:2], JPEG[2:]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(PNG[:33] + TEXT * 100 + PNG[33:], id="texts of a megabyte each"),
        pytest.param(PNG[:-12] + TEXT * 100 + PNG[-12:], id="the same behind the pixels"),
        pytest.param(
            PNG[:33] + chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(64 << 20))) + PNG[33:],
            id="colour profile",
        ),
        pytest.param(
            PNG[:33] + chunk(b"eXIf", exif(TAGS, tail=bytes(1 << 20))) + PNG[33:], id="exif of a png"
        ),
        pytest.param(HEAD + segment(0xE1, b"Exif\0\0" + exif(TAGS)) + BODY, id="exif of a jpeg"),
        pytest.param(
            HEAD + segment(0xE1, b"Exif\0\0" + bytes(60_000)) * 60 + BODY,
            id="exif in parts, each copying all",
        ),
        pytest.param(HEAD + segment(0xFE) * 60_000 + BODY, id="sixty thousand comments"),
        pytest.param(PNG[:33] + chunk(b"teSt") * 60_000 + PNG[33:], id="sixty thousand chunks"),
    ],
)
def test_what_is_no_pixel_costs_nothing(data: bytes) -> None:
    """Neither the picture nor memory beyond a copy of the file."""
    tracemalloc.start()
    try:
        image = decode(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert np.abs(image[4:12, 4:20].astype(int) - (255, 0, 0)).max() <= 6
    assert peak < 2 * len(data) + (1 << 20)


def scans(count: int) -> bytes:
    """A progressive JPEG whose last scan is there several times."""
    data = encoded(corners(), "JPEG", quality=95, progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:last] + data[last:-2] * (count - data.count(b"\xff\xda") + 1) + data[-2:]


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(scans(65), id="scans, each of which is a pass over all pixels"),
        pytest.param(HEAD + segment(0xFE) * 70_000 + BODY, id="comments"),
        pytest.param(PNG[:33] + chunk(b"IDAT") * 70_000 + PNG[33:], id="empty chunks of pixels"),
    ],
)
def test_more_parts_than_any_picture_has(data: bytes) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.code == "unreadable"


def test_as_many_scans_as_are_allowed() -> None:
    assert decode(scans(64)).shape == (32, 48, 3)


def test_large_pictures_are_copied_without_a_seam() -> None:
    """Their pixels are taken over band by band."""
    noise = np.random.default_rng(0).integers(0, 256, (523, 1021, 3), np.uint8)
    assert np.array_equal(decode(encoded(Image.fromarray(noise), "BMP")), noise)


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        pytest.param(Limits(), None, id="default"),
        pytest.param(Limits(max_bytes=len(PNG), max_pixels=48 * 32), None, id="exactly at both limits"),
        pytest.param(Limits(max_bytes=len(PNG) - 1), "too_many_bytes", id="a byte too many"),
        pytest.param(Limits(max_pixels=48 * 32 - 1), "too_many_pixels", id="a pixel too many"),
    ],
)
def test_limits_of_bytes_and_pixels(limits: Limits, code: str | None, tmp_path: Path) -> None:
    path = tmp_path / "corners.jpg"  # the name says JPEG, the content PNG: the content counts
    path.write_bytes(PNG)
    if code is None:
        assert np.array_equal(decode(PNG, limits), load(path, limits))
        return
    with pytest.raises(ImageError) as from_bytes:
        decode(PNG, limits)
    with pytest.raises(ImageError, match=path.name) as from_file:
        load(path, limits)
    assert from_bytes.value.code == from_file.value.code == code


def test_limits_above_pillows_own_are_ours_to_set(recwarn: pytest.WarningsRecorder) -> None:
    size = 9_600  # 92 megapixels: Image.open would warn
    rows = (b"\0" + bytes(size // 8)) * size
    image = decode(png(size, size, rows, depth=1, colour=0), Limits(max_pixels=100_000_000))
    assert image.shape == (size, size, 3)
    assert not recwarn.list


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load(tmp_path / "absent.jpg")


def test_threads_do_not_disturb_each_other() -> None:
    jobs = [(PNG, Limits()), (PNG, Limits(max_pixels=10)), (JPEG, Limits()), (PNG[:60], Limits())] * 50

    def outcome(job: tuple[bytes, Limits]) -> object:
        try:
            return decode(*job).tobytes()
        except ImageError as error:
            return error.code

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(outcome, jobs))
    assert results == [outcome(job) for job in jobs[:4]] * 50


def test_real_pictures(shared: Path) -> None:
    for path in sorted((shared / "voc100" / "JPEGImages").iterdir())[:20]:
        with Image.open(path) as image:
            width, height = image.size
        assert load(path).shape == (height, width, 3)


def test_a_damaged_tiff_is_refused_quietly(capfd: pytest.CaptureFixture[str]) -> None:
    """libtiff would print its errors to the standard error of C, past every log."""
    data = bytearray(encoded(noise(64, 64), "TIFF", compression="tiff_adobe_deflate"))
    data[20:2000] = bytes(1980)
    with pytest.raises(ImageError) as caught:
        decode(bytes(data))
    assert caught.value.code == "unreadable"
    assert capfd.readouterr() == ("", "")


def test_an_open_file_is_one_image(tmp_path: Path) -> None:
    """Though it is also iterated, line by line; from where it has been read to."""
    path = tmp_path / "corners.png"
    path.write_bytes(b"before" + encoded(corners(), "PNG"))
    for file in (path.open("rb"), BytesIO(path.read_bytes())):
        with file:
            file.seek(6)
            [alone], single = as_several(file)
            assert (alone, single) == (file, True)
            assert np.array_equal(as_rgb(file), np.asarray(corners()))
    with path.open(encoding="latin-1") as text, pytest.raises(ParameterError, match="mode 'rb'"):
        as_rgb(text)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "path",
    [pytest.param("a\0.png", id="a zero byte"), pytest.param("\ud800.png", id="half a sign of UTF-16")],
)
def test_a_path_that_no_file_can_have(path: str) -> None:
    for read_path in (as_rgb, load, read_file):
        with pytest.raises(ParameterError, match="no file can be called"):
            read_path(path)


def test_a_pillow_image_that_gives_no_pixels(tmp_path: Path) -> None:
    corners().save(tmp_path / "corners.png")
    closed = Image.open(tmp_path / "corners.png")
    closed.close()
    for image in (closed, Image.new("La", (4, 4))):  # of premultiplied grey Pillow makes nothing else
        with pytest.raises(ImageError, match="Pillow image cannot be read") as raised:
            as_rgb(image)
        assert raised.value.code == "unreadable"

"""Pictures of every kind come out as upright RGB; everything else is refused with its code."""

import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.errors import ImageError
from detector.images import Limits, decode, load


def encoded(picture: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def corners(width: int = 48, height: int = 32) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = 255, 0, 0
    pixels[: height // 2, width // 2 :] = 0, 255, 0
    pixels[height // 2 :, : width // 2] = 0, 0, 255
    pixels[height // 2 :, width // 2 :] = 255, 255, 255
    return Image.fromarray(pixels)


def png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 2, extra: bytes = b"") -> bytes:
    """A PNG written chunk by chunk, for headers that no encoder would write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + extra + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def transparency(value: bytes) -> bytes:
    body = b"tRNS" + value
    return struct.pack(">I", len(value)) + body + struct.pack(">I", zlib.crc32(body))


JPEG = encoded(corners(), "JPEG", quality=95)
PNG = encoded(corners(), "PNG")
WEBP = encoded(corners(), "WEBP", lossless=True)
BMP = encoded(corners(), "BMP")


@pytest.mark.parametrize(
    ("data", "tolerance"),
    [
        pytest.param(PNG, 0, id="png"),
        pytest.param(WEBP, 0, id="webp"),
        pytest.param(BMP, 0, id="bmp"),
        pytest.param(JPEG, 6, id="jpeg"),
        pytest.param(encoded(corners(), "JPEG", quality=95, progressive=True), 6, id="progressive jpeg"),
        pytest.param(encoded(corners().convert("CMYK"), "JPEG", quality=95), 6, id="cmyk jpeg"),
        pytest.param(encoded(corners().quantize(8), "PNG"), 0, id="palette"),
        pytest.param(encoded(corners().convert("RGBA"), "PNG"), 0, id="opaque alpha"),
        pytest.param(encoded(corners().convert("RGBA"), "BMP"), 0, id="bmp with alpha"),
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
        pytest.param(red_then_blue("WEBP", lossless=True), (255, 0, 0), id="animated webp: first frame"),
        pytest.param(red_then_blue("PNG"), (255, 0, 0), id="animated png: first frame"),
    ],
)
def test_one_pixel(data: bytes, expected: tuple[int, int, int]) -> None:
    assert decode(data).tolist() == [[list(expected)]]


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
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


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
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
        pytest.param(encoded(corners(), "GIF"), "unsupported_format", id="gif"),
        pytest.param(encoded(corners(), "TIFF"), "unsupported_format", id="tiff"),
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
    ],
)
def test_refused(data: bytes, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        decode(data)
    assert caught.value.code == code
    assert str(caught.value).endswith(".")


@pytest.mark.parametrize(
    ("limits", "code"),
    [
        pytest.param(Limits(), None, id="default"),
        pytest.param(Limits(max_bytes=len(PNG), max_pixels=48 * 32), None, id="exactly at both limits"),
        pytest.param(Limits(max_bytes=len(PNG) - 1), "too_many_bytes", id="a byte too many"),
        pytest.param(Limits(max_pixels=48 * 32 - 1), "too_many_pixels", id="a pixel too many"),
    ],
)
def test_limits(limits: Limits, code: str | None, tmp_path: Path) -> None:
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
        with Image.open(path) as picture:
            width, height = picture.size
        assert load(path).shape == (height, width, 3)

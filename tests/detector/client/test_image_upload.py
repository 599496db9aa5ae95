"""Images in every form become the bytes of a file, and nothing of their pixels is lost."""

import os
from io import BytesIO, StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from detector.client.image_upload import ImageUpload, is_several, read_upload
from detector.errors import ImageError, ParameterError
from detector.io.decoding import decode

PIXELS = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)


def png(pixels: np.ndarray = PIXELS) -> bytes:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "street é.png"
    path.write_bytes(png())
    return path


def test_files_travel_as_they_are(path: Path) -> None:
    for source in (path, str(path)):
        upload = read_upload(source)
        assert (upload.data, upload.name) == (png(), "street é.png")
    with path.open("rb") as file:
        assert read_upload(file) == read_upload(path)
    with os.fdopen(os.open(path, os.O_RDONLY), "rb") as nameless:
        assert read_upload(nameless).name is None


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview, BytesIO])
def test_bytes_have_no_name(kind: Any) -> None:
    upload = read_upload(kind(png()))
    assert (upload.data, upload.name) == (png(), None)


def test_a_file_of_another_library() -> None:
    """Of some, reading gives a bytearray or a view."""
    file = SimpleNamespace(read=lambda: bytearray(b"image"), name="a.png")
    assert read_upload(file) == ImageUpload(b"image", "a.png")


def test_a_name_that_is_no_text(tmp_path: Path) -> None:
    path = Path(f"{tmp_path}/a\udcff.png")
    path.write_bytes(b"image")
    assert read_upload(path).name == "a�.png"


@pytest.mark.parametrize(
    "source",
    [
        pytest.param(PIXELS, id="array"),
        pytest.param(PIXELS[::-1, ::-1][::-1, ::-1], id="an array of another layout"),
        pytest.param(Image.fromarray(PIXELS), id="Pillow"),
        pytest.param(Image.open(BytesIO(png())), id="Pillow, not loaded yet"),
    ],
)
def test_png_keeps_every_pixel(source: Any) -> None:
    assert np.array_equal(decode(read_upload(source).data), PIXELS)


def test_jpeg_is_smaller_and_near(pixels_of_a_photo: np.ndarray) -> None:
    exact, near = (read_upload(pixels_of_a_photo, kind).data for kind in ("png", "jpeg"))
    assert near[:2] == b"\xff\xd8"
    assert len(near) < len(exact) / 2
    difference = decode(near).astype(int) - pixels_of_a_photo
    assert np.abs(difference).mean() < 2


@pytest.fixture
def pixels_of_a_photo() -> np.ndarray:
    return decode((Path(__file__).parents[3] / "examples" / "cat.jpg").read_bytes())


def test_a_pillow_image_is_turned_upright() -> None:
    """As the library does with one: boxes are those of the upright image."""
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG", exif=exif)
    upright = decode(buffer.getvalue())
    assert upright.shape == (60, 40, 3)
    assert np.array_equal(decode(read_upload(Image.open(buffer)).data), upright)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        pytest.param(None, "got NoneType", id="nothing"),
        pytest.param(3, "got int", id="a number"),
        pytest.param(torch.zeros(3, 4, 4), r"tensor.permute\(1, 2, 0\)", id="a tensor"),
        pytest.param(PIXELS[..., 0], r"got uint8 \[40, 60\]", id="grey"),
        pytest.param(PIXELS[None], r"got uint8 \[1, 40, 60, 3\]", id="several in one array"),
        pytest.param(PIXELS.transpose(2, 0, 1), r"got uint8 \[3, 40, 60\]", id="channels first"),
        pytest.param(PIXELS / np.float32(255), "got float32", id="floats"),
        pytest.param(PIXELS[:0], r"got uint8 \[0, 60, 3\]", id="no pixels"),
        pytest.param(np.dstack([PIXELS, PIXELS[..., 0]]), "alpha channel", id="RGBA, with advice"),
        pytest.param(iter([PIXELS]), "several images are given as a list", id="a generator"),
        pytest.param("a\0b.jpg", "no file can be called", id="a path with a zero byte"),
        pytest.param("a\ud800b.jpg", "no file can be called", id="a path that is no text"),
        pytest.param(StringIO("text"), "mode 'rb'", id="a file of text"),
    ],
)
def test_what_is_no_image(source: Any, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        read_upload(source)


def test_a_way_to_encode_that_there_is_not() -> None:
    with pytest.raises(ParameterError, match="'png' or 'jpeg'"):
        read_upload(PIXELS, "webp")  # type: ignore[arg-type]


def test_a_jpeg_that_no_decoder_takes_is_not_begun(capfd: pytest.CaptureFixture[str]) -> None:
    long = np.zeros((1, 65_501, 3), np.uint8)
    with pytest.raises(ParameterError, match=r"65,500 pixels, got 65501 x 1: .*leave encoding='jpeg'"):
        read_upload(long, "jpeg")
    assert not any(capfd.readouterr()), "the encoder says nothing of its own"
    assert np.array_equal(decode(read_upload(long).data), long)


def test_a_pillow_image_that_was_closed() -> None:
    image = Image.open(BytesIO(png()))
    image.close()
    with pytest.raises(ImageError, match="closed"):
        read_upload(image)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_upload(tmp_path / "absent.jpg")


@pytest.mark.parametrize(
    ("images", "several"),
    [
        ([], True),
        ((b"a", b"b"), True),
        ("a.jpg", False),
        (Path("a.jpg"), False),
        (b"a", False),
        (bytearray(b"a"), False),
        (PIXELS, False),
        (BytesIO(), False),
    ],
)
def test_one_or_several(images: Any, several: bool) -> None:
    assert is_several(images) is several

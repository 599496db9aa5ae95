from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from detector.errors import ImageError
from detector.io.decoding import load
from detector.io.image_header import ImageHeader, read_header


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_as_the_picture_does(tmp_path: Path, orientation: int) -> None:
    """A white rectangle is where Pillow's own turning puts it."""
    stored = np.zeros((80, 100), np.uint8)
    stored[10:30, 20:70] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.png"
    Image.fromarray(stored).save(path, exif=exif)
    header = read_header(path)
    assert (header.width, header.height, header.orientation) == (100, 80, orientation)

    with Image.open(path) as image:
        upright = np.asarray(ImageOps.exif_transpose(image))
    rows, columns = np.nonzero(upright)
    expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert header.upright_size == upright.shape[::-1]
    assert header.upright(np.array([[20, 10, 70, 30]], np.float32)).tolist() == [expected]


XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6"/></rdf:RDF>'
    b"</x:xmpmeta>"
)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
@pytest.mark.parametrize("orientation", [1, 3, 6])
def test_the_header_says_what_decoding_does(tmp_path: Path, suffix: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (100, 80)).save(path, exif=exif)
    assert read_header(path).upright_size == load(path).shape[1::-1]
    assert read_header(path).orientation == orientation


def test_an_orientation_in_xmp_alone_turns_neither_boxes_nor_pixels(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.new("RGB", (100, 80)).save(path, xmp=XMP)
    assert read_header(path) == ImageHeader(100, 80)
    assert load(path).shape == (80, 100, 3)


def test_an_orientation_that_does_not_exist_is_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 77
    Image.new("RGB", (6, 4)).save(tmp_path / "a.jpg", exif=exif)
    assert read_header(tmp_path / "a.jpg") == ImageHeader(6, 4)


@pytest.mark.parametrize(
    ("content", "code"),
    [
        pytest.param(b"", "empty", id="zero bytes"),
        pytest.param(b"not a picture at all", "unreadable", id="text"),
        pytest.param(b"\xff\xd8\xff\xe0", "unreadable", id="JPEG cut off within its header"),
    ],
)
def test_no_picture(tmp_path: Path, content: bytes, code: str) -> None:
    path = tmp_path / "broken.jpg"
    path.write_bytes(content)
    with pytest.raises(ImageError, match=r"broken\.jpg") as caught:
        read_header(path)
    assert caught.value.code == code


def test_a_missing_file_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "absent.jpg")

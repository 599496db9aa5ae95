"""AVIF and HEIC, by plugins, for files that users name; not for the service."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pillow_heif
import pytest
from PIL import ExifTags, Image

from detector.errors import ImageError
from detector.io import plugins
from detector.io.decoding import Limits, decode, load, read

PIXELS = np.full((48, 80, 3), (200, 40, 40), np.uint8)
PIXELS[:, 40:] = (40, 40, 200)


def encoded(kind: str, orientation: int = 1) -> bytes:
    image, file = Image.fromarray(PIXELS), BytesIO()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    if kind == plugins.AVIF:
        image.save(file, "AVIF", quality=90, exif=exif)
    else:
        pillow_heif.from_pillow(image).save(file, quality=90, exif=exif.tobytes())
    return file.getvalue()


KINDS = pytest.mark.parametrize("kind", [plugins.AVIF, plugins.HEIC])


@KINDS
def test_further_formats_are_decoded(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    path.write_bytes(encoded(kind))
    for found in (decode(path.read_bytes()), load(path)):
        assert found.shape == PIXELS.shape
        assert np.abs(found.astype(int) - PIXELS).mean() < 6


@KINDS
def test_turned_upright(kind: str) -> None:
    found = decode(encoded(kind, orientation=6))
    assert found.shape == (80, 48, 3)
    assert found[0, 24, 0] > 150, "the left half lies above"
    assert found[-1, 24, 2] > 150


@KINDS
def test_the_service_does_not_take_them(kind: str) -> None:
    with pytest.raises(ImageError, match="not a picture in a supported format"):
        read(encoded(kind))


@KINDS
@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        pytest.param(lambda data: data[:60], "unreadable", id="its head alone"),
        pytest.param(lambda data: data[: len(data) // 2], "unreadable", id="half of it"),
        pytest.param(lambda data: data[:40] + bytes(len(data) - 40), "unreadable", id="zeros"),
    ],
)
def test_broken_files(kind: str, spoil, code: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ImageError) as caught:
        decode(spoil(encoded(kind)))
    assert caught.value.code in (code, "truncated")


@KINDS
def test_size_is_looked_at_before_pixels(kind: str) -> None:
    with pytest.raises(ImageError, match="more than the 100 allowed"):
        read(encoded(kind), Limits(max_pixels=100), ask_plugins=True)


@KINDS
def test_without_the_plugin_is_said_what_to_do(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugins, "is_installed", lambda kind: False)
    with pytest.raises(ImageError, match=f"This is {kind}, whose decoder is not installed"):
        decode(encoded(kind))


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\0\0\0\x18ftypavif\0\0\0\0mif1miaf", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif", "AVIF"),
        (b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic", "HEIC"),
        (b"\0\0\0\x18ftypheix\0\0\0\0mif1miaf", "HEIC"),
        (b"\0\0\0\x18ftypisom\0\0\0\0mp41avc1", None),
        (b"\0\0\0\x18ftyp", None),
        (b"", None),
    ],
)
def test_told_by_the_first_box(head: bytes, kind: str | None) -> None:
    assert plugins.kind_of(head) == kind

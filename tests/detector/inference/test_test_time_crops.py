"""The crops that the network sees, beside a slow reference that does what the papers write, with pixels.

The reference resizes the picture and cuts; the classifier samples windows of the picture, once. They differ
by what interpolating twice and whole pixels do: the tolerances say by how much.
"""

import math
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from detector.inference.classifier import Classifier
from detector.inference.executor import ForwardRequest
from detector.inference.test_time_crops import COUNTS, SCALES, crop_windows
from detector.io.decoding import load
from detector.models.checkpoint import Checkpoint

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
SIX = ("top left", "top right", "bottom left", "bottom right", "centre", "whole square")


class SeenError(Exception):
    """Ends a classification before the network runs."""


def crops_seen(checkpoint: Checkpoint, image: NDArray[np.uint8], count: int) -> NDArray[np.float32]:
    """What the network is given, as colours 0..255, [K,224,224,3]."""
    seen = []

    def executor(request: ForwardRequest) -> dict[str, object]:
        seen.append(np.asarray(request.make_crops(0, request.rows)))
        raise SeenError

    with pytest.raises(SeenError):
        Classifier(checkpoint, device="cpu", precision="float32").probabilities(
            image, crops=count, executor=executor
        )
    preprocessing = checkpoint.metadata.preprocessing
    [crops] = seen
    return crops.transpose(0, 2, 3, 1) * preprocessing.std + preprocessing.mean


def resized(image: NDArray[np.uint8], columns: int, rows: int) -> NDArray[np.uint8]:
    """By bilinear interpolation; along a side that shrinks to less than half by the mean of areas.

    A side at a time: where one shrinks and the other grows, OpenCV's mean of areas repeats pixels of the
    latter.
    """
    for size in ((columns, image.shape[0]), (columns, rows)):
        shrinks = size[0] < image.shape[1] / 2 or size[1] < image.shape[0] / 2
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
    return image


def shorter_side_at(image: NDArray[np.uint8], scale: int) -> NDArray[np.uint8]:
    height, width = image.shape[:2]
    short = min(height, width)
    return resized(image, round(width * scale / short), round(height * scale / short))


def five_of(square: NDArray[np.uint8]) -> list[NDArray[np.uint8]]:
    """The corners of a square and its centre, 224x224 each."""
    last = len(square) - 224
    starts = [(0, 0), (0, last), (last, 0), (last, last), (last // 2, last // 2)]
    return [square[y : y + 224, x : x + 224] for y, x in starts]


def with_mirrored(crops: list[NDArray[np.uint8]]) -> NDArray[np.uint8]:
    return np.stack([*crops, *[crop[:, ::-1] for crop in crops]])


def ten_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The ten of Krizhevsky et al. 2012, section 4.1: "five 224x224 patches (the four corner patches and the
    center patch) as well as their horizontal reflections (hence ten patches in all)", of the whole picture
    stretched to 256x256, as the BVLC weights were trained."""
    return with_mirrored(five_of(resized(image, 256, 256)))


def all_of(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """arXiv 1409.4842, section 7: "we resize the image to 4 scales where the shorter dimension (height or
    width) is 256, 288, 320 and 352 respectively, take the left, center and right square of these resized
    images (in the case of portrait images, we take the top, center and bottom squares). For each square, we
    then take the 4 corners and the center 224x224 crop as well as the square resized to 224x224, and their
    mirrored versions."."""
    crops = []
    for scale in (256, 288, 320, 352):
        at_scale = shorter_side_at(image, scale)
        height, width = at_scale.shape[:2]
        for part in range(3):
            y, x = (height - scale) * part // 2, (width - scale) * part // 2
            square = at_scale[y : y + scale, x : x + scale]
            crops += [*five_of(square), resized(square, 224, 224)]
    return with_mirrored(crops)


REFERENCE = {10: ten_of, 144: all_of}


def smooth(width: int, height: int) -> NDArray[np.uint8]:
    """Colours that change slowly, and differently along each side: interpolation hardly matters."""
    x, y = np.linspace(0, 1, width), np.linspace(0, 1, height)
    red = 200 * x[None, :] + 0 * y[:, None]
    green = 200 * y[:, None] + 0 * x[None, :]
    blue = 100 + 60 * np.sin(5 * x[None, :]) * np.cos(4 * y[:, None])
    return np.stack([red, green, blue], axis=2).round().astype(np.uint8)


def cat() -> NDArray[np.uint8]:
    """A photograph of 450 x 300: whole pixels at all scales, so that no square is moved by rounding."""
    return np.ascontiguousarray(load(EXAMPLES / "cat.jpg")[:, :450])


# Mean and largest difference of colours, of 255, less a rim of half a pixel of the picture: there the
# classifier blends with the mean colour, where resizing repeats the outermost pixel.
PICTURES: dict[str, tuple[Callable[[], NDArray[np.uint8]], float, float]] = {
    "landscape": (lambda: smooth(500, 375), 0.5, 3),
    "portrait": (lambda: smooth(375, 500), 0.5, 3),
    "square": (lambda: smooth(300, 300), 0.5, 3),
    "smaller than the scales": (lambda: smooth(160, 120), 0.5, 3),
    "larger than any scale": (lambda: smooth(3000, 2000), 0.5, 3),
    "a strip": (lambda: smooth(1000, 40), 0.5, 3),
    "a photograph": (cat, 2, 60),
    "a photograph, upright": (lambda: np.ascontiguousarray(cat().transpose(1, 0, 2)), 2, 60),
}


@pytest.mark.parametrize("count", [10, 144])
@pytest.mark.parametrize(("make", "mean", "most"), PICTURES.values(), ids=list(PICTURES))
def test_the_network_sees_what_the_papers_cut(
    untrained: Checkpoint, make: Callable[[], NDArray[np.uint8]], mean: float, most: float, count: int
) -> None:
    image = make()
    expected = REFERENCE[count](image)
    seen = crops_seen(untrained, image, count)
    assert seen.shape == expected.shape == (count, 224, 224, 3)
    rim = max(1, math.ceil(max(SCALES) / min(image.shape[:2]) / 2))
    apart = np.abs(seen - expected)[:, rim:-rim, rim:-rim]
    of_crops = apart.mean(axis=(1, 2, 3))  # [K]
    assert of_crops.max() < mean  # squares seen whole: the reference interpolates them twice
    cut = np.arange(count) % 6 != 5 if count == 144 else np.full(count, True)
    assert of_crops[cut].max() < 0.5
    assert apart.max() < most


def test_a_picture_at_a_scale_is_cut_to_the_pixel(untrained: Checkpoint) -> None:
    """At 256x256 nothing is resized for ten crops, nor at a shorter side of 256 for the five of each square
    of the first of four scales: not a colour differs."""
    noise = np.random.default_rng(0).integers(0, 256, (256, 400, 3), dtype=np.uint8)
    square = noise[:, :256]
    assert np.abs(crops_seen(untrained, square, 10) - ten_of(square)).max() < 0.01
    seen, expected = crops_seen(untrained, noise, 144), all_of(noise)
    cut = [number for number in range(18) if SIX[number % 6] != "whole square"]
    for first in (0, 72):  # as they are, and mirrored
        rows = [first + number for number in cut]
        assert np.abs(seen[rows] - expected[rows]).max() < 0.01


@pytest.mark.parametrize("count", [10, 144])
def test_each_crop_is_nearest_to_its_own_reference(untrained: Checkpoint, count: int) -> None:
    """The order, and that the tolerances above tell one crop from another. A square seen whole is the same at
    all four scales: of these any may be the nearest."""
    seen, expected = (
        small(crops) for crops in (crops_seen(untrained, cat(), count), REFERENCE[count](cat()))
    )
    nearest = np.abs(seen[:, None] - expected[None]).mean(axis=(2, 3, 4)).argmin(axis=1)  # of each seen
    for number, found in enumerate(nearest.tolist()):
        if count == 144 and SIX[number % 6] == "whole square":
            assert (found // 72, found % 18) == (number // 72, number % 18)
        else:
            assert found == number


def small(crops: NDArray[np.generic]) -> NDArray[np.float32]:
    """Crops [K,224,224,3] reduced to 28 pixels a side: only what lies where is left."""
    return np.stack([cv2.resize(np.float32(crop), (28, 28), interpolation=cv2.INTER_AREA) for crop in crops])


@pytest.mark.parametrize(("width", "height"), [(1, 50), (50, 1), (1, 1), (2, 3)])
@pytest.mark.parametrize("count", COUNTS)
def test_tiny_pictures(untrained: Checkpoint, width: int, height: int, count: int) -> None:
    """Every crop is there. The middle of each that shows the middle of a picture's shorter side has its
    colour; towards the edge of a picture of one pixel across, colours blend with the mean colour."""
    image = np.full((height, width, 3), (250, 10, 130), np.uint8)
    seen = crops_seen(untrained, image, count)
    assert seen.shape == (count, 224, 224, 3)
    assert np.isfinite(seen).all()
    six = np.arange(count) % {1: 1, 10: 5, 144: 6}[count]
    central = six >= {1: 0, 10: 4, 144: 4}[count]
    assert np.abs(seen[central, 112, 112] - (250, 10, 130)).max() < 3


@pytest.mark.parametrize(
    ("width", "height", "along"),
    [(500, 375, 0), (375, 500, 1), (50, 1, 0), (1, 50, 1), (300, 300, 0)],
    ids=["landscape", "portrait", "one pixel high", "one pixel wide", "square"],
)
def test_144_windows(width: int, height: int, along: int) -> None:
    """Four scales x three squares x six crops x two flips, in this order, none left out."""
    windows, mirrored = (values := crop_windows(width, height, 144)).windows, values.mirrored
    assert mirrored.tolist() == [False] * 72 + [True] * 72
    assert np.array_equal(windows[:72], windows[72:])
    side, longer = min(width, height), max(width, height)
    by_place = windows[:72].reshape(len(SCALES), 3, 6, 4)
    for scale, squares in zip(SCALES, by_place, strict=True):
        for start, six in zip((0, (longer - side) / 2, longer - side), squares, strict=True):
            x, y = (start, 0) if along == 0 else (0, start)
            assert np.allclose(six[5], [x, y, x + side, y + side], atol=1e-4)
            cut, rest = side * 224 / scale, side * (scale - 224) / scale
            places = [(0, 0), (rest, 0), (0, rest), (rest, rest), (rest / 2, rest / 2)]
            for window, (right, down) in zip(six[:5], places, strict=True):
                expected = [x + right, y + down, x + right + cut, y + down + cut]
                assert np.allclose(window, expected, atol=1e-4)


@pytest.mark.parametrize(
    ("width", "height", "first"),
    [
        pytest.param(512, 256, [0, 0, 448, 224], id="landscape: stretched"),
        pytest.param(256, 512, [0, 0, 224, 448], id="portrait"),
        pytest.param(256, 256, [0, 0, 224, 224], id="square"),
    ],
)
def test_ten_windows_are_of_the_stretched_picture(width: int, height: int, first: list[int]) -> None:
    crops = crop_windows(width, height, 10)
    assert crops.windows[0].tolist() == first
    assert crops.mirrored.tolist() == [False] * 5 + [True] * 5
    assert np.array_equal(crops.windows[:5], crops.windows[5:])

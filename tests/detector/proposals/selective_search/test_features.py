"""Sizes, boxes, histograms and neighbours against a count by hand, texture against plain derivatives."""

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.proposals.selective_search.features import (
    COLOUR_BINS,
    ORIENTATIONS,
    TEXTURE_BINS,
    describe,
    slopes,
)
from tests.detector.proposals.odd_images import ODD_IMAGES, ImageInput, dense_textures, planes_of

GAUSSIAN = [1, 14, 62, 102, 62, 14, 1]
DERIVATIVE = [-3, -28, -62, 0, 62, 28, 3]


def plain_textures(image: ImageInput) -> NDArray[np.int64]:
    """Bins [H,W,8 C] of the derivatives of a picture [H,W,C], pixel by pixel."""
    height, width, channels = image.shape
    bins = np.zeros((height, width, channels * ORIENTATIONS), np.int64)
    padded = np.pad(image.astype(np.int64), ((3, 3), (3, 3), (0, 0)), mode="edge")
    # In the number format of the real one, as a slope may be on the edge of a bin.
    unit = np.float32(TEXTURE_BINS / (93 * 255 / 256 * 65536))
    diagonal = np.float32(0.5**0.5)
    for y, x, channel in np.ndindex(height, width, channels):
        window = padded[y : y + 7, x : x + 7, channel]
        dx = np.float32((np.outer(GAUSSIAN, DERIVATIVE) * window).sum()) * unit
        dy = np.float32((np.outer(DERIVATIVE, GAUSSIAN) * window).sum()) * unit
        halves = (dx, (dx + dy) * diagonal, dy, (dy - dx) * diagonal)
        for orientation, slope in enumerate((*halves, *(-half for half in halves))):
            bin_ = min(int(max(slope, 0)), TEXTURE_BINS - 1)
            bins[y, x, channel * ORIENTATIONS + orientation] = bin_
    return bins


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_textures_are_plain_derivatives(kind: str, seed: int) -> None:
    image = ODD_IMAGES[kind](seed)
    assert (dense_textures(slopes(planes_of(image)), image.shape) == plain_textures(image)).all()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_features_are_a_plain_count(kind: str, seed: int, channels: int) -> None:
    pixels = ODD_IMAGES[kind](seed)[..., :channels]
    random = np.random.default_rng(seed)
    _, dense = np.unique(random.integers(0, 5, pixels.shape[:2]), return_inverse=True)
    labels = dense.reshape(pixels.shape[:2]).astype(np.int32)
    count = int(labels.max()) + 1
    planes = planes_of(pixels)
    steep = slopes(planes)
    bins = dense_textures(steep, pixels.shape)

    segments = describe(planes, steep, labels, count)

    assert len(segments) == count
    for label in range(count):
        ys, xs = np.nonzero(labels == label)
        assert segments.sizes[label] == len(ys)
        assert segments.boxes[label].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        for channel, histogram in enumerate(segments.colours[label].reshape(channels, COLOUR_BINS)):
            values = pixels[ys, xs, channel].astype(int) * COLOUR_BINS // 256
            assert histogram.tolist() == np.bincount(values, minlength=COLOUR_BINS).tolist()
        slots = segments.textures[label].reshape(channels * ORIENTATIONS, TEXTURE_BINS)
        for slot, histogram in enumerate(slots):
            assert histogram.tolist() == np.bincount(bins[ys, xs, slot], minlength=TEXTURE_BINS).tolist()
    touching = {
        (min(a, b), max(a, b))
        for first, second in ((labels[:, :-1], labels[:, 1:]), (labels[:-1], labels[1:]))
        for a, b in zip(first.ravel().tolist(), second.ravel().tolist(), strict=True)
        if a != b
    }
    assert [tuple(pair) for pair in segments.neighbours.tolist()] == sorted(touching)


@pytest.mark.parametrize(
    ("across", "down", "orientation"),
    [(1, 0, 0), (1, 1, 1), (0, 1, 2), (-1, 1, 3), (-1, 0, 4), (-1, -1, 5), (0, -1, 6), (1, -1, 7)],
)
def test_a_slope_is_strongest_in_its_own_orientation(across: int, down: int, orientation: int) -> None:
    y, x = np.mgrid[-3:4, -3:4]
    # A step in the middle, as steep as a picture can be.
    image = np.where(across * x + down * y > 0, 255, 0).astype(np.uint8)
    image = np.dstack([image] * 3)
    bins = dense_textures(slopes(planes_of(image)), image.shape)[3, 3].reshape(3, ORIENTATIONS)
    assert (bins.argmax(axis=1) == orientation).all()
    opposite = (orientation + 4) % ORIENTATIONS
    assert (bins[:, [opposite - 1, opposite, (opposite + 1) % ORIENTATIONS]] == 0).all()
    assert (bins[:, orientation] >= TEXTURE_BINS - 3).all()


def test_a_flat_picture_has_no_slopes() -> None:
    assert len(slopes(np.full((3, 9, 7), 200, np.uint8)).pixel) == 0


def test_slopes_are_kept_line_by_line() -> None:
    """Counting walks through memory in one direction, channel by channel."""
    steep = slopes(planes_of(ODD_IMAGES["patches"](1)))
    channel = steep.bin // (ORIENTATIONS * TEXTURE_BINS)
    assert (np.diff(channel) >= 0).all()
    for number in range(3):
        assert (np.diff(steep.pixel[channel == number]) >= 0).all()

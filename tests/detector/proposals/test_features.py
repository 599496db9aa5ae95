"""Sizes, boxes, histograms and neighbours against a count by hand; texture by slopes of known direction."""

import numpy as np
import pytest

from detector.proposals.features import COLOUR_BINS, ORIENTATIONS, TEXTURE_BINS, describe, texture_bins


@pytest.mark.parametrize("seed", range(8))
def test_features_are_a_plain_count(seed: int) -> None:
    random = np.random.default_rng(seed)
    height, width = random.integers(1, 15, 2)
    pixels = random.integers(0, 256, (height, width, 3)).astype(np.uint8)
    _, dense = np.unique(random.integers(0, 5, (height, width)), return_inverse=True)
    labels = dense.reshape(height, width).astype(np.int32)
    count = int(labels.max()) + 1
    bins = texture_bins(pixels)

    segments = describe(pixels, bins, labels, count)

    assert len(segments) == count
    for label in range(count):
        ys, xs = np.nonzero(labels == label)
        assert segments.sizes[label] == len(ys)
        assert segments.boxes[label].tolist() == [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
        for channel, histogram in enumerate(segments.colours[label].reshape(3, COLOUR_BINS)):
            values = pixels[ys, xs, channel].astype(int) * COLOUR_BINS // 256
            assert histogram.tolist() == np.bincount(values, minlength=COLOUR_BINS).tolist()
        slots = segments.textures[label].reshape(3 * ORIENTATIONS, TEXTURE_BINS)
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
    bins = texture_bins(np.dstack([image] * 3))[3, 3].reshape(3, ORIENTATIONS)
    assert (bins.argmax(axis=1) == orientation).all()
    opposite = (orientation + 4) % ORIENTATIONS
    assert (bins[:, [opposite - 1, opposite, (opposite + 1) % ORIENTATIONS]] == 0).all()
    assert (bins[:, orientation] >= TEXTURE_BINS - 3).all()


def test_a_flat_picture_has_no_slopes() -> None:
    assert not texture_bins(np.full((9, 7, 3), 200, np.uint8)).any()

"""The grouping against a slow one written from the paper: sets of pixels, whole numbers, no shortcuts.

Hundreds of small pictures of every odd kind, with every strategy.
"""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.proposals.selective_search.features import COLOUR_BINS, Segments, describe, slopes
from detector.proposals.selective_search.grouping import ONE, Strategy, group
from detector.proposals.selective_search.segmentation import pixel_graph, superpixels
from tests.detector.proposals.odd_images import ODD_IMAGES, dense_textures, patches, planes_of

STRATEGIES = {
    "colour, texture, size, fill": Strategy(colour=True, texture=True, size=True, fill=True),
    "texture, size, fill": Strategy(texture=True, size=True, fill=True),
    "colour": Strategy(colour=True),
    "texture": Strategy(texture=True),
    "size": Strategy(size=True),
    "fill": Strategy(fill=True),
}


Bins = NDArray[np.int64]


class PlainSegment:
    """Whatever the paper knows of a segment, worked out from its pixels each time."""

    def __init__(self, pixels: set[tuple[int, int]], colour: Bins, texture: Bins) -> None:
        self.pixels = pixels
        self.colour = colour
        self.texture = texture

    def joined(self, other: "PlainSegment") -> "PlainSegment":
        return PlainSegment(self.pixels | other.pixels, self.colour, self.texture)

    def box(self) -> tuple[int, int, int, int]:
        ys, xs = zip(*self.pixels, strict=True)
        return min(xs), min(ys), max(xs) + 1, max(ys) + 1

    def shares(self, bins: Bins) -> list[int]:
        """The histogram of all channels of bins [H,W,channels], in parts of ONE."""
        counts: dict[tuple[int, int], int] = {}
        for y, x in self.pixels:
            for channel, value in enumerate(bins[y, x].tolist()):
                counts[channel, value] = counts.get((channel, value), 0) + 1
        total = sum(counts.values())
        return [
            counts.get((channel, value), 0) * ONE // total
            for channel in range(bins.shape[2])
            for value in range(COLOUR_BINS)
        ]

    def touches(self, other: "PlainSegment") -> bool:
        return any(
            (y + dy, x + dx) in other.pixels
            for y, x in self.pixels
            for dy, dx in ((0, 1), (1, 0), (0, -1), (-1, 0))
        )


def plain_similarity(a: PlainSegment, b: PlainSegment, strategy: Strategy) -> int:
    area = a.colour.shape[0] * a.colour.shape[1]
    joint = len(a.pixels) + len(b.pixels)
    x1, y1, x2, y2 = a.joined(b).box()
    value = 0
    if strategy.colour:
        value += sum(map(min, a.shares(a.colour), b.shares(b.colour)))
    if strategy.texture:
        value += sum(map(min, a.shares(a.texture), b.shares(b.texture)))
    if strategy.size:
        value += ONE - joint * ONE // area
    if strategy.fill:
        value += ONE - ((x2 - x1) * (y2 - y1) - joint) * ONE // area
    return value


def plain_group(
    image: NDArray[np.uint8], labels: NDArray[np.int32], count: int, strategy: Strategy
) -> tuple[list[tuple[int, int]], list[tuple[int, int, int, int]]]:
    """Merges, and the boxes of all segments."""
    colour = image.astype(np.int64) * COLOUR_BINS // 256
    texture = dense_textures(slopes(planes_of(image)), image.shape)
    segments = [
        PlainSegment(set(zip(*map(np.ndarray.tolist, np.nonzero(labels == i)), strict=True)), colour, texture)
        for i in range(count)
    ]
    alive = set(range(count))
    merges: list[tuple[int, int]] = []
    known: dict[tuple[int, int], int | None] = {}  # no similarity where two segments do not touch
    while len(alive) > 1:
        for pair in itertools.combinations(sorted(alive), 2):
            a, b = segments[pair[0]], segments[pair[1]]
            if pair not in known:
                known[pair] = plain_similarity(a, b, strategy) if a.touches(b) else None
        live = [
            (similarity, -pair[0], -pair[1])
            for pair, similarity in known.items()
            if similarity is not None and alive.issuperset(pair)
        ]
        _, low, high = max(live)
        best = (-low, -high)
        merges.append(best)
        alive -= set(best)
        alive.add(len(segments))
        segments.append(segments[best[0]].joined(segments[best[1]]))
    return merges, [segment.box() for segment in segments]


def described(image: NDArray[np.uint8], k: float, min_size: int) -> tuple[Segments, NDArray[np.int32]]:
    """A picture's superpixels, and their labels."""
    planes = planes_of(image)
    labels, count = superpixels(pixel_graph(planes), k, min_size)
    return describe(planes, slopes(planes), labels, count), labels


@pytest.mark.parametrize("name", STRATEGIES)
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_merges_are_those_of_the_paper(kind: str, seed: int, name: str) -> None:
    image = ODD_IMAGES[kind](seed)
    image = image[..., :1] if seed == 4 else image
    segments, labels = described(image, 1 + 16 * seed, 4)

    hierarchy = group(segments, STRATEGIES[name])

    merges, boxes = plain_group(image, labels, len(segments), STRATEGIES[name])
    assert [tuple(pair) for pair in hierarchy.merges.tolist()] == merges
    assert [tuple(box) for box in hierarchy.boxes.tolist()] == boxes


def test_islands_in_a_sea() -> None:
    """One segment has all others as neighbours, and some of these touch: each pair must stay single."""
    image = np.full((12, 19, 3), 60, np.uint8)
    for x, colour in zip(range(2, 17, 3), (250, 120, 200, 160, 90), strict=True):
        image[2:10, x : x + 3] = colour
    segments, labels = described(image, 1, 4)
    assert 6 <= len(segments) <= 60
    for strategy in STRATEGIES.values():
        merges, boxes = plain_group(image, labels, len(segments), strategy)
        hierarchy = group(segments, strategy)
        assert [tuple(pair) for pair in hierarchy.merges.tolist()] == merges
        assert [tuple(box) for box in hierarchy.boxes.tolist()] == boxes


def test_one_segment_is_a_hierarchy() -> None:
    segments, _ = described(np.full((5, 9, 3), 77, np.uint8), 100, 100)
    hierarchy = group(segments, Strategy(colour=True))
    assert hierarchy.boxes.tolist() == [[0, 0, 9, 5]]
    assert hierarchy.merges.shape == (0, 2)


def test_grouping_leaves_the_segments_as_they_were() -> None:
    image = patches(np.random.default_rng(3), 30, 40)
    segments, _ = described(image, 50, 20)
    first = group(segments, STRATEGIES["colour, texture, size, fill"])
    second = group(segments, STRATEGIES["colour, texture, size, fill"])
    assert (first.merges == second.merges).all()
    assert len(first.merges) == len(segments) - 1 > 3

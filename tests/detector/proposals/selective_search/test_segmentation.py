"""The segmentation against a slow one written from the paper, in whole numbers and plain Python.

Hundreds of small pictures of every odd kind; then what holds for larger ones.
"""

from collections.abc import Iterator
from fractions import Fraction
from math import isqrt

import numpy as np
import pytest

from detector.proposals.selective_search.segmentation import pixel_graph, superpixels
from tests.detector.proposals.odd_images import (
    ODD_IMAGES,
    ImageInput,
    Kind,
    checkers,
    patches,
    planes_of,
    ramp,
)

KERNEL = {-2: 6, -1: 58, 0: 128, 1: 58, 2: 6}


def plain_smooth(pixels: list[list[list[int]]], y: int, x: int) -> tuple[int, ...]:
    height, width = len(pixels), len(pixels[0])
    return tuple(
        sum(
            row_weight * weight * pixels[min(max(y + dy, 0), height - 1)][min(max(x + dx, 0), width - 1)][c]
            for dy, row_weight in KERNEL.items()
            for dx, weight in KERNEL.items()
        )
        for c in range(len(pixels[0][0]))
    )


def plain_edges(image: ImageInput) -> Iterator[tuple[int, int, int]]:
    """Strength in 64ths of a grey level and the two pixels, in the order of the picture's lines."""
    height, width = image.shape[:2]
    pixels = image.tolist()
    smooth = [[plain_smooth(pixels, y, x) for x in range(width)] for y in range(height)]
    for y in range(height):
        for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
            for x in range(width):
                if x + dx < width and 0 <= y + dy < height:
                    pairs = zip(smooth[y][x], smooth[y + dy][x + dx], strict=True)
                    strength = isqrt(sum((a - b) ** 2 for a, b in pairs)) * 64 // 65536
                    yield strength, y * width + x, (y + dy) * width + x + dx


def plain_superpixels(image: ImageInput, k: int | Fraction, min_size: int) -> list[tuple[int, ...]]:
    """Segments as sorted pixels, in the order of their first one."""
    height, width = image.shape[:2]
    segment = [{pixel} for pixel in range(height * width)]
    inside = {id(members): 0 for members in segment}
    edges = sorted(plain_edges(image), key=lambda edge: edge[0])

    def join(a: int, b: int, strength: int) -> None:
        union = segment[a] | segment[b]
        inside[id(union)] = strength
        kept_alive.append(union)
        for pixel in union:
            segment[pixel] = union

    kept_alive = list(segment)
    for strength, a, b in edges:
        if segment[a] is not segment[b] and all(
            strength <= inside[id(segment[p])] + Fraction(64 * k, len(segment[p])) for p in (a, b)
        ):
            join(a, b, strength)
    for strength, a, b in edges:
        if segment[a] is not segment[b] and min(len(segment[a]), len(segment[b])) < min_size:
            join(a, b, strength)
    return sorted({tuple(sorted(members)) for members in segment})


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("kind", ODD_IMAGES)
def test_segments_are_those_of_the_paper(kind: str, seed: int) -> None:
    random = np.random.default_rng(1000 + seed)
    k, min_size = (int(value) for value in random.integers(1, (300, 20)))
    image = ODD_IMAGES[kind](seed)

    labels, count = superpixels(pixel_graph(planes_of(image)), k, min_size)

    expected = plain_superpixels(image, k, min_size)
    assert labels.shape == image.shape[:2]
    assert count == len(expected)
    assert [tuple(np.flatnonzero(labels == label)) for label in range(count)] == expected


@pytest.mark.parametrize("k", [0.7, 12.5, 33.3], ids=lambda k: f"k {k}")
def test_a_k_that_is_no_whole_number(k: float) -> None:
    image = patches(np.random.default_rng(4), 14, 15)
    labels, count = superpixels(pixel_graph(planes_of(image)), k, 3)
    expected = plain_superpixels(image, Fraction(k), 3)
    assert [tuple(np.flatnonzero(labels == label)) for label in range(count)] == expected


@pytest.mark.parametrize("seed", range(10))
def test_one_plane_stands_for_three_equal_ones(seed: int) -> None:
    image = ODD_IMAGES["grey"](seed)
    once, thrice = pixel_graph(planes_of(image[..., :1])), pixel_graph(planes_of(image))
    assert (once.order == thrice.order).all()
    assert (once.start == thrice.start).all()


@pytest.mark.parametrize("kind", [checkers, ramp], ids=["checkers", "a ramp"])
def test_many_blocks_of_equal_edges(kind: Kind) -> None:
    """Edges are sifted in blocks: the segments are those of one edge after the other."""
    image = kind(np.random.default_rng(7), 40, 90)
    graph = pixel_graph(planes_of(image))
    assert np.diff(graph.start).max() > 2000, "the case is meant to fill several blocks"
    labels, count = superpixels(graph, 40, 25)
    expected = plain_superpixels(image, 40, 25)
    assert [tuple(np.flatnonzero(labels == label)) for label in range(count)] == expected


@pytest.mark.parametrize("k", [1e7, 1e12, 1e30], ids=lambda k: f"k {k:g}")
def test_any_k_is_within_range(k: float) -> None:
    image = patches(np.random.default_rng(2), 30, 40)
    assert superpixels(pixel_graph(planes_of(image)), k, 1)[1] == 1


def test_two_flat_halves_are_two_segments() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 15:] = 200
    labels, count = superpixels(pixel_graph(planes_of(image)), 100, 100)
    assert count == 2
    # Smoothing bends the border by at most a pixel to either side.
    assert (labels[:, :13] == 0).all()
    assert (labels[:, 17:] == 1).all()


def test_larger_scale_gives_fewer_segments() -> None:
    graph = pixel_graph(planes_of(patches(np.random.default_rng(5), 60, 80)))
    counts = [superpixels(graph, k, k)[1] for k in (10, 20, 50, 100, 200)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 3 * counts[-1]


@pytest.mark.parametrize("min_size", [1, 7, 50, 10_000], ids=lambda size: f"at least {size}")
def test_no_segment_is_below_the_least_size(min_size: int) -> None:
    image = patches(np.random.default_rng(9), 40, 50)
    labels, _ = superpixels(pixel_graph(planes_of(image)), 5, min_size)
    assert np.bincount(labels.ravel()).min() >= min(min_size, labels.size)

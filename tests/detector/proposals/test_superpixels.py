"""The segmentation against a slow one written from the paper, in whole numbers and plain Python."""

from collections.abc import Iterator
from fractions import Fraction
from math import isqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.proposals.superpixels import pixel_graph, superpixels

Picture = NDArray[np.uint8]

KERNEL = {-2: 6, -1: 58, 0: 128, 1: 58, 2: 6}


def picture(height: int, width: int, seed: int) -> Picture:
    """Patches of colour with noise: both smooth and rough parts, and many ties."""
    random = np.random.default_rng(seed)
    patches = random.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
    large = patches.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    noise = random.integers(0, random.integers(1, 60), (height, width, 3))
    return np.clip(large + noise, 0, 255).astype(np.uint8)


def plain_smooth(pixels: list[list[list[int]]], y: int, x: int) -> tuple[int, ...]:
    height, width = len(pixels), len(pixels[0])
    return tuple(
        sum(
            row_weight * weight * pixels[min(max(y + dy, 0), height - 1)][min(max(x + dx, 0), width - 1)][c]
            for dy, row_weight in KERNEL.items()
            for dx, weight in KERNEL.items()
        )
        for c in range(3)
    )


def plain_edges(image: Picture) -> Iterator[tuple[int, int, int]]:
    """Strength in 128ths of a grey level and the two pixels, in the order of the picture's lines."""
    height, width = image.shape[:2]
    pixels = image.tolist()
    smooth = [[plain_smooth(pixels, y, x) for x in range(width)] for y in range(height)]
    for y in range(height):
        for x in range(width):
            for dx, dy in ((1, 0), (0, 1), (1, 1), (1, -1)):
                if x + dx < width and 0 <= y + dy < height:
                    pairs = zip(smooth[y][x], smooth[y + dy][x + dx], strict=True)
                    strength = isqrt(sum((a - b) ** 2 for a, b in pairs)) * 128 // 65536
                    yield strength, y * width + x, (y + dy) * width + x + dx


def plain_superpixels(image: Picture, k: int, min_size: int) -> list[tuple[int, ...]]:
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
            strength <= inside[id(segment[p])] + Fraction(128 * k, len(segment[p])) for p in (a, b)
        ):
            join(a, b, strength)
    for strength, a, b in edges:
        if segment[a] is not segment[b] and min(len(segment[a]), len(segment[b])) < min_size:
            join(a, b, strength)
    return sorted({tuple(sorted(members)) for members in segment})


@pytest.mark.parametrize("seed", range(24))
def test_segments_are_those_of_the_paper(seed: int) -> None:
    random = np.random.default_rng(1000 + seed)
    height, width = random.integers(1, 24, 2)
    k, min_size = (int(value) for value in random.integers(1, (300, 20)))
    image = picture(int(height), int(width), seed)

    labels, count = superpixels(pixel_graph(image), k, min_size)

    expected = plain_superpixels(image, k, min_size)
    assert count == len(expected)
    assert [tuple(np.flatnonzero(labels == label)) for label in range(count)] == expected


def test_two_flat_halves_are_two_segments() -> None:
    image = np.zeros((20, 30, 3), np.uint8)
    image[:, 15:] = 200
    labels, count = superpixels(pixel_graph(image), 100, 100)
    assert count == 2
    # Smoothing bends the border by at most a pixel to either side.
    assert (labels[:, :13] == 0).all()
    assert (labels[:, 17:] == 1).all()


def test_larger_scale_gives_fewer_segments() -> None:
    graph = pixel_graph(picture(60, 80, 5))
    counts = [superpixels(graph, k, k)[1] for k in (10, 20, 50, 100, 200)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > 3 * counts[-1]


@pytest.mark.parametrize("min_size", [1, 7, 50, 10_000], ids=lambda size: f"at least {size}")
def test_no_segment_is_below_the_least_size(min_size: int) -> None:
    image = picture(40, 50, 9)
    labels, _ = superpixels(pixel_graph(image), 5, min_size)
    assert np.bincount(labels.ravel()).min() >= min(min_size, labels.size)

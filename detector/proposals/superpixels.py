"""The first segmentation of a picture, into superpixels.

Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004: pixels are joined along
the edges of the picture's 8-neighbour grid, least difference first, as long as the edge is no stronger than
what both sides already hold inside plus a tolerance of ``k / size``.

All arithmetic is on whole numbers, so segments do not depend on the machine. Letters for shapes: H, W the
picture's height and width, E its edges, S segments.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.proposals.colour import Pixels

# exp(-x^2 / (2 * 0.8^2)) in 256ths. Products of bytes with two such kernels stay below 2^24, where float32
# holds every whole number: OpenCV's filter is exact, in whatever order it adds.
_GAUSSIAN = np.array([6, 58, 128, 58, 6], dtype=np.float32)
_SMOOTH_LEVEL = 256 * 256  # a grey level, once it went through both

# Differences of colour are counted in 128ths of a grey level: the greatest, 255 * sqrt(3), fits 16 bits.
_LEVEL = 128
_STRENGTHS = 1 << 16
_BORDER = _STRENGTHS - 1  # no edge: it would leave the picture


@dataclass(frozen=True)
class PixelGraph:
    """The edges of a picture [H,W] from the least colour difference to the greatest.

    order [E] int32 counts edges as ``4 * pixel + direction``; strength [H*W*4] uint16 is their colour
    difference in 128ths of a grey level. One graph serves every scale k.
    """

    height: int
    width: int
    order: NDArray[np.int32]
    strength: NDArray[np.uint16]


def pixel_graph(pixels: Pixels) -> PixelGraph:
    """Edges between all neighbouring pixels of a colour space's picture [H,W,3], smoothed by sigma 0.8."""
    height, width = pixels.shape[:2]
    smooth = cv2.sepFilter2D(pixels, cv2.CV_32F, _GAUSSIAN, _GAUSSIAN, borderType=cv2.BORDER_REPLICATE)
    strength = _edge_strengths(smooth)
    return PixelGraph(height, width, _sorted_edges(strength), strength)


def superpixels(graph: PixelGraph, k: float, min_size: int) -> tuple[NDArray[np.int32], int]:
    """Segments of a picture: labels [H,W] int32, counted in the order of their first pixel, and how many.

    ``k`` is the tolerance in grey levels times pixels; segments of fewer than ``min_size`` pixels are joined
    to the neighbour they differ least from.
    """
    labels, count = _segments(
        graph.order, graph.strength, graph.height, graph.width, float(k) * _LEVEL, min_size
    )
    return labels.reshape(graph.height, graph.width), count


@njit(nogil=True, cache=True)
def _edge_strengths(smooth):  # type: ignore[no-untyped-def]
    """Colour differences [H*W*4] of every pixel with those to its right, below, below right, above right."""
    height, width = smooth.shape[:2]
    strength = np.full(height * width * 4, _BORDER, np.uint16)
    unit = _LEVEL / _SMOOTH_LEVEL
    for y in range(height):
        for direction in range(4):
            dx = 0 if direction == 1 else 1
            dy = 0 if direction == 0 else (-1 if direction == 3 else 1)
            if y + dy < 0 or y + dy >= height:
                continue
            for x in range(width - dx):
                a = np.float64(smooth[y, x, 0] - smooth[y + dy, x + dx, 0])
                b = np.float64(smooth[y, x, 1] - smooth[y + dy, x + dx, 1])
                c = np.float64(smooth[y, x, 2] - smooth[y + dy, x + dx, 2])
                strength[(y * width + x) * 4 + direction] = np.uint16(np.sqrt(a * a + b * b + c * c) * unit)
    return strength


@njit(nogil=True, cache=True)
def _sorted_edges(strength):  # type: ignore[no-untyped-def]
    """Edges in the order of their strength, equal ones in their own: a counting sort."""
    start = np.zeros(_STRENGTHS + 1, np.int32)
    for value in strength:
        start[value + 1] += 1
    edges = len(strength) - start[_BORDER + 1]
    for value in range(_STRENGTHS):
        start[value + 1] += start[value]
    order = np.empty(edges, np.int32)
    for edge in range(len(strength)):
        value = strength[edge]
        if value != _BORDER:
            order[start[value]] = edge
            start[value] += 1
    return order


@njit(nogil=True, cache=True)
def _segments(order, strength, height, width, tolerance, min_size):  # type: ignore[no-untyped-def]
    """Labels [H*W] of the segments, and their number."""
    pixels = height * width
    step = (1, width, width + 1, 1 - width)
    parent = np.empty(pixels, np.int32)
    for pixel in range(pixels):
        parent[pixel] = pixel
    size = np.ones(pixels, np.int32)
    limit = np.full(pixels, tolerance, np.float64)

    apart = np.empty(len(order), np.int32)  # the edges between segments, still in order
    left = 0
    for edge in order:
        a = _root(parent, edge >> 2)
        b = _root(parent, (edge >> 2) + step[edge & 3])
        if a == b:
            continue
        if strength[edge] <= limit[a] and strength[edge] <= limit[b]:
            a, b = min(a, b), max(a, b)
            parent[b] = a
            size[a] += size[b]
            limit[a] = strength[edge] + tolerance / size[a]
        else:
            apart[left] = edge
            left += 1

    for i in range(left):
        edge = apart[i]
        a = _root(parent, edge >> 2)
        b = _root(parent, (edge >> 2) + step[edge & 3])
        if a != b and (size[a] < min_size or size[b] < min_size):
            a, b = min(a, b), max(a, b)
            parent[b] = a
            size[a] += size[b]

    # A root is the first pixel of its segment, as the lower index always becomes the parent.
    labels = np.empty(pixels, np.int32)
    count = 0
    for pixel in range(pixels):
        if parent[pixel] == pixel:
            labels[pixel] = count
            count += 1
        else:
            labels[pixel] = labels[parent[pixel]]
    return labels, count


@njit(nogil=True, cache=True)
def _root(parent, pixel):  # type: ignore[no-untyped-def]
    while parent[pixel] != pixel:
        parent[pixel] = parent[parent[pixel]]
        pixel = parent[pixel]
    return pixel

"""The segmentation of an image into superpixels, with which selective search begins.

Felzenszwalb and Huttenlocher, "Efficient Graph-Based Image Segmentation", IJCV 2004: pixels are joined along
the edges of the image's 8-neighbour grid, least difference first, as long as the edge is no stronger than
the internal difference of both sides plus a tolerance of ``k / size``.

All arithmetic is on whole numbers, so segments do not depend on the machine. Letters for shapes: C channels,
H, W the image's height and width, E its edges, S segments, L levels of strength.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.jit_cache import cached_njit
from detector.proposals.selective_search.color import Planes
from detector.proposals.selective_search.union_find import joined_pixels

# exp(-x^2 / (2 * 0.8^2)) in 256ths. Products of bytes with two such kernels stay below 2^24, where float32
# holds every whole number: OpenCV's filter is exact, in whatever order it adds.
_GAUSSIAN = np.array([6, 58, 128, 58, 6], dtype=np.float32)
_SMOOTH_LEVEL = 256 * 256  # a grey level after the filters of rows and columns

# Differences of colour are counted in 64ths of a grey level. Fewer levels sort faster and, as equal edges
# are in the order of the image's rows, keep accesses to memory close together.
_LEVEL = 64
_LEVELS = int(255 * 3**0.5 * _LEVEL) + 1

# Beyond this k times _LEVEL no longer fits 31 bits beside a strength; a k of as many pixels as any image
# here has joins them all already.
_MOST_TOLERANCE = (1 << 31) - 1 - _LEVELS


@dataclass(frozen=True)
class PixelGraph:
    """The edges of an image [H,W], from the least colour difference to the greatest.

    order [E] int32 holds edges as ``4 * pixel + direction`` (to the right, below, below right, above right);
    those of strength s, in 64ths of a grey level, are at start[s] up to start[s + 1]; start [L+1] int32. One
    graph serves every scale k.
    """

    height: int
    width: int
    order: NDArray[np.int32]
    start: NDArray[np.int32]


def pixel_graph(planes: Planes) -> PixelGraph:
    """Build the graph of all neighbouring pixels of planes, uint8 [C,H,W], smoothed by sigma 0.8.

    One plane stands for three equal ones.
    """
    _, height, width = planes.shape
    smooth = np.empty(planes.shape, np.float32)
    for plane, target in zip(planes, smooth, strict=True):
        cv2.sepFilter2D(plane, cv2.CV_32F, _GAUSSIAN, _GAUSSIAN, dst=target, borderType=cv2.BORDER_REPLICATE)
    order, start = _sorted_edges(_edge_strengths(smooth), _LEVELS)
    return PixelGraph(height, width, order, start)


def superpixels(graph: PixelGraph, k: float, min_size: int) -> tuple[NDArray[np.int32], int]:
    """Segment an image into superpixels. Returns labels [H,W] int32 and the number of superpixels.

    Labels count from 0 in the order of the superpixels' first pixels.
    ``k`` is the tolerance in grey levels times pixels. Segments of fewer than ``min_size`` pixels are joined
    to the neighbour they differ least from.
    """
    tolerance = min(int(k * _LEVEL), _MOST_TOLERANCE)
    smallest = min(min_size, graph.height * graph.width)
    labels, count = joined_pixels(graph.order, graph.start, graph.height, graph.width, tolerance, smallest)
    return labels.reshape(graph.height, graph.width), count


@cached_njit(nogil=True)
def _edge_strengths(smooth):  # type: ignore[no-untyped-def]
    """Return the colour differences [4,H,W] uint16 between pixels and their neighbours.

    Entries for neighbours beyond the border are not set.
    """
    channels, height, width = smooth.shape
    strength = np.empty((4, height, width), np.uint16)
    # One plane stands for three: each adds its square.
    unit = np.float64(_LEVEL / _SMOOTH_LEVEL)
    for direction in range(4):
        dx = 0 if direction == 1 else 1
        dy = 0 if direction == 0 else (-1 if direction == 3 else 1)
        for y in range(max(0, -dy), height - max(0, dy)):
            if channels == 1:
                for x in range(width - dx):
                    a = np.float64(smooth[0, y, x] - smooth[0, y + dy, x + dx])
                    strength[direction, y, x] = np.uint16(np.sqrt(a * a * 3) * unit)
            else:
                for x in range(width - dx):
                    a = np.float64(smooth[0, y, x] - smooth[0, y + dy, x + dx])
                    b = np.float64(smooth[1, y, x] - smooth[1, y + dy, x + dx])
                    c = np.float64(smooth[2, y, x] - smooth[2, y + dy, x + dx])
                    strength[direction, y, x] = np.uint16(np.sqrt(a * a + b * b + c * c) * unit)
    return strength


@cached_njit(nogil=True)
def _sorted_edges(strength, levels):  # type: ignore[no-untyped-def]
    """Return the edges sorted by strength, and the index where each strength starts.

    Equally strong edges are in the order of row, then direction, then column.
    """
    _, height, width = strength.shape
    start = np.zeros(levels + 1, np.int32)
    for direction in range(4):
        dx = 0 if direction == 1 else 1
        dy = 0 if direction == 0 else (-1 if direction == 3 else 1)
        for y in range(max(0, -dy), height - max(0, dy)):
            for x in range(width - dx):
                start[strength[direction, y, x] + 1] += 1
    for level in range(levels):
        start[level + 1] += start[level]
    position = start.copy()
    order = np.empty(start[levels], np.int32)
    for y in range(height):
        for direction in range(4):
            dx = 0 if direction == 1 else 1
            dy = 0 if direction == 0 else (-1 if direction == 3 else 1)
            if 0 <= y + dy < height:
                for x in range(width - dx):
                    level = strength[direction, y, x]
                    order[position[level]] = (y * width + x) * 4 + direction
                    position[level] += 1
    return order, start

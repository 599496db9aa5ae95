"""The grouping of superpixels into a hierarchy of segments, most similar neighbours first.

Uijlings et al., "Selective Search for Object Recognition", IJCV 2013, algorithm 1 and section 3.2. Similarity
is counted in whole parts of ``ONE``: the same sum on every machine, and exact ties. Letters for shapes: S
superpixels, T = 2 S - 1 segments of the hierarchy, E pairs of neighbours.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.proposals.features import Segments

ONE = 1 << 20


@dataclass(frozen=True)
class Strategy:
    """Which of the four similarities count (Uijlings et al., section 3.2)."""

    colour: bool = False
    texture: bool = False
    size: bool = False
    fill: bool = False


@dataclass(frozen=True)
class Hierarchy:
    """Segments from superpixels to the whole picture.

    boxes [T,4] int32: the superpixels', then one a merge, in the order of merging, the whole picture last.
    merges [S-1,2] int32: the two segments, the lower index first, that became segment S, S + 1 and so on.
    """

    boxes: NDArray[np.int32]
    merges: NDArray[np.int32]


def group(segments: Segments, strategy: Strategy) -> Hierarchy:
    """Join the two most similar neighbours until one segment is left.

    Of equally similar pairs the one with the least lower index, then the least upper index, goes first.
    """
    room = len(segments) - 1
    boxes, merges = _grouped(
        _with_room(segments.sizes, room),
        _with_room(segments.boxes, room),
        _with_room(segments.colours, room),
        _with_room(segments.textures, room),
        segments.neighbours.copy(),
        strategy.colour,
        strategy.texture,
        strategy.size,
        strategy.fill,
    )
    return Hierarchy(boxes, merges)


def _with_room(features: NDArray[Any], count: int) -> NDArray[Any]:
    """Features with ``count`` empty rows added."""
    return np.concatenate([features, np.zeros((count, *features.shape[1:]), features.dtype)])


@njit(nogil=True, cache=True)
def _grouped(  # type: ignore[no-untyped-def]
    size, box, colour, texture, pair, by_colour, by_texture, by_size, by_fill
):
    """The hierarchy: fills the rows of new segments; the live ones of `pair` are moved to the front."""
    segments = len(size)
    superpixels = (segments + 1) // 2
    colour_share = np.empty_like(colour)
    texture_share = np.empty_like(texture)
    area = 0
    for segment in range(superpixels):
        _write_shares(colour[segment], colour_share[segment])
        _write_shares(texture[segment], texture_share[segment])
        area += size[segment]
    merges = np.empty((superpixels - 1, 2), np.int32)

    live = len(pair)
    similarity = np.full(live, -1, np.int64)  # below zero: yet to be computed
    met = np.full(segments, -1, np.int32)  # the last new segment that became this one's neighbour

    for new in range(superpixels, segments):
        best = 0
        for row in range(live):
            low, high = pair[row, 0], pair[row, 1]
            if similarity[row] < 0:
                joint = size[low] + size[high]
                value = np.int64(0)
                if by_colour:
                    value += _overlap(colour_share[low], colour_share[high])
                if by_texture:
                    value += _overlap(texture_share[low], texture_share[high])
                if by_size:
                    value += ONE - joint * ONE // area
                if by_fill:
                    value += ONE - (_hull_area(box[low], box[high]) - joint) * ONE // area
                similarity[row] = value
            if similarity[row] > similarity[best] or (
                similarity[row] == similarity[best]
                and (low < pair[best, 0] or (low == pair[best, 0] and high < pair[best, 1]))
            ):
                best = row

        a, b = pair[best, 0], pair[best, 1]
        merges[new - superpixels, 0] = a
        merges[new - superpixels, 1] = b
        size[new] = size[a] + size[b]
        for side in range(2):
            box[new, side] = min(box[a, side], box[b, side])
            box[new, side + 2] = max(box[a, side + 2], box[b, side + 2])
        _join(colour, colour_share, a, b, new)
        _join(texture, texture_share, a, b, new)

        # Pairs with a or b become pairs with the new segment, each neighbour once.
        kept = 0
        for row in range(live):
            low, high, value = pair[row, 0], pair[row, 1], similarity[row]
            if low in (a, b) or high in (a, b):
                other = high if low in (a, b) else low
                if other in (a, b) or met[other] == new:
                    continue
                met[other] = new
                low, high, value = other, np.int32(new), np.int64(-1)
            pair[kept, 0], pair[kept, 1], similarity[kept] = low, high, value
            kept += 1
        live = kept
    return box, merges


@njit(nogil=True, cache=True)
def _join(histograms, shares, a, b, new):  # type: ignore[no-untyped-def]
    for i in range(histograms.shape[1]):
        histograms[new, i] = histograms[a, i] + histograms[b, i]
    _write_shares(histograms[new], shares[new])


@njit(nogil=True, cache=True)
def _write_shares(histogram, shares):  # type: ignore[no-untyped-def]
    """Write each bin's part of the whole histogram, in parts of ONE, rounded down."""
    # Exact: a quotient of whole numbers this small is further from the next one than float64 can err.
    total = 0.0
    for count in histogram:
        total += count
    for i in range(len(histogram)):
        shares[i] = np.int32(histogram[i] * np.float64(ONE) / total)


@njit(nogil=True, cache=True)
def _overlap(a, b):  # type: ignore[no-untyped-def]
    """The intersection of two histograms, given as shares."""
    total = np.int64(0)
    for i in range(len(a)):
        total += min(a[i], b[i])
    return total


@njit(nogil=True, cache=True)
def _hull_area(a, b):  # type: ignore[no-untyped-def]
    width = np.int64(max(a[2], b[2]) - min(a[0], b[0]))
    height = np.int64(max(a[3], b[3]) - min(a[1], b[1]))
    return width * height

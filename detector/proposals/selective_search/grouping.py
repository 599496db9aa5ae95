"""The grouping of superpixels into a hierarchy of segments, most similar neighbours first.

Uijlings et al., "Selective Search for Object Recognition", IJCV 2013, algorithm 1 and section 3.2. Similarity
is counted in whole parts of ``ONE``, which gives the same sum on every machine, and exact ties. Letters for
shapes: S superpixels, T = 2 S - 1 segments of the hierarchy, E pairs of neighbours.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.jit_cache import cached_njit
from detector.proposals.selective_search.features import Segments

# The sum of a histogram's shares still fits 16 bits, the width at which a processor adds most at once.
ONE = 1 << 15

# A pair's rank is one number, so that the best pair is a plain maximum: the similarity above, then the
# lower and the upper index counted down, so that of equally similar pairs the first is best.
_INDEX_BITS = 22
_LAST_INDEX = (1 << _INDEX_BITS) - 1
_NO_PAIR = -1  # the rank of a pair that was merged or is a duplicate
_END = -1  # marks the end of a list


@dataclass(frozen=True)
class Strategy:
    """The similarities that count, of the four in Uijlings et al., section 3.2."""

    colour: bool = False
    texture: bool = False
    size: bool = False
    fill: bool = False


@dataclass(frozen=True)
class Hierarchy:
    """A hierarchy of segments, from superpixels to the whole image.

    boxes [T,4] int32 (``x1, y1, x2, y2``): the superpixels', then one for each merge, in the order of
    merging, the whole image last. merges [S-1,2] int32: the two segments, the lower index first, that became
    segment S, S + 1 and so on.
    """

    boxes: NDArray[np.int32]
    merges: NDArray[np.int32]


def group(segments: Segments, strategy: Strategy) -> Hierarchy:
    """Merge the two most similar neighbours until one segment is left, and return the hierarchy.

    Of equally similar pairs the one with the smallest lower index, then the smallest upper index, goes first.
    """
    boxes, merges = _grouped(
        segments.sizes,
        segments.boxes,
        segments.colours,
        segments.textures,
        segments.neighbours,
        strategy.colour,
        strategy.texture,
        strategy.size,
        strategy.fill,
    )
    return Hierarchy(boxes, merges)


@cached_njit(nogil=True, error_model="numpy")
def _grouped(  # type: ignore[no-untyped-def]
    sizes, boxes, colours, textures, neighbours, by_colour, by_texture, by_size, by_fill
):
    superpixels = len(sizes)
    segments = 2 * superpixels - 1
    area = 0
    size = np.empty(segments, np.int64)
    box = np.empty((segments, 4), np.int32)
    for segment in range(superpixels):
        area += sizes[segment]
        size[segment] = sizes[segment]
        for side in range(4):
            box[segment, side] = boxes[segment, side]
    # Histograms that the strategy does not use stay empty.
    colour, colour_share = _with_shares(colours, segments if by_colour else 0)
    texture, texture_share = _with_shares(textures, segments if by_texture else 0)

    # A pair is in the lists of both its segments: as entry 2 * pair in the lower one's, as 2 * pair + 1 in
    # the upper one's. An entry names the other segment.
    pairs = len(neighbours)
    rank = np.empty(pairs, np.int64)
    named = np.empty(2 * pairs, np.int32)
    following = np.empty(2 * pairs, np.int32)
    first = np.full(segments, _END, np.int32)
    for pair in range(pairs):
        low, high = neighbours[pair, 0], neighbours[pair, 1]
        named[2 * pair], named[2 * pair + 1] = high, low
        following[2 * pair], first[low] = first[low], 2 * pair
        following[2 * pair + 1], first[high] = first[high], 2 * pair + 1
        similarity = _similarity(size, box, colour_share, texture_share, by_size, by_fill, area, low, high)
        rank[pair] = _ranked(similarity, low, high)

    merges = np.empty((superpixels - 1, 2), np.int32)
    met = np.full(segments, -1, np.int32)  # the last new segment that became this one's neighbour
    for new in range(superpixels, segments):
        best = np.int64(_NO_PAIR)
        for pair in range(pairs):
            best = max(best, rank[pair])
        a, b = _LAST_INDEX - ((best >> _INDEX_BITS) & _LAST_INDEX), _LAST_INDEX - (best & _LAST_INDEX)
        merges[new - superpixels, 0], merges[new - superpixels, 1] = a, b
        size[new] = size[a] + size[b]
        for side in range(2):
            box[new, side] = min(box[a, side], box[b, side])
            box[new, side + 2] = max(box[a, side + 2], box[b, side + 2])
        if by_colour:
            _join(colour, colour_share, a, b, new)
        if by_texture:
            _join(texture, texture_share, a, b, new)

        # The pairs of a and b become pairs of the new segment, each neighbour once.
        for old in (a, b):
            entry = first[old]
            while entry != _END:
                next_entry = following[entry]
                neighbour = named[entry]
                if rank[entry >> 1] != _NO_PAIR:
                    if neighbour in (a, b) or met[neighbour] == new:
                        rank[entry >> 1] = _NO_PAIR
                    else:
                        met[neighbour] = new
                        named[entry ^ 1] = new
                        following[entry], first[new] = first[new], entry
                        similarity = _similarity(
                            size, box, colour_share, texture_share, by_size, by_fill, area, neighbour, new
                        )
                        rank[entry >> 1] = _ranked(similarity, neighbour, new)
                entry = next_entry
    return box, merges


@cached_njit(nogil=True, error_model="numpy")
def _similarity(  # type: ignore[no-untyped-def]
    size, box, colour_share, texture_share, by_size, by_fill, area, a, b
):
    value = np.int64(0)
    if len(colour_share):
        value += _overlap(colour_share[a], colour_share[b])
    if len(texture_share):
        value += _overlap(texture_share[a], texture_share[b])
    joint = size[a] + size[b]
    if by_size:
        value += ONE - joint * ONE // area
    if by_fill:
        width = np.int64(max(box[a, 2], box[b, 2]) - min(box[a, 0], box[b, 0]))
        height = np.int64(max(box[a, 3], box[b, 3]) - min(box[a, 1], box[b, 1]))
        value += ONE - (width * height - joint) * ONE // area
    return value


@cached_njit(nogil=True, error_model="numpy")
def _ranked(similarity, low, high):  # type: ignore[no-untyped-def]
    """Return a pair's similarity and indices as one number, which is greater for the better pair."""
    indices = (np.int64(_LAST_INDEX - low) << _INDEX_BITS) | np.int64(_LAST_INDEX - high)
    return (np.int64(similarity) << (2 * _INDEX_BITS)) | indices


@cached_njit(nogil=True, error_model="numpy")
def _overlap(a, b):  # type: ignore[no-untyped-def]
    """Return the intersection of two histograms of shares, in parts of ONE."""
    total = np.uint16(0)
    for i in range(len(a)):
        total = np.uint16(total + min(a[i], b[i]))
    return np.int64(total)


@cached_njit(nogil=True, error_model="numpy")
def _with_shares(histograms, rows):  # type: ignore[no-untyped-def]
    """Return histograms and their shares, each [rows,bins], with rows left for the segments to come.

    With 0 ``rows`` both are empty.
    """
    bins = histograms.shape[1]
    counts = np.empty((rows, bins), np.int32)
    shares = np.empty((rows, bins), np.uint16)
    if rows > 0:
        for segment in range(len(histograms)):
            for i in range(bins):
                counts[segment, i] = histograms[segment, i]
            _write_shares(counts[segment], shares[segment])
    return counts, shares


@cached_njit(nogil=True, error_model="numpy")
def _join(counts, shares, a, b, new):  # type: ignore[no-untyped-def]
    for i in range(counts.shape[1]):
        counts[new, i] = counts[a, i] + counts[b, i]
    _write_shares(counts[new], shares[new])


@cached_njit(nogil=True, error_model="numpy")
def _write_shares(counts, shares):  # type: ignore[no-untyped-def]
    """Write each bin's share of its histogram, in parts of ONE, rounded down."""
    # Exact: a quotient of whole numbers this small is further from the next one than float64 can err.
    total = np.int32(0)
    for count in counts:
        total += count
    for i in range(len(counts)):
        shares[i] = np.uint16(np.int32(counts[i] * np.float64(ONE) / np.float64(total)))

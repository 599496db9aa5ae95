"""The order of selective search's boxes: a short prefix should find most objects.

The paper (Uijlings et al., IJCV 2013, section 3.3) multiplies each segment's position in its hierarchy by a
random number. Here nothing is random. A distinct box weighs more the nearer it is to the top of a hierarchy
and the more hierarchies hold it. Every box is taken as a possible object of that weight, and the next box is
always the one that adds most to how well the objects are covered so far. This is greedy maximisation of a
submodular function (Nemhauser, Wolsey and Fisher, 1978): near-duplicates of a box already taken add little
and come late. Letters for shapes: B boxes of all hierarchies, R distinct ones.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.jit_cache import cached_njit
from detector.structures.boxes import Boxes

# The weight of the r-th box from the top of one hierarchy is _TOP over r + _LEVEL, in whole numbers: half by
# the seventh place, as the last few merges are about equally likely to have been one too many. Small enough
# that the weighted coverage of all boxes of some hundred hierarchies fits 31 bits.
_TOP, _LEVEL = 1 << 12, 5

# How well a box covers an object grows from nothing at the first IoU to everything at the second, above which
# box regression needs no help. A detection begins to count at 0.5, but a hierarchy's boxes only stand for the
# objects near them: a little credit below it finds more objects with the first hundred boxes.
_FOUND, _COVERED = 0.4, 0.8
_FULLY = 255

# Only the heaviest boxes are placed by coverage, as its time and memory grow with their square, and only so
# many of them: after these, few boxes add anything. The rest follow by weight.
_CANDIDATES = 2048
_PLACED = 512

# Bits of a coordinate and of a box's index, in the keys by which boxes are sorted.
_SIDE_BITS = 15
_PLACE_BITS = 32


def rank_boxes(hierarchies: Sequence[NDArray[np.int32]], min_side: int) -> NDArray[np.int32]:
    """Rank the distinct boxes of up to 128 hierarchies: int32 [R,4], best first.

    Each hierarchy is an array [T,4] of boxes ``x1, y1, x2, y2`` below 2^15, the last of them the whole
    image. That one is the first of the result; others with a side below ``min_side`` pixels are left out.
    """
    boxes = np.concatenate(hierarchies)  # B x 4
    weights = np.concatenate(
        [_TOP // (np.arange(len(hierarchy), 0, -1) + _LEVEL) for hierarchy in hierarchies]
    )
    whole = hierarchies[0][-1]
    large = (boxes[:, 2] - boxes[:, 0] >= min_side) & (boxes[:, 3] - boxes[:, 1] >= min_side)
    large |= (boxes == whole).all(axis=1)
    boxes, weights = _distinct(boxes[large], weights[large])

    placed = order_by_coverage(boxes[:_CANDIDATES], weights[:_CANDIDATES].astype(np.int32), _PLACED)
    rest = np.delete(np.arange(len(boxes)), placed)
    return boxes[np.concatenate([placed, rest])]


def order_by_coverage(
    boxes: NDArray[np.int32] | Boxes, weights: NDArray[np.int32], count: int
) -> NDArray[np.int64]:
    """Return the indices of up to ``count`` of boxes [R,4], in the order of greedy coverage.

    The heaviest box must come first in ``boxes``, and is the first of the result. Each further one is the box
    that adds most to how well all boxes, as possible objects of weights [R], are covered. Weights must add up
    to less than 2^23.
    """
    corners = boxes.T.astype(np.float32, order="C")  # 4 x R
    return np.asarray(_placed_by_coverage(corners, weights, count), np.int64)


def _distinct(
    boxes: NDArray[np.int32], weights: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Return the distinct boxes [R,4] and the sums of their weights [R].

    The heaviest come first; equally heavy ones are in the order of their coordinates.
    """
    x1, y1, x2, y2 = boxes.T.astype(np.int64)
    keys = ((x1 << _SIDE_BITS | y1) << _SIDE_BITS | x2) << _SIDE_BITS | y2
    order = np.argsort(keys)
    first = np.flatnonzero(np.diff(keys[order], prepend=-1))
    total = np.add.reduceat(weights[order], first)
    heaviest = np.sort((total.max() - total) << _PLACE_BITS | np.arange(len(total)))
    places = heaviest & ((1 << _PLACE_BITS) - 1)
    return boxes[order[first[places]]], total[places]


@cached_njit(nogil=True)
def _placed_by_coverage(corners, weights, count):  # type: ignore[no-untyped-def]
    """Return the indices of up to ``count`` boxes, given by corners [4,R].

    The first box comes first, then always the one that adds most to the coverage.
    """
    total = len(weights)
    covers = _coverage(corners)
    covered = np.zeros(total, np.uint8)
    gain = np.empty(total, np.int32)
    for box in range(total):
        gain[box] = _gain(covers[box], covered, weights)
    placed = np.empty(min(count, total), np.int64)
    best = 0
    for place in range(len(placed)):
        # A gain can only shrink: if the greatest stored gain is up to date, it is the greatest of all.
        while place > 0:
            best = _first_greatest(gain)
            new_gain = _gain(covers[best], covered, weights)
            if new_gain == gain[best]:
                break
            gain[best] = new_gain
        placed[place] = best
        gain[best] = -1
        for target in range(total):
            covered[target] = max(covered[target], covers[best, target])
    return placed


@cached_njit(nogil=True, error_model="numpy")
def _coverage(corners):  # type: ignore[no-untyped-def]
    """Return how well each of R boxes, given by corners [4,R], covers each: [R,R] uint8 from 0 to _FULLY."""
    total = corners.shape[1]
    covers = np.empty((total, total), np.uint8)
    for box in range(total):
        x1, y1, x2, y2 = corners[0, box], corners[1, box], corners[2, box], corners[3, box]
        _write_coverage(covers[box], corners[0], corners[1], corners[2], corners[3], x1, y1, x2, y2)
    return covers


@cached_njit(nogil=True, error_model="numpy")
def _write_coverage(covers, left, top, right, bottom, x1, y1, x2, y2):  # type: ignore[no-untyped-def]
    """Write into ``covers`` [R] how well one box covers each of R boxes.

    The loop has no branches, so that many boxes are done at once.
    """
    nothing, fully = np.float32(0), np.float32(_FULLY)
    slope = np.float32(_FULLY / (_COVERED - _FOUND))
    least = np.float32(_FULLY * _FOUND / (_COVERED - _FOUND))
    area = (x2 - x1) * (y2 - y1)
    for box in range(len(covers)):
        width = max(min(right[box], x2) - max(left[box], x1), nothing)
        height = max(min(bottom[box], y2) - max(top[box], y1), nothing)
        shared = width * height
        union = (right[box] - left[box]) * (bottom[box] - top[box]) + area - shared
        covers[box] = np.uint8(np.int32(min(max(shared / union * slope - least, nothing), fully)))


@cached_njit(nogil=True)
def _gain(covers, covered, weights):  # type: ignore[no-untyped-def]
    """Return how much a box would add to the weighted coverage."""
    total = np.int32(0)
    for target in range(len(covers)):
        more = np.int32(covers[target]) - np.int32(covered[target])
        total += weights[target] * max(np.int32(more), np.int32(0))
    return total


@cached_njit(nogil=True)
def _first_greatest(values):  # type: ignore[no-untyped-def]
    greatest = values[0]
    for value in values:
        greatest = max(greatest, value)
    for place in range(len(values)):
        if values[place] == greatest:
            return place
    return 0

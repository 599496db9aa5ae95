"""The order of selective search's boxes: a short prefix should find most objects.

The paper (Uijlings et al., IJCV 2013, section 3.3) multiplies each segment's position in its hierarchy by a
random number. Here nothing is random. A distinct box weighs more the nearer it stands to the top of a
hierarchy and the more hierarchies hold it; every box that a hierarchy holds is a possible object of that
weight, and the next box is always the one that adds most to how well the objects are covered so far. This is
greedy maximisation of a submodular function (Nemhauser, Wolsey and Fisher, 1978): near-duplicates of a box
already taken add little and come late. Letters for shapes: B boxes of all hierarchies, R distinct ones.
"""

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

# The weight of a box at the top of one hierarchy; the r-th from the top weighs an r-th of it.
_TOP = 1 << 16

# How well a box covers an object grows from nothing at the first IoU, where a detection begins to count, to
# everything at the second, above which box regression needs no help.
_FOUND, _COVERED = 0.5, 0.8
_FULLY = 255

# Only the heaviest boxes are placed by coverage, as its time and memory grow with their square, and only so
# many of them: after these, few boxes add anything. The rest follow by weight.
_CANDIDATES = 2048
_PLACED = 512


def ranked(hierarchies: Sequence[NDArray[np.int32]], min_side: int) -> NDArray[np.int32]:
    """The distinct boxes [R,4] of hierarchies, best first.

    Each hierarchy is an array [T,4] of boxes ``x1, y1, x2, y2`` below 2^15, the last of them the whole
    picture. That one is the first of the result; others with a side below ``min_side`` are left out.
    """
    boxes = np.concatenate(hierarchies)  # B x 4
    weights = np.concatenate([_TOP // np.arange(len(hierarchy), 0, -1) for hierarchy in hierarchies])
    whole = hierarchies[0][-1]
    large = (boxes[:, 2:] - boxes[:, :2] >= min_side).all(axis=1) | (boxes == whole).all(axis=1)
    boxes, weights = _distinct(boxes[large], weights[large])

    placed = _placed_by_coverage(boxes[:_CANDIDATES], weights[:_CANDIDATES], _PLACED)
    rest = np.delete(np.arange(len(boxes)), placed)
    return boxes[np.concatenate([placed, rest])]


def _distinct(
    boxes: NDArray[np.int32], weights: NDArray[np.int64]
) -> tuple[NDArray[np.int32], NDArray[np.int64]]:
    """Distinct boxes [R,4] and the sums of their weights [R], heaviest first, equal ones by coordinates."""
    keys = boxes.astype(np.int64) @ (np.int64(1) << np.array([45, 30, 15, 0]))
    _, first, owner = np.unique(keys, return_index=True, return_inverse=True)
    total = np.bincount(owner, weights).astype(np.int64)
    heaviest = np.argsort(-total, kind="stable")
    return boxes[first[heaviest]], total[heaviest]


@njit(nogil=True, cache=True)
def _placed_by_coverage(boxes, weights, count):  # type: ignore[no-untyped-def]
    """Indices of up to ``count`` boxes, the first one first, then by what each adds to the coverage."""
    total = len(boxes)
    covers = _coverage(boxes)
    covered = np.zeros(total, np.uint8)
    gain = np.empty(total, np.int64)
    for box in range(total):
        gain[box] = _gain(covers[box], covered, weights)
    placed = np.empty(min(count, total), np.int64)
    best = 0
    for place in range(len(placed)):
        # A gain only ever shrinks: once the greatest of the old ones is up to date, it is the greatest.
        while place > 0:
            best = np.argmax(gain)
            now = _gain(covers[best], covered, weights)
            if now == gain[best]:
                break
            gain[best] = now
        placed[place] = best
        gain[best] = -1
        for other in range(total):
            covered[other] = max(covered[other], covers[best, other])
    return placed


@njit(nogil=True, cache=True)
def _coverage(boxes):  # type: ignore[no-untyped-def]
    """How well each of R boxes covers each, [R,R] uint8 from 0 to _FULLY."""
    total = len(boxes)
    covers = np.zeros((total, total), np.uint8)
    for a in range(total):
        covers[a, a] = _FULLY
        area = (boxes[a, 2] - boxes[a, 0]) * (boxes[a, 3] - boxes[a, 1])
        for b in range(a):
            width = min(boxes[a, 2], boxes[b, 2]) - max(boxes[a, 0], boxes[b, 0])
            height = min(boxes[a, 3], boxes[b, 3]) - max(boxes[a, 1], boxes[b, 1])
            if width <= 0 or height <= 0:
                continue
            shared = width * height
            union = area + (boxes[b, 2] - boxes[b, 0]) * (boxes[b, 3] - boxes[b, 1]) - shared
            if shared > _FOUND * union:
                degree = (shared / union - _FOUND) / (_COVERED - _FOUND)
                covers[a, b] = covers[b, a] = np.uint8(min(degree, 1.0) * _FULLY)
    return covers


@njit(nogil=True, cache=True)
def _gain(covers, covered, weights):  # type: ignore[no-untyped-def]
    """What a box would add to the weighted coverage."""
    total = np.int64(0)
    for other in range(len(covers)):
        if covers[other] > covered[other]:
            total += weights[other] * (np.int64(covers[other]) - covered[other])
    return total

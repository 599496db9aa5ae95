"""Fusion of selective search and MultiBox: each finds what the other misses.

GoogLeNet (arXiv 1409.4842, section 8) halves the boxes of selective search by larger superpixels and adds 200
of MultiBox: 60 % of R-CNN's boxes, and more of the objects. Letters for shapes: A, B and R boxes.
"""

import numpy as np
from numpy.typing import NDArray

from detector.structures.boxes import Boxes, iou
from detector.structures.proposals import Proposals

SAME_IOU = 0.85
"""Two boxes that overlap by more are one region to the classifier: the later one is dropped."""


MULTIBOX_BOXES = 3
"""Boxes of MultiBox for each one of selective search: among the first hundred MultiBox's cover more, small
objects above all; selective search adds large ones that fit closely (docs/proposals.md)."""


def fuse(search: Proposals, multibox: Proposals, same_iou: float = SAME_IOU) -> Proposals:
    """Return the boxes of both, each in its own order, so that a prefix is still a good budget: in turn
    :data:`MULTIBOX_BOXES` of MultiBox and one of selective search.

    A box that nearly equals one of the other source before it is left out; each source is trusted to have
    left out its own near-duplicates as far as it wants to.
    """
    order, first = _in_turn(len(multibox), len(search))
    both = [
        np.concatenate([getattr(multibox, name), getattr(search, name)])[order]
        for name in ("boxes", "source", "objectness")
    ]
    boxes, source, objectness = both
    kept = ~_repeats(boxes, first, same_iou)
    return Proposals(boxes[kept], source[kept], objectness[kept])


def _in_turn(a: int, b: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return an order [A+B] of A and then B boxes that takes some of the A and one of the B in turn, and
    which are of the A."""
    first, second = np.arange(a), np.arange(b)
    turn = MULTIBOX_BOXES + 1
    place = np.concatenate([first + first // MULTIBOX_BOXES, turn * second + MULTIBOX_BOXES])
    order = np.argsort(place, kind="stable")
    return order, order < a


def _repeats(boxes: Boxes, first: NDArray[np.bool_], same_iou: float) -> NDArray[np.bool_]:
    """Mark boxes [R,4] that nearly equal one before them of the other source; ``first`` [R] says which."""
    repeated = np.zeros(len(boxes), np.bool_)
    a, b = np.flatnonzero(first), np.flatnonzero(~first)
    near = iou(boxes[a], boxes[b]) > same_iou  # A x B
    earlier = a[:, None] < b[None, :]
    # A box that is dropped itself still stands for its twin: the twin of the twin would be as near.
    repeated[b] = (near & earlier).any(axis=0)
    repeated[a] = (near & ~earlier).any(axis=1)
    return repeated

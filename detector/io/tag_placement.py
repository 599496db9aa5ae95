"""Placement of the tags of detections on their image: free places first, in a bounded number of tries.

Letters for shapes: P places.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

Span = tuple[int, int, int, int]
"""A box ``x1, y1, x2, y2`` in whole pixels, the end excluded."""

MOST_IN_COLUMN = 48
"""Most places down a box's left side, however tall it is. They suffice to stack tags without overlap in
images up to four times as tall as wide.
"""


def place_tags(
    boxes: Sequence[Span],
    widths: Sequence[int],
    height: int,
    size: tuple[int, int],
    check: Callable[[], None],
) -> list[Span]:
    """Place a tag for each box, most important first: where it is free, else where it covers least.

    Returns the tags' boxes in the order of ``boxes``. ``widths`` are those of the tags, ``height`` is that of
    every tag, ``size`` is the image's width and height, all in pixels; no tag may be larger than the image.
    ``check`` is called before each tag; what it raises ends the work.
    """
    taken = np.empty((len(boxes), 4), np.int64)
    for n, (box, width) in enumerate(zip(boxes, widths, strict=True)):
        check()
        places = tag_places(box, width, height, size)
        taken[n] = places[_shared(places, taken[:n]).argmin()]  # the first of equals
    return [(x1, y1, x2, y2) for x1, y1, x2, y2 in taken.tolist()]


def tag_places(box: Span, width: int, height: int, size: tuple[int, int]) -> NDArray[np.int64]:
    """Return places [P,4] of a box's tag inside the image, best first; P is at most MOST_IN_COLUMN + 8.

    They are, in this order: at the box's top corners, above and inside it; at its bottom corners, below and
    inside it; down its left side.
    """
    x1, y1, x2, y2 = box
    anchors = [(x1, y1 - height), (x1, y1), (x2 - width, y1 - height), (x2 - width, y1)]
    anchors += [(x1, y2), (x1, y2 - height), (x2 - width, y2), (x2 - width, y2 - height)]
    step = max(height, -(-(y2 - y1) // MOST_IN_COLUMN))
    anchors += [(x1, y) for y in range(y1 + height, y2 - height, step)]
    inside = [(x, y) for x, y in anchors if 0 <= y <= size[1] - height]
    corner = np.array(inside or [(x1, 0)], np.int64)
    corner[:, 0] = corner[:, 0].clip(0, size[0] - width)
    return np.concatenate([corner, corner + np.array((width, height))], axis=1)


def _shared(places: NDArray[np.int64], taken: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the area [P] in pixels that each of the places [P,4] shares with the tags placed so far."""
    first = np.maximum(places[:, None, :2], taken[None, :, :2])
    last = np.minimum(places[:, None, 2:], taken[None, :, 2:])
    return np.asarray((last - first).clip(0).prod(axis=2).sum(axis=1))

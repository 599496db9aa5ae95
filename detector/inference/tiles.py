"""Tiles: parts of a large image that are looked at one by one, for objects too small in the whole.

The image is cut into overlapping tiles, each is looked at as an image of its own beside the whole image, and
what they find is merged (Akyon et al., "Slicing Aided Hyper Inference", arXiv 2202.06934). Letters for
shapes: T tiles, D detections.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.options import MIN_TILE
from detector.structures.boxes import Boxes, as_boxes
from detector.structures.detections import Detections
from detector.structures.nms import suppress

OVERLAP = 0.25
"""Share of a tile's side that the next one shows again: an object up to this size is whole in one of them."""

MAX_TILES = 100
"""Most tiles of an image: more would take minutes."""

_MOST = 0.6  # share of a tile's side from which on the whole image shows an object well
_BORDER = 3.0  # a box that ends so few pixels from a border between tiles is cut by it


def check_tile(side: int) -> None:
    """Raises ParameterError for a side in pixels that tiles cannot have."""
    if not isinstance(side, int) or isinstance(side, bool) or side < MIN_TILE:
        raise ParameterError(f"tile must be a whole number of pixels from {MIN_TILE}, got {side!r}")


def tiles_of(width: int, height: int, side: int) -> Boxes:
    """Return the tiles [T,4] of an image, whole pixels, spread evenly; none where one would be all of it.

    Raises ParameterError for more than :data:`MAX_TILES`.
    """
    check_tile(side)
    columns, rows = (_starts(length, side) for length in (width, height))
    if len(columns) * len(rows) == 1:
        return as_boxes([])
    if len(columns) * len(rows) > MAX_TILES:
        raise ParameterError(
            f"tiles of {side} pixels would be {len(columns) * len(rows)} in a picture of {width} x {height}, "
            f"and {MAX_TILES} is the most: ask for larger tiles"
        )
    return as_boxes([(x, y, min(x + side, width), min(y + side, height)) for y in rows for x in columns])


def _starts(length: int, side: int) -> list[int]:
    """Return where tiles begin along an axis: the fewest that overlap by :data:`OVERLAP` at least."""
    if length <= side:
        return [0]
    count = int(np.ceil((length - side) / (side * (1 - OVERLAP)))) + 1
    return np.linspace(0, length - side, count).round().astype(int).tolist()


def merge_tiles(
    whole: Detections,
    tiles: Boxes,
    parts: Sequence[Detections],
    width: int,
    height: int,
    *,
    nms_iou: float,
    max_detections: int,
) -> Detections:
    """Merge the detections of an image with those of its tiles [T,4], each in the tile's own pixels.

    An object that a border between tiles cuts is left to the tile that shows all of it, or to the whole
    image; so is one that fills most of a tile, of which parts may be taken for the object. Then the best of
    those that overlap by ``nms_iou`` stays, class by class.
    """
    boxes, labels, scores = [whole.boxes], [whole.labels], [whole.scores]
    for tile, part in zip(tiles, parts, strict=True):
        moved = part.boxes + np.tile(tile[:2], 2)
        uncut = ~_is_cut(moved, tile, width, height)
        boxes.append(moved[uncut])
        labels.append(part.labels[uncut])
        scores.append(part.scores[uncut])
    every = np.concatenate(boxes).astype(np.float32)
    label, score = np.concatenate(labels), np.concatenate(scores)
    kept = suppress(every, score, nms_iou, label)[:max_detections]
    return Detections(every[kept], label[kept], score[kept])


def _is_cut(boxes: Boxes, tile: Boxes, width: int, height: int) -> NDArray[np.bool_]:
    """Tell which boxes [D,4] of the image end at a side of their tile [4] that is no side of the image, or
    fill most of a tile that has such a side."""
    image = np.array([0, 0, width, height], np.float32)
    inner = np.abs(tile - image) > 0  # left, top, right, bottom
    ends = (np.abs(boxes - tile) <= _BORDER) & inner
    fills = (boxes[:, 2:] - boxes[:, :2] > _MOST * (tile[2:] - tile[:2])) & (inner[:2] | inner[2:])
    return (ends.any(axis=1) | fills.any(axis=1)).astype(np.bool_)

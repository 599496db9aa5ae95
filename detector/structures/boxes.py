"""Box algebra.

A box is ``x1, y1, x2, y2`` in absolute pixels, float32, origin top left, continuous: a box over a whole
image of width W and height H is ``0, 0, W, H``. Letters for shapes: N and M boxes.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError

Boxes = NDArray[np.float32]


# A regressed side longer than this many times its region's is noise: exp() would overflow on it.
MAX_LOG_SCALE = float(np.log(1000.0 / 16.0))


def as_boxes(boxes: object) -> Boxes:
    """Return boxes as a float32 array [N,4]; an empty sequence gives [0,4].

    Raises ParameterError if the shape is another one or a coordinate is not finite.
    """
    array = np.asarray(boxes, dtype=np.float32)
    if array.size == 0:
        array = array.reshape(-1, 4) if array.ndim == 2 and array.shape[1] == 4 else array.reshape(0, 4)
    if array.ndim != 2 or array.shape[1] != 4:
        raise ParameterError(f"boxes must have shape [N,4] (x1, y1, x2, y2), got {list(array.shape)}")
    if not np.isfinite(array).all():
        raise ParameterError("boxes must be finite numbers")
    return array


def area(boxes: Boxes) -> NDArray[np.float32]:
    """Return the areas [N] of boxes [N,4] in square pixels; 0 where a side is not positive."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0)
    return sides[:, 0] * sides[:, 1]


def intersection(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Return the shared areas [N,M] of boxes a [N,4] and b [M,4]."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])  # N x M x 2
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.maximum(high - low, 0)
    return sides[..., 0] * sides[..., 1]


def iou(a: Boxes, b: Boxes) -> NDArray[np.float32]:
    """Return the intersection over union [N,M] of boxes a [N,4] and b [M,4]; 0 where both are empty.

    In float32, enough to choose regions by. Tensors have :func:`torchvision.ops.box_iou`.
    """
    return _divide_by_union(intersection(a, b), area(a)[:, None], area(b)).astype(np.float32, copy=False)


def exact_iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Return the intersection over union [N,M] as :func:`iou`, in float64, for rules that compare with a
    threshold.

    Areas of whole-pixel boxes are exact in float32, so an IoU of just the threshold is told from one below.
    """
    shared = intersection(a, b).astype(np.float64)
    return _divide_by_union(shared, area(a).astype(np.float64)[:, None], area(b))


def iou_of_sides(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the intersection over union [N,M] of boxes with one centre, given by widths and heights
    [N,2] and [M,2]."""
    shared = np.minimum(a[:, None], b[None]).prod(axis=2)
    return _divide_by_union(shared, a.prod(axis=1)[:, None], b.prod(axis=1))


def clip(boxes: Boxes, width: float, height: float) -> Boxes:
    """Return boxes [N,4] cut to the picture ``0, 0, width, height``; a box outside becomes one of zero
    area."""
    limit = np.array([width, height, width, height], dtype=np.float32)
    return np.clip(boxes, 0, limit)


def flip(boxes: Boxes, width: float) -> Boxes:
    """Return boxes [N,4] of the picture mirrored left to right."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def encode(regions: Boxes, targets: Boxes) -> NDArray[np.float32]:
    """Return offsets [N,4] that move each region onto its target, both [N,4] with positive sides.

    ``dx, dy`` in units of the region's sides, ``dw, dh`` as logarithms (R-CNN, arXiv 1311.2524,
    appendix C).
    """
    centre, size = _centre_and_size(regions)
    target_centre, target_size = _centre_and_size(targets)
    return np.concatenate([(target_centre - centre) / size, np.log(target_size / size)], axis=1)


def decode(regions: Boxes, deltas: NDArray[np.float32]) -> Boxes:
    """Return boxes [N,4] from regions [N,4] and offsets [N,4]: the inverse of :func:`encode`."""
    centre, size = _centre_and_size(regions)
    centre = centre + deltas[:, :2] * size
    size = size * np.exp(np.clip(deltas[:, 2:], -MAX_LOG_SCALE, MAX_LOG_SCALE))
    return np.concatenate([centre - size / 2, centre + size / 2], axis=1).astype(np.float32)


def _centre_and_size(boxes: Boxes) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    size = boxes[:, 2:] - boxes[:, :2]
    return (boxes[:, :2] + size / 2).astype(np.float32), size


def from_corners(corners: NDArray[np.float64], first_pixel: int = 0) -> Boxes:
    """Return boxes [N,4] from corners [N,4]: xmin, ymin, xmax, ymax, both pixels part of the object.

    ``first_pixel`` is the number that the file gives to the leftmost and topmost pixel.
    """
    shift = np.array([0, 0, 1, 1]) - first_pixel
    return (corners + shift).astype(np.float32)


def to_corners(boxes: Boxes, first_pixel: int = 0) -> NDArray[np.int64]:
    """Return whole-pixel corners [N,4] of boxes [N,4], at least one pixel each way: the inverse of
    from_corners."""
    edges = np.rint(boxes).astype(np.int64)
    first, last = edges[:, :2], edges[:, 2:] - 1
    return np.concatenate([first, np.maximum(first, last)], axis=1) + first_pixel


def _divide_by_union(shared: NDArray[Any], area_a: NDArray[Any], area_b: NDArray[Any]) -> NDArray[Any]:
    union = area_a + area_b - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

"""Non-maximum suppression: of boxes that overlap, the best stays.

Letters for shapes: N boxes, K of them kept.
"""

import numpy as np
from numpy.typing import NDArray

from detector.jit_cache import cached_njit
from detector.structures.boxes import Boxes


def suppress(
    boxes: Boxes,
    scores: NDArray[np.float32],
    max_iou: float,
    labels: NDArray[np.integer] | None = None,
) -> NDArray[np.int64]:
    """Return the numbers [K] of those of boxes [N,4] that no better one overlaps by more than ``max_iou``.

    Best first; of equal scores [N] the earlier box is the better one. With ``labels`` [N], boxes of different
    labels do not suppress each other. Greedy, as in R-CNN (arXiv 1311.2524, section 2).
    """
    order = np.argsort(-scores, kind="stable")
    ordered = np.ascontiguousarray(boxes[order], np.float32)
    kinds = np.zeros(len(order), np.int64) if labels is None else labels[order].astype(np.int64)
    return order[_kept(ordered, kinds, np.float32(max_iou))]


@cached_njit(nogil=True)
def _kept(boxes, labels, max_iou):  # type: ignore[no-untyped-def]
    """Mark [N] which of boxes [N,4], best first, are kept."""
    count = len(boxes)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = np.ones(count, np.bool_)
    for i in range(count):
        if not kept[i]:
            continue
        for j in range(i + 1, count):
            if not kept[j] or labels[j] != labels[i]:
                continue
            width = min(boxes[i, 2], boxes[j, 2]) - max(boxes[i, 0], boxes[j, 0])
            height = min(boxes[i, 3], boxes[j, 3]) - max(boxes[i, 1], boxes[j, 1])
            if width <= 0 or height <= 0:
                continue
            shared = width * height
            if shared > max_iou * (areas[i] + areas[j] - shared):
                kept[j] = False
    return kept

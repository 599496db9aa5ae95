"""Intersection over union as precisely as a rule with a threshold needs it."""

import numpy as np
from numpy.typing import NDArray

from detector.structures.boxes import Boxes, area, intersection


def exact_iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Intersection over union [N,M] in float64 of boxes a [N,4] and b [M,4]; 0 where they share nothing.

    Areas of whole-pixel boxes are exact in float32, so an IoU of just the threshold is told from one below.
    """
    shared = intersection(a, b).astype(np.float64)
    union = area(a).astype(np.float64)[:, None] + area(b) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)

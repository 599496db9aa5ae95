"""Average precision by the rules of PASCAL VOC.

Everingham et al., "The PASCAL Visual Object Classes Challenge", IJCV 2010, section 4.2, and ``VOCevaldet.m``
of the development kits of 2007 and 2010. Letters for shapes: D detections and G ground truths of one class in
one picture.
"""

import numpy as np
from numpy.typing import NDArray

from detector.evaluation.average_precision import average_precision, eleven_point_precision
from detector.evaluation.matching import Rule
from detector.structures.boxes import Boxes, exact_iou

_IOU = 0.5


def iou_thresholds(boxes: Boxes) -> NDArray[np.float64]:
    """Return the IoU [G] at which each ground truth counts as found: 0.5, itself included
    (``ov>=minoverlap``)."""
    return np.full(len(boxes), _IOU)


def match(boxes: Boxes, ground_truth: Boxes, difficult: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return which ground truth [G,4] each detection [D,4], best first, finds: indices [D], -1 for none.

    Each detection looks at the ground truth that it overlaps most, the first of equals, and at no other: at a
    taken one it is a duplicate, even if another would do. A ``difficult`` one is never taken.
    """
    found = np.full(len(boxes), -1, np.int64)
    if not len(ground_truth):
        return found
    iou = exact_iou(boxes, ground_truth)  # D x G
    best = iou.argmax(axis=1)
    free = np.ones(len(ground_truth), np.bool_)
    for index in np.flatnonzero(iou.max(axis=1) >= _IOU):
        truth = best[index]
        if free[truth]:
            found[index] = truth
            free[truth] = difficult[truth]
    return found


VOC_2007 = Rule("VOC 2007", iou_thresholds, match, eleven_point_precision, leaves_difficult=True)
"""Eleven points, as published figures on VOC 2007 have it."""


VOC = Rule("VOC", iou_thresholds, match, average_precision, leaves_difficult=True)
"""The area under the curve, the rule since 2010."""

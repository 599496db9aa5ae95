"""Average precision by the rules of the ILSVRC detection task.

ILSVRC2014 development kit, section 2.3 and ``eval_detection.m``; Russakovsky et al., arXiv 1409.0575,
section 4.3. Letters for shapes: D detections and G ground truths of one class in one picture.
"""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from detector.datasets.record import Record
from detector.evaluation.by_class import DetEvaluation, Rule, evaluate
from detector.evaluation.overlaps import exact_iou
from detector.evaluation.precision_recall import average_precision
from detector.structures.boxes import Boxes
from detector.structures.detections import Detections

_IOU = 0.5
_TOLERANCE = 10  # pixels that a drawn box may be longer and wider than a small object


def evaluate_det(
    ground_truth: Sequence[Record],
    detections: Mapping[str, Detections],
    num_classes: int,
    blacklist: Collection[tuple[str, int]] = frozenset(),
) -> DetEvaluation:
    """Measure detections by the rule of ILSVRC: :func:`detector.evaluation.by_class.evaluate` says more."""
    return evaluate(ground_truth, detections, num_classes, ILSVRC, blacklist)


def iou_thresholds(boxes: Boxes) -> NDArray[np.float64]:
    """The IoU [G] at which each ground truth counts as found: 0.5, less for objects under about 25 pixels."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).T
    return np.minimum(_IOU, width * height / ((width + _TOLERANCE) * (height + _TOLERANCE)))


def match(boxes: Boxes, ground_truth: Boxes, difficult: NDArray[np.bool_] | None = None) -> NDArray[np.int64]:
    """Which ground truth [G,4] each detection [D,4], best first, finds: indices [D], -1 for none.

    All are of one class and one picture. Each detection in turn takes, among the ground truths not yet taken
    whose own threshold its IoU reaches, the one with the highest IoU: the first of equals. ILSVRC knows no
    ``difficult`` objects.
    """
    iou = exact_iou(boxes, ground_truth)  # D x G
    iou[iou < iou_thresholds(ground_truth)] = 0
    taken = np.full(len(boxes), -1, np.int64)
    for index in np.flatnonzero(iou.any(axis=1)):
        best = int(iou[index].argmax())
        if iou[index, best] > 0:
            taken[index] = best
            iou[:, best] = 0
    return taken


ILSVRC = Rule("ILSVRC", iou_thresholds, match, average_precision)
"""IoU by object size, the best free object, the area under the curve."""

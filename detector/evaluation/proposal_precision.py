"""Average precision of proposals: how well they are ordered by the objectness they come with.

Recall asks only whether an object is covered; a method that ranks its boxes has to be asked for its ranking,
too (Szegedy et al., "Scalable, High-Quality Object Detection", arXiv 1412.1441, which reports this figure).
Letters for shapes: R proposals of one image.
"""

from collections.abc import Sequence

import numpy as np

from detector.errors import ParameterError
from detector.evaluation.average_precision import average_precision, precision_recall
from detector.evaluation.voc import match
from detector.structures.boxes import Boxes
from detector.structures.nms import suppress
from detector.structures.proposals import Proposals

NMS_IOU = 0.5
"""Proposals that overlap a surer one by more are left out: as detections they are of the same object."""


def proposal_average_precision(ground_truth: Sequence[Boxes], proposals: Sequence[Proposals]) -> float:
    """Return the AP of proposals as detections of objects of whatever class, in 0..1.

    Proposals [R] of all images are ordered by objectness, those that overlap a surer one of their image by
    more than :data:`NMS_IOU` left out; each is right that finds a ground truth [*,4] of its image, by the
    rule of PASCAL VOC at an IoU of 0.5. What nobody labelled counts as background: partly labelled images
    give too low a figure. NaN without ground truth, or where a proposal has no objectness, as selective
    search's.

    Raises ParameterError if the sequences do not agree.
    """
    if len(ground_truth) != len(proposals):
        raise ParameterError(f"{len(ground_truth)} pictures of ground truth, {len(proposals)} of proposals")
    if any(np.isnan(found.objectness).any() for found in proposals):
        return float("nan")
    scores, correct = [np.zeros(0, np.float32)], [np.zeros(0, np.bool_)]
    for truths, found in zip(ground_truth, proposals, strict=True):
        kept = suppress(found.boxes, found.objectness, NMS_IOU)
        scores.append(found.objectness[kept])
        correct.append(match(found.boxes[kept], truths, np.zeros(len(truths), np.bool_)) >= 0)
    objects = sum(map(len, ground_truth))
    return average_precision(precision_recall(np.concatenate(scores), np.concatenate(correct), objects))

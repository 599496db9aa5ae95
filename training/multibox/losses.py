"""The losses of MultiBox, and the matching of priors to objects.

Erhan et al., "Scalable Object Detection using Deep Neural Networks" (CVPR 2014), section 3. Letters for
shapes: N images, K priors, G objects of an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from detector.models.multibox_head import SCALE, objectness_and_offsets
from detector.structures.boxes import Boxes, decode, encode, iou, iou_of_pairs
from training.trainer.distributed import ProcessGroup

_FREE = -1  # matched to no object: its confidence should be 0
_IGNORED = -2  # near an object, but not matched: its confidence does not count


@dataclass(frozen=True)
class MultiBoxLossWeights:
    """Weights of the loss, and thresholds of the matching.

    ``location`` is the paper's alpha. Beside the one prior of the bipartite matching, all with an IoU of
    ``positive`` are matched to an object; with ``ignored`` or more and no match a prior's confidence does not
    count. ``unlabelled`` is the weight of free priors where objects may stand unlabelled. ``focus`` weighs
    each confidence by its error to this power (0: the paper's log loss).
    """

    location: float = 0.3
    positive: float = 0.6
    ignored: float = 0.4
    unlabelled: float = 0.25
    focus: float = 2.0


class MultiBoxLosses(NamedTuple):
    """The parts of the loss, each a scalar, and their weighted sum."""

    total: Tensor
    confidence: Tensor
    location: Tensor


def multibox_losses(
    output: Tensor,
    anchors: Boxes,
    objects: Sequence[Boxes],
    partial: Sequence[bool],
    weights: MultiBoxLossWeights,
    world: ProcessGroup | None = None,
) -> MultiBoxLosses:
    """Compute confidence and location loss of outputs [N,K,5], per matched prior.

    ``objects`` holds the boxes [G,4] of each image, in the pixels of the priors [K,4]; ``partial`` says where
    others may stand unlabelled. The target of a matched prior's confidence is the IoU that its moved box has
    with the object: confidences then order boxes by how well they fit. Of several processes each has a share
    of the minibatch: the losses of all sum up to that of the whole.
    """
    objectness, offsets = (part.detach().cpu().numpy() for part in objectness_and_offsets(output.float()))
    target, weight = np.zeros(objectness.shape, np.float32), np.ones(objectness.shape, np.float32)
    image, prior, wanted = [], [], []
    for n, boxes in enumerate(objects):
        object_of = match(anchors, boxes, objectness[n], offsets[n], weights)
        matched = np.flatnonzero(object_of >= 0)
        truth = boxes[object_of[matched]]
        target[n, matched] = iou_of_pairs(decode(anchors[matched], offsets[n][matched]), truth)
        weight[n, object_of == _FREE] = weights.unlabelled if partial[n] else 1.0
        weight[n, object_of == _IGNORED] = 0.0
        image.append(np.full(len(matched), n))
        prior.append(matched)
        wanted.append(encode(anchors[matched], truth) / np.array(SCALE, np.float32))
    count = torch.tensor(float(sum(map(len, prior))), device=output.device)
    count = (world or ProcessGroup()).total(count).clamp_min(1)
    confidence = _focused(
        output[..., 0].float(),
        torch.from_numpy(target).to(output.device),
        torch.from_numpy(weight).to(output.device),
        weights.focus,
    )
    index = (torch.from_numpy(np.concatenate(part)).to(output.device) for part in (image, prior))
    predicted = output[..., 1:].float()[tuple(index)]  # matched priors x 4
    # Squared as in the paper, but not without bound: a box that must move far would outweigh all others.
    location = F.smooth_l1_loss(
        predicted, torch.from_numpy(np.concatenate(wanted)).to(output.device), reduction="sum", beta=2.0
    )
    confidence, location = confidence / count, location / count
    return MultiBoxLosses(confidence + weights.location * location, confidence, location)


def match(
    anchors: Boxes,
    boxes: Boxes,
    objectness: NDArray[np.float32],
    offsets: NDArray[np.float32],
    weights: MultiBoxLossWeights,
) -> NDArray[np.int64]:
    """Match priors [K,4] to objects [G,4] -> [K]: the object's index, or a negative number for none.

    Bipartite: every object gets one prior near it, at the least total cost. The cost of a pair is the paper's
    loss: alpha times half the squared distance of the offsets, less the logarithm of the confidence. Priors
    that overlap an object well are matched to it as well.
    """
    object_of = np.full(len(anchors), _FREE, np.int64)
    if not len(boxes):
        return object_of
    overlap = iou(anchors, boxes)  # K x G
    best = overlap.max(axis=1)
    object_of[best >= weights.ignored] = _IGNORED
    well = best >= weights.positive
    object_of[well] = overlap[well].argmax(axis=1)
    # Only the priors that overlap some object most can be matched: one far off should not be, whatever its
    # confidence, and hardly any other would win.
    rank = np.partition(-overlap, min(len(boxes) + 8, len(anchors) - 1), axis=0)
    near = np.flatnonzero((-overlap <= rank[min(len(boxes) + 8, len(anchors) - 1)]).any(axis=1))
    cost = np.empty((len(near), len(boxes)))
    for g, box in enumerate(boxes):
        wanted = encode(anchors[near], np.repeat(box[None], len(near), axis=0))
        distance = np.square((wanted - offsets[near]) / np.array(SCALE, np.float32)).sum(axis=1)
        cost[:, g] = weights.location * distance / 2 - np.log(np.maximum(objectness[near], 1e-6))
    rows, columns = linear_sum_assignment(cost)
    object_of[near[rows]] = columns
    return object_of


def _focused(logits: Tensor, target: Tensor, weight: Tensor, focus: float) -> Tensor:
    """Sum up the log losses of confidences against soft targets, each weighed by its error."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = (target - logits.sigmoid()).abs().detach() ** focus
    return (loss * wrong * weight).sum()

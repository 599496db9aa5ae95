"""What MultiBox is trained towards: which prior answers for which object, and what it should say.

Erhan et al., "Scalable Object Detection using Deep Neural Networks" (CVPR 2014), section 3. Letters for
shapes: N pictures, K priors, G objects of a picture.
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

from detector.models.multibox_head import SCALE, split_output
from detector.structures.boxes import Boxes, decode, encode, iou, iou_of_pairs

_FREE = -1


_IGNORED = -2


@dataclass(frozen=True)
class MultiBoxLossWeights:
    """How the loss is put together.

    ``location`` is the paper's alpha. ``positive`` is the overlap from which a prior answers for an object
    beside the one that was matched to it, ``ignored`` that from which nothing is asked of its confidence.
    ``unlabelled`` is how much a free prior counts where objects may stand unlabelled. ``focus`` weighs each
    confidence by how wrong it is to this power (0: the paper's log loss).
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
    priors: Boxes,
    objects: Sequence[Boxes],
    partial: Sequence[bool],
    weights: MultiBoxLossWeights,
) -> MultiBoxLosses:
    """Confidence and location loss of outputs [N,K,5], per answering prior.

    ``objects`` holds the boxes [G,4] of each picture, in the pixels of the priors [K,4]; ``partial`` says
    where others may stand unlabelled. The confidence of a prior that answers is asked to be the IoU that its
    moved box has with the object: confidences then order boxes by how well they fit.
    """
    objectness, offsets = (part.detach().cpu().numpy() for part in split_output(output.float()))
    target, weight = np.zeros(objectness.shape, np.float32), np.ones(objectness.shape, np.float32)
    image, prior, wanted = [], [], []
    for n, boxes in enumerate(objects):
        owner = match(priors, boxes, objectness[n], offsets[n], weights)
        answering = np.flatnonzero(owner >= 0)
        mine = boxes[owner[answering]]
        moved = decode(priors[answering], offsets[n][answering])
        target[n, answering] = iou_of_pairs(moved, mine)
        weight[n, owner == _FREE] = weights.unlabelled if partial[n] else 1.0
        weight[n, owner == _IGNORED] = 0.0
        image.append(np.full(len(answering), n))
        prior.append(answering)
        wanted.append(encode(priors[answering], mine) / np.array(SCALE, np.float32))
    answers = max(sum(map(len, prior)), 1)
    confidence = _focused(
        output[..., 0].float(),
        torch.from_numpy(target).to(output.device),
        torch.from_numpy(weight).to(output.device),
        weights.focus,
    )
    at = (torch.from_numpy(np.concatenate(part)).to(output.device) for part in (image, prior))
    said = output[..., 1:].float()[tuple(at)]  # answers x 4
    asked = torch.from_numpy(np.concatenate(wanted)).to(output.device)
    # Squared as in the paper, but not without bound: a box that must move far would outweigh all others.
    location = F.smooth_l1_loss(said, asked, reduction="sum", beta=2.0)
    confidence, location = confidence / answers, location / answers
    return MultiBoxLosses(confidence + weights.location * location, confidence, location)


def match(
    priors: Boxes,
    boxes: Boxes,
    objectness: NDArray[np.float32],
    offsets: NDArray[np.float32],
    weights: MultiBoxLossWeights,
) -> NDArray[np.int64]:
    """Which object each prior answers for, [K]: an index below G, or a negative number for none.

    Bipartite: every object gets one prior of its own near it, and the sum of what this costs is the least
    there is. An answer costs the paper's loss: alpha times half the squared distance of the offsets, less the
    logarithm of the confidence. Priors that overlap an object well answer for it as well.
    """
    owner = np.full(len(priors), _FREE, np.int64)
    if not len(boxes):
        return owner
    overlap = iou(priors, boxes)  # K x G
    best = overlap.max(axis=1)
    owner[best >= weights.ignored] = _IGNORED
    well = best >= weights.positive
    owner[well] = overlap[well].argmax(axis=1)
    # Only the priors that overlap some object most can be matched: one far off is not to answer, however sure
    # it is, and hardly any other would win.
    rank = np.partition(-overlap, min(len(boxes) + 8, len(priors) - 1), axis=0)
    near = np.flatnonzero((-overlap <= rank[min(len(boxes) + 8, len(priors) - 1)]).any(axis=1))
    cost = np.empty((len(near), len(boxes)))
    for g, box in enumerate(boxes):
        asked = encode(priors[near], np.repeat(box[None], len(near), axis=0))
        distance = np.square((asked - offsets[near]) / np.array(SCALE, np.float32)).sum(axis=1)
        cost[:, g] = weights.location * distance / 2 - np.log(np.maximum(objectness[near], 1e-6))
    rows, columns = linear_sum_assignment(cost)
    owner[near[rows]] = columns
    return owner


def _focused(logits: Tensor, target: Tensor, weight: Tensor, focus: float) -> Tensor:
    """The sum of the log losses of confidences against soft targets, each weighed by its error."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = (target - logits.sigmoid()).abs().detach() ** focus
    return (loss * wrong * weight).sum()

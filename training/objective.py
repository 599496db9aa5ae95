"""What the region network is trained towards.

Letters for shapes: B regions of a minibatch, C classes, S rows of the classifier.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from detector.region_network import RegionNetwork, RegionOutput
from training.feature_cache import WHOLE
from training.sampling import POSITIVE_IOU

FULL_IOU = 0.8
"""From here on a region shows its object as well as the object's own box does."""


@dataclass(frozen=True)
class LossWeights:
    """How much offsets and remembering count beside naming the region."""

    box: float = 1.0
    distillation: float = 0.5


class Targets(NamedTuple):
    """What is asked of a minibatch.

    labels [B] (whole pictures are :data:`WHOLE`), overlaps [B] the IoU with the nearest object, deltas [B,4]
    with NaN where there are none, teacher [B,S'] the untrained classifier's rows.
    """

    labels: Tensor
    overlaps: Tensor
    deltas: Tensor
    teacher: Tensor


class Losses(NamedTuple):
    """The parts of the loss, each a scalar, and their weighted sum."""

    total: Tensor
    classification: Tensor
    box: Tensor
    distillation: Tensor


def losses(network: RegionNetwork, output: RegionOutput, targets: Targets, weights: LossWeights) -> Losses:
    """Cross entropy of the regions, smooth L1 of the offsets, and divergence from the untrained classifier.

    Whole pictures count for the last part alone. That part keeps what the backbone knows of the 1000 classes
    (Hinton et al., arXiv 1503.02531, at temperature 1): it asks of objects and whole pictures, not of
    background, where the old classifier's word means nothing.
    """
    background = network.pooling.num_classes
    region = targets.labels != WHOLE
    classification = _cross_entropy(
        output.logits[region], targets.labels[region], targets.overlaps[region], background
    )
    remembered = targets.labels != background
    known = targets.teacher.shape[1]
    distillation = classification.new_zeros(())
    if bool(remembered.any()):
        distillation = F.kl_div(
            output.rows[remembered, :known].float().log_softmax(dim=1),
            targets.teacher[remembered].float().log_softmax(dim=1),
            reduction="batchmean",
            log_target=True,
        )
    box = classification.new_zeros(())
    offset = ~targets.deltas.isnan().any(dim=1)
    if network.box_head is not None and bool(offset.any()):
        scale = network.box_head.scale
        box = F.smooth_l1_loss(output.deltas[offset].float() / scale, targets.deltas[offset] / scale)
    total = classification + weights.box * box + weights.distillation * distillation
    return Losses(total, classification, box, distillation)


def _cross_entropy(logits: Tensor, labels: Tensor, overlaps: Tensor, background: int) -> Tensor:
    """Cross entropy [B] against the label in as far as the region fits its object, else against background.

    A positive region that barely fits is asked to be half its class; from FULL_IOU on it is its class wholly.
    So the score tells a tight box from a loose one, which is what suppression goes by. R-CNN reaches the same
    with a second classifier whose positives are the objects' own boxes (appendix B there).
    """
    fit = 0.5 + 0.5 * ((overlaps - POSITIVE_IOU) / (FULL_IOU - POSITIVE_IOU)).clamp(0, 1)
    fit = torch.where(labels == background, 1.0, fit)
    log_posterior = logits.log_softmax(dim=1)
    own = log_posterior.gather(1, labels[:, None])[:, 0]
    return -(fit * own + (1 - fit) * log_posterior[:, background]).mean()

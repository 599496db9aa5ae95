"""What the region network is trained towards.

Letters for shapes: B regions of a minibatch, C classes, S rows of the classifier.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor
from torch.nn import functional as F

from detector.region_network import RegionNetwork, RegionOutput
from training.feature_cache import WHOLE


@dataclass(frozen=True)
class LossWeights:
    """How much offsets and remembering count beside naming the region."""

    box: float = 1.0
    distillation: float = 0.5


class Losses(NamedTuple):
    """The parts of the loss, each a scalar, and their weighted sum."""

    total: Tensor
    classification: Tensor
    box: Tensor
    distillation: Tensor


def losses(
    network: RegionNetwork,
    output: RegionOutput,
    labels: Tensor,
    deltas: Tensor,
    teacher: Tensor,
    weights: LossWeights,
) -> Losses:
    """Cross entropy of the regions, smooth L1 of the offsets, and divergence from the untrained classifier.

    labels [B] (whole pictures are :data:`WHOLE` and count for the last part alone), deltas [B,4] with NaN
    where there are none, teacher [B,S'] the untrained classifier's rows. The last part keeps what the
    backbone knows of the 1000 classes (Hinton et al., arXiv 1503.02531, at temperature 1): it asks of objects
    and whole pictures, not of background, where the old classifier's word means nothing.
    """
    region = labels != WHOLE
    classification = F.cross_entropy(output.logits[region], labels[region])
    remembered = labels != network.pooling.num_classes
    known = teacher.shape[1]
    distillation = F.kl_div(
        output.rows[remembered, :known].float().log_softmax(dim=1),
        teacher[remembered].float().log_softmax(dim=1),
        reduction="batchmean",
        log_target=True,
    )
    box = classification.new_zeros(())
    offset = ~deltas.isnan().any(dim=1)
    if network.box_head is not None and bool(offset.any()):
        scale = network.box_head.scale
        box = F.smooth_l1_loss(output.deltas[offset].float() / scale, deltas[offset] / scale)
    total = classification + weights.box * box + weights.distillation * distillation
    return Losses(total, classification, box, distillation)

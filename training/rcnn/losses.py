"""The losses of the region network.

Each part of the loss is a weighted mean over the regions that count for it. A minibatch may be run in pieces,
on one device or several: divided by the sum of weights of the whole minibatch, the parts of its pieces sum up
to the part of the whole. Letters for shapes: B regions of a minibatch or a piece of one, C classes, S
sub-classes of the classifier.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from tyro.conf import arg

from detector.models.region_network import RegionNetwork, RegionOutput
from detector.structures.boxes import MAX_LOG_SCALE
from training.rcnn.sampling import POSITIVE_IOU, UNKNOWN, WHOLE
from training.trainer.optimization import ANY, SHARE, check_ranges


@dataclass(frozen=True)
class LossWeights:
    """Weights of the parts of the loss beside classification, and how its targets are made.

    Label smoothing is that of Szegedy et al., arXiv 1512.00567, section 7.
    """

    box: Annotated[float, arg(name="box-weight")] = 1.0
    """Weight of the boxes' offsets."""
    fit: Annotated[float, arg(name="fit-weight")] = 1.0
    """Weight of the predicted IoU."""
    distillation: float = 0.5
    """How much keeping the init's knowledge of images counts."""
    auxiliary: float = 0.0
    """Weight of the side classifiers, where their stages are trained."""
    multibox: Annotated[float, arg(name="multibox-weight")] = 1.0
    """Weight of MultiBox's losses, where the stages it reads are trained."""
    full_iou: float = 0.8
    """IoU from which on a region's target is wholly its class, half of it at 0.5; 0.5 is R-CNN's rule."""
    label_smoothing: float = 0.0
    """Share of a target that goes to all classes alike."""
    uncertain: Annotated[float, arg(name="uncertain-weight")] = 0.25
    """Weight of background that may be an object which nobody labelled."""

    def __post_init__(self) -> None:
        """Raises ParameterError for a setting outside its range."""
        check_ranges(
            self, box=ANY, fit=ANY, distillation=ANY, auxiliary=ANY, multibox=ANY, label_smoothing=SHARE
        )


class Targets(NamedTuple):
    """Targets of the regions of a minibatch.

    labels [B] int64: a class, the background label, or below 0 for whole images and objects of unknown class;
    overlaps [B], the IoU with the nearest object; deltas [B,4], NaN where there are none to learn; certain
    [B] bool, false for background that may be an object; teacher [B,S'], the logits of the first S'
    sub-classes before training, which are distilled (S' = 0 for no distillation).
    """

    labels: Tensor
    overlaps: Tensor
    deltas: Tensor
    certain: Tensor
    teacher: Tensor

    def to(self, device: torch.device) -> "Targets":
        """Copy all parts to a device."""
        return Targets(*(part.to(device, non_blocking=True) for part in self))


class RegionWeights(NamedTuple):
    """How much each region counts for each part of the loss, [B] in 0..1 each; or their sums, scalars."""

    classification: Tensor
    box: Tensor
    fit: Tensor
    distillation: Tensor

    def sums(self) -> "RegionWeights":
        """Sum up each part's weights: what its mean is divided by."""
        return RegionWeights(*(weight.sum() for weight in self))


class RegionLosses(NamedTuple):
    """The parts of the loss, each a scalar, and their weighted sum."""

    total: Tensor
    classification: Tensor
    box: Tensor
    fit: Tensor
    distillation: Tensor
    auxiliary: Tensor


def region_weights(targets: Targets, background: int, uncertain: float) -> RegionWeights:
    """Weigh each region for each part of the loss.

    Whole images count for distillation alone. Distillation goes over whole images and objects, not over
    background, of which the old classifier knows nothing. Background that may be an object counts
    ``uncertain`` for classification and nothing for the predicted IoU.
    """
    parts = (
        torch.where(targets.certain, 1.0, uncertain) * (targets.labels != WHOLE),
        ~targets.deltas.isnan().any(dim=1),
        (targets.labels != WHOLE) & targets.certain,
        targets.labels != background,
    )
    return RegionWeights(*(part.float() for part in parts))


def region_losses(
    network: RegionNetwork,
    output: RegionOutput,
    targets: Targets,
    weights: LossWeights,
    *,
    auxiliary: Sequence[Tensor] = (),
    sums: RegionWeights | None = None,
) -> RegionLosses:
    """Compute the parts of the loss, and their weighted sum.

    Cross entropy of the classes, smooth L1 of the offsets, binary cross entropy of the predicted IoU, and the
    divergence from the classifier before training, which keeps what the backbone knows of the 1000 classes
    (Hinton et al., arXiv 1503.02531, at temperature 1). Where a location head moves boxes, classes and IoU go
    by the overlap of the moved box: it is the one that is shown. ``auxiliary`` are the logits [B,C+1] of the
    side classifiers. ``sums`` are the summed weights of the whole minibatch, where this is a piece of one.
    The graph of a part does not depend on what is in the minibatch: each device has gradients of the same
    weights.
    """
    background = network.pooling.num_classes
    per_region = region_weights(targets, background, weights.uncertain)
    sums = sums or per_region.sums()
    overlaps = targets.overlaps
    if network.location_head is not None:
        overlaps = moved_overlaps(output.deltas, targets)

    def mean(values: Tensor, weight: Tensor, weight_sum: Tensor) -> Tensor:
        return torch.where(weight > 0, values * weight, 0).sum() / weight_sum.clamp_min(1)

    def classified(logits: Tensor) -> Tensor:
        values = cross_entropy(logits.float(), targets.labels, overlaps, background, weights)
        return mean(values, per_region.classification, sums.classification)

    classification = classified(output.logits)
    side = sum((classified(logits) for logits in auxiliary), classification.new_zeros(()))
    distilled = targets.teacher.shape[1]
    distillation = classification.new_zeros(())
    if distilled:
        rows = output.sub_classes[:, :distilled].float().log_softmax(dim=1)
        teacher = targets.teacher.float().log_softmax(dim=1)
        divergence = F.kl_div(rows, teacher, reduction="none", log_target=True).sum(dim=1)
        distillation = mean(divergence, per_region.distillation, sums.distillation)
    box = classification.new_zeros(())
    scale = network.offset_scale
    if scale is not None:
        box = mean(box_errors(output.deltas, targets, scale), per_region.box, sums.box)
    fit = classification.new_zeros(())
    if output.predicted_iou is not None:
        error = F.binary_cross_entropy_with_logits(output.predicted_iou.float(), overlaps, reduction="none")
        fit = mean(error, per_region.fit, sums.fit)
    total = (
        classification
        + weights.box * box
        + weights.fit * fit
        + weights.distillation * distillation
        + weights.auxiliary * side
    )
    return RegionLosses(total, classification, box, fit, distillation, side)


def box_errors(deltas: Tensor, targets: Targets, scale: Tensor) -> Tensor:
    """Compute the errors [B] of offsets [B,4]: smooth L1, summed over the four (Fast R-CNN, arXiv 1504.08083,
    equation 2). Those of regions without offsets to learn have no meaning."""
    wanted = targets.deltas.nan_to_num() / scale
    return F.smooth_l1_loss(deltas.float() / scale, wanted, reduction="none").sum(dim=1)


@torch.no_grad()
def moved_overlaps(deltas: Tensor, targets: Targets) -> Tensor:
    """Compute the IoU [B] that regions moved by offsets [B,4] have with their objects; of regions without
    offsets to learn that of the region as it is."""
    moved, wanted = (
        torch.cat([-0.5 * size, 0.5 * size], dim=1) + centre.repeat(1, 2)  # B x 4, the region's sides being 1
        for centre, size in (
            (some[:, :2], some[:, 2:].clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE).exp())
            for some in (deltas.float(), targets.deltas.nan_to_num())
        )
    )
    corner, end = torch.maximum(moved[:, :2], wanted[:, :2]), torch.minimum(moved[:, 2:], wanted[:, 2:])
    shared = (end - corner).clamp_min(0).prod(dim=1)
    areas = [(some[:, 2:] - some[:, :2]).prod(dim=1) for some in (moved, wanted)]
    known = ~targets.deltas.isnan().any(dim=1)
    return torch.where(known, shared / (areas[0] + areas[1] - shared), targets.overlaps)


def cross_entropy(
    logits: Tensor, labels: Tensor, overlaps: Tensor, background: int, weights: LossWeights
) -> Tensor:
    """Compute the cross entropy [B] of logits [B,C+1] against soft targets of class and background.

    The target of a positive region is half its class and half background at :data:`POSITIVE_IOU`, and wholly
    its class from ``full_iou`` on. So the score tells a tight box from a loose one, which suppression
    needs. R-CNN reaches the same with a second classifier whose positives are the objects' boxes alone
    (appendix B there). The target of an object of unknown class is anything but background. Whole images,
    which have no label, get a value without meaning.
    """
    share = torch.ones_like(overlaps)  # of the object's class in the target
    if weights.full_iou > POSITIVE_IOU:
        share = 0.5 + 0.5 * ((overlaps - POSITIVE_IOU) / (weights.full_iou - POSITIVE_IOU)).clamp(0, 1)
        share = torch.where(labels == background, 1.0, share)
    log_posterior = logits.log_softmax(dim=1)
    of_class = log_posterior.gather(1, labels.clamp_min(0)[:, None])[:, 0]
    of_target = share * of_class + (1 - share) * log_posterior[:, background]
    smooth = weights.label_smoothing
    known = -((1 - smooth) * of_target + smooth * log_posterior.mean(dim=1))
    unknown = -log_posterior[:, :background].logsumexp(dim=1)
    return torch.where(labels == UNKNOWN, unknown, known)

"""What the region network is trained towards.

A part of the loss is a mean over the regions that it asks something of. A minibatch may be run in pieces, on
one device or several: given how many regions the whole of it has for each part, the parts of its pieces sum
up to the part of the whole. Letters for shapes: B regions of a minibatch or a piece of one, C classes, S rows
of the classifier.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from detector.models.region_network import RegionNetwork, RegionOutput
from training.common.ranges import ANY, SHARE, check_ranges
from training.rcnn.feature_cache import WHOLE
from training.rcnn.sampling import POSITIVE_IOU, UNKNOWN


@dataclass(frozen=True)
class LossWeights:
    """How much offsets, fit, remembering and the side classifiers count beside naming the region, and how it
    is to be named.

    A region is asked to be wholly its object's class from an overlap of ``full_iou`` on, where it shows the
    object as well as the object's own box does, and half of it at :data:`POSITIVE_IOU`; with no more than
    that it is R-CNN's rule. ``label_smoothing`` is the share of what is asked that goes to all classes alike
    (Szegedy et al., arXiv 1512.00567, section 7). ``unsure`` is how much background counts that may be an
    object which nobody labelled.
    """

    box: float = 1.0
    fit: float = 1.0
    distillation: float = 0.5
    auxiliary: float = 0.0
    full_iou: float = 0.8
    label_smoothing: float = 0.0
    unsure: float = 0.25

    def __post_init__(self) -> None:
        """Raises ParameterError for a setting outside its range."""
        check_ranges(self, box=ANY, fit=ANY, distillation=ANY, auxiliary=ANY, label_smoothing=SHARE)


class Targets(NamedTuple):
    """What is asked of a minibatch.

    labels [B] (below 0 for whole pictures and objects of unknown class), overlaps [B] the
    IoU with the nearest object, deltas [B,4] with NaN where there are none, sure [B] bool false for
    background that may be an object, teacher [B,S'] the untrained classifier's first rows (none where
    nothing is to be remembered).
    """

    labels: Tensor
    overlaps: Tensor
    deltas: Tensor
    sure: Tensor
    teacher: Tensor


class Asked(NamedTuple):
    """How much each region counts for a part of the loss, [B] in 0..1 each; or their sums, a scalar each."""

    classification: Tensor
    box: Tensor
    fit: Tensor
    distillation: Tensor

    def counts(self) -> "Asked":
        """How many regions each part is a mean over."""
        return Asked(*(share.sum() for share in self))


class Losses(NamedTuple):
    """The parts of the loss, each a scalar, and their weighted sum."""

    total: Tensor
    classification: Tensor
    box: Tensor
    fit: Tensor
    distillation: Tensor
    auxiliary: Tensor


def asked(targets: Targets, background: int, unsure: float) -> Asked:
    """What counts for which part.

    Whole pictures count for remembering alone. Remembering is asked of them and of objects, not of
    background, where the old classifier's word means nothing. How well background fits is asked where it is
    sure that it shows no object; that it is background counts less where it is not (``unsure``).
    """
    named = torch.where(targets.sure, 1.0, unsure) * (targets.labels != WHOLE)
    parts = (
        named,
        ~targets.deltas.isnan().any(dim=1),
        (targets.labels != WHOLE) & targets.sure,
        targets.labels != background,
    )
    return Asked(*(part.float() for part in parts))


def losses(
    network: RegionNetwork,
    output: RegionOutput,
    targets: Targets,
    weights: LossWeights,
    *,
    auxiliary: Sequence[Tensor] = (),
    counts: Asked | None = None,
) -> Losses:
    """Cross entropy of the regions, smooth L1 of the offsets, binary cross entropy of the fit (the IoU with
    the nearest object), and divergence from the untrained classifier.

    The last part keeps what the backbone knows of the 1000 classes (Hinton et al., arXiv 1503.02531, at
    temperature 1). ``auxiliary`` are the logits [B,C+1] of the side classifiers. ``counts`` says how many
    regions each part is a mean over, where this is a piece of a minibatch. No part's graph hangs on what is
    in the minibatch: each device has gradients of the same weights.
    """
    background = network.pooling.num_classes
    of = asked(targets, background, weights.unsure)
    counts = counts or of.counts()

    def mean(values: Tensor, share: Tensor, count: Tensor) -> Tensor:
        return torch.where(share > 0, values * share, 0).sum() / count.clamp_min(1)

    def named(logits: Tensor) -> Tensor:
        values = cross_entropy(logits.float(), targets.labels, targets.overlaps, background, weights)
        return mean(values, of.classification, counts.classification)

    classification = named(output.logits)
    side = sum((named(logits) for logits in auxiliary), classification.new_zeros(()))
    known = targets.teacher.shape[1]
    distillation = classification.new_zeros(())
    if known:
        rows = output.sub_classes[:, :known].float().log_softmax(dim=1)
        teacher = targets.teacher.float().log_softmax(dim=1)
        divergence = F.kl_div(rows, teacher, reduction="none", log_target=True).sum(dim=1)
        distillation = mean(divergence, of.distillation, counts.distillation)
    box = classification.new_zeros(())
    if network.box_head is not None:
        scale = network.box_head.scale
        aim = targets.deltas.nan_to_num() / scale
        error = F.smooth_l1_loss(output.deltas.float() / scale, aim, reduction="none")
        box = mean(error.mean(dim=1), of.box, counts.box)
    fit = classification.new_zeros(())
    if output.predicted_iou is not None:
        error = F.binary_cross_entropy_with_logits(
            output.predicted_iou.float(), targets.overlaps, reduction="none"
        )
        fit = mean(error, of.fit, counts.fit)
    total = (
        classification
        + weights.box * box
        + weights.fit * fit
        + weights.distillation * distillation
        + weights.auxiliary * side
    )
    return Losses(total, classification, box, fit, distillation, side)


def cross_entropy(
    logits: Tensor, labels: Tensor, overlaps: Tensor, background: int, weights: LossWeights
) -> Tensor:
    """Cross entropy [B] against the label in as far as the region fits its object, else against background.

    A positive region that barely fits is asked to be half its class; from ``full_iou`` on it is its class
    wholly. So the score tells a tight box from a loose one, which is what suppression goes by. R-CNN reaches
    the same with a second classifier whose positives are the objects' own boxes (appendix B there). A region
    of an object of unknown class is asked to be anything but background. Whole pictures, which have no label,
    get a number without meaning.
    """
    fit = torch.ones_like(overlaps)
    if weights.full_iou > POSITIVE_IOU:
        fit = 0.5 + 0.5 * ((overlaps - POSITIVE_IOU) / (weights.full_iou - POSITIVE_IOU)).clamp(0, 1)
        fit = torch.where(labels == background, 1.0, fit)
    log_posterior = logits.log_softmax(dim=1)
    own = log_posterior.gather(1, labels.clamp_min(0)[:, None])[:, 0]
    asked_for = fit * own + (1 - fit) * log_posterior[:, background]
    smooth = weights.label_smoothing
    named = -((1 - smooth) * asked_for + smooth * log_posterior.mean(dim=1))
    something = -log_posterior[:, :background].logsumexp(dim=1)
    return torch.where(labels == UNKNOWN, something, named)

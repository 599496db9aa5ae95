"""The losses of MultiBox, and the matching of anchors (there: priors) to objects.

Erhan et al., "Scalable Object Detection using Deep Neural Networks" (CVPR 2014), section 3. An image is seen
at several scales: the anchors of all are matched together. Letters for shapes: N images, S scales, K anchors
of all scales, G objects of the image that has most, T anchors near an object.
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
from torchvision.ops import box_iou

from detector.datasets.annotated_image import AnnotatedImage
from detector.models.multibox_head import SCALE, objectness_and_offsets
from detector.structures.boxes import MAX_LOG_SCALE
from training.trainer.distributed import ProcessGroup

MIN_SIDE = 5.0
"""Pixels of the largest scale below which a side of an object is too short: it is neither sought nor free."""

IN_A_CROWD = 0.5
"""An anchor with this share of its area in a crowd is not asked for its confidence."""

_FREE = -1  # matched to no object: its confidence should be 0
_IGNORED = -2  # near an object or in a crowd, but not matched: its confidence does not count

_NEAREST = 16  # anchors that are tried for each object
_FAR = 1e6  # the cost of an anchor that is not tried


@dataclass(frozen=True)
class MultiBoxLossWeights:
    """Weights of the loss, and thresholds of the matching.

    ``location`` is the paper's alpha. Beside the one anchor of the bipartite matching, all with an IoU of
    ``positive`` are matched to an object; with ``ignored`` or more and no match an anchor's confidence does
    not count. ``unlabelled`` is the weight of free anchors where objects may stand unlabelled. ``focus``
    weighs each confidence by its error to this power (0: the paper's log loss).
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


class ObjectsAtScales(NamedTuple):
    """The objects of N images, as they lie in the padded pixels of each scale.

    boxes [S,N,G,4], of which the first ones of each image count: present [N,G] bool; crowds [S,N,C,4], empty
    boxes behind the last; partial [N] bool: others may stand unlabelled.
    """

    boxes: Tensor
    present: Tensor
    crowds: Tensor
    partial: Tensor

    @classmethod
    def of(
        cls, records: Sequence[AnnotatedImage], factors: Sequence[Tensor], padding: int, device: torch.device
    ) -> "ObjectsAtScales":
        """Place the objects of ``records``, of known class or not, by the factors [N,4] of each scale.

        Objects that are too small to be seen at the largest scale are left to themselves, as crowds are.
        """
        largest = factors[-1].numpy()
        kept, crowds = [], []
        for record, factor in zip(records, largest, strict=True):
            objects = np.concatenate([record.boxes, record.unknown])
            sides = (objects[:, 2:] - objects[:, :2]) * factor[:2]
            seen = (sides >= MIN_SIDE).all(axis=1)
            kept.append(objects[seen])
            crowds.append(np.concatenate([record.crowds, objects[~seen]]))
        boxes, present = _stacked(kept)
        ignored, _ = _stacked(crowds)
        places = torch.stack(list(factors))[:, :, None]  # S x N x 1 x 4
        partial = torch.tensor([record.partial for record in records])
        parts = (boxes * places + padding, present, ignored * places + padding, partial)
        return cls(*(part.to(device, non_blocking=True) for part in parts))


def _stacked(boxes: Sequence[NDArray[np.float32]]) -> tuple[Tensor, Tensor]:
    """Stack boxes [g,4] of N images into [N,G,4], zeros behind the last; and which are there, [N,G]."""
    most = max([1, *map(len, boxes)])
    stacked, present = torch.zeros(len(boxes), most, 4), torch.zeros(len(boxes), most, dtype=torch.bool)
    for n, part in enumerate(boxes):
        stacked[n, : len(part)] = torch.from_numpy(np.ascontiguousarray(part, np.float32))
        present[n, : len(part)] = True
    return stacked, present


def multibox_losses(
    outputs: Sequence[Tensor],
    anchors: Sequence[Tensor],
    objects: ObjectsAtScales,
    weights: MultiBoxLossWeights,
    world: ProcessGroup | None = None,
) -> MultiBoxLosses:
    """Compute confidence and location loss, per matched anchor, of outputs [N,k,5] and anchors [k,4] of each
    scale, the latter in its padded pixels.

    The target of a matched anchor's confidence is the IoU that its moved box has with the object: confidences
    then order boxes by how well they fit. Of several processes each has a share of the minibatch: the losses
    of all sum up to that of the whole.
    """
    output = torch.cat(list(outputs), dim=1).float()  # N x K x 5
    with torch.no_grad():
        objectness, offsets = objectness_and_offsets(output)
        object_of = match(anchors, objects, objectness, offsets, weights)  # N x K
        image, anchor = torch.nonzero(object_of >= 0, as_tuple=True)
        truth = objects.boxes[_scale_of(anchors)[anchor], image, object_of[image, anchor]]
        start = torch.cat(list(anchors))[anchor]
        target = torch.zeros_like(objectness)
        target[image, anchor] = _iou_of_pairs(decode(start, offsets[image, anchor]), truth)
        weight = torch.where(objects.partial[:, None] & (object_of == _FREE), weights.unlabelled, 1.0)
        weight = torch.where(object_of == _IGNORED, 0.0, weight)
        wanted = encode(start, truth) / output.new_tensor(SCALE)
        count = (world or ProcessGroup()).total(output.new_tensor(float(len(image)))).clamp_min(1)
    confidence = _focused(output[..., 0], target, weight, weights.focus)
    # Squared as in the paper, but not without bound: a box that must move far would outweigh all others.
    location = F.smooth_l1_loss(output[image, anchor, 1:], wanted, reduction="sum", beta=2.0)
    confidence, location = confidence / count, location / count
    return MultiBoxLosses(confidence + weights.location * location, confidence, location)


def match(
    anchors: Sequence[Tensor],
    objects: ObjectsAtScales,
    objectness: Tensor,
    offsets: Tensor,
    weights: MultiBoxLossWeights,
) -> Tensor:
    """Match anchors to objects -> [N,K]: the object's index, or a negative number for none.

    ``anchors`` are those [k,4] of each scale; objectness is [N,K], offsets [N,K,4]. Bipartite: every object
    gets one anchor near it, at the least total cost. The cost of a pair is the paper's loss: alpha times half
    the squared distance of the offsets, less the logarithm of the confidence. Anchors that overlap an object
    well are matched to it as well.
    """
    n, g = objects.present.shape
    pairs = zip(anchors, objects.boxes, strict=True)
    overlap = torch.cat([box_iou(some, boxes.reshape(-1, 4)) for some, boxes in pairs])  # K x N*G
    overlap = overlap.view(-1, n, g).permute(1, 0, 2)  # N x K x G
    overlap = overlap.masked_fill(~objects.present[:, None], -1.0)
    best, nearest = overlap.max(dim=2)
    object_of = torch.full_like(nearest, _FREE)
    object_of[(best >= weights.ignored) | _in_a_crowd(anchors, objects.crowds)] = _IGNORED
    object_of = torch.where(best >= weights.positive, nearest, object_of)
    # Only anchors that overlap an object most can be matched to it: one far off should not be, whatever its
    # confidence, and hardly any other would win.
    near = overlap.topk(min(_NEAREST, overlap.shape[1]), dim=1).indices  # N x T x G
    rows = torch.arange(n, device=near.device)[:, None, None]
    columns = torch.arange(g, device=near.device)
    truth = objects.boxes[_scale_of(anchors)[near], rows, columns]  # N x T x G x 4
    wanted = encode(torch.cat(list(anchors))[near], truth)
    distance = ((wanted - offsets[rows, near]) / offsets.new_tensor(SCALE)).square().sum(dim=-1)
    cost = weights.location * distance / 2 - objectness[rows, near].clamp_min(1e-6).log()
    chosen = _assign(near.cpu().numpy(), cost.cpu().numpy(), objects.present.cpu().numpy())  # N x G
    image, column = torch.nonzero(objects.present, as_tuple=True)
    anchor = torch.from_numpy(chosen).to(near.device)[image, column]
    there = anchor >= 0
    object_of[image[there], anchor[there]] = column[there]
    return object_of


def _assign(
    near: NDArray[np.int64], cost: NDArray[np.float32], present: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Assign to each object one of its anchors ``near`` [N,T,G], none twice, at the least total cost.

    Returns the anchors [N,G], -1 for objects that are not ``present`` or for which none is left.
    """
    n, _, g = near.shape
    result = np.full((n, g), -1, np.int64)
    for image in range(n):
        columns = np.flatnonzero(present[image])
        if not len(columns):
            continue
        best = cost[image][:, columns].argmin(axis=0)
        anchors = near[image, best, columns]
        if len(np.unique(anchors)) < len(anchors):  # else every object has the one that suits it best
            candidates, row = np.unique(near[image][:, columns], return_inverse=True)
            table = np.full((len(candidates), len(columns)), _FAR)
            table[row.reshape(-1, len(columns)), np.arange(len(columns))] = cost[image][:, columns]
            rows, kept = linear_sum_assignment(table)
            anchors = np.full(len(columns), -1, np.int64)
            anchors[kept] = np.where(table[rows, kept] < _FAR, candidates[rows], -1)
        result[image, columns] = anchors
    return result


def _scale_of(anchors: Sequence[Tensor]) -> Tensor:
    """Return the scale [K] of each anchor."""
    counts = [len(part) for part in anchors]
    return torch.cat([torch.full((count,), scale) for scale, count in enumerate(counts)]).to(
        anchors[0].device
    )


def _in_a_crowd(anchors: Sequence[Tensor], crowds: Tensor) -> Tensor:
    """Tell which anchors of all scales lie in a crowd of an image -> [N,K]; crowds are [S,N,C,4]."""
    inside = []
    for some, there in zip(anchors, crowds, strict=True):
        low = torch.maximum(some[:, None, None, :2], there[..., :2])  # k x N x C x 2
        high = torch.minimum(some[:, None, None, 2:], there[..., 2:])
        shared = (high - low).clamp_min(0).prod(dim=-1).amax(dim=2)  # k x N
        inside.append(shared >= IN_A_CROWD * (some[:, 2:] - some[:, :2]).prod(dim=1)[:, None])
    return torch.cat(inside).T


def encode(regions: Tensor, targets: Tensor) -> Tensor:
    """Return offsets [...,4] as :func:`detector.structures.boxes.encode` does, of boxes with any sides."""
    size, target_size = ((boxes[..., 2:] - boxes[..., :2]).clamp_min(1e-3) for boxes in (regions, targets))
    shift = (targets[..., :2] + targets[..., 2:] - regions[..., :2] - regions[..., 2:]) / 2
    return torch.cat([shift / size, (target_size / size).log()], dim=-1)


def decode(regions: Tensor, offsets: Tensor) -> Tensor:
    """Return boxes [...,4] as :func:`detector.structures.boxes.decode` does."""
    size = regions[..., 2:] - regions[..., :2]
    centre = (regions[..., :2] + regions[..., 2:]) / 2 + offsets[..., :2] * size
    half = size * offsets[..., 2:].clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE).exp() / 2
    return torch.cat([centre - half, centre + half], dim=-1)


def _iou_of_pairs(a: Tensor, b: Tensor) -> Tensor:
    """Return the IoU [M] of boxes [M,4], each with its partner."""
    low, high = torch.maximum(a[:, :2], b[:, :2]), torch.minimum(a[:, 2:], b[:, 2:])
    shared = (high - low).clamp_min(0).prod(dim=1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(dim=1) for boxes in (a, b)]
    return shared / (areas[0] + areas[1] - shared).clamp_min(1e-6)


def _focused(logits: Tensor, target: Tensor, weight: Tensor, focus: float) -> Tensor:
    """Sum up the log losses of confidences against soft targets, each weighed by its error."""
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    wrong = (target - logits.sigmoid()).abs().detach() ** focus
    return (loss * wrong * weight).sum()

"""Which regions of a picture the network is trained on, and what it should say of them.

Letters for shapes: G ground-truth boxes, R regions.

The crops of a picture's training regions: some with context, whole pictures without, some mirrored.
"""

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.datasets.record import Record
from detector.inference.region_crops import Preprocessing, normalise, warp
from detector.io.decoding import RGB
from detector.structures.boxes import Boxes, area, clip, encode, intersection, iou

POSITIVE_IOU = 0.5
"""R-CNN (arXiv 1311.2524, section 2.3): from here on a region is its object's class, below background."""

NEAR_IOU = 0.1
"""A background region that overlaps an object by so much is a part of it, as far as anybody knows."""

IN_A_CROWD = 0.5
"""A region of which so much lies in a crowd shows its objects, not background: COCO's own measure of it."""

UNKNOWN = -2
"""Label of a region that shows an object whose class is not known."""

REGRESSION_IOU = 0.6
"""Appendix C there: only pairs at least this near have offsets worth learning."""


@dataclass(frozen=True)
class Regions:
    """Training regions of one picture.

    boxes [R,4] float32; mirrored [R] bool; labels [R] int64, the background label for background and
    :data:`UNKNOWN` for objects of unknown class; overlaps [R] float32, the IoU with the nearest object;
    deltas [R,4] float32, the offsets onto that object, NaN where there are none to learn; sure [R] bool,
    false for background of a partly labelled picture that is far from all objects: it may be an object that
    nobody labelled.
    """

    boxes: Boxes
    mirrored: NDArray[np.bool_]
    labels: NDArray[np.int64]
    overlaps: NDArray[np.float32]
    deltas: NDArray[np.float32]
    sure: NDArray[np.bool_]


@dataclass(frozen=True)
class SamplingSettings:
    """How many regions of a picture are kept for training, and the ``seed`` of their choice."""

    positives: int = 12
    background: int = 24
    jitter: float = 0.15
    seed: int = 0


def sample_regions(
    record: Record,
    proposals: Boxes,
    background_label: int,
    settings: SamplingSettings,
    rng: np.random.Generator,
) -> Regions:
    """Positive and background regions of one picture, half of them mirrored.

    Candidates are the proposals, the objects' own boxes, and jittered copies of those: there are few objects
    and many ways to be slightly off. Objects share the positives evenly, so that a picture of one dog and
    one flea teaches both. Objects of unknown class are sampled like the others; what lies in a
    crowd is no background.
    """
    proposals = proposals[np.lexsort(proposals.T)]  # the choice must not hang on how they are ranked
    objects = np.concatenate([record.boxes, record.unknown])
    object_labels = np.concatenate([record.labels, np.full(len(record.unknown), UNKNOWN)])
    jittered = jitter_boxes(objects, record, settings, rng)
    candidates = np.concatenate([objects, jittered, proposals])
    overlaps = iou(candidates, objects)  # R x G
    best = overlaps.max(axis=1, initial=0)
    positive = _share_evenly(overlaps, settings.positives, rng)
    rest = np.flatnonzero((best < POSITIVE_IOU) & ~_in_a_crowd(candidates, record.crowds))
    # Jittered boxes are no background: the way down from an object is over-represented there already.
    rest = rest[rest >= len(objects) + len(jittered)]
    background = rng.permutation(rest)[: settings.background]
    chosen = np.concatenate([positive, background])
    boxes = candidates[chosen]
    labels = np.full(len(chosen), background_label, np.int64)
    deltas = np.full((len(chosen), 4), np.nan, np.float32)
    mirrored = rng.random(len(chosen)) < 0.5
    for i in range(len(positive)):
        target = int(overlaps[chosen[i]].argmax())
        labels[i] = object_labels[target]
        if overlaps[chosen[i], target] >= REGRESSION_IOU:
            deltas[i] = encode(boxes[i : i + 1], objects[target : target + 1])[0]
    deltas[mirrored, 0] *= -1
    sure = (labels != background_label) | (best[chosen] >= NEAR_IOU) | (not record.partial)
    return Regions(boxes, mirrored, labels, best[chosen], deltas, sure)


def jitter_boxes(
    boxes: Boxes, record: Record, settings: SamplingSettings, rng: np.random.Generator, copies: int = 8
) -> Boxes:
    """``copies`` of each box [G,4], sides moved by up to ``jitter`` of its size -> at most [copies*G,4]."""
    repeated = np.repeat(boxes, copies, axis=0)
    sides = np.tile(repeated[:, 2:] - repeated[:, :2], 2)
    shift = rng.uniform(-settings.jitter, settings.jitter, repeated.shape).astype(np.float32)
    moved = clip(repeated + shift * sides, record.width, record.height)
    return moved[((moved[:, 2:] - moved[:, :2]) >= 2).all(axis=1)]


def _in_a_crowd(boxes: Boxes, crowds: Boxes) -> NDArray[np.bool_]:
    """Which boxes [R,4] lie in one of the crowds [K,4] with :data:`IN_A_CROWD` of their area or more."""
    inside = intersection(boxes, crowds).max(axis=1, initial=0)
    return (inside > 0) & (inside >= IN_A_CROWD * area(boxes))


def _share_evenly(overlaps: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Up to ``count`` indices of positives among overlaps [R,G], taken from the objects in turn."""
    owner = overlaps.argmax(axis=1) if overlaps.shape[1] else np.zeros(len(overlaps), np.int64)
    positive = np.flatnonzero(overlaps.max(axis=1, initial=0) >= POSITIVE_IOU)
    positive = rng.permutation(positive)
    turn = np.zeros(len(positive), np.int64)
    for target in range(overlaps.shape[1]):
        mine = owner[positive] == target
        turn[mine] = np.arange(mine.sum())
    return positive[np.argsort(turn, kind="stable")][:count]


def crops_of(
    image: RGB,
    boxes: Boxes,
    whole: NDArray[np.bool_],
    mirrored: NDArray[np.bool_],
    preprocessing: Preprocessing,
    device: torch.device,
) -> Tensor:
    """Crops [R,3,224,224] of boxes [R,4] in a picture [H,W,3], float32 on the device, in their order.

    ``whole`` [R] are cut without context, ``mirrored`` [R] are flipped.
    """
    picture = normalise(image, preprocessing, device)
    crops = picture.new_empty(len(boxes), 3, preprocessing.size, preprocessing.size)
    for chosen, how in ((~whole, preprocessing), (whole, replace(preprocessing, context=0))):
        if chosen.any():
            crops[torch.from_numpy(chosen).to(device)] = warp(picture, boxes[chosen], how)
    flipped = torch.from_numpy(mirrored).to(device)
    crops[flipped] = crops[flipped].flip(3)
    return crops

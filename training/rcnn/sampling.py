"""Which regions of an image the network is trained on, what is wanted of each, and their crops.

Letters for shapes: G ground-truth boxes, R regions.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tyro.conf import Suppress, arg

from detector.cli.command_line import at_least
from detector.datasets.annotated_image import AnnotatedImage
from detector.inference.preprocessing import Preprocessing
from detector.inference.region_crops import warp
from detector.inference.torch_arrays import TorchArrays
from detector.io.decoding import RGB
from detector.structures.boxes import Boxes, area, as_boxes, clip, encode, intersection, iou

POSITIVE_IOU = 0.5
"""A region with this IoU or more is of its object's class, else background (R-CNN, arXiv 1311.2524, section
2.3)."""

NEAR_IOU = 0.1
"""A background region with this IoU or more is a part of an object, or near one."""

IN_A_CROWD = 0.5
"""A region with this share of its area in a crowd is no background (COCO's evaluation measures so)."""

UNKNOWN = -2
"""Label of a region that shows an object whose class is not known."""

WHOLE = -1
"""Label of a whole image: it has no class, and only serves to keep what the classifier knows."""

REGRESSION_IOU = 0.35
"""Offsets are learnt from pairs with this IoU or more. R-CNN has 0.6 (appendix C), and learns nothing of what
is needed most: to move a box that just misses an object onto it (docs/training.md, "What moved it")."""

_MOVABLE = 1 / 3  # of the backgrounds, at most: they are few among all that propose themselves


@dataclass(frozen=True)
class Regions:
    """Training regions of one image.

    boxes [R,4] float32 in pixels of the image; mirrored [R] bool; labels [R] int64: a class, the background
    label, :data:`UNKNOWN` or :data:`WHOLE`; overlaps [R] float32, the IoU with the nearest object;
    deltas [R,4] float32, the offsets onto that object, NaN where there are none to learn; certain [R] bool,
    false for background of a partly labelled image that is far from all objects: it may be an object that
    nobody labelled.
    """

    boxes: Boxes
    mirrored: NDArray[np.bool_]
    labels: NDArray[np.int64]
    overlaps: NDArray[np.float32]
    deltas: NDArray[np.float32]
    certain: NDArray[np.bool_]

    @property
    def whole(self) -> NDArray[np.bool_]:
        """Which regions [R] are whole images, which are cut without context."""
        return self.labels == WHOLE

    def with_whole_image(self, record: AnnotatedImage) -> "Regions":
        """Add the whole image twice, the second one mirrored."""
        whole = as_boxes([(0, 0, record.width, record.height)] * 2)
        return Regions(
            np.concatenate([self.boxes, whole]),
            np.concatenate([self.mirrored, [False, True]]),
            np.concatenate([self.labels, [WHOLE, WHOLE]]),
            np.concatenate([self.overlaps, np.zeros(2, np.float32)]),
            np.concatenate([self.deltas, np.full((2, 4), np.nan, np.float32)]),
            np.concatenate([self.certain, np.ones(2, bool)]),
        )

    def mirrored_alike(self, mirrored: bool) -> "Regions":
        """Return the same regions, all of them mirrored or none."""
        deltas = self.deltas.copy()
        deltas[self.mirrored != mirrored, 0] *= -1
        return replace(self, mirrored=np.full(len(self.labels), mirrored), deltas=deltas)

    def rows(self, chosen: NDArray[np.int64]) -> "Regions":
        """Return some of the regions, by number."""
        return Regions(*(getattr(self, part.name)[chosen] for part in fields(self)))

    @classmethod
    def joined(cls, parts: "Sequence[Regions]") -> "Regions":
        """Return the regions of several images behind each other."""
        return cls(*(np.concatenate([getattr(part, field.name) for part in parts]) for field in fields(cls)))

    @classmethod
    def none(cls) -> "Regions":
        """Return no regions: those of an image that cannot be read."""
        boxes, flags = np.zeros((0, 4), np.float32), np.zeros(0, bool)
        return cls(boxes, flags, np.zeros(0, np.int64), np.zeros(0, np.float32), boxes, flags)


@dataclass(frozen=True)
class SamplingSettings:
    """How many regions of an image are kept for training, and the ``seed`` of their choice."""

    positives: Annotated[int, at_least(1), arg(name="kept-positives")] = 12
    """Object regions kept of each image."""
    background: Annotated[int, at_least(1), arg(name="kept-background")] = 24
    """Background regions kept of each image."""
    jitter: Annotated[float, arg(name="kept-jitter")] = 0.15
    """By which share of its size each side of an object's box is moved at most."""
    seed: Annotated[int, Suppress] = 0
    """Seed of the choice."""


def sample_regions(
    record: AnnotatedImage,
    proposals: Boxes,
    background_label: int,
    settings: SamplingSettings,
    rng: np.random.Generator,
) -> Regions:
    """Sample positive and background regions of one image, half of them mirrored.

    Candidates are the proposals, the objects' boxes, and jittered copies of those: there are few objects
    and many ways to be slightly off. Objects share the positives evenly, so that an image of one dog and
    one flea teaches both. Objects of unknown class are sampled like the others; what lies in a crowd is no
    background.
    """
    proposals = proposals[np.lexsort(proposals.T)]  # the choice must not depend on their ranking
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
    background = _choose_background(best, rest, settings.background, rng)
    chosen = np.concatenate([positive, background])
    boxes = candidates[chosen]
    labels = np.full(len(chosen), background_label, np.int64)
    deltas = np.full((len(chosen), 4), np.nan, np.float32)
    mirrored = rng.random(len(chosen)) < 0.5
    movable = np.flatnonzero(best[chosen] >= REGRESSION_IOU)
    if len(objects):
        targets = overlaps[chosen].argmax(axis=1)
        labels[: len(positive)] = object_labels[targets[: len(positive)]]
        deltas[movable] = encode(boxes[movable], objects[targets[movable]])
    deltas[mirrored, 0] *= -1
    certain = (labels != background_label) | (best[chosen] >= NEAR_IOU) | (not record.partial)
    return Regions(boxes, mirrored, labels, best[chosen], deltas, certain)


def _choose_background(
    best: NDArray[np.float32], among: NDArray[np.int64], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Choose up to ``count`` backgrounds of R candidates, by ``best`` [R], the IoU with the nearest object;
    a third of them from those that offsets are learnt from, as far as there are some."""
    among = rng.permutation(among)
    movable = among[best[among] >= REGRESSION_IOU][: round(_MOVABLE * count)]
    return np.concatenate([movable, among[~np.isin(among, movable)]])[:count]


def jitter_boxes(
    boxes: Boxes,
    record: AnnotatedImage,
    settings: SamplingSettings,
    rng: np.random.Generator,
    copies: int = 8,
) -> Boxes:
    """Copy each box [G,4] ``copies`` times, sides moved by up to ``jitter`` of its size -> [<= copies*G,4].

    Boxes are cut to the image; those that are then narrower than 2 pixels are left out.
    """
    repeated = np.repeat(boxes, copies, axis=0)
    sides = np.tile(repeated[:, 2:] - repeated[:, :2], 2)
    shift = rng.uniform(-settings.jitter, settings.jitter, repeated.shape).astype(np.float32)
    moved = clip(repeated + shift * sides, record.width, record.height)
    return moved[((moved[:, 2:] - moved[:, :2]) >= 2).all(axis=1)]


def _in_a_crowd(boxes: Boxes, crowds: Boxes) -> NDArray[np.bool_]:
    """Tell which boxes [R,4] lie in one of the crowds [K,4] with :data:`IN_A_CROWD` of their area or more."""
    inside = intersection(boxes, crowds).max(axis=1, initial=0)
    return (inside > 0) & (inside >= IN_A_CROWD * area(boxes))


def _share_evenly(overlaps: NDArray[np.float32], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Choose up to ``count`` positives by overlaps [R,G], from the objects in turn -> indices into R."""
    nearest = overlaps.argmax(axis=1) if overlaps.shape[1] else np.zeros(len(overlaps), np.int64)
    positive = np.flatnonzero(overlaps.max(axis=1, initial=0) >= POSITIVE_IOU)
    positive = rng.permutation(positive)
    turn = np.zeros(len(positive), np.int64)
    for target in range(overlaps.shape[1]):
        of_target = nearest[positive] == target
        turn[of_target] = np.arange(of_target.sum())
    return positive[np.argsort(turn, kind="stable")][:count]


def crops_of(
    image: RGB,
    boxes: Boxes,
    whole: NDArray[np.bool_],
    mirrored: NDArray[np.bool_],
    preprocessing: Preprocessing,
    device: torch.device,
) -> Tensor:
    """Crop boxes [R,4] of an image [H,W,3] -> [R,3,224,224] float32 on the device.

    ``whole`` [R] are cut without context, ``mirrored`` [R] are flipped.
    """
    arrays = TorchArrays(device)
    normalised = arrays.normalise(image, preprocessing)
    crops = normalised.new_empty(len(boxes), 3, preprocessing.size, preprocessing.size)
    for chosen, settings in ((~whole, preprocessing), (whole, replace(preprocessing, context=0))):
        if chosen.any():
            crops[torch.from_numpy(chosen).to(device)] = warp(normalised, boxes[chosen], settings, arrays)
    flipped = torch.from_numpy(mirrored).to(device)
    crops[flipped] = crops[flipped].flip(3)
    return crops

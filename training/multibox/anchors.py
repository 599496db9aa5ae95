"""The anchors of a new MultiBox head, from the objects that it is to find."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import ParameterError
from detector.inference.image_scales import STRIDE, ImageScales, first_centre
from detector.models.image_trunk import MappedStages
from detector.models.multibox_spec import MultiBoxSpec
from detector.proposals.anchors import Grid, cluster_sides, share_out

STAGES = {
    "googlenet": ("inception_3b", "inception_4e"),
    "torchvision-googlenet": ("inception3b", "inception4e"),
}
"""Stages of each architecture that the head reads: the last before the third and the fourth pooling."""

STRIDES = (STRIDE // 2, STRIDE, 2 * STRIDE, 4 * STRIDE)
"""Pixels from cell to cell of the grids: of the maps that are read, and of two that the head makes."""

_SMALLEST, _LARGEST = 6.0, 400.0  # geometric mean side in pixels of an object that is sought at a scale
_MOST = 30_000  # objects that are clustered


def choose_anchors(
    architecture: str,
    features: nn.Sequential,
    records: Sequence[AnnotatedImage],
    scales: ImageScales,
    shapes: int,
    *,
    seed: int,
) -> MultiBoxSpec:
    """Specify a head for a trunk: where it reads, and ``shapes`` anchors by k-means of the objects' sides as
    the scales show them.

    Raises ParameterError if there are fewer different objects than shapes.
    """
    stages = STAGES[architecture]
    with torch.inference_mode():
        mapped = MappedStages(features, stages)
        maps = mapped(torch.zeros(1, 3, 4 * STRIDE, 4 * STRIDE))
    channels = tuple(maps[name].shape[1] for name in stages)
    clustered = cluster_sides(sides_at_scales(records, scales, seed=seed), shapes, seed=seed)
    grids = zip(STRIDES, share_out(clustered, STRIDES), strict=True)
    return MultiBoxSpec(
        stages,
        channels,
        scales.image,
        tuple(Grid(stride, first_centre(stride), sides) for stride, sides in grids),
    )


def sides_at_scales(
    records: Sequence[AnnotatedImage], scales: ImageScales, *, seed: int = 0
) -> NDArray[np.float32]:
    """Return widths and heights [G,2] of objects, in pixels of each scale at which they can be sought.

    Raises ParameterError if there is none.
    """
    sides = []
    for record in records:
        boxes = np.concatenate([record.boxes, record.unknown])
        own = boxes[:, 2:] - boxes[:, :2]
        for scale in scales.scales:
            short, long = sorted((record.width, record.height))
            sides.append(own * min(scale / short, scales.long_side * scale / long))
    every = np.concatenate(sides) if sides else np.zeros((0, 2), np.float32)
    mean = np.sqrt(every.prod(axis=1))
    every = every[(mean >= _SMALLEST) & (mean <= _LARGEST) & (every.min(axis=1) >= 2)]
    if not len(every):
        raise ParameterError("no picture has an object that is large enough to be sought")
    if len(every) > _MOST:
        every = np.random.default_rng(seed).permutation(every)[:_MOST]
    return every.astype(np.float32)


def anchors_of(spec: MultiBoxSpec, sizes: Sequence[tuple[int, int]], device: torch.device) -> list[Tensor]:
    """Return the anchors [k,4] of padded images at each scale, of which ``sizes`` are height and width."""
    anchors = []
    for height, width in sizes:
        fine, coarse = ((height // stride, width // stride) for stride in STRIDES[:2])
        anchors.append(torch.from_numpy(spec.anchors(fine, coarse)).to(device))
    return anchors

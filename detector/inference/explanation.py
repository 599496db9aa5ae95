"""Explains detections: the factors of their scores, and class activation maps of their regions.

The score of a detection is that of the region that suppression kept: voting moves its box, not its score. So
the region as it was proposed is looked at again by a network that ends before its heads
(:meth:`detector.inference.region_features.RegionFeatures.last_maps`); the maps of several networks, and of a
mirrored look, are averaged as their outputs are. Letters for shapes: D detections, h x w cells of a map.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.graphs.stages import first_cell, trunk_of
from detector.inference.class_activation import ClassLayer
from detector.inference.ensemble import Ensemble
from detector.inference.executor import Executor
from detector.inference.postprocess import RegionScores, factors_of
from detector.inference.region_crops import ImageView
from detector.inference.region_features import RegionFeatures, seen_regions
from detector.inference.scoring import Scoring
from detector.options import MAX_EXPLAINED
from detector.structures.boxes import Boxes
from detector.structures.detections import Detections
from detector.structures.explanation import Explanation, Factor


def check_explain(count: int, tile: int | None = None) -> None:
    """Raises ParameterError for a number of detections that cannot be explained, or explanations in tiles."""
    if not isinstance(count, int) or isinstance(count, bool) or not 0 <= count <= MAX_EXPLAINED:
        raise ParameterError(f"explain must be a whole number in 0..{MAX_EXPLAINED}, got {count!r}")
    if count and tile is not None:
        raise ParameterError("explain looks at regions of the whole picture: leave out tile")


def explain(
    ensemble: Ensemble,
    features: RegionFeatures,
    view: ImageView,
    regions: RegionScores,
    detections: Detections,
    scoring: Scoring,
    *,
    executor: Executor,
) -> tuple[Explanation, ...]:
    """Explain detections that were selected from the regions of an image.

    Raises ParameterError for detections that do not know their regions, and regions that do not know how they
    were proposed.
    """
    if not len(detections):
        return ()
    if detections.regions is None or regions.proposals is None:
        raise ParameterError(
            "only what select() made of the regions of score() can be explained: detections that were read "
            "or merged do not know their regions"
        )
    boxes = regions.proposals.boxes[detections.regions]
    maps = features.last_maps(view, boxes, mirrored=scoring.flip, executor=executor)
    layers = [ensemble.class_layer(index) for index in range(len(ensemble.members))]
    preprocessing = ensemble.members[0].metadata.preprocessing
    architecture = ensemble.members[0].metadata.architecture
    seen, cells = seen_regions(view, boxes, preprocessing), maps[0][0].shape[2:]
    places = map_places(seen, architecture, cells, mirrored=scoring.flip)
    factors = _factors(regions, detections, scoring)
    explanations = []
    for row, label in enumerate(detections.labels.tolist()):
        activation, offset = _average_activation(maps, layers, row, label)
        x1, y1, x2, y2 = map(float, places[row])
        explanations.append(Explanation(factors[row], (x1, y1, x2, y2), activation, offset))
    return tuple(explanations)


def map_places(regions: Boxes, architecture: str, cells: tuple[int, ...], *, mirrored: bool = False) -> Boxes:
    """Return where maps of h x w ``cells`` of regions [D,4] lie, cells side by side.

    A cell sees its place a drift later than where it lies in the map, so that all of them lie moved to the
    right and down: by 14.5 of 224 pixels in GoogLeNet. In the mean of a look and a ``mirrored`` one, which
    drifts to the left, nothing is moved sideways.
    """
    centre, step = first_cell(trunk_of(architecture))
    height, width = cells
    drift = np.array([(centre - step / 2) / (side * step) for side in (width, height)], np.float32)
    if mirrored:
        drift[0] = 0
    sides = regions[:, 2:] - regions[:, :2]
    return regions + np.tile(sides * drift, 2)


def _factors(regions: RegionScores, detections: Detections, scoring: Scoring) -> list[tuple[Factor, ...]]:
    """Return the factors of each detection's score."""
    shape = regions.probabilities.shape
    columns = [
        (factor.name, np.broadcast_to(factor.values, shape), factor.power * scoring.score_power)
        for factor in factors_of(regions, scoring)
    ]
    assert detections.regions is not None
    return [
        tuple(Factor(name, float(values[region, label]), power) for name, values, power in columns)
        for region, label in zip(detections.regions, detections.labels, strict=True)
    ]


def _average_activation(
    maps: Sequence[Sequence[NDArray[np.float32]]], layers: Sequence[ClassLayer], row: int, label: int
) -> tuple[NDArray[np.float32], float]:
    """Return the activation [h,w] of a class in a region and its offset, the mean of all members and looks;
    ``maps`` are each member's of each look, [D,K,h,w]."""
    looks = [
        layer.activation(look[row : row + 1], label)
        for layer, of_member in zip(layers, maps, strict=True)
        for look in of_member
    ]
    activation = np.mean([look for look, _ in looks], axis=0)[0]
    return activation, float(np.mean([offset for _, offset in looks]))

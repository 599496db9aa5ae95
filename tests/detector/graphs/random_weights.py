"""Weights of no training for both architectures, without torch: every tensor of them counts."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.graphs.heads import multibox_shapes, region_head_shapes
from detector.graphs.networks import range_keys
from detector.graphs.stages import shapes_of, trunk_of
from detector.inference.image_scales import ImageScales, first_centre
from detector.inference.preprocessing import Preprocessing
from detector.inference.shared_maps import SharedMaps
from detector.models.metadata import Metadata
from detector.models.multibox_spec import MultiBoxSpec
from detector.models.weights import Weights
from detector.proposals.anchors import Grid
from detector.structures.classes import ClassList

Array = NDArray[Any]

DETECTION = ClassList.of(["cat", "dog", "kite"])
CLASSIFICATION = ClassList.of(["tabby", "beagle", "sled", "canoe"])
LABELS = (0, 1, -1, 3, 0, 1, 2, 3)
"""Classes of sub-classes: the first four are CLASSIFICATION's, one takes no part; the last are own ones."""

STAGES = {
    "googlenet": ("inception_3b", "inception_4e"),
    "torchvision-googlenet": ("inception3b", "inception4e"),
}
"""The stages that a MultiBox head reads; the last is the one whose maps regions share."""

PREPROCESSING = Preprocessing((123.0, 117.0, 104.0), (1.0, 1.0, 1.0), 224, 16, 64)


@cache
def detector_weights(
    architecture: str = "googlenet",
    *,
    labels: tuple[int, ...] = LABELS,
    boxes: bool = True,
    iou: bool = True,
    location: bool = False,
    whole: bool = False,
    multibox: bool = False,
    shared: bool = True,
    seed: int = 0,
) -> Weights:
    """Weights of a detector of three classes, not to be changed: with a location head, or else with the heads
    of earlier versions, ``boxes`` and ``iou``."""
    heads = ["location_head."] if location else ["box_head."] * boxes + ["fit_head."] * iou
    pooled = np.array(labels, np.int64)
    marks = {"pooling.labels": pooled} | dict.fromkeys(heads, pooled)
    shapes = dict(shapes_of(trunk_of(architecture), "backbone.features."))
    shapes |= region_head_shapes(marks)
    shapes |= {"backbone.classifier.weight": (len(labels), 1024), "backbone.classifier.bias": (len(labels),)}
    if whole:
        shapes |= {"backbone.whole.weight": (4, 1024), "backbone.whole.bias": (4,)}
    spec = multibox_spec(architecture) if multibox else None
    if spec is not None:
        shapes |= multibox_shapes(spec)
    regions = SharedMaps((64, 96), 2.0, 16, STAGES[architecture][1])
    metadata = Metadata(
        f"random-{seed}",
        architecture,
        PREPROCESSING,
        CLASSIFICATION,
        DETECTION,
        spec,
        regions if shared else None,
    )
    return Weights(metadata, _random(shapes, seed) | {"pooling.labels": pooled})


@cache
def classifier_weights(architecture: str = "googlenet", *, seed: int = 0) -> Weights:
    """Weights of a classifier of four classes, not to be changed."""
    shapes = dict(shapes_of(trunk_of(architecture), "features."))
    shapes |= {"classifier.weight": (4, 1024), "classifier.bias": (4,)}
    return Weights(
        Metadata(f"random-{seed}", architecture, PREPROCESSING, CLASSIFICATION), _random(shapes, seed)
    )


def multibox_spec(architecture: str) -> MultiBoxSpec:
    """A MultiBox head that reads the same images as regions do."""
    sides = [[(12, 12), (24, 16)], [(40, 30)], [(60, 50), (50, 70), (80, 80)], [(128, 140)]]
    grids = tuple(
        Grid(stride, first_centre(stride), np.array(some, np.float32))
        for stride, some in zip((8, 16, 32, 64), sides, strict=True)
    )
    return MultiBoxSpec(STAGES[architecture], (480, 832), ImageScales((64, 96), 2.0, 16), grids)


def with_tensors(weights: Weights, tensors: Mapping[str, Array | None]) -> Weights:
    """Weights with some tensors replaced, or for None left out."""
    kept = {name: value for name, value in weights.tensors.items() if tensors.get(name, value) is not None}
    return replace(
        weights, tensors=kept | {name: value for name, value in tensors.items() if value is not None}
    )


def stored_as(weights: Weights, dtype: Any) -> Weights:
    """Weights whose numbers with a fraction are of another type."""
    return replace(
        weights,
        tensors={
            name: value.astype(dtype) if value.dtype.kind == "f" else value
            for name, value in weights.tensors.items()
        },
    )


def sharing_stages(first: Weights, other: Weights, count: int) -> Weights:
    """The other's weights, but for the first's in so many first stages."""
    stages = {stage.name for stage in trunk_of(first.metadata.architecture)[:count]}
    own = {
        name: value
        for name, value in first.tensors.items()
        if "features." in name and name.partition("features.")[2].partition(".")[0] in stages
    }
    return with_tensors(other, own)


def with_ranges(weights: Weights, high: float = 200.0) -> Weights:
    """Weights that state the same range for every layer."""
    keys = range_keys(trunk_of(weights.metadata.architecture))
    ranges = dict.fromkeys(keys, (0.0, high))
    return replace(weights, metadata=replace(weights.metadata, activation_ranges=ranges))


def by_engines(*cases: Any) -> list[Any]:
    """Each case with both engines, which take turns: what is the other one's turn is exhaustive."""
    return [
        pytest.param(
            engine,
            *case.values,
            id=f"{case.id}-{engine}",
            marks=[] if number % 2 == turn else [pytest.mark.exhaustive],
        )
        for number, case in enumerate(cases)
        for turn, engine in enumerate(("onnxruntime", "openvino"))
    ]


def random_rows(*shape: int, seed: int = 0, spread: float = 50.0) -> NDArray[np.float32]:
    """Normalised pixels, or where they are maps, what a ReLU lets through."""
    values = np.random.default_rng(seed).normal(0, spread, shape).astype(np.float32)
    return values if shape[1] == 3 else np.maximum(values, 0)


def channels_last(maps: NDArray[np.float32]) -> NDArray[np.float32]:
    """Maps [N,K,h,w] as graphs read and give them: [N,h,w,K]."""
    return np.ascontiguousarray(maps.transpose(0, 2, 3, 1))


def assert_close(
    got: Mapping[str, Array],
    expected: Mapping[str, Array],
    tolerance: float = 1e-4,
    *,
    names: Sequence[str] = (),
) -> None:
    """Outputs have the same names and shapes, and differ by a share of the largest value of each."""
    assert set(got) == set(expected)
    assert not names or set(names) == set(expected)
    for name, value in expected.items():
        assert got[name].shape == value.shape, name
        largest = float(np.abs(value).max(initial=1e-6))
        difference = float(np.abs(got[name] - value).max(initial=0))
        assert difference <= tolerance * largest, f"{name}: {difference:.3g} of {largest:.3g}"


def _random(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Array]:
    rng = np.random.default_rng(seed)
    return {name: _tensor(rng, name, shape) for name, shape in shapes.items() if name != "pooling.labels"}


def _tensor(rng: np.random.Generator, name: str, shape: tuple[int, ...]) -> Array:
    """Sizes that keep activations as large as a trained network's, and probabilities apart from 0 and 1."""
    kind = name.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return np.array(7, np.int64)
    if kind == "running_var":
        return rng.uniform(0.5, 2, shape).astype(np.float32) * np.float32(1e3)
    if kind == "running_mean":
        return rng.normal(0, 10, shape).astype(np.float32)
    if ".bn." in name or "norm" in name:
        return rng.uniform(0.5, 1.5, shape).astype(np.float32) * np.float32(12 if ".bn." in name else 1)
    if kind == "scale":
        return np.array([0.1, 0.2, 0.3, 0.4], np.float32)
    if kind == "bias":
        return rng.normal(0, 0.5, shape).astype(np.float32)
    inputs = int(np.prod(shape[1:]))
    spread = 0.001 if len(shape) == 2 else np.sqrt(2 / inputs)
    return (rng.standard_normal(shape, np.float32) * np.float32(spread)).astype(np.float32)

"""Computing in 8 bits: ranges, and how far outputs come to lie from those in float32."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import pytest

from detector.errors import ParameterError
from detector.graphs.builder import INT8, GraphBuilder, Value
from detector.graphs.networks import (
    GraphOptions,
    classifier_graph,
    image_graph,
    range_keys,
    region_graph,
    trunk_graph,
)
from detector.graphs.quantization import measure_ranges
from detector.graphs.stages import trunk_of
from detector.inference.graph_engine import compile_graph, run_model
from detector.inference.placement import GRAPH_ENGINES
from detector.models.weights import Weights
from tests.detector.graphs.random_weights import (
    STAGES,
    classifier_weights,
    detector_weights,
    random_rows,
    sharing_stages,
)

GOOGLENET, TORCHVISION = STAGES

IMAGE = random_rows(1, 3, 64, 96)

BOUND = 0.1
"""A share of the largest value: 8 bits a layer, over twenty layers of weights that nobody trained."""


@cache
def _measured(weights: Weights) -> Weights:
    run = run_model("onnxruntime", trunk_graph(weights))
    ranges = measure_ranges(weights, lambda rows: run({"rows": rows}), [IMAGE])
    return replace(weights, metadata=replace(weights.metadata, activation_ranges=ranges))


@pytest.mark.parametrize("make", [classifier_weights, detector_weights])
@pytest.mark.parametrize("architecture", STAGES)
def test_each_layer_has_a_range(make: Callable[[str], Weights], architecture: str) -> None:
    ranges = _measured(make(architecture)).metadata.activation_ranges
    assert ranges is not None
    assert list(ranges) == range_keys(trunk_of(architecture))
    assert all(low == 0 < high < 1e5 for low, high in ranges.values())


def test_the_range_is_the_largest_of_the_images_quantiles() -> None:
    weights = classifier_weights()
    keys = range_keys(trunk_of(GOOGLENET))
    values = np.arange(1000, dtype=np.float32)

    def run(image: np.ndarray) -> dict[str, np.ndarray]:
        return dict.fromkeys(keys, values * image[0, 0, 0, 0]) | {keys[0]: np.zeros(5, np.float32)}

    images = [np.full((1, 3, 1, 1), factor, np.float32) for factor in (1, 3, 2)]
    for quantile, high in ((0.99, 3 * 989), (0.5, 3 * 499), (1.0, 3 * 999)):
        ranges = measure_ranges(weights, run, images, quantile)
        assert ranges[keys[1]] == (0.0, high)
        assert ranges[keys[0]] == (0.0, 1e-6), "what is always nothing has a range all the same"


def test_no_images_are_refused() -> None:
    with pytest.raises(ParameterError, match="no image to measure activations on"):
        measure_ranges(classifier_weights(), lambda image: {}, [])


def _near(got: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        largest = np.abs(value).max()
        assert np.abs(got[name] - value).max() <= BOUND * largest, name
        assert not np.array_equal(got[name], value), f"{name} is computed in 8 bits"


@pytest.mark.parametrize("engine", GRAPH_ENGINES)
@pytest.mark.parametrize("architecture", STAGES)
def test_8_bits_come_near_to_32(engine: str, architecture: str) -> None:
    """A classifier's probabilities; and the maps of an image."""
    weights = _measured(classifier_weights(architecture))
    ours, theirs = (
        compile_graph(
            engine, classifier_graph([weights], GraphOptions(numbers)), precision=numbers, streams=None
        )
        for numbers in ("int8", "float32")
    )
    _near(ours.run(IMAGE), theirs.run(IMAGE))


@pytest.mark.parametrize("location", [False, True], ids=["heads of earlier versions", "a location head"])
@pytest.mark.parametrize("engine", GRAPH_ENGINES)
def test_regions_go_on_in_8_bits_where_the_image_ended(engine: str, location: bool) -> None:
    """Maps are handed on in float32, and read in the steps of the stage that made them."""
    weights = _measured(detector_weights(multibox=True, location=location))
    stage = "inception_4e"
    images, regions = (
        [
            compile_graph(engine, make(GraphOptions(numbers)), precision=numbers, streams=None)
            for numbers in ("int8", "float32")
        ]
        for make in (
            lambda options: image_graph(weights, stage, multibox=True, options=options),
            lambda options: region_graph([weights], stage, options),
        )
    )
    ours, theirs = (graph.run(IMAGE) for graph in images)
    _near(ours, theirs)
    step = weights.metadata.activation_ranges[f"features.{stage}"][1] / 255  # type: ignore[index]
    assert np.abs(ours["maps"] / step - np.rint(ours["maps"] / step)).max() < 1e-2
    rows = np.tile(theirs["maps"], (1, 4, 3, 1))[:, :14, :14]
    _near(*(graph.run(rows) for graph in regions))


@pytest.mark.parametrize(
    ("location", "count"),
    [
        pytest.param(False, 15, id="heads of earlier versions"),
        pytest.param(True, 15, id="location heads that read maps of their own"),
        pytest.param(True, 17, id="location heads that read the same maps"),
    ],
)
def test_members_with_common_stages_share_their_8_bits(location: bool, count: int) -> None:
    whole, other = (detector_weights(location=location, seed=seed) for seed in (0, 1))
    first, near = _measured(whole), _measured(sharing_stages(whole, other, count))
    rows = np.maximum(random_rows(1, 14, 14, 832), 0)
    ours, theirs = (
        compile_graph(
            "onnxruntime",
            region_graph([first, near], "inception_4e", GraphOptions(numbers)),
            precision=numbers,
            streams=None,
        ).run(rows)
        for numbers in ("int8", "float32")
    )
    _near(ours, theirs)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda options: classifier_graph([classifier_weights()], options), id="a classifier"),
        pytest.param(
            lambda options: image_graph(detector_weights(), "inception_4e", multibox=False, options=options),
            id="images",
        ),
        pytest.param(lambda options: region_graph([detector_weights()], "pool4", options), id="regions"),
    ],
)
def test_without_ranges_is_said_what_to_do(make: Callable[[GraphOptions], onnx.ModelProto]) -> None:
    with pytest.raises(
        ParameterError, match=r"does not say how large.*`detector weights calibrate` measures"
    ):
        make(GraphOptions("int8"))


def _bits(model: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {entry.name: onnx.numpy_helper.to_array(entry) for entry in model.graph.initializer}


@pytest.mark.parametrize(
    ("values", "filters"),
    [
        pytest.param([0.5, -1.0, 0.25], [63.5, -127, 31.75], id="the largest is 127"),
        pytest.param([0.0, 0.0, 0.0], [0, 0, 0], id="nothing at all"),
        pytest.param([1e-12, 0, 0], [0, 0, 0], id="next to nothing"),
    ],
)
def test_weights_are_rounded_filter_by_filter(values: list[float], filters: list[float]) -> None:
    """The other filter, which is a thousand times larger, has steps of its own."""
    weight = np.array([values, [1000.0, -500.0, 3.0]], np.float32)[:, :, None, None]
    graph = GraphBuilder(INT8)
    y = graph.conv(Value("x", scale=0.5), "a", weight, np.array([1.0, -2e9], np.float32))
    bits = _bits(graph.model({"x": ("N", 3, "H", "W")}, {"y": y}, name="a"))
    assert np.abs(bits["a.weight.int8"][0, :, 0, 0] - np.array(filters)).max() <= 0.51
    assert bits["a.weight.int8"][1, :, 0, 0].tolist() == [127, -64, 0]
    assert bits["a.weight.int8"].dtype == np.int8
    assert np.allclose(bits["a.bias.scale"], bits["a.weight.scale"] * 0.5)
    assert bits["a.bias.int32"].dtype == np.int32
    assert abs(bits["a.bias.int32"][1] * float(bits["a.bias.scale"][1]) + 2e9) < 1e3

"""The graphs of a checkpoint, or of several: what of a network runs where.

Letters for shapes: N images, M members, R regions, K channels or crops, C classes, A anchors.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from detector.errors import CheckpointError, ParameterError
from detector.graphs.builder import FLOAT32, INT8, GraphBuilder, Value
from detector.graphs.heads import (
    CHANNELS,
    LAST_STAGES,
    REGION_HEADS,
    RegionMaps,
    class_probabilities,
    multibox_head,
    multibox_shapes,
    region_head_shapes,
    region_heads,
)
from detector.graphs.sizes import channels_after, check_sizes
from detector.graphs.stages import Conv, Inception, Norm, Pool, Stage, shapes_of, stages_through, trunk_of
from detector.inference.image_scales import STRIDE
from detector.models.weights import Weights, check_shapes

BATCH_NORM_EPSILON = 1e-3
"""torchvision's GoogLeNet's."""


@dataclass(frozen=True)
class GraphOptions:
    """How graphs are written: what convolutions compute in (``float32``, ``float16``, ``int8``), and whether
    response normalisation is ONNX's own operation or a convolution, whichever the engine is faster at."""

    numbers: str = FLOAT32
    native_lrn: bool = True

    def builder(self) -> GraphBuilder:
        """Return an empty graph."""
        return GraphBuilder(self.numbers, self.native_lrn)


def image_graph(
    weights: Weights, stage: str | None, *, multibox: bool, options: GraphOptions = GraphOptions()
) -> onnx.ModelProto:
    """Return the graph of whole images: ``image`` [N,3,H,W] -> ``maps`` [N,h,w,K] of ``stage``, if one is
    named, and with ``multibox`` ``objectness`` [N,A] and ``offsets`` [N,A,4].

    Channels are last where regions are cut out: all of a cell's lie side by side."""
    graph = options.builder()
    outputs = _image_outputs(graph, Value("image"), weights, stage, multibox=multibox)
    if "maps" in outputs:
        outputs["maps"] = graph.add("Transpose", outputs["maps"], perm=[0, 2, 3, 1])
    return graph.model({"image": ("N", 3, "H", "W")}, outputs, name="image")


def region_graph(
    members: Sequence[Weights], after: str | None, options: GraphOptions = GraphOptions()
) -> onnx.ModelProto:
    """Return the graph of regions: ``rows``, crops [R,3,224,224] or maps [R,s,s,K] of the stage ``after`` ->
    of member m ``m.probabilities`` [R,C+1] and, where it has such heads, ``m.deltas`` [R,4] and
    ``m.predicted_iou`` [R]. First stages that members have in common run once."""
    graph = options.builder()
    outputs = {
        f"{index}.{name}": value
        for index, (weights, maps) in enumerate(zip(members, _own_maps(graph, members, after), strict=True))
        for name, value in _region_outputs(graph, maps, weights, index).items()
    }
    return graph.model({"rows": _row_sides(members, after)}, outputs, name="regions")


def last_maps_graph(
    members: Sequence[Weights], after: str | None, options: GraphOptions = GraphOptions()
) -> onnx.ModelProto:
    """Return the graph of regions that ends before the heads: ``rows`` as of :func:`region_graph` -> of
    member m ``m.last_maps`` [R,1024,7,7] in float32."""
    graph = options.builder()
    outputs = {f"{index}.last_maps": maps.last for index, maps in enumerate(_own_maps(graph, members, after))}
    return graph.model({"rows": _row_sides(members, after)}, outputs, name="last_maps")


def classifier_graph(members: Sequence[Weights], options: GraphOptions = GraphOptions()) -> onnx.ModelProto:
    """Return the graph of whole images as crops: ``rows`` [K,3,224,224] -> of member m ``m.probabilities``
    [K,C], its softmax."""
    graph = options.builder()
    classes = members[0].metadata.classification
    assert classes is not None
    outputs = {
        f"{index}.probabilities": class_probabilities(
            graph, maps.last, weights.tensors, _prefix(weights), len(classes), _name(index)
        )
        for index, (weights, maps) in enumerate(zip(members, _own_maps(graph, members, None), strict=True))
    }
    return graph.model({"rows": ("K", 3, "H", "W")}, outputs, name="classifier")


def detector_graph(weights: Weights, options: GraphOptions = GraphOptions()) -> onnx.ModelProto:
    """Return a detector as one graph, for other programs.

    ``image`` [1,3,H,W], normalised and padded at one scale, and ``windows`` [R,4] with context, in its
    pixels, as :func:`detector.inference.shared_maps.place_windows` gives them -> ``probabilities`` [R,C+1],
    ``deltas`` [R,4] and ``predicted_iou`` [R], where there are such heads, ``maps`` [1,K,h,w], and with a
    MultiBox head ``objectness`` [1,A] and ``offsets`` [1,A,4]. Raises ParameterError for weights that warp
    each region."""
    shared = weights.metadata.shared_maps
    if shared is None:
        raise ParameterError(
            f"{weights.metadata.name} looks at each region by itself: only weights whose regions share maps "
            "of the image make one graph of a detector"
        )
    graph = options.builder()
    multibox = weights.metadata.multibox
    reads_maps = multibox is not None and multibox.image == shared.image
    outputs = _image_outputs(graph, Value("image"), weights, shared.stage, multibox=reads_maps)
    windows, count = _at_least_one(graph, Value("windows"))
    first = graph.add(
        "ConstantOfShape",
        graph.add("Shape", windows, start=0, end=1),
        value=onnx.numpy_helper.from_array(np.zeros(1, np.int64)),
    )
    cells = graph.add(
        "RoiAlign",
        outputs["maps"],
        windows,
        first,
        mode="avg",
        output_height=shared.size,
        output_width=shared.size,
        sampling_ratio=1,
        spatial_scale=1 / STRIDE,
        coordinate_transformation_mode="half_pixel",
    )
    trunk = trunk_of(weights.metadata.architecture)
    cut = stages_through(trunk, shared.stage)
    lowered = graph.lowered(cells)
    kept = {shared.stage: lowered}
    last = _run(graph, lowered, weights, trunk[cut:], "", _range_of(weights, trunk[cut - 1]), kept)
    maps = _region_maps(graph, last, kept, trunk)
    start, axis = (graph.constant(f"slice_{name}", np.zeros(1, np.int64)) for name in ("start", "axis"))
    outputs |= {
        name: graph.add("Slice", value, start, count, axis)
        for name, value in _region_outputs(graph, maps, weights, 0).items()
    }
    return graph.model({"image": (1, 3, "H", "W"), "windows": ("R", 4)}, outputs, name="detector")


def _at_least_one(graph: GraphBuilder, windows: Value) -> tuple[Value, Value]:
    """Return windows [R,4], one of zeros where there are none, and R: OpenVINO pools no empty batch."""
    one = graph.constant("one_window", np.ones(1, np.int64))
    count = graph.add("Shape", windows, start=0, end=1)
    lacking = graph.add("Sub", one, graph.add("Min", count, one))
    shape = graph.add("Concat", lacking, graph.constant("sides_of_window", np.array([4], np.int64)), axis=0)
    blank = graph.add("ConstantOfShape", shape)
    return graph.add("Concat", windows, blank, axis=0), count


def check_weights(weights: Weights) -> None:
    """Raise CheckpointError unless the tensors have the names, shapes and kinds of numbers of the network
    that the metadata name, and are finite."""
    metadata, tensors, source = weights.metadata, weights.tensors, weights.source
    trunk, prefix = trunk_of(metadata.architecture, source), _prefix(weights)
    expected = dict(shapes_of(trunk, f"{prefix}features."))
    if metadata.detection is not None:
        rows = tensors["pooling.labels"].shape[0]
        expected |= region_head_shapes(tensors)
    elif metadata.classification is not None:
        rows = len(metadata.classification)
    else:
        raise CheckpointError(f"{source} names neither classification nor detection classes")
    expected |= {f"{prefix}classifier.weight": (rows, CHANNELS), f"{prefix}classifier.bias": (rows,)}
    if weights.has(f"{prefix}whole."):
        if metadata.classification is None:
            raise CheckpointError(f"{source} has a classifier of whole images, and names no classes of them")
        classes = len(metadata.classification)
        expected |= {f"{prefix}whole.weight": (classes, CHANNELS), f"{prefix}whole.bias": (classes,)}
    if metadata.multibox is not None:
        expected |= multibox_shapes(metadata.multibox)
    whole = {"pooling.labels"} | {name for name in expected if name.endswith("num_batches_tracked")}
    check_shapes(metadata.architecture, tensors, expected, whole, source)
    try:
        check_sizes(metadata, heads=any(weights.has(f"{head}.") for head in REGION_HEADS))
    except ParameterError as error:
        raise CheckpointError(f"{source} does not fit {metadata.architecture}: {error}") from error
    weights.check_finite()


def range_keys(trunk: Sequence[Stage]) -> list[str]:
    """Return the names of the values whose ranges int8 needs: each convolution, what inception stages
    concatenate, and what is normalised."""
    keys = []
    for stage in trunk:
        if isinstance(stage, Inception):
            keys += [f"features.{stage.name}.{conv.name}" for branch in stage.branches for conv in branch]
        if not isinstance(stage, Pool):
            keys.append(f"features.{stage.name}")
    return keys


def trunk_graph(weights: Weights) -> onnx.ModelProto:
    """Return a float32 graph of the whole trunk whose outputs are the values of :func:`range_keys`: what
    ranges are measured by."""
    graph = GraphBuilder()
    trunk = trunk_of(weights.metadata.architecture)
    _run(graph, Value("rows"), weights, trunk, "", None)
    outputs = {key: Value(f"{key}.value") for key in range_keys(trunk)}
    return graph.model({"rows": ("N", 3, "H", "W")}, outputs, name="trunk")


def same_stages(members: Sequence[Weights], trunk: Sequence[Stage]) -> int:
    """Return how many of the first stages are the same in all members, tensor by tensor."""
    for index, stage in enumerate(trunk):
        names = [f"features.{stage.name}.{name}" for name in stage.shapes()]
        first = members[0]
        for other in members[1:]:
            if other.metadata.architecture != first.metadata.architecture:
                return 0
            for name in names:
                a, b = first.tensors[_prefix(first) + name], other.tensors[_prefix(other) + name]
                if a is not b and not np.array_equal(a, b):
                    return index
    return len(trunk)


def _image_outputs(
    graph: GraphBuilder, image: Value, weights: Weights, stage: str | None, *, multibox: bool
) -> dict[str, Value]:
    trunk = trunk_of(weights.metadata.architecture)
    spec = weights.metadata.multibox if multibox else None
    read = [*([stage] if stage is not None else []), *(spec.stages if spec is not None else ())]
    last = max(stages_through(trunk, name) for name in read)
    kept: dict[str, Value] = {}
    _run(graph, graph.lowered(image), weights, trunk[:last], "", None, kept)
    outputs = {}
    if stage is not None:
        outputs["maps"] = graph.float32(kept[stage])
    if spec is not None:
        fine, coarse = (graph.float32(kept[name]) for name in spec.stages)
        outputs |= multibox_head(graph, fine, coarse, weights.tensors, spec)
    return outputs


def _own_maps(graph: GraphBuilder, members: Sequence[Weights], after: str | None) -> list[RegionMaps]:
    """Add the trunks, from the stage that follows ``after`` on -> each member's maps of the rows."""
    trunks = [trunk_of(weights.metadata.architecture) for weights in members]
    first = stages_through(trunks[0], after) if after is not None else 0
    common = max(same_stages(members, trunks[0]), first)
    known = _range_of(members[0], trunks[0][first - 1]) if first else None
    rows = Value("rows") if after is None else graph.add("Transpose", Value("rows"), perm=[0, 3, 1, 2])
    lowered = graph.lowered(rows)
    begun = {after: lowered} if after is not None else {}
    x = _run(graph, lowered, members[0], trunks[0][first:common], "", known, begun)
    high = known if common == first else None
    every = []
    for index, (weights, trunk) in enumerate(zip(members, trunks, strict=True)):
        kept = dict(begun)
        last = _run(graph, x, weights, trunk[common:], _name(index), high, kept)
        every.append(_region_maps(graph, last, kept, trunk))
    return every


def _region_maps(
    graph: GraphBuilder, last: Value, kept: Mapping[str, Value], trunk: Sequence[Stage]
) -> RegionMaps:
    """Return what heads read of a trunk that was run, given the outputs of its stages by their names."""
    return RegionMaps(graph.float32(last), kept.get(trunk[-LAST_STAGES - 1].name))


def _row_sides(members: Sequence[Weights], after: str | None) -> tuple[int | str, ...]:
    """Return the sides of ``rows``: crops, or maps of a stage with their channels last."""
    if after is None:
        return "R", 3, "H", "W"
    return "R", "h", "w", channels_after(trunk_of(members[0].metadata.architecture), after)


def _region_outputs(graph: GraphBuilder, maps: RegionMaps, weights: Weights, index: int) -> dict[str, Value]:
    classes = weights.metadata.detection
    assert classes is not None
    return region_heads(graph, maps, weights.tensors, len(classes), _name(index))


def _run(
    graph: GraphBuilder,
    x: Value,
    weights: Weights,
    stages: Sequence[Stage],
    name: str,
    high: float | None,
    kept: dict[str, Value] | None = None,
) -> Value:
    """Add stages on ``x``; ``kept`` gets the output of each by its name.

    ``name`` stands before the names of constants, ``high`` is the greatest value of ``x`` if it is an output
    of a stage, and None if it is an image."""
    writer = _StageWriter(graph, weights, name)
    if high is not None and graph.numbers == INT8 and x.scale is None:
        x = graph.quantised(x, high)
    for stage in stages:
        x = writer.add(stage, x)
        if kept is not None:
            kept[stage.name] = x
    return x


@dataclass(frozen=True)
class _StageWriter:
    """Adds the stages of one network."""

    graph: GraphBuilder
    weights: Weights
    name: str

    def add(self, stage: Stage, x: Value) -> Value:
        """Add a stage on ``x``."""
        key = f"features.{stage.name}"
        if isinstance(stage, Conv):
            return self._conv(stage, x, key, quantise=stage.channels != 3)
        if isinstance(stage, Pool):
            return self.graph.max_pool(x, stage.kernel, stride=2, ceil=True)
        if isinstance(stage, Norm):
            y = self.graph.local_response_norm(x, stage.channels, f"{self.name}{key}.value")
            return self._in_8_bits(y, key)
        ends = []
        for number, branch in enumerate(stage.branches):
            y = self.graph.max_pool(x, 3, stride=1, padding=1) if number == stage.pooled else x
            for conv in branch:
                # Branches are concatenated in the steps of the whole: nothing has to be converted there.
                last = conv is branch[-1]
                of = key if last else f"{key}.{conv.name}"
                y = self._conv(conv, y, f"{key}.{conv.name}", range_key=of)
            ends.append(y)
        whole = self.graph.add("Concat", *ends, axis=1, name=f"{self.name}{key}.value")
        return self.graph.again(whole, ends[0])

    def _conv(self, conv: Conv, x: Value, key: str, *, range_key: str = "", quantise: bool = True) -> Value:
        weight, bias = self._folded(conv, key)
        # Only what is the checkpoint's own tensor may have its name: exported files are read by it.
        kind = "folded" if conv.normalised else "conv"
        name = f"{self.name}{_prefix(self.weights)}{key}.{kind}"
        y = self.graph.conv(x, name, weight, bias, stride=conv.stride)
        y = self.graph.add("Identity", y, name=f"{self.name}{key}.value") if self._measures else y
        return self._in_8_bits(y, range_key or key) if quantise else y

    @property
    def _measures(self) -> bool:
        """Whether values have names to be asked for."""
        return self.graph.numbers == FLOAT32

    def _in_8_bits(self, value: Value, key: str) -> Value:
        if self.graph.numbers != INT8:
            return value
        return self.graph.quantised(value, _high(self.weights, key))

    def _folded(self, conv: Conv, key: str) -> tuple[NDArray[Any], NDArray[Any]]:
        """Return weight and bias of a convolution, with the batch normalisation that follows it in them."""
        tensors, layer = self.weights.tensors, f"{_prefix(self.weights)}{key}"
        weight = tensors[f"{layer}.conv.weight"]
        if not conv.normalised:
            return weight, tensors[f"{layer}.conv.bias"]
        gain, shift, mean, variance = (
            tensors[f"{layer}.bn.{name}"].astype(np.float64)
            for name in ("weight", "bias", "running_mean", "running_var")
        )
        factor = gain / np.sqrt(variance + BATCH_NORM_EPSILON)
        folded = weight.astype(np.float64) * factor[:, None, None, None]
        return folded.astype(np.float32), (shift - mean * factor).astype(np.float32)


def _range_of(weights: Weights, stage: Stage) -> float | None:
    """Return the greatest value that a stage gives, if int8 has to know it."""
    ranges = weights.metadata.activation_ranges
    return ranges[f"features.{stage.name}"][1] if ranges and f"features.{stage.name}" in ranges else None


def _high(weights: Weights, key: str) -> float:
    ranges = weights.metadata.activation_ranges or {}
    if key not in ranges:
        raise ParameterError(
            f"{weights.source} does not say how large the values of {key} become, which int8 has to know: "
            "`detector weights calibrate` measures it"
        )
    return ranges[key][1]


def _prefix(weights: Weights) -> str:
    """Return what stands before the names of the backbone's tensors."""
    return "backbone." if "pooling.labels" in weights.tensors else ""


def _name(index: int) -> str:
    """Return what stands before the names of a member's constants; the first one's have the checkpoint's
    own."""
    return f"{index}." if index else ""

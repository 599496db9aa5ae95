"""The heads as graphs: region heads, class pooling, MultiBox, the classifier.

They compute in float32. Letters for shapes: R regions, S sub-classes, C classes, A anchors.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.graphs.builder import GraphBuilder, Value
from detector.graphs.stages import Shapes
from detector.models.multibox_spec import MultiBoxSpec

Tensors = Mapping[str, NDArray[Any]]

CHANNELS = 1024
"""Channels of the trunk's last maps."""

CELLS = 7
"""Cells a side of a region's last maps."""

CELL_CHANNELS, LAST_STAGES = 832, 2
"""Channels of the maps that the last stages of a trunk read, and how many stages these are."""

HEAD_WIDTH = 64
"""Channels that the box head and the IoU head of earlier versions reduce a region's maps to."""

LOCATION_WIDTH, LOCATION_HIDDEN = 128, 256
"""Channels that the location head reduces a region's maps to, and units of its hidden layer."""

REGION_HEADS = ("location_head", "box_head", "fit_head")
"""Heads that read the layout of a region; the last two are those of earlier versions."""

_WIDTH, _FINE_WIDTH, _GROUPS = 192, 64, 16  # of MultiBox
_EPSILON = 1e-5

OFFSET_SCALE = (0.1, 0.1, 0.2, 0.2)
"""MultiBox's offsets are divided by these in training."""


class RegionMaps(NamedTuple):
    """What the heads of a region network read: the ``last`` maps [R,1024,7,7] in float32, and the ``cells``
    [R,832,7,7] that the last two stages read, as those do; None where a graph begins after them."""

    last: Value
    cells: Value | None


def region_heads(
    graph: GraphBuilder, region: RegionMaps, tensors: Tensors, num_classes: int, name: str
) -> dict[str, Value]:
    """Add the heads of a region network on the maps of regions.

    Returns ``probabilities`` [R,C+1], and ``deltas`` [R,4] and ``predicted_iou`` [R] where there are heads
    for them. Raises ParameterError for a location head without the ``cells`` that it reads.

    A class's probability is the sum of its sub-classes': the softmax over all sub-classes that take
    part, times a matrix of zeros and ones, is what the log-sum-exp of each class gives."""
    maps = region.last
    mean = graph.add("ReduceMean", maps, axes=[2, 3], keepdims=0)  # R x 1024
    labels = tensors["pooling.labels"]
    used = np.flatnonzero(labels >= 0)
    logits = _linear(
        graph,
        mean,
        f"{name}backbone.classifier.used",
        tensors["backbone.classifier.weight"][used],
        tensors["backbone.classifier.bias"][used],
    )
    member = np.zeros((len(used), num_classes + 1), np.float32)
    member[np.arange(len(used)), labels[used].astype(np.int64)] = 1
    sub_classes = graph.add("Softmax", logits, axis=1)
    outputs = {
        "probabilities": graph.add("MatMul", sub_classes, graph.constant(f"{name}pooling.members", member))
    }
    if "location_head.reduce.weight" in tensors:
        if region.cells is None:
            raise ParameterError(
                "the location head reads the maps before the last two stages: begin with an earlier one"
            )
        return outputs | _located(graph, region.cells, tensors, name)
    if "box_head.reduce.weight" in tensors:
        layout = _reduced(graph, maps, f"{name}box_head", tensors, "box_head")
        moved = _linear_of(graph, layout, name, tensors, "box_head.regress")
        scale = graph.constant(f"{name}box_head.scale", tensors["box_head.scale"].astype(np.float32))
        outputs["deltas"] = graph.add("Mul", moved, scale)
    if "fit_head.reduce.weight" in tensors:
        layout = _reduced(graph, maps, f"{name}fit_head", tensors, "fit_head")
        both = graph.add("Concat", mean, layout, axis=1)
        logit = _linear_of(graph, both, name, tensors, "fit_head.predict")  # R x 1
        outputs["predicted_iou"] = graph.add("Sigmoid", _flat(graph, logit))
    return outputs


def _located(graph: GraphBuilder, cells: Value, tensors: Tensors, name: str) -> dict[str, Value]:
    """Add a location head on cells [R,832,7,7]: ``deltas`` [R,4] and ``predicted_iou`` [R]."""
    layout = _reduced(graph, graph.float32(cells), f"{name}location_head", tensors, "location_head")
    hidden = graph.add("Relu", _linear_of(graph, layout, name, tensors, "location_head.hidden"))
    located = _linear_of(graph, hidden, name, tensors, "location_head.locate")  # R x 5
    moved = graph.add("Gather", located, graph.constant("places_moved", np.arange(4)), axis=1)
    logit = graph.add("Gather", located, graph.constant("place_of_iou", np.array([4])), axis=1)
    scale = graph.constant(f"{name}location_head.scale", tensors["location_head.scale"].astype(np.float32))
    return {
        "deltas": graph.add("Mul", moved, scale),
        "predicted_iou": graph.add("Sigmoid", _flat(graph, logit)),
    }


def _flat(graph: GraphBuilder, column: Value) -> Value:
    """Return a column [R,1] as [R]."""
    return graph.add("Reshape", column, graph.constant("shape_flat", np.array([-1], np.int64)))


def region_head_shapes(tensors: Tensors) -> Shapes:
    """Return the shapes of the tensors of the heads that there are signs of."""
    shapes: Shapes = {"pooling.labels": tensors["pooling.labels"].shape}
    layout = HEAD_WIDTH * CELLS * CELLS
    for head, last, inputs, outputs in (
        ("box_head", "regress", layout, 4),
        ("fit_head", "predict", CHANNELS + layout, 1),
    ):
        if any(key.startswith(f"{head}.") for key in tensors):
            shapes[f"{head}.reduce.weight"] = (HEAD_WIDTH, CHANNELS, 1, 1)
            shapes[f"{head}.reduce.bias"] = (HEAD_WIDTH,)
            shapes[f"{head}.{last}.weight"] = (outputs, inputs)
            shapes[f"{head}.{last}.bias"] = (outputs,)
            if head == "box_head":
                shapes["box_head.scale"] = (4,)
    if any(key.startswith("location_head.") for key in tensors):
        layers = {
            "reduce": (LOCATION_WIDTH, CELL_CHANNELS, 1, 1),
            "hidden": (LOCATION_HIDDEN, LOCATION_WIDTH * CELLS * CELLS),
            "locate": (5, LOCATION_HIDDEN),
        }
        for layer, shape in layers.items():
            shapes[f"location_head.{layer}.weight"] = shape
            shapes[f"location_head.{layer}.bias"] = shape[:1]
        shapes["location_head.scale"] = (4,)
    return shapes


def class_probabilities(
    graph: GraphBuilder, maps: Value, tensors: Tensors, prefix: str, num_classes: int, name: str
) -> Value:
    """Add the classifier of whole images on maps [K,1024,h,w] in float32: its softmax [K,C] over the first C
    outputs."""
    mean = graph.add("ReduceMean", maps, axes=[2, 3], keepdims=0)
    layer = f"{prefix}whole" if f"{prefix}whole.weight" in tensors else f"{prefix}classifier"
    logits = _linear(
        graph,
        mean,
        f"{name}{layer}.first",
        tensors[f"{layer}.weight"][:num_classes],
        tensors[f"{layer}.bias"][:num_classes],
    )
    return graph.add("Softmax", logits, axis=1)


def multibox_head(
    graph: GraphBuilder, fine: Value, coarse: Value, tensors: Tensors, spec: MultiBoxSpec
) -> dict[str, Value]:
    """Add a MultiBox head on float32 maps at two depths, as
    :class:`detector.models.multibox_head.MultiBoxHead`: ``objectness`` [N,A] in 0..1 and ``offsets``
    [N,A,4]."""
    level = _block(graph, _block(graph, coarse, tensors, "reduce"), tensors, "mix")
    context = _convolution(graph, level, tensors, "context")
    shape = graph.add("Shape", fine, start=2)
    rows = graph.add("Concat", graph.add("Shape", context, start=0, end=2), shape, axis=0)
    above = graph.add(
        "Resize",
        context,
        "",
        "",
        rows,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
    reduced = graph.add("Add", _convolution(graph, fine, tensors, "reduce_fine"), above)
    detail = graph.add("Relu", _group_norm(graph, reduced, tensors, "norm_fine"))
    levels = [_block(graph, detail, tensors, "mix_fine"), level]
    for index in range(len(spec.grids) - 2):
        levels.append(_block(graph, levels[-1], tensors, f"down.{index}", stride=2))
    five = graph.constant("shape_of_anchors", np.array([0, -1, 5], np.int64))
    outputs = []
    for index, maps in enumerate(levels):
        predicted = _convolution(graph, maps, tensors, f"predict.{index}")
        outputs.append(graph.add("Reshape", graph.add("Transpose", predicted, perm=[0, 2, 3, 1]), five))
    every = graph.add("Concat", *outputs, axis=1)  # N x A x 5
    logits = graph.add("Gather", every, graph.constant("place_of_objectness", np.int64(0)), axis=2)
    places = graph.constant("places_of_offsets", np.arange(1, 5))
    scale = graph.constant("scale_of_offsets", np.array(OFFSET_SCALE, np.float32))
    return {
        "objectness": graph.add("Sigmoid", logits),
        "offsets": graph.add("Mul", graph.add("Gather", every, places, axis=2), scale),
    }


def multibox_shapes(spec: MultiBoxSpec) -> Shapes:
    """Return the shapes of a MultiBox head's tensors."""
    fine, coarse = spec.channels
    shapes: Shapes = {}

    def convolution(name: str, filters: int, channels: int, kernel: int) -> None:
        shapes[f"multibox.{name}.weight"] = (filters, channels, kernel, kernel)
        shapes[f"multibox.{name}.bias"] = (filters,)

    def norm(name: str, channels: int) -> None:
        shapes[f"multibox.{name}.weight"] = shapes[f"multibox.{name}.bias"] = (channels,)

    convolution("reduce_fine", _FINE_WIDTH, fine, 1)
    convolution("context", _FINE_WIDTH, _WIDTH, 1)
    norm("norm_fine", _FINE_WIDTH)
    blocks = [
        ("reduce", _WIDTH, coarse, 1),
        ("mix", _WIDTH, _WIDTH, 3),
        ("mix_fine", _FINE_WIDTH, _FINE_WIDTH, 3),
    ]
    blocks += [(f"down.{index}", _WIDTH, _WIDTH, 3) for index in range(len(spec.grids) - 2)]
    for name, filters, channels, kernel in blocks:
        convolution(f"{name}.conv", filters, channels, kernel)
        norm(f"{name}.norm", filters)
    for index, grid in enumerate(spec.grids):
        convolution(f"predict.{index}", len(grid.sides) * 5, _WIDTH if index else _FINE_WIDTH, 3)
    return shapes


def _block(graph: GraphBuilder, x: Value, tensors: Tensors, name: str, stride: int = 1) -> Value:
    y = _convolution(graph, x, tensors, f"{name}.conv", stride)
    return graph.add("Relu", _group_norm(graph, y, tensors, f"{name}.norm"))


def _convolution(graph: GraphBuilder, x: Value, tensors: Tensors, name: str, stride: int = 1) -> Value:
    weight, bias = (tensors[f"multibox.{name}.{part}"].astype(np.float32) for part in ("weight", "bias"))
    kernel = weight.shape[2]
    constants = (
        graph.constant(f"multibox.{name}.weight", weight),
        graph.constant(f"multibox.{name}.bias", bias),
    )
    return graph.add(
        "Conv", x, *constants, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[kernel // 2] * 4
    )


def _group_norm(graph: GraphBuilder, x: Value, tensors: Tensors, name: str) -> Value:
    """Normalise groups of channels (arXiv 1803.08494), each as one channel of an instance normalisation."""
    groups = graph.constant("shape_of_groups", np.array([0, _GROUPS, -1], np.int64))
    ones = graph.constant("ones_of_groups", np.ones(_GROUPS, np.float32))
    zeros = graph.constant("zeros_of_groups", np.zeros(_GROUPS, np.float32))
    grouped = graph.add("Reshape", x, groups)
    even = graph.add("InstanceNormalization", grouped, ones, zeros, epsilon=_EPSILON)
    back = graph.add("Reshape", even, graph.add("Shape", x))
    weight, bias = (
        graph.constant(
            f"multibox.{name}.{part}", tensors[f"multibox.{name}.{part}"].astype(np.float32)[:, None, None]
        )
        for part in ("weight", "bias")
    )
    return graph.add("Add", graph.add("Mul", back, weight), bias)


def _reduced(graph: GraphBuilder, maps: Value, name: str, tensors: Tensors, head: str) -> Value:
    """Reduce the channels of maps [R,K,7,7] as a head does -> their layout [R,width*49]."""
    weight, bias = (tensors[f"{head}.reduce.{part}"].astype(np.float32) for part in ("weight", "bias"))
    constants = (
        graph.constant(f"{name}.reduce.weight", weight),
        graph.constant(f"{name}.reduce.bias", bias),
    )
    y = graph.add("Relu", graph.add("Conv", maps, *constants, kernel_shape=[1, 1]))
    return graph.add("Flatten", y, axis=1)


def _linear_of(graph: GraphBuilder, x: Value, name: str, tensors: Tensors, layer: str) -> Value:
    return _linear(graph, x, f"{name}{layer}", tensors[f"{layer}.weight"], tensors[f"{layer}.bias"])


def _linear(graph: GraphBuilder, x: Value, name: str, weight: NDArray[Any], bias: NDArray[Any]) -> Value:
    """Add a linear layer in float32: weight [outputs,inputs]."""
    constants = (
        graph.constant(f"{name}.weight", weight.astype(np.float32)),
        graph.constant(f"{name}.bias", bias.astype(np.float32)),
    )
    return graph.add("Gemm", x, *constants, transB=1)

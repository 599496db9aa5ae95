"""Reading of BVLC GoogLeNet from an ONNX graph, as the ONNX model zoo hands it on.

The zoo's graphs (``googlenet-3``, ``-6``, ``-7``, ``-8``, ``-9``, ``-12``, ``-12-int8``, ``-12-qdq``) were
made from Caffe's weights by way of Caffe2: input ``data_0`` [1,3,224,224], BGR less 104, 117, 123; output
``prob_1`` [1,1000]. The graph is followed from its end to its beginning beside our own network, so that
names do not matter, and what is read is known to be wired as Table 1 says.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from torch import nn

from detector.errors import CheckpointError
from detector.models.backbone import CHANNELS
from detector.models.caffe_weights import CLASSES, caffe_layers, copy_array, take_rgb
from detector.models.googlenet import GoogLeNet, Inception
from detector.models.lrn import LocalResponseNorm
from detector.models.onnx_graph import OnnxGraph, dequantised, describe, read_graph

if TYPE_CHECKING:
    from onnx import NodeProto

_INPUT = [1, 3, 224, 224]
"""The shape of the network's input; the number of pictures may be another."""

_FRACTIONS = (1, 10, 11, 16)
"""ONNX's numbers of the types float32, float16, float64 and bfloat16."""


def read_onnx(path: Path) -> GoogLeNet:
    """Read the network from an ONNX graph of BVLC GoogLeNet, of any opset from 1, float or quantised.

    Quantised weights (QLinearConv and its like, or QuantizeLinear and DequantizeLinear) become numbers with a
    fraction; activations are no longer quantised. The graph must take BGR less Caffe's means, which cannot be
    told from it; the first convolution's channels are reversed, so that the network takes RGB.

    Raises CheckpointError for a file that is damaged or from the future, and for a graph that is not this
    GoogLeNet: its message names the first place, seen from the end, that differs.
    """
    graph = read_graph(path)
    if len(graph.outputs) != 1:
        raise graph.error(f"it has {len(graph.outputs)} outputs; export the main classifier's alone")
    with torch.device("meta"):  # shapes alone: a graph that does not fit costs no network
        plan = GoogLeNet(CLASSES)
    walk = _Walk(graph, plan)
    value = walk.global_pool(walk.classifier(graph.outputs[0]))
    for name, stage in reversed(list(plan.features.named_children())):
        value = walk.stage(f"features.{name}", stage, value)
    walk.input(value)
    network = GoogLeNet(CLASSES)
    for parameter, array, label in walk.arrays:
        copy_array(network, parameter, array, label)
    take_rgb(network)
    return network


class _Origin(NamedTuple):
    """Where a value comes from, past nodes that hand it on: the value there and the node that gives it.

    ``relu``: a ReLU was among the nodes passed; ``saturated``: a quantisation with zero as its least number.
    """

    value: str
    node: NodeProto | None
    relu: bool
    saturated: bool


class _Walk:
    """The way through a graph beside our network, gathering weights; a value is a name in the graph.

    ``arrays`` are those found: the name of our parameter, the array, and what to call it in messages.
    """

    def __init__(self, graph: OnnxGraph, network: GoogLeNet) -> None:
        self.graph = graph
        self.network = network
        self.arrays: list[tuple[str, np.ndarray, str]] = []
        self._layers = caffe_layers()

    def classifier(self, value: str) -> str:
        """Gather the classifier, up to the softmax if there is one; return the value that it reads."""
        graph = self.graph
        origin = self._origin(value)
        if origin.node is not None and origin.node.op_type in ("Softmax", "QLinearSoftmax"):
            value = origin.node.input[0]
            origin = self._origin(value)
        added = None
        if origin.node is not None and origin.node.op_type in ("Add", "QLinearAdd"):
            value, added = self._sum(origin.node)
        operators = {"Gemm": 2, "MatMul": 2, "QLinearMatMul": 8, "QGemm": 6}
        node, origin = self._node("the classifier", "a Gemm before a softmax", value, operators)
        weights, bias = self._matrix(node)
        if weights.ndim != 2 or weights.shape[1] != CHANNELS or origin.relu:
            wanted = f"a matrix [{CLASSES},{CHANNELS}] before a softmax"
            raise self._differs("the classifier", wanted, node)
        if len(weights) != CLASSES:
            raise graph.error(
                f"its classifier has {len(weights)} classes, not ILSVRC's {CLASSES}; only weights "
                "for these are read"
            )
        bias = added if bias is None else bias
        bias = np.zeros(CLASSES, np.float32) if bias is None else bias
        self._gather("classifier", weights, bias, node)
        return node.input[0]

    def _sum(self, node: NodeProto) -> tuple[str, np.ndarray]:
        """Return the value and the constant that a sum adds."""
        second = 3 if node.op_type == "QLinearAdd" else 1  # there A, its scale and zero point, then B
        for constant, value in ((second, 0), (0, second)) if len(node.input) > second else ():
            array = self.graph.constant(node.input[constant])
            if array is not None:
                if node.op_type == "QLinearAdd":
                    array = self._dequantised(node, constant, axis=-1)
                return node.input[value], array
        raise self._differs("the classifier's bias", "a stored array", node)

    def _matrix(self, node: NodeProto) -> tuple[np.ndarray, np.ndarray | None]:
        """Return a matrix product's weights [C,K], and its bias if it has one."""
        graph = self.graph
        bias = None
        transposed = bool(graph.integer(node, "transB", 0))
        if graph.integer(node, "transA", 0):
            raise self._differs("the classifier", "a product with its input as it is, not transposed,", node)
        if node.op_type in ("QLinearMatMul", "QGemm"):
            weights = self._dequantised(node, 3, axis=0 if transposed else 1)
            index = 6 if node.op_type == "QGemm" else len(node.input)
            if len(node.input) > index and node.input[index]:
                bias = self._bias(node, index)
        else:
            weights = graph.array(node.input[1], "the classifier's weights")
            if len(node.input) > 2 and node.input[2]:
                bias = graph.array(node.input[2], "the classifier's biases")
                bias = bias * graph.number(node, "beta", 1.0)
        if (alpha := graph.number(node, "alpha", 1.0)) != 1.0:
            weights = weights * alpha
            if node.op_type == "QGemm" and bias is not None:
                bias = bias * alpha
        return weights if transposed else weights.T, bias

    def global_pool(self, value: str) -> str:
        """Pass the mean over each whole map; return the value of the maps."""
        graph = self.graph
        place, wanted = "the pooling before the classifier", "a mean over maps of 7x7"
        pools = ("GlobalAveragePool", "QLinearGlobalAveragePool", "AveragePool", "QLinearAveragePool")
        operators = dict.fromkeys((*pools, "ReduceMean"), 1)
        node, _ = self._node(place, wanted, value, operators, flat=True)
        whole = not graph.integer(node, "channels_last", 0)
        if node.op_type in ("AveragePool", "QLinearAveragePool"):
            whole &= graph.ints(node, "kernel_shape", []) == [7, 7] and self._pads(node, 7, 1) == [0] * 4
        elif node.op_type == "ReduceMean":
            axes = graph.constant(node.input[1]) if len(node.input) > 1 else None
            listed = axes.reshape(-1).tolist() if axes is not None else graph.ints(node, "axes", [])
            whole &= sorted(axis % 4 for axis in listed) == [2, 3]
        if not whole:
            raise self._differs(place, wanted, node)
        return node.input[0]

    def stage(self, name: str, stage: nn.Module, value: str) -> str:
        """Gather the weights of the stage that gives ``value``; return the value that it reads."""
        if isinstance(stage, Inception):
            return self._inception(name, value)
        if isinstance(stage, nn.MaxPool2d):
            return self._max_pool(name, value)
        if isinstance(stage, LocalResponseNorm):
            return self._normalisation(name, value)
        return self._convolution(f"{name}.conv", value)

    def _inception(self, name: str, value: str) -> str:
        graph = self.graph
        place, wanted = _shown(name), "a Concat of four branches over channels"
        node, _ = self._node(place, wanted, value, {"Concat": 1, "QLinearConcat": 5})
        axis = graph.integer(node, "axis", 1)  # opset 1 to 3 have a default
        branches = list(node.input[2::3] if node.op_type == "QLinearConcat" else node.input)
        if len(branches) != 4 or axis not in (1, -3):
            raise self._differs(place, wanted, node)
        branches[1] = self._convolution(f"{name}.branch3.1.conv", branches[1])
        branches[2] = self._convolution(f"{name}.branch5.1.conv", branches[2])
        read = [
            self._convolution(f"{name}.branch1.conv", branches[0]),
            self._convolution(f"{name}.branch3.0.conv", branches[1]),
            self._convolution(f"{name}.branch5.0.conv", branches[2]),
            self._max_pool(
                f"{name}.branch_pool.0", self._convolution(f"{name}.branch_pool.1.conv", branches[3])
            ),
        ]
        if len({self._origin(value).value for value in read}) != 1:
            raise self._differs(place, "four branches that read the same maps", node)
        return read[0]

    def _convolution(self, name: str, value: str) -> str:
        graph = self.graph
        module = self.network.get_submodule(name)
        assert isinstance(module, nn.Conv2d)
        kernel, stride, padding = list(module.kernel_size), list(module.stride), module.kernel_size[0] // 2
        layer = self._layers[name]
        wanted = f"a convolution {list(module.weight.shape)}, stride {stride[0]}, padding {padding}"
        node, origin = self._node(layer, wanted, value, {"Conv": 2, "QLinearConv": 8})
        bias = None
        clamped = origin.relu or origin.saturated
        if node.op_type == "QLinearConv":
            weights = self._dequantised(node, 3, axis=0)
            clamped |= self._least(node.input[7])
            if len(node.input) > 8 and node.input[8]:
                bias = self._bias(node, 8)
        else:
            weights = graph.array(node.input[1], f"the weights of {layer}")
            if len(node.input) > 2 and node.input[2]:
                bias = graph.array(node.input[2], f"the biases of {layer}")
        fits = (
            weights.shape == module.weight.shape
            and graph.ints(node, "kernel_shape", kernel) == kernel
            and graph.ints(node, "strides", [1, 1]) == stride
            and graph.ints(node, "dilations", [1, 1]) == [1, 1]
            and graph.integer(node, "group", 1) == 1
            and self._pads(node, kernel[0], stride[0]) == [padding] * 4
        )
        if not fits:
            raise self._differs(layer, wanted, node, weights)
        if not clamped:
            raise self._differs(layer, f"{wanted}, with a ReLU", node, weights)
        self._gather(name, weights, np.zeros(len(weights), np.float32) if bias is None else bias, node)
        return node.input[0]

    def _max_pool(self, name: str, value: str) -> str:
        graph = self.graph
        module = self.network.get_submodule(name)
        assert isinstance(module, nn.MaxPool2d)
        stride = 2 if module.ceil_mode else 1
        place = _shown(name)
        wanted = f"a 3x3 MaxPool, stride {stride}, {'rounding up' if module.ceil_mode else 'padding 1'}"
        node, _ = self._node(place, wanted, value, {"MaxPool": 1})
        # Sides of maps are even: rounding up adds one row at the end, and a second is never read.
        windows = [[0, 0, 1, 1], [0, 0, 2, 2]] if stride == 2 else [[1, 1, 1, 1]]
        if graph.integer(node, "ceil_mode", 0) and stride == 2:
            windows = [[0, 0, 0, 0], [0, 0, 1, 1]]
        fits = (
            graph.ints(node, "kernel_shape", []) == [3, 3]
            and graph.ints(node, "strides", [1, 1]) == [stride] * 2
            and graph.ints(node, "dilations", [1, 1]) == [1, 1]
            and self._pads(node, 3, stride) in windows
        )
        if not fits:
            raise self._differs(place, wanted, node)
        return node.input[0]

    def _normalisation(self, name: str, value: str) -> str:
        graph = self.graph
        place, wanted = _shown(name), "an LRN of size 5, alpha 0.0001, beta 0.75, bias 1"
        node, _ = self._node(place, wanted, value, {"LRN": 1})
        stated = {"alpha": 1e-4, "beta": 0.75, "bias": 1.0}  # these are ONNX's defaults, too
        found = [graph.number(node, name, default) for name, default in stated.items()]
        if graph.integer(node, "size", 0) != 5 or not np.allclose(found, list(stated.values()), rtol=1e-4):
            raise self._differs(place, wanted, node)
        return node.input[0]

    def input(self, value: str) -> None:
        """Check that ``value`` is the graph's input, of pictures 224x224."""
        origin = self._origin(value)
        info = self.graph.inputs.get(origin.value)
        if origin.node is not None or info is None or origin.relu:
            raise self._differs("what conv1/7x7_s2 reads", "the graph's input", origin.node)
        sides = [dim.dim_value for dim in info.type.tensor_type.shape.dim]  # 0 where it is not fixed
        if sides and (len(sides) != 4 or any(sides[i] not in (0, _INPUT[i]) for i in (1, 2, 3))):
            raise self.graph.error(f"its input is {sides[:8]}; this GoogLeNet takes {_INPUT}")

    def _node(
        self, place: str, wanted: str, value: str, operators: dict[str, int], *, flat: bool = False
    ) -> tuple[NodeProto, _Origin]:
        """Return the node that gives a value: one of some operators, with at least so many inputs."""
        origin = self._origin(value, flat=flat)
        node = origin.node
        if node is None or len(node.input) < operators.get(node.op_type, len(node.input) + 1):
            raise self._differs(place, wanted, node)
        return node, origin

    def _origin(self, value: str, *, flat: bool = False) -> _Origin:
        """Go back past nodes that hand a value on as it is, or quantise it, or clamp it at zero.

        With ``flat`` also past those that only change its shape.
        """
        relu = saturated = False
        for _ in range(self.graph.nodes + 1):
            node = self.graph.producer(value)
            if node is None or not node.input or node.output[0] != value:
                return _Origin(value, node, relu, saturated)
            match node.op_type:
                case "Identity" | "Dropout" | "DequantizeLinear":
                    pass
                case "Cast" if self.graph.integer(node, "to", 0) in _FRACTIONS:
                    pass
                case "Relu":
                    relu = True
                case "QuantizeLinear":
                    saturated |= len(node.input) < 3 or self._least(node.input[2])
                case "Reshape" | "Flatten" | "Squeeze" if flat:
                    pass
                case _:
                    return _Origin(value, node, relu, saturated)
            value = node.input[0]
        raise self.graph.error("its nodes lead in a circle; export the model again")

    def _least(self, zero_point: str) -> bool:
        """Return whether zero is the least number of a quantised type: what is below becomes zero."""
        zero = self.graph.constant(zero_point)
        if zero is None or zero.size != 1 or zero.dtype.kind not in "iu":
            return False
        return bool(zero.item() == np.iinfo(zero.dtype).min)

    def _dequantised(self, node: NodeProto, first: int, axis: int) -> np.ndarray:
        """Return a quantised operand as float32: inputs ``first`` (numbers), and its scale and zero point."""
        what = f"the weights of {describe(node)}"
        numbers, scale, zero = (self.graph.array(name, what) for name in node.input[first : first + 3])
        try:
            return dequantised(numbers, scale, zero, axis)
        except (ValueError, IndexError) as error:
            raise self.graph.error(f"{describe(node)} is damaged: {error}; download it again") from error

    def _bias(self, node: NodeProto, index: int) -> np.ndarray:
        """Return a bias in int32, whose scale is that of the input (1) times those of the weights (4)."""
        what = f"the biases of {describe(node)}"
        bias, scale, scales = (self.graph.array(node.input[i], what) for i in (index, 1, 4))
        try:
            return dequantised(bias, scale.reshape(()).astype(np.float64) * scales.reshape(-1), None, axis=0)
        except (ValueError, IndexError) as error:
            raise self.graph.error(f"{describe(node)} is damaged: {error}; download it again") from error

    def _pads(self, node: NodeProto, kernel: int, stride: int) -> list[int]:
        """Return a window's padding: top, left, bottom, right. Maps have even sides where the stride is 2."""
        total = kernel - stride
        match self.graph.text(node, "auto_pad", "NOTSET"):
            case "SAME_UPPER":
                return [total // 2] * 2 + [total - total // 2] * 2
            case "SAME_LOWER":
                return [total - total // 2] * 2 + [total // 2] * 2
            case "VALID":
                return [0] * 4
        return self.graph.ints(node, "pads", [0] * 4)

    def _gather(self, name: str, weights: np.ndarray, bias: np.ndarray, node: NodeProto) -> None:
        layer = f"{self._layers[name]} ({describe(node)})"
        self.arrays.append((f"{name}.weight", weights, f"{self.graph.shown}: the weights of {layer}"))
        self.arrays.append((f"{name}.bias", bias, f"{self.graph.shown}: the biases of {layer}"))

    def _differs(
        self, place: str, wanted: str, node: NodeProto | None, weights: np.ndarray | None = None
    ) -> CheckpointError:
        """Return the error that a place in the graph is not as in GoogLeNet."""
        found = describe(node) if node is not None else "an input or a stored array"
        details = [f"weights {list(weights.shape)}"] if weights is not None else []
        if node is not None:
            for name in ("kernel_shape", "strides", "pads"):
                if values := self.graph.ints(node, name, []):
                    details.append(f"{name} {values[:8]}")
        shown = f" ({', '.join(details)})" if details else ""
        return self.graph.error(
            f"this is not BVLC GoogLeNet: {place} should be {wanted}; the graph has {found}{shown}. Of ONNX "
            "files the model zoo's googlenet is read, in any of its forms"
        )


def _shown(name: str) -> str:
    """Return the name of a stage in messages."""
    return name.removeprefix("features.").replace(".branch_pool.0", "/pool")

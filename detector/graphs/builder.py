"""A graph in the making: ONNX nodes and constants, added one after the other.

Values are handled by name. Numbers are float32, float16, or 8 bits (QDQ: each value that is read in 8 bits
passes QuantizeLinear and DequantizeLinear, which engines fuse with what lies between).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 17
IR_VERSION = 8

FLOAT32, FLOAT16, INT8 = "float32", "float16", "int8"

Shape = Sequence[int | str]
"""Sides of a value; text for those that may be any."""


@dataclass(frozen=True)
class Value:
    """A tensor in the graph. ``scale`` is set if it passed through 8 bits: one step of 0..255."""

    name: str
    scale: float | None = None


@dataclass
class GraphBuilder:
    """Collects a graph; ``numbers`` is what convolutions compute in."""

    numbers: str = FLOAT32
    native_lrn: bool = True
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, onnx.TensorProto] = field(default_factory=dict)

    def add(self, operation: str, *inputs: Value | str, name: str = "", **attributes: Any) -> Value:
        """Add a node of one output, called ``name`` or else after the operation; return it."""
        output = name or f"{operation.lower()}_{len(self.nodes)}"
        names = [value.name if isinstance(value, Value) else value for value in inputs]
        self.nodes.append(helper.make_node(operation, names, [output], name=f"node_{output}", **attributes))
        return Value(output)

    def constant(self, name: str, array: ArrayLike) -> Value:
        """Add a constant, once for each name."""
        if name not in self.constants:
            self.constants[name] = numpy_helper.from_array(np.asarray(array, order="C"), name)
        return Value(name)

    def weight(self, name: str, array: NDArray[Any]) -> Value:
        """Add a constant in the type that convolutions compute in."""
        kind = np.float16 if self.numbers == FLOAT16 else np.float32
        return self.constant(name, array.astype(kind))

    def float32(self, value: Value) -> Value:
        """Return a value in float32."""
        return self.add("Cast", value, to=TensorProto.FLOAT) if self.numbers == FLOAT16 else value

    def lowered(self, value: Value) -> Value:
        """Return a float32 value in the type that convolutions compute in."""
        return self.add("Cast", value, to=TensorProto.FLOAT16) if self.numbers == FLOAT16 else value

    def quantised(self, value: Value, high: float) -> Value:
        """Pass a value of 0..``high`` through 8 bits."""
        scale = max(high, 1e-6) / 255
        return self._through_8_bits(value, scale)

    def again(self, value: Value, like: Value) -> Value:
        """Pass what a maximum or a concatenation made of values of 8 bits through the same 8 bits."""
        return value if like.scale is None else self._through_8_bits(value, like.scale)

    def _through_8_bits(self, value: Value, scale: float) -> Value:
        step = self.constant(f"{value.name}.scale", np.float32(scale))
        zero = self.constant("zero_of_8_bits", np.uint8(0))
        bits = self.add("QuantizeLinear", value, step, zero)
        return Value(self.add("DequantizeLinear", bits, step, zero).name, scale)

    def conv(
        self,
        x: Value,
        name: str,
        weight: NDArray[Any],
        bias: NDArray[Any],
        *,
        stride: int = 1,
        relu: bool = True,
    ) -> Value:
        """Convolve, padded to keep the size: weight [filters,C,k,k], bias [filters]. In 8 bits if ``x``
        is."""
        kernel = weight.shape[2]
        window: dict[str, Any] = {"kernel_shape": [kernel] * 2, "strides": [stride] * 2}
        window["pads"] = [kernel // 2] * 4
        if x.scale is None:
            constants = self.weight(f"{name}.weight", weight), self.weight(f"{name}.bias", bias)
        else:
            constants = self._weights_of_8_bits(name, weight, bias, x.scale)
        y = self.add("Conv", x, *constants, **window)
        return self.add("Relu", y, name=f"{name}.output") if relu else y

    def _weights_of_8_bits(
        self, name: str, weight: NDArray[Any], bias: NDArray[Any], step: float
    ) -> tuple[Value, Value]:
        """Add weights in 8 bits, a scale for each filter, and the bias in 32, in steps of the products."""
        most = 127
        weight = weight.astype(np.float32)
        scales = np.maximum(np.abs(weight).max(axis=(1, 2, 3)), 1e-8) / most  # filters
        bits = np.clip(np.rint(weight / scales[:, None, None, None]), -most, most).astype(np.int8)
        sums = scales.astype(np.float32) * np.float32(step)
        limit = 2**31 - 1
        bias_bits = np.clip(np.rint(bias.astype(np.float64) / sums), -limit, limit).astype(np.int32)
        of_weight = (
            self.constant(f"{name}.weight.int8", bits),
            self.constant(f"{name}.weight.scale", scales.astype(np.float32)),
            self.constant(f"{name}.weight.zero", np.zeros(len(scales), np.int8)),
        )
        of_bias = (
            self.constant(f"{name}.bias.int32", bias_bits),
            self.constant(f"{name}.bias.scale", sums.astype(np.float32)),
            self.constant(f"{name}.bias.zero", np.zeros(len(scales), np.int32)),
        )
        return (
            self.add("DequantizeLinear", *of_weight, axis=0),
            self.add("DequantizeLinear", *of_bias, axis=0),
        )

    def max_pool(self, x: Value, kernel: int, *, stride: int, padding: int = 0, ceil: bool = False) -> Value:
        """Take the maximum over windows; with ``ceil`` the last one may reach over the edge."""
        y = self.add(
            "MaxPool",
            x,
            kernel_shape=[kernel] * 2,
            strides=[stride] * 2,
            pads=[padding] * 4,
            ceil_mode=int(ceil),
        )
        return self.again(y, x)

    def local_response_norm(self, x: Value, channels: int, name: str) -> Value:
        """Normalise across channels as :class:`detector.models.lrn.LocalResponseNorm`, in float32.

        Squares of float16 would overflow. Either by ONNX's own operation, or by a convolution with a banded
        matrix, whichever the engine is faster at (``native_lrn``).
        """
        size, alpha = 5, 1e-4
        x = self.float32(x)
        if self.native_lrn:
            return self.lowered(self.add("LRN", x, name=name, size=size, alpha=alpha, beta=0.75, bias=1.0))
        places = np.arange(channels)
        near = np.abs(places[:, None] - places[None, :]) <= size // 2
        band = (near * (alpha / size)).astype(np.float32)[:, :, None, None]
        weights = (
            self.constant(f"band_{channels}", band),
            self.constant(f"ones_{channels}", np.ones(channels, np.float32)),
        )
        root = self.add("Sqrt", self.add("Conv", self.add("Mul", x, x), *weights, kernel_shape=[1, 1]))
        power = self.add("Mul", root, self.add("Sqrt", root))  # of 3/4
        return self.lowered(self.add("Div", x, power, name=name))

    def model(
        self,
        inputs: Mapping[str, Shape],
        outputs: Mapping[str, Value],
        *,
        name: str,
        metadata: Mapping[str, str] | None = None,
    ) -> onnx.ModelProto:
        """Return the model: float32 inputs of these shapes, outputs by name.

        Nodes that no output needs are left out, and so are constants.
        """
        for output, value in outputs.items():
            self.nodes.append(helper.make_node("Identity", [value.name], [output], name=f"node_{output}"))
        needed = set(outputs)
        kept = []
        for node in reversed(self.nodes):
            if needed.intersection(node.output):
                kept.append(node)
                needed.update(node.input)
        graph = helper.make_graph(
            kept[::-1],
            name,
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, shape) for key, shape in inputs.items()],
            [helper.make_tensor_value_info(key, TensorProto.FLOAT, _shape_of(key)) for key in outputs],
            [constant for key, constant in self.constants.items() if key in needed],
        )
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="googlenet-detector",
        )
        if metadata:
            helper.set_model_props(model, dict(metadata))
        return model


_SHAPES: Mapping[str, Shape] = {
    "probabilities": ("R", "C"),
    "deltas": ("R", 4),
    "predicted_iou": ("R",),
    "objectness": ("N", "A"),
    "offsets": ("N", "A", 4),
}


def _shape_of(output: str) -> Shape:
    """Return the shape of an output by the last part of its name: maps [N,K,h,w] if it is no other."""
    return _SHAPES.get(output.rpartition(".")[2], ("N", "K", "h", "w"))

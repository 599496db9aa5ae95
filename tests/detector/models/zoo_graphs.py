"""ONNX graphs of GoogLeNet in the form of the ONNX model zoo, made of any weights.

The zoo's own files cannot be had without a network. Nodes, attributes, and the names of values and arrays are
those of its ``googlenet-3`` to ``-12`` (Caffe2's export of BVLC GoogLeNet); the operators are those of each
opset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from detector.models.caffe_weights import caffe_layers
from detector.models.googlenet import GoogLeNet

Arrays = Mapping[str, np.ndarray]
"""``LAYER_w`` and ``LAYER_b`` by Caffe's names of layers, of a network that takes BGR."""

DEPTHS = ("pool1/norm1_1", "inception_3b/output_1", "pool4/3x3_s2_1", "loss3/classifier_1")
"""Values of the graph that are compared: first maps, middle, last pool, logits."""


def arrays_of(network: GoogLeNet) -> dict[str, np.ndarray]:
    """Return a network's weights as Caffe keeps them."""
    arrays = {}
    for ours, caffe in caffe_layers().items():
        arrays[f"{caffe}_w"] = network.get_parameter(f"{ours}.weight").detach().numpy()
        arrays[f"{caffe}_b"] = network.get_parameter(f"{ours}.bias").detach().numpy()
    arrays["conv1/7x7_s2_w"] = np.ascontiguousarray(arrays["conv1/7x7_s2_w"][:, ::-1])
    return arrays


def zoo_model(arrays: Arrays, opset: int = 12) -> onnx.ModelProto:
    """Make the zoo's graph for an opset."""
    return _Builder(arrays, opset).model()


class _Builder:
    def __init__(self, arrays: Arrays, opset: int) -> None:
        self.opset = opset
        self.nodes: list[onnx.NodeProto] = []
        self.stored = [numpy_helper.from_array(array, f"{name}_0") for name, array in arrays.items()]

    def node(self, op: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(self, value: str, layer: str, kernel: int, stride: int = 1) -> str:
        pads = [kernel // 2] * 4
        inputs = [value, f"{layer}_w_0", f"{layer}_b_0"]
        self.node("Conv", inputs, f"{layer}_1", kernel_shape=[kernel] * 2, pads=pads, strides=[stride] * 2)
        return self.node("Relu", [f"{layer}_1"], f"{layer}_2")

    def max_pool(self, value: str, output: str, stride: int) -> str:
        pads = [0, 0, 2, 2] if stride == 2 else [1] * 4
        return self.node("MaxPool", [value], output, kernel_shape=[3, 3], pads=pads, strides=[stride] * 2)

    def norm(self, value: str, output: str) -> str:
        return self.node("LRN", [value], output, size=5, alpha=1e-4, beta=0.75, bias=1.0)

    def inception(self, value: str, block: str) -> str:
        layer = f"inception_{block}"
        branches = [
            self.conv(value, f"{layer}/1x1", 1),
            self.conv(self.conv(value, f"{layer}/3x3_reduce", 1), f"{layer}/3x3", 3),
            self.conv(self.conv(value, f"{layer}/5x5_reduce", 1), f"{layer}/5x5", 5),
            self.conv(self.max_pool(value, f"{layer}/pool_1", 1), f"{layer}/pool_proj", 1),
        ]
        return self.node("Concat", branches, f"{layer}/output_1", axis=1)

    def dropout(self, value: str) -> str:
        outputs = ["pool5/7x7_s1_2", "_pool5/7x7_s1_mask_1"]
        if self.opset < 7:
            self.nodes.append(helper.make_node("Dropout", [value], outputs, ratio=0.4, is_test=1))
        elif self.opset < 12:
            self.nodes.append(helper.make_node("Dropout", [value], outputs, ratio=0.4))
        else:
            self.stored.append(numpy_helper.from_array(np.float32(0.4), "ratio"))
            self.nodes.append(helper.make_node("Dropout", [value, "ratio"], outputs[:1]))
        return outputs[0]

    def model(self) -> onnx.ModelProto:
        x = self.max_pool(self.conv("data_0", "conv1/7x7_s2", 7, 2), "pool1/3x3_s2_1", 2)
        x = self.conv(self.norm(x, "pool1/norm1_1"), "conv2/3x3_reduce", 1)
        x = self.norm(self.conv(x, "conv2/3x3", 3), "conv2/norm2_1")
        x = self.max_pool(x, "pool2/3x3_s2_1", 2)
        for block in ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b"):
            x = self.inception(x, block)
            if block in ("3b", "4e"):
                x = self.max_pool(x, f"pool{block[0]}/3x3_s2_1", 2)
        x = self.node("AveragePool", [x], "pool5/7x7_s1_1", kernel_shape=[7, 7], strides=[1, 1])
        x = self.dropout(x)
        if self.opset < 5:
            x = self.node("Reshape", [x], "OC2_DUMMY_0", shape=[1, 1024])
        else:
            self.stored.append(numpy_helper.from_array(np.array([1, 1024]), "OC2_DUMMY_1"))
            x = self.node("Reshape", [x, "OC2_DUMMY_1"], "OC2_DUMMY_0")
        broadcast = {"broadcast": 1} if self.opset < 7 else {}
        inputs = [x, "loss3/classifier_w_0", "loss3/classifier_b_0"]
        self.node("Gemm", inputs, "loss3/classifier_1", transB=1, **broadcast)
        self.node("Softmax", ["loss3/classifier_1"], "prob_1")
        classes = next(array.dims[0] for array in self.stored if array.name == "loss3/classifier_b_0")
        inputs = [helper.make_tensor_value_info("data_0", TensorProto.FLOAT, [1, 3, 224, 224])]
        if self.opset < 12:  # until version 4 of the format, stored arrays stand among the inputs, too
            inputs += [helper.make_tensor_value_info(a.name, a.data_type, a.dims) for a in self.stored]
        outputs = [helper.make_tensor_value_info("prob_1", TensorProto.FLOAT, [1, classes])]
        graph = helper.make_graph(self.nodes, "GoogleNet", inputs, outputs, self.stored)
        return helper.make_model(
            graph,
            producer_name="onnx-caffe2",
            ir_version=3 if self.opset < 12 else 7,
            opset_imports=[helper.make_opsetid("", self.opset)],
        )


def with_outputs(model: onnx.ModelProto, names: tuple[str, ...] = DEPTHS) -> bytes:
    """Return a copy of a graph that also gives the values ``names``, to compare them."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for name in names:
        copy.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    return copy.SerializeToString()

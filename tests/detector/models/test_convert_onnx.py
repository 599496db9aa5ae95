"""GoogLeNet from ONNX graphs: against the file's runtime, in every form of the model zoo; and other files.

The zoo's own files are not here; graphs of its form are made of random and of BVLC's weights (zoo_graphs),
and of the zoo's own ``inception_v1`` graph, which the package onnx carries without its weights.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

pytest.importorskip("onnx", reason="needs onnx")

import onnx
from onnx import TensorProto, helper, numpy_helper

from detector.errors import CheckpointError
from detector.io.decoding import load
from detector.models.caffe_weights import is_bvlc
from detector.models.convert_bvlc import read_bvlc
from detector.models.convert_onnx import read_onnx
from detector.models.googlenet import GoogLeNet
from tests.detector.models.zoo_graphs import Arrays, arrays_of, with_outputs, zoo_model

Change = Callable[[onnx.ModelProto], None]

STAGES = ("norm1", "inception_3b", "pool4")
"""Our stages that give the first of zoo_graphs.DEPTHS; the last are the logits."""


@pytest.fixture(scope="module")
def network() -> GoogLeNet:
    torch.manual_seed(0)
    network = GoogLeNet().eval()
    for name, value in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(value, std=0.1)
    return network


@pytest.fixture(scope="module")
def arrays(network: GoogLeNet) -> Arrays:
    return arrays_of(network)


@pytest.fixture(scope="module")
def zoo(arrays: Arrays) -> onnx.ModelProto:
    """The zoo's graph of opset 12 with untrained weights; not to be changed."""
    return zoo_model(arrays, 12)


@pytest.fixture(scope="module")
def folder(zoo: onnx.ModelProto, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the arrays of ``zoo`` in ``weights.bin``, for graphs without them (``light``)."""
    folder = tmp_path_factory.mktemp("apart")
    (folder / "weights.bin").write_bytes(b"".join(array.raw_data for array in zoo.graph.initializer))
    return folder


@pytest.fixture(scope="module")
def light(zoo: onnx.ModelProto) -> onnx.ModelProto:
    """The same graph with its arrays in another file: small, so that many can be tried; not to be changed."""
    copy = _changed(zoo)
    offset = 0
    for array in copy.graph.initializer:
        length = len(array.raw_data)
        array.ClearField("raw_data")
        array.data_location = TensorProto.EXTERNAL
        for key, value in (("location", "weights.bin"), ("offset", offset), ("length", length)):
            array.external_data.add(key=key, value=str(value))
        offset += length
    return copy


@pytest.fixture(scope="module")
def bvlc(shared: Path) -> GoogLeNet:
    return read_bvlc(shared / "weights" / "bvlc_googlenet.npz").eval()


@pytest.fixture(scope="module")
def crops(shared: Path) -> list[np.ndarray]:
    """Five pictures as the zoo's graphs take them: [1,3,224,224], BGR less Caffe's means."""
    folder = shared / "ilsvrc" / "ILSVRC" / "Data" / "CLS-LOC" / "val"
    crops = []
    for path in sorted(folder.rglob("*.JPEG"))[::200]:
        image = cv2.resize(load(path), (224, 224), interpolation=cv2.INTER_AREA)[:, :, ::-1]
        crops.append((image - np.array([104, 117, 123], np.float32)).transpose(2, 0, 1)[None].copy())
    return crops


def _noise() -> np.ndarray:
    return (np.random.default_rng(0).standard_normal((1, 3, 224, 224)) * 60).astype(np.float32)


def _by_onnxruntime(model: bytes, crops: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    runtime = pytest.importorskip("onnxruntime", reason="needs onnx")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for crop in crops:
        yield session.run(None, {"data_0": crop})


def _by_openvino(model: bytes, crops: Iterable[np.ndarray]) -> Iterator[list[np.ndarray]]:
    openvino = pytest.importorskip("openvino", reason="onnxruntime does not run opsets below 7")
    core = openvino.Core()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    compiled = core.compile_model(core.read_model(model), "CPU", settings)
    for crop in crops:
        yield list(compiled(crop).values())


def _ours(network: GoogLeNet, crop: np.ndarray) -> list[np.ndarray]:
    """What the network gives for a crop in BGR, at the depths that are compared."""
    depths = []
    x = torch.from_numpy(crop).flip(1)
    with torch.no_grad():
        for name, stage in network.eval().features.named_children():
            x = stage(x)
            if name in STAGES:
                depths.append(x.numpy().copy())
        return [*depths, network.pool(x).numpy()]


def _worst(ours: list[np.ndarray], theirs: list[np.ndarray]) -> list[float]:
    """The largest difference at each depth, as a share of the largest number there."""
    return [float(abs(a - b).max() / abs(b).max()) for a, b in zip(ours, theirs, strict=True)]


def _same_weights(one: GoogLeNet, other: GoogLeNet, tolerance: float = 0.0) -> bool:
    pairs = zip(one.parameters(), other.parameters(), strict=True)
    return all(torch.allclose(a, b, rtol=0, atol=tolerance) for a, b in pairs)


def _saved(model: onnx.ModelProto, path: Path) -> Path:
    path.write_bytes(model.SerializeToString())
    return path


def _changed(model: onnx.ModelProto, *changes: Change) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for change in changes:
        change(copy)
    return copy


@pytest.mark.parametrize("opset", [3, 6, 7, 8, 9, 12])
def test_a_graph_of_the_zoo_gives_its_runtimes_activations(
    arrays: Arrays, network: GoogLeNet, tmp_path: Path, opset: int
) -> None:
    model = zoo_model(arrays, opset)
    ours = read_onnx(_saved(model, tmp_path / "googlenet.onnx"))
    assert _same_weights(ours, network)
    run = _by_openvino if opset < 7 else _by_onnxruntime
    crop = _noise()
    worst = _worst(_ours(ours, crop), next(run(with_outputs(model), [crop]))[1:])
    print(f"opset {opset}: largest differences {worst}")
    assert max(worst) < 1e-5


def test_bvlcs_weights_by_way_of_onnx(bvlc: GoogLeNet, crops: list[np.ndarray], tmp_path: Path) -> None:
    model = zoo_model(arrays_of(bvlc), 9)
    ours = read_onnx(_saved(model, tmp_path / "googlenet-9.onnx"))
    assert _same_weights(ours, bvlc)
    assert is_bvlc(ours)
    theirs = list(_by_onnxruntime(with_outputs(model), crops[:3]))
    worst = [_worst(_ours(ours, crop), values[1:]) for crop, values in zip(crops[:3], theirs, strict=True)]
    print(f"largest differences {np.max(worst, axis=0)}")
    assert np.max(worst) < 5e-5


def test_the_zoos_own_nodes_of_inception_v1(arrays: Arrays, network: GoogLeNet, tmp_path: Path) -> None:
    """Caffe2's export itself, whose weights the package onnx left out. It rounds down in its pools."""
    path = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light" / "light_inception_v1.onnx"
    if not path.is_file():
        pytest.skip("this release of onnx has no light_inception_v1.onnx")
    with pytest.raises(
        CheckpointError, match="the classifier's weights are not stored in it but computed by"
    ):
        read_onnx(path)
    model = onnx.load(path)
    nodes = [node for node in model.graph.node if node.op_type != "ConstantOfShape"]
    shapes = [a for a in model.graph.initializer if a.name.startswith("OC2_DUMMY")]
    sides = {a.name: [1024 if s == -1 else s for s in numpy_helper.to_array(a).tolist()] for a in shapes}
    assert sides == {"OC2_DUMMY_1": [1, 1024], "OC2_DUMMY_3": [1000, 1024]}
    stored = [numpy_helper.from_array(array, f"{name}_0") for name, array in arrays.items()]
    for parts, new in ((model.graph.node, nodes), (model.graph.initializer, [*shapes, *stored])):
        del parts[:]
        parts.extend(new)
    with pytest.raises(CheckpointError, match="should be a mean over maps of 7x7") as caught:
        read_onnx(_saved(model, tmp_path / "inception_v1.onnx"))
    assert "pads [0, 0, 1, 1]" in str(caught.value)
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "pads" and node.op_type == "AveragePool":
                attribute.ints[:] = [0, 0, 0, 0]
            if attribute.name == "pads" and node.op_type == "MaxPool" and sum(attribute.ints) == 0:
                attribute.ints[:] = [0, 0, 2, 2]
    ours = read_onnx(_saved(model, tmp_path / "googlenet.onnx"))
    assert _same_weights(ours, network)
    lrn = next(node for node in model.graph.node if node.op_type == "LRN").output[0]
    logits = model.graph.node[-1].input[0]
    crop = _noise()
    del model.graph.input[:]
    model.graph.input.append(helper.make_tensor_value_info("data_0", TensorProto.FLOAT, crop.shape))
    theirs = next(_by_onnxruntime(with_outputs(model, (lrn, logits)), [crop]))[1:]
    first, *_, last = _ours(ours, crop)
    assert max(_worst([first, last], theirs)) < 1e-5


QUANTISED = {
    "int8": {"format": "QOperator", "weights": "QInt8", "activations": "QUInt8", "reduce_range": True},
    "uint8": {"format": "QOperator", "weights": "QUInt8", "activations": "QUInt8"},
    "qdq": {"format": "QDQ", "weights": "QUInt8", "activations": "QUInt8"},
    "qdq by channel": {
        "format": "QDQ", "weights": "QInt8", "activations": "QInt8", "reduce_range": True, "channels": True,
    },
}  # fmt: skip
"""Forms of onnxruntime's quantisation. Where bytes of both signs are multiplied, a processor without VNNI
saturates unless the range is reduced; that would be the runtime's error, not the weights'."""


def _quantised(source: Path, target: Path, crops: list[np.ndarray], form: dict[str, Any]) -> onnx.ModelProto:
    quantization = pytest.importorskip("onnxruntime.quantization")

    class Reader(quantization.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.rows = iter([{"data_0": crop} for crop in crops])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rows, None)

    quantization.quantize_static(
        source,
        target,
        Reader(),
        quant_format=quantization.QuantFormat[form["format"]],
        weight_type=quantization.QuantType[form["weights"]],
        activation_type=quantization.QuantType[form["activations"]],
        reduce_range=form.get("reduce_range", False),
        per_channel=form.get("channels", False),
    )
    return onnx.load(target)


@pytest.mark.parametrize(
    "name",
    [
        "int8",
        "qdq by channel",
        pytest.param("qdq", marks=pytest.mark.exhaustive),
        pytest.param("uint8", marks=pytest.mark.exhaustive),
    ],
)
def test_a_quantised_graph_knows_what_its_runtime_knows(
    bvlc: GoogLeNet, crops: list[np.ndarray], tmp_path: Path, name: str
) -> None:
    """The rest is what the runtime loses by quantising activations as well.

    The ranges of activations are taken from the same pictures: others would be clipped.
    """
    form = QUANTISED[name]
    opset = 13 if "channels" in form else 12  # scales by channel came with 13
    source = _saved(zoo_model(arrays_of(bvlc), opset), tmp_path / "float.onnx")
    model = _quantised(source, tmp_path / "quantised.onnx", crops, form)
    ours = read_onnx(tmp_path / "quantised.onnx")
    step = 1.01 / (128 if form.get("reduce_range") else 255)  # half of one, of both signs together
    for found, exact in zip(ours.parameters(), bvlc.parameters(), strict=True):
        if exact.ndim > 1:
            assert (found - exact).abs().max() <= step * exact.abs().max()
    assert is_bvlc(ours)
    theirs = [values[0] for values in _by_onnxruntime(model.SerializeToString(), crops)]
    found = [torch.from_numpy(_ours(ours, crop)[-1]).softmax(1).numpy() for crop in crops]
    worst = [abs(a - b).max() for a, b in zip(found, theirs, strict=True)]
    agreed = sum(a.argmax() == b.argmax() for a, b in zip(found, theirs, strict=True))
    print(f"{name}: {agreed} of {len(crops)} agree, largest {max(worst):.3f}, mean {np.mean(worst):.3f}")
    assert agreed >= len(crops) - 1
    assert np.mean(worst) < 0.08
    if form["format"] == "QDQ":
        logits = "loss3/classifier_1"
        theirs = [values[-1] for values in _by_onnxruntime(_float_activations(model, logits), crops[:2])]
        worst = [_worst(_ours(ours, crop)[-1:], [a])[0] for crop, a in zip(crops[:2], theirs, strict=True)]
        print(f"{name}, weights alone quantised: largest difference {max(worst):.1e}")
        assert max(worst) < 1e-5


def _float_activations(model: onnx.ModelProto, output: str) -> bytes:
    """The graph whose weights alone are quantised: a ReLU, or nothing, in place of pairs on activations."""
    model = _changed(model)
    graph = model.graph
    zeros = {array.name: numpy_helper.to_array(array) for array in graph.initializer}
    pairs = {node.output[0]: node for node in graph.node if node.op_type == "QuantizeLinear"}
    for node in graph.node:
        if node.op_type == "DequantizeLinear" and node.input[0] in pairs:
            pair = pairs[node.input[0]]
            zero = zeros[pair.input[2]]
            node.op_type = "Relu" if zero == np.iinfo(zero.dtype).min else "Identity"
            node.input[:] = pair.input[:1]
            del node.attribute[:]
    kept = [node for node in graph.node if node.op_type != "QuantizeLinear"]
    del graph.node[:]
    graph.node.extend(kept)
    return with_outputs(model, (output,))


def test_the_classifier_as_a_product_and_a_sum(zoo: onnx.ModelProto, tmp_path: Path) -> None:
    """So the zoo's googlenet-12-int8 has it: QLinearMatMul, then onnxruntime's QLinearAdd."""
    source = _saved(zoo, tmp_path / "float.onnx")
    model = _quantised(source, tmp_path / "int8.onnx", [_noise()], QUANTISED["int8"])
    expected = read_onnx(tmp_path / "int8.onnx")
    arrays = {array.name: array for array in model.graph.initializer}
    gemm = next(node for node in model.graph.node if node.op_type == "QGemm")
    at = list(model.graph.node).index(gemm)
    a, a_scale, a_zero, b, b_scale, b_zero, c, y_scale, y_zero = gemm.input
    weights = numpy_helper.to_array(arrays[b]).T.copy()
    scale = numpy_helper.to_array(arrays[a_scale]) * numpy_helper.to_array(arrays[b_scale])
    bias = numpy_helper.to_array(arrays[c]) * scale
    c_scale = np.float32(abs(bias).max() / 127)
    new_arrays = {
        b: weights,
        "bias": np.rint(bias / c_scale).astype(np.int8),
        "bias_scale": c_scale,
        "bias_zero": np.int8(0),
    }
    for name, array in new_arrays.items():
        if name in arrays:
            model.graph.initializer.remove(arrays[name])
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    new = [
        helper.make_node(
            "QLinearMatMul", [a, a_scale, a_zero, b, b_scale, b_zero, y_scale, y_zero], ["product"]
        ),
        helper.make_node(
            "QLinearAdd",
            ["product", y_scale, y_zero, "bias", "bias_scale", "bias_zero", y_scale, y_zero],
            gemm.output,
            domain="com.microsoft",
        ),
    ]
    model.graph.node.remove(gemm)
    for node in reversed(new):
        model.graph.node.insert(at, node)
    found = read_onnx(_saved(model, tmp_path / "product.onnx"))
    assert torch.equal(found.classifier.weight, expected.classifier.weight)
    assert (found.classifier.bias - expected.classifier.bias).abs().max() <= c_scale


def _shuffle_names(model: onnx.ModelProto) -> None:
    """Call everything by a number, and put nodes and arrays into another order."""
    rng = np.random.default_rng(0)
    graph = model.graph
    names: dict[str, str] = {}

    def other(name: str) -> str:
        return names.setdefault(name, f"v{len(names) * 7919 % 10007}") if name else name

    for node in graph.node:
        node.name = ""
        node.input[:] = [other(name) for name in node.input]
        node.output[:] = [other(name) for name in node.output]
    for part in (*graph.initializer, *graph.input, *graph.output):
        part.name = other(part.name)
    for parts in (graph.node, graph.initializer):
        order = [parts[i] for i in rng.permutation(len(parts))]
        copies = [type(part).FromString(part.SerializeToString()) for part in order]
        del parts[:]
        parts.extend(copies)


def _stored_as(dtype: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        for array in model.graph.initializer:
            if array.data_type == TensorProto.FLOAT:
                values = numpy_helper.to_array(array)
                if dtype == "bfloat16":
                    array.CopyFrom(
                        helper.make_tensor(
                            array.name, TensorProto.BFLOAT16, array.dims,
                            (values.view(np.uint32) >> 16).astype("<u2").tobytes(), raw=True,
                        )
                    )  # fmt: skip
                else:
                    array.CopyFrom(numpy_helper.from_array(values.astype(dtype), array.name))

    return change


def _constant_nodes(model: onnx.ModelProto) -> None:
    nodes = [helper.make_node("Constant", [], [a.name], value=a) for a in model.graph.initializer]
    nodes += list(model.graph.node)
    for part in (model.graph.initializer, model.graph.node):
        del part[:]
    model.graph.node.extend(nodes)


def _float_data(model: onnx.ModelProto) -> None:
    """Numbers as numbers in place of bytes."""
    array = next(a for a in model.graph.initializer if a.name == "loss3/classifier_b_0")
    values = numpy_helper.to_array(array)
    array.CopyFrom(helper.make_tensor(array.name, TensorProto.FLOAT, values.shape, values.tolist()))


def _as_torch_exports(model: onnx.ModelProto) -> None:
    """Other operators of the same meaning: logits, MatMul and Add, a global pool, ceil_mode, any batch."""
    graph = model.graph
    for node in graph.node:
        if node.op_type == "MaxPool" and list(_attribute(node, "strides").ints) == [2, 2]:
            _attribute(node, "pads").ints[:] = [0] * 4
            node.attribute.append(helper.make_attribute("ceil_mode", 1))
    kept = list(graph.node)[:-5]  # all but AveragePool, Dropout, Reshape, Gemm, Softmax
    weights = next(a for a in graph.initializer if a.name == "loss3/classifier_w_0")
    weights.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weights).T.copy(), weights.name))
    del graph.node[:]
    graph.node.extend(kept)
    graph.node.extend(
        [
            helper.make_node("GlobalAveragePool", ["inception_5b/output_1"], ["mean"]),
            helper.make_node("Flatten", ["mean"], ["row"]),
            helper.make_node("MatMul", ["row", "loss3/classifier_w_0"], ["product"]),
            helper.make_node("Add", ["loss3/classifier_b_0", "product"], ["logits"]),
        ]
    )
    graph.output[0].name = "logits"
    graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"


def _attribute(node: onnx.NodeProto, name: str) -> onnx.AttributeProto:
    return next(attribute for attribute in node.attribute if attribute.name == name)


@pytest.mark.parametrize(
    ("change", "tolerance"),
    [
        pytest.param(_shuffle_names, 0, id="other names, another order"),
        pytest.param(_stored_as("float64"), 0, id="double"),
        pytest.param(_stored_as("float16"), 1e-3, id="half"),
        pytest.param(_stored_as("bfloat16"), 1e-2, id="bfloat16"),
        pytest.param(_constant_nodes, 0, id="weights as nodes"),
        pytest.param(_float_data, 0, id="numbers, not bytes"),
        pytest.param(_as_torch_exports, 0, id="other operators"),
    ],
)
def test_other_ways_to_write_the_same_graph(
    zoo: onnx.ModelProto, network: GoogLeNet, tmp_path: Path, change: Change, tolerance: float
) -> None:
    found = read_onnx(_saved(_changed(zoo, change), tmp_path / "a.onnx"))
    assert _same_weights(found, network, tolerance)


def test_all_weights_in_another_file(light: onnx.ModelProto, network: GoogLeNet, folder: Path) -> None:
    assert _same_weights(read_onnx(_saved(light, folder / "whole.onnx")), network)


def _node(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    return next(node for node in model.graph.node if node.output[0] == output)


def _array(model: onnx.ModelProto, name: str, array: np.ndarray) -> None:
    old = next(a for a in model.graph.initializer if a.name == name)
    old.CopyFrom(numpy_helper.from_array(array, name))


def _set(output: str, name: str, value: Any) -> Change:
    """Set an attribute of the node that gives ``output``."""

    def change(model: onnx.ModelProto) -> None:
        node = _node(model, output)
        for attribute in [a for a in node.attribute if a.name == name]:
            node.attribute.remove(attribute)
        node.attribute.append(helper.make_attribute(name, value))

    return change


def _operator(output: str, op: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        _node(model, output).op_type = op

    return change


def _inputs(output: str, *names: str) -> Change:
    def change(model: onnx.ModelProto) -> None:
        _node(model, output).input[:] = names

    return change


def _of(name: str, array: np.ndarray) -> Change:
    return lambda model: _array(model, name, array)


def _classes(count: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        _array(model, "loss3/classifier_w_0", np.zeros((count, 1024), np.float32))
        _array(model, "loss3/classifier_b_0", np.zeros(count, np.float32))

    return change


def _circle(model: onnx.ModelProto) -> None:
    _node(model, "prob_1").input[:] = ["one"]
    model.graph.node.append(helper.make_node("Identity", ["two"], ["one"]))
    model.graph.node.append(helper.make_node("Identity", ["one"], ["two"]))


def _circle_of_constants(model: onnx.ModelProto) -> None:
    """Each of two reads the other a hundred times: 100 ** 16 ways."""
    _node(model, "conv1/7x7_s2_1").input[1] = "one"
    model.graph.node.append(helper.make_node("Reshape", ["two"] * 100, ["one"]))
    model.graph.node.append(helper.make_node("Reshape", ["one"] * 100, ["two"]))


def _opset(version: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.opset_import[0].version = version

    return change


def _ir(model: onnx.ModelProto) -> None:
    model.ir_version = 99


def _own(model: onnx.ModelProto) -> None:
    model.producer_name = "googlenet-detector"


def _two_outputs(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("loss1", TensorProto.FLOAT, None))


def _twice(model: onnx.ModelProto) -> None:
    model.graph.node.append(helper.make_node("Relu", ["data_0"], ["prob_1"]))


def _input(*sides: int) -> Change:
    def change(model: onnx.ModelProto) -> None:
        model.graph.input[0].CopyFrom(helper.make_tensor_value_info("data_0", TensorProto.FLOAT, sides))

    return change


def _before_the_first(model: onnx.ModelProto) -> None:
    _node(model, "conv1/7x7_s2_1").input[0] = "scaled"
    model.graph.node.append(helper.make_node("Mul", ["data_0", "loss3/classifier_b_0"], ["scaled"]))


def _huge(model: onnx.ModelProto) -> None:
    next(a for a in model.graph.initializer if a.name == "conv1/7x7_s2_w_0").dims[:] = [2**40, 2**20]


def _short(model: onnx.ModelProto) -> None:
    _array(model, "conv1/7x7_s2_w_0", np.zeros((64, 3, 7, 7), np.float32))
    array = next(a for a in model.graph.initializer if a.name == "conv1/7x7_s2_w_0")
    array.raw_data = array.raw_data[:-4]


def _text_array(model: onnx.ModelProto) -> None:
    array = next(a for a in model.graph.initializer if a.name == "conv1/7x7_s2_b_0")
    array.CopyFrom(helper.make_tensor(array.name, TensorProto.STRING, [64], [b"a"] * 64))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(_classes(999), "has 999 classes, not ILSVRC's 1000", id="999 classes"),
        pytest.param(_classes(0), "has 0 classes", id="no classes"),
        pytest.param(_opset(99), r"newer \(IR 7, opset 99\).*update", id="a future opset"),
        pytest.param(_ir, r"newer \(IR 99, opset 12\)", id="a future format"),
        pytest.param(lambda model: model.ClearField("opset_import"), "states no opset", id="no opset"),
        pytest.param(lambda model: model.ClearField("graph"), "no nodes", id="no graph"),
        pytest.param(_own, "exported by this project", id="our own"),
        pytest.param(_two_outputs, "has 2 outputs", id="two outputs"),
        pytest.param(_twice, "two nodes give the value 'prob_1'", id="one value of two nodes"),
        pytest.param(_circle, "lead in a circle", id="a circle"),
        pytest.param(_circle_of_constants, "not stored in it but computed by", id="constants in a circle"),
        pytest.param(
            _of("conv1/7x7_s2_b_0", np.full(64, np.nan, np.float32)),
            r"biases of conv1/7x7_s2 .*not finite",
            id="NaN",
        ),
        pytest.param(_of("conv1/7x7_s2_b_0", np.full(64, 1e300)), "not finite", id="beyond float32"),
        pytest.param(_of("conv1/7x7_s2_b_0", np.zeros(63, np.float32)), r"has shape \[63\]", id="63 biases"),
        pytest.param(
            _of("conv1/7x7_s2_b_0", np.zeros(64, np.int64)), "numbers with a fraction", id="whole numbers"
        ),
        pytest.param(
            _of("conv1/7x7_s2_w_0", np.zeros((64, 3, 5, 5), np.float32)),
            r"conv1/7x7_s2 should be a convolution \[64, 3, 7, 7\]",
            id="5x5",
        ),
        pytest.param(_text_array, "of a type that is not read", id="text"),
        pytest.param(_huge, "has sides", id="a huge array"),
        pytest.param(_short, "'conv1/7x7_s2_w_0' is damaged", id="an array cut off"),
        pytest.param(
            _set("conv1/7x7_s2_1", "strides", [1, 1]), "conv1/7x7_s2 should be .*stride 2", id="stride"
        ),
        pytest.param(
            _set("conv2/3x3_1", "pads", [0, 0, 0, 0]), "conv2/3x3 should be .*padding 1", id="padding"
        ),
        pytest.param(_set("conv2/3x3_1", "dilations", [2, 2]), "conv2/3x3 should be", id="dilation"),
        pytest.param(_set("conv2/3x3_1", "group", 64), "conv2/3x3 should be", id="groups"),
        pytest.param(
            _set("conv1/7x7_s2_1", "auto_pad", "SAME_UPPER"), "conv1/7x7_s2 should be", id="lopsided"
        ),
        pytest.param(_set("pool1/norm1_1", "alpha", 1e-3), "norm1 should be an LRN", id="alpha"),
        pytest.param(_set("pool1/norm1_1", "size", 3), "norm1 should be an LRN of size 5", id="LRN's size"),
        pytest.param(
            _set("pool3/3x3_s2_1", "pads", [0, 0, 0, 0]), "pool3 should be .*rounding up", id="rounding down"
        ),
        pytest.param(
            _set("pool3/3x3_s2_1", "kernel_shape", [2, 2]), "pool3 should be a 3x3 MaxPool", id="2x2"
        ),
        pytest.param(
            _set("inception_4b/pool_1", "pads", [0, 0, 2, 2]), "inception_4b/pool should be", id="a pool"
        ),
        pytest.param(_set("inception_4b/output_1", "axis", 2), "inception_4b should be a Concat", id="axis"),
        pytest.param(_operator("pool2/3x3_s2_1", "AveragePool"), "pool2 should be a 3x3 MaxPool", id="mean"),
        pytest.param(
            _operator("inception_4c/3x3_2", "Sigmoid"), "4c/3x3 should be a convolution", id="sigmoid"
        ),
        pytest.param(
            _operator("inception_4c/3x3_2", "Identity"), "4c/3x3 should be .*, with a ReLU", id="no ReLU"
        ),
        pytest.param(_operator("pool1/norm1_1", "Relu"), "norm1 should be an LRN", id="no LRN"),
        pytest.param(
            _inputs(
                "inception_4c/output_1",
                "inception_4c/3x3_2",
                "inception_4c/1x1_2",
                "inception_4c/5x5_2",
                "inception_4c/pool_proj_2",
            ),
            "4c/3x3 should be",
            id="order of branches",
        ),
        pytest.param(
            _inputs("inception_3b/pool_1", "pool2/3x3_s2_1"),
            "3b/pool_proj should|read the same maps|3b should",
            id="a branch elsewhere",
        ),
        pytest.param(_inputs("pool3/3x3_s2_1", "nowhere"), "an input or a stored array", id="no such value"),
        pytest.param(_inputs("pool3/3x3_s2_1"), "pool3 should be", id="no input"),
        pytest.param(
            _inputs("conv1/7x7_s2_1", "data_0", "nowhere"),
            "weights of conv1/7x7_s2 are not stored",
            id="no weights",
        ),
        pytest.param(_set("loss3/classifier_1", "transA", 1), "not transposed", id="transA"),
        pytest.param(
            _set("pool5/7x7_s1_1", "kernel_shape", [5, 5]), "mean over maps of 7x7", id="the last pool"
        ),
        pytest.param(_input(1, 3, 299, 299), r"its input is \[1, 3, 299, 299\]", id="299 pixels"),
        pytest.param(_input(1, 224, 224, 3), "its input is", id="channels last"),
        pytest.param(_before_the_first, "what conv1/7x7_s2 reads should be the graph's input", id="scaling"),
    ],
)
def test_what_is_not_this_googlenet(light: onnx.ModelProto, folder: Path, change: Change, says: str) -> None:
    path = _saved(_changed(light, change), folder / "a.onnx")
    with pytest.raises(CheckpointError, match=says) as caught:
        read_onnx(path)
    assert "a.onnx" in str(caught.value)
    assert str(caught.value).isprintable()


def _small(*nodes: onnx.NodeProto, opset: int = 12) -> onnx.ModelProto:
    """A small network of another kind, with the kernels and matrix that its nodes may name."""
    rng = np.random.default_rng(0)
    stored = {"k": rng.random((8, 3, 3, 3)), "k2": rng.random((8, 8, 3, 3)), "m": rng.random((1000, 8))}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 224, 224])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in stored.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


RESNET = (
    helper.make_node("Conv", ["x", "k"], ["a"]),
    helper.make_node("Relu", ["a"], ["b"]),
    helper.make_node("Conv", ["b", "k2"], ["c"], pads=[1] * 4),
    helper.make_node("Add", ["b", "c"], ["d"]),
    helper.make_node("GlobalAveragePool", ["d"], ["e"]),
    helper.make_node("Flatten", ["e"], ["f"]),
    helper.make_node("Gemm", ["f", "m"], ["y"], transB=1),
)
SQUEEZENET = (
    helper.make_node("Conv", ["x", "k"], ["a"]),
    helper.make_node("Relu", ["a"], ["b"]),
    helper.make_node("GlobalAveragePool", ["b"], ["c"]),
    helper.make_node("Softmax", ["c"], ["y"]),
)


@pytest.mark.parametrize(
    ("nodes", "says"),
    [
        pytest.param(RESNET, r"the classifier should be a matrix \[1000,1024\]", id="a ResNet"),
        pytest.param(SQUEEZENET, "the classifier should be a Gemm.*GlobalAveragePool 'c'", id="a SqueezeNet"),
        pytest.param((helper.make_node("Gemm", ["x"], ["y"]),), "should be a Gemm", id="no weights"),
        pytest.param((helper.make_node("\x1b[2J\n", ["x"], ["y"]),), r"\\x1b", id="control characters"),
        pytest.param((helper.make_node("Relu", ["x"], ["z"]),), "an input or a stored", id="no output"),
    ],
)
def test_other_networks(tmp_path: Path, nodes: tuple[onnx.NodeProto, ...], says: str) -> None:
    path = _saved(_small(*nodes), tmp_path / "a.onnx")
    with pytest.raises(CheckpointError, match=rf"this is not BVLC GoogLeNet: .*{says}") as caught:
        read_onnx(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no nodes"),
        (b"not a graph at all", "no whole ONNX file"),
        (bytes(1000), "no whole ONNX file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "pointer of Git LFS"),
        (b"\x1f\x8b\x08" + bytes(50), "compressed archive: unpack it"),
        (b"PK\3\4" + bytes(50), "compressed archive: unpack it"),
        (b"\x08\x07", "no nodes"),
    ],
)
def test_files_that_are_no_graph(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_onnx(path)
    assert "a.onnx" in str(caught.value)


def test_a_file_cut_off_anywhere(zoo: onnx.ModelProto, tmp_path: Path) -> None:
    data = zoo.SerializeToString()
    path = tmp_path / "a.onnx"
    for length in (1, 2, 5, 20, 1000, 20_000, 100_000, len(data) // 2, len(data) - 1000, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"no whole ONNX file|no nodes"):
            read_onnx(path)


@pytest.mark.parametrize("tries", [20, pytest.param(150, marks=pytest.mark.exhaustive)])
def test_damaged_bits_end_in_an_error_that_says_so_or_in_finite_weights(
    light: onnx.ModelProto, folder: Path, tries: int
) -> None:
    rng = np.random.default_rng(0)
    data = bytearray(light.SerializeToString())
    path = folder / "a.onnx"
    refused = 0
    for _ in range(tries):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 3):
            damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        found = _read_or_refusal(path)
        if isinstance(found, str):
            refused += 1
            assert found.isprintable()
        else:
            assert all(value.isfinite().all() for value in found.parameters())
    assert refused > tries / 3


def _read_or_refusal(path: Path) -> GoogLeNet | str:
    try:
        return read_onnx(path)
    except CheckpointError as error:
        return str(error)


def _apart(model: onnx.ModelProto, folder: Path, **entries: str) -> Path:
    """Save a graph with the array of one layer in a file of its own."""
    model = _changed(model)
    array = next(a for a in model.graph.initializer if a.name == "loss3/classifier_w_0")
    (folder / "weights.bin").write_bytes(b"0123456789" + array.raw_data)
    array.ClearField("raw_data")
    array.data_location = TensorProto.EXTERNAL
    stated = {"location": "weights.bin", "offset": "10", "length": str(1000 * 1024 * 4), **entries}
    for key, value in stated.items():
        array.external_data.add(key=key, value=value)
    return _saved(model, folder / "a.onnx")


def test_weights_in_a_file_beside_the_graph(
    zoo: onnx.ModelProto, network: GoogLeNet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = _apart(zoo, tmp_path)
    assert _same_weights(read_onnx(path), network)
    monkeypatch.chdir(tmp_path)
    assert _same_weights(read_onnx(Path("a.onnx")), network)
    (tmp_path / "weights.bin").unlink()
    with pytest.raises(CheckpointError, match=r"kept in another file, .*weights\.bin does not exist"):
        read_onnx(path)


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"location": "../weights.bin"}, "outside of the file's folder; refused"),
        ({"location": "/etc/passwd"}, "outside of the file's folder; refused"),
        ({"location": "..\\weights.bin"}, "outside of the file's folder; refused"),
        ({"location": "link.bin"}, "outside of the file's folder; refused"),
        ({"location": "folder/../../weights.bin"}, "outside of the file's folder; refused"),
        ({"location": ""}, "refused"),
        ({"location": "a\0b"}, "refused"),
        ({"location": "x" * 5000}, "no file"),
        ({"location": "."}, "refused"),
        ({"location": "folder"}, "is a folder"),
        ({"location": "pipe"}, "is a pipe"),
        ({"location": "circle"}, "no file|lead in a circle"),
        ({"length": "100"}, "not whole in 'weights.bin'"),
        ({"offset": "11"}, "not whole in 'weights.bin'"),
        ({"offset": "-1"}, "not whole in 'weights.bin'"),
        ({"offset": "many"}, "is damaged"),
        ({"offset": str(2**70)}, "not whole"),
    ],
)
def test_weights_elsewhere_or_not_whole(
    zoo: onnx.ModelProto, tmp_path: Path, entries: dict[str, str], says: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    path = _apart(zoo, folder, **entries)
    (folder / "weights.bin").rename(tmp_path / "weights.bin")
    (folder / "weights.bin").hardlink_to(tmp_path / "weights.bin")
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    (folder / "circle").symlink_to(folder / "circle")
    (folder / "folder").mkdir()
    os.mkfifo(folder / "pipe")
    with pytest.raises(CheckpointError, match=says) as caught:
        read_onnx(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda path: None, "does not exist", id="nothing"),
        pytest.param(lambda path: path.mkdir(), "is a folder", id="a folder"),
        pytest.param(lambda path: os.mkfifo(path), "is a pipe", id="a pipe"),
        pytest.param(
            lambda path: os.truncate(os.open(path, os.O_CREAT | os.O_RDWR), 2**40), "MiB", id="huge"
        ),
    ],
)
def test_paths_that_are_no_file(tmp_path: Path, make: Callable[[Path], object], says: str) -> None:
    path = tmp_path / "a.onnx"
    make(path)
    with pytest.raises(CheckpointError, match=says):
        read_onnx(path)


def test_without_the_package_onnx(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(CheckpointError, match=r"pip install onnx"):
        read_onnx(tmp_path / "a.onnx")

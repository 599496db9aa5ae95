"""Exported files are weights again, run anywhere, and tell when they are damaged."""

import hashlib
import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from detector.errors import CheckpointError, ParameterError
from detector.graphs.exported import Task, exported_model, read_exported
from detector.graphs.networks import check_weights
from detector.inference.graph_engine import run_model
from detector.models.checkpoint import as_checkpoint
from detector.models.weights import Weights, read_metadata, read_weights
from tests.detector.graphs.random_weights import (
    CLASSIFICATION,
    DETECTION,
    STAGES,
    assert_close,
    by_engines,
    classifier_weights,
    detector_weights,
    random_rows,
    stored_as,
    with_ranges,
)

GOOGLENET, TORCHVISION = STAGES
ENTRY = "googlenet-detector"
GONE = object()

WRITTEN: list[tuple[str, Callable[[], Weights], Task, str]] = [
    ("float32", lambda: detector_weights(multibox=True), Task.DETECT, "float32"),
    ("stored in float16", lambda: stored_as(detector_weights(), np.float16), Task.DETECT, "float16"),
    ("batch normalisation", lambda: detector_weights(TORCHVISION), Task.DETECT, "float32"),
    (
        "batch normalisation, float16",
        lambda: stored_as(classifier_weights(TORCHVISION), np.float16),
        Task.CLASSIFY,
        "float16",
    ),
    ("a classifier", classifier_weights, Task.CLASSIFY, "float32"),
    ("the classes of a detector", lambda: detector_weights(whole=True), Task.CLASSIFY, "float32"),
    ("each region warped", lambda: detector_weights(shared=False), Task.DETECT, "float32"),
    ("a location head", lambda: detector_weights(location=True), Task.DETECT, "float32"),
    (
        "a location head, each region warped, float16",
        lambda: stored_as(detector_weights(TORCHVISION, location=True, shared=False), np.float16),
        Task.DETECT,
        "float16",
    ),
    (
        "float16 as float32",
        lambda: stored_as(detector_weights(iou=False), np.float16),
        Task.DETECT,
        "float32",
    ),
    ("bfloat16", lambda: stored_as(classifier_weights(), ml_dtypes.bfloat16), Task.CLASSIFY, "float32"),
]


@pytest.mark.parametrize(("make", "task", "numbers"), [w[1:] for w in WRITTEN], ids=[w[0] for w in WRITTEN])
def test_a_file_holds_the_checkpoint(
    make: Callable[[], Weights], task: Task, numbers: str, tmp_path: Path
) -> None:
    weights, path = make(), tmp_path / "network.onnx"
    onnx.save(exported_model(weights, task, numbers), path)
    read = read_weights(path)
    assert read.metadata == weights.metadata == read_metadata(path)
    assert (read.numbers, read.source) == (numbers, str(path))
    assert read.tensors.keys() == weights.tensors.keys()
    for name, value in weights.tensors.items():
        assert np.array_equal(read.tensors[name].astype(np.float32), value.astype(np.float32)), name
    check_weights(read)


@pytest.mark.parametrize(
    ("make", "task"),
    [
        *(pytest.param(partial(classifier_weights, name), Task.CLASSIFY, id=name) for name in STAGES),
        pytest.param(partial(detector_weights, location=True), Task.DETECT, id="a location head"),
    ],
)
def test_8_bits_come_back_within_half_a_step(make: Callable[[], Weights], task: Task, tmp_path: Path) -> None:
    weights, path = with_ranges(make()), tmp_path / "network.onnx"
    onnx.save(exported_model(weights, task, "int8"), path)
    read = read_exported(path)
    assert read.metadata == weights.metadata
    assert read.numbers == "int8"
    assert read.tensors.keys() == weights.tensors.keys()
    for name, value in weights.tensors.items():
        step = np.abs(value).max(axis=(1, 2, 3), keepdims=True) / 127 if value.ndim == 4 else 0.01
        assert (np.abs(read.tensors[name] - value) <= 0.51 * step).all(), name
    check_weights(read)
    as_checkpoint(read)


def test_exporting_again_changes_nothing(tmp_path: Path) -> None:
    """The numbers that 8 bits stand for are the same 8 bits."""
    path = tmp_path / "network.onnx"
    first = exported_model(with_ranges(classifier_weights()), Task.CLASSIFY, "int8")
    onnx.save(first, path)
    second = exported_model(read_exported(path), Task.CLASSIFY, "int8")
    ours, theirs = (
        {entry.name: numpy_helper.to_array(entry) for entry in model.graph.initializer}
        for model in (first, second)
    )
    assert ours.keys() == theirs.keys()
    for name, value in ours.items():
        if value.dtype.kind == "i" and "int32" not in name:
            assert np.array_equal(value, theirs[name]), name
        else:
            assert np.allclose(value, theirs[name], rtol=1e-5, atol=1), name


OUTPUTS: list[Any] = [
    pytest.param(
        lambda: detector_weights(multibox=True),
        Task.DETECT,
        {
            "maps": (1, 832, 4, 6),
            "objectness": (1, 8 * 12 * 2 + 4 * 6 + 2 * 3 * 3 + 1 * 2),
            "offsets": (1, 8 * 12 * 2 + 4 * 6 + 2 * 3 * 3 + 1 * 2, 4),
            "probabilities": (2, len(DETECTION) + 1),
            "deltas": (2, 4),
            "predicted_iou": (2,),
        },
        id="a detector",
    ),
    pytest.param(
        lambda: detector_weights(boxes=False, shared=False),
        Task.DETECT,
        {"0.probabilities": (2, len(DETECTION) + 1), "0.predicted_iou": (2,)},
        id="each region warped, no box head",
    ),
    pytest.param(
        lambda: detector_weights(location=True, shared=False),
        Task.DETECT,
        {"0.probabilities": (2, len(DETECTION) + 1), "0.deltas": (2, 4), "0.predicted_iou": (2,)},
        id="each region warped, a location head",
    ),
    pytest.param(
        classifier_weights, Task.CLASSIFY, {"0.probabilities": (2, len(CLASSIFICATION))}, id="a classifier"
    ),
]


@pytest.mark.parametrize(("engine", "make", "task", "shapes"), by_engines(*OUTPUTS))
@pytest.mark.parametrize("numbers", ["float32", "float16"])
def test_outputs_have_names_and_shapes(
    engine: str, make: Callable[[], Weights], task: Task, shapes: dict[str, tuple[int, ...]], numbers: str
) -> None:
    model = exported_model(make(), task, numbers)
    onnx.checker.check_model(model, full_check=True)
    feeds = {"rows": random_rows(2, 3, 224, 224)}
    if task is Task.DETECT and "maps" in shapes:
        windows = np.array([[0, 0, 60, 50], [9, 9, 80, 30]], np.float32)
        feeds = {"image": random_rows(1, 3, 64, 96), "windows": windows}
    assert {entry.name for entry in model.graph.input} == feeds.keys()
    outputs = run_model(engine, model)(feeds)
    assert {name: value.shape for name, value in outputs.items()} == shapes
    assert all(value.dtype == np.float32 for value in outputs.values())
    names = json.loads({entry.key: entry.value for entry in model.metadata_props}["classes"])
    last = next(value.shape[1] for name, value in outputs.items() if name.endswith("probabilities"))
    assert len(names) == last
    stated = {
        entry.name: [dim.dim_value or dim.dim_param for dim in entry.type.tensor_type.shape.dim]
        for entry in model.graph.output
    }
    for name, shape in shapes.items():
        assert len(stated[name]) == len(shape), name
        assert all(
            isinstance(ours, str) or ours == side for ours, side in zip(stated[name], shape, strict=True)
        )


def test_the_numbers_of_a_file_differ_little() -> None:
    """float16 keeps three digits."""
    weights, rows = classifier_weights(), random_rows(1, 3, 64, 64)
    full, half = (
        run_model("onnxruntime", exported_model(weights, Task.CLASSIFY, numbers))({"rows": rows})
        for numbers in ("float32", "float16")
    )
    assert_close(half, full, 0.02)
    with pytest.raises(AssertionError):
        assert_close(half, full, 1e-7)


@pytest.mark.parametrize(
    ("make", "task", "numbers", "says"),
    [
        pytest.param(
            classifier_weights,
            Task.DETECT,
            "float32",
            "random-0 classifies whole pictures: export the task 'classify'",
            id="a classifier detects",
        ),
        pytest.param(
            classifier_weights,
            Task.CLASSIFY,
            "int8",
            "the checkpoint does not say how large the values of features.norm1 become, which int8 has to "
            "know: `detector weights calibrate` measures it",
            id="int8 without ranges",
        ),
        pytest.param(detector_weights, Task.DETECT, "int8", "detector weights calibrate", id="of a detector"),
    ],
)
def test_what_cannot_be_exported(make: Callable[[], Weights], task: Task, numbers: str, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        exported_model(make(), task, numbers)


def test_a_detector_without_classes_of_whole_pictures_does_not_classify() -> None:
    from dataclasses import replace

    weights = detector_weights()
    alone = replace(weights, metadata=replace(weights.metadata, classification=None))
    with pytest.raises(ParameterError, match="was made for detection alone: export the task 'detect'"):
        exported_model(alone, Task.CLASSIFY, "float32")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A classifier's file, in float16: it is small."""
    return exported_model(classifier_weights(), Task.CLASSIFY, "float16").SerializeToString()


def _header(model: onnx.ModelProto) -> dict[str, Any]:
    return json.loads(next(entry.value for entry in model.metadata_props if entry.key == ENTRY))


def _state(model: onnx.ModelProto, text: str) -> None:
    next(entry for entry in model.metadata_props if entry.key == ENTRY).value = text


def _with_header(sound: bool = True, **changes: Any) -> Callable[[onnx.ModelProto], None]:
    """Changes entries, or for GONE takes them away; ``sound`` states the new SHA-256."""

    def change(model: onnx.ModelProto) -> None:
        header = {name: value for name, value in (_header(model) | changes).items() if value is not GONE}
        if sound:
            content = {name: value for name, value in header.items() if name != "sha256"}
            header["sha256"] = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
        _state(model, json.dumps(header))

    return change


def _text(text: str) -> Callable[[onnx.ModelProto], None]:
    return lambda model: _state(model, text)


def _flip_constant(model: onnx.ModelProto) -> None:
    constant = model.graph.initializer[3]
    data = bytearray(constant.raw_data)
    data[-1] ^= 1
    constant.raw_data = bytes(data)


def _shorten_constant(model: onnx.ModelProto) -> None:
    model.graph.initializer[3].raw_data = model.graph.initializer[3].raw_data[:-2]


def _retype_constant(model: onnx.ModelProto) -> None:
    model.graph.initializer[3].data_type = 99


def _outside_constant(model: onnx.ModelProto) -> None:
    constant = model.graph.initializer[3]
    constant.data_location = TensorProto.EXTERNAL
    constant.external_data.add(key="location", value="/etc/passwd")
    constant.ClearField("raw_data")


def _change_node(model: onnx.ModelProto) -> None:
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Abs"


def _add_output(model: onnx.ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("more", TensorProto.FLOAT, ["R"]))


def _foreign(model: onnx.ModelProto) -> None:
    del model.metadata_props[:]


CHANGED = "is not as it was written: its graph or its metadata do not have the SHA-256"

CHANGES: list[tuple[str, Callable[[onnx.ModelProto], None], str]] = [
    ("a bit of a constant", _flip_constant, CHANGED),
    ("a constant is shorter", _shorten_constant, CHANGED),
    ("a constant of a type that there is not", _retype_constant, CHANGED),
    ("a constant in another file", _outside_constant, CHANGED),
    ("a node", _change_node, CHANGED),
    ("an output more", _add_output, CHANGED),
    ("a name in the metadata", _with_header(sound=False, name="of another"), CHANGED),
    ("no SHA-256", _with_header(sound=False, sha256=GONE), CHANGED),
    ("none of the graph", _with_header(graph_sha256=GONE), CHANGED),
    ("a graph of others", _foreign, "none that `detector export` wrote.*detector weights import onnx"),
    ("no JSON", _text("{nope"), "its metadata is no JSON"),
    ("JSON without end", _text("[" * 200_000), "its metadata is no JSON"),
    ("a list", _text("[1]"), "has format None; this version reads 'googlenet-detector-onnx/1'"),
    ("null", _text("null"), "has format None"),
    (
        "a later format",
        _with_header(format="googlenet-detector-onnx/2"),
        "format 'googlenet-detector-onnx/2'",
    ),
    ("an odd format", _with_header(format=["\x1b[31m"]), r"has format \['"),
    ("no preprocessing", _with_header(preprocessing=GONE), "its metadata lacks 'preprocessing'"),
    ("a name that is a number", _with_header(name=5), "its metadata garbles name, which must be text"),
    ("no tensors", _with_header(tensors=GONE), "constants cannot be read"),
    ("tensors that are a list", _with_header(tensors=[1]), "constants cannot be read"),
    ("a tensor that is nowhere", _with_header(tensors={"a": ["nowhere"]}), "constants cannot be read"),
    ("a tensor in no constant", _with_header(tensors={"a": []}), "constants cannot be read"),
    ("a tensor in a number", _with_header(tensors={"a": 5}), "constants cannot be read"),
]


@pytest.mark.parametrize(("change", "says"), [c[1:] for c in CHANGES], ids=[c[0] for c in CHANGES])
def test_what_was_changed_is_refused(
    exported: bytes, tmp_path: Path, change: Callable[[onnx.ModelProto], None], says: str
) -> None:
    model = onnx.load_model_from_string(exported)
    change(model)
    path = tmp_path / "changed.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match=says) as caught:
        read_exported(path)
    assert str(path) in str(caught.value)
    assert "\x1b" not in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("share", [0, 1e-6, 0.1, 0.5, 0.9, 0.9999])
def test_a_truncated_file_is_told(exported: bytes, tmp_path: Path, share: float) -> None:
    path = tmp_path / "short.onnx"
    path.write_bytes(exported[: int(share * len(exported))])
    with pytest.raises(CheckpointError, match=r"short\.onnx is no whole ONNX file: copy or"):
        read_exported(path)


def test_a_byte_anywhere_is_told(exported: bytes, tmp_path: Path) -> None:
    """In what says how the file is built, too: in its first and last kilobytes, and beside a name."""
    rng = np.random.default_rng(0)
    named = exported.index(b"inception_5b.branch1.conv.weight")
    ends = [*range(200), *range(named - 40, named + 40), *range(len(exported) - 4000, len(exported))]
    places = rng.choice(ends, 40, replace=False)
    unnoticed = []
    for place in places.tolist():
        data = bytearray(exported)
        data[place] ^= 1 << int(rng.integers(8))
        path = tmp_path / "flipped.onnx"
        path.write_bytes(data)
        try:
            read = read_exported(path)
        except CheckpointError:
            continue
        unnoticed.append(place)
        assert all(
            np.array_equal(read.tensors[name], value.astype(read.tensors[name].dtype))
            for name, value in classifier_weights().tensors.items()
        )
    assert len(unnoticed) < 5, "what names the producer, say, changes nothing"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda path: None, "does not exist", id="missing"),
        pytest.param(lambda path: path.mkdir(), "folder", id="a folder"),
        pytest.param(lambda path: path.write_bytes(b"version https://"), "no whole ONNX", id="text"),
    ],
)
def test_what_is_no_file_of_a_model(tmp_path: Path, make: Callable[[Path], object], says: str) -> None:
    path = tmp_path / "a.onnx"
    make(path)
    with pytest.raises(CheckpointError, match=says):
        read_weights(path)

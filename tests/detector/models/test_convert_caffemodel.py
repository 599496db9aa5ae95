"""GoogLeNet from Caffe's own file: the published form and the one before it; and damaged and other files.

``bvlc_googlenet.caffemodel`` itself is not here; files of its form, byte by byte as Caffe's serialiser lays
fields down, are made of random and of BVLC's weights.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("google.protobuf", reason="needs onnx")

from detector.errors import CheckpointError
from detector.models.caffe_weights import caffe_layers, is_bvlc
from detector.models.convert_bvlc import read_bvlc
from detector.models.convert_caffemodel import read_caffemodel
from detector.models.googlenet import GoogLeNet

Arrays = Mapping[str, np.ndarray]
"""``LAYER_w`` and ``LAYER_b`` by Caffe's names of layers, of a network that takes BGR."""


def _field(number: int, content: bytes) -> bytes:
    """A field of bytes, a text or a message."""
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _number(number: int, value: int) -> bytes:
    return _varint(number << 3) + _varint(value)


def _varint(value: int) -> bytes:
    data = bytearray()
    while value > 127:
        data.append(value & 127 | 128)
        value >>= 7
    return bytes([*data, value])


def _blob(array: np.ndarray, *, old: bool = False, double: bool = False) -> bytes:
    """A BlobProto; of the older form, with four sides always."""
    data = _field(8, array.astype("<f8").tobytes()) if double else _field(5, array.astype("<f4").tobytes())
    if old:
        sides = [1] * (4 - array.ndim) + list(array.shape)
        return b"".join(_number(i + 1, side) for i, side in enumerate(sides)) + data
    return data + _field(7, _field(1, b"".join(map(_varint, array.shape))))


def _layer(name: str, *blobs: bytes) -> bytes:
    texts = (
        _field(1, name.encode()) + _field(2, b"Convolution") + _field(3, b"below") + _field(4, name.encode())
    )
    return _field(100, texts + b"".join(_field(7, blob) for blob in blobs) + _number(10, 1))


def _old_layer(name: str, *blobs: bytes) -> bytes:
    texts = _field(2, b"below") + _field(3, name.encode()) + _field(4, name.encode()) + _number(5, 4)
    return _field(
        2, texts + b"".join(_field(6, blob) for blob in blobs) + struct.pack("<Bf", 7 << 3 | 5, 1.0)
    )


def _caffemodel(arrays: Arrays, *, old: bool = False, double: bool = False) -> bytes:
    """A trained net as Caffe saves it: with its data, its losses and its auxiliary classifiers."""
    make = _old_layer if old else _layer
    layers = [make("data"), make("loss1/conv", _blob(np.zeros((128, 512, 1, 1)), old=old))]
    layers += [
        make(name, *(_blob(arrays[f"{name}_{part}"], old=old, double=double) for part in "wb"))
        for name in caffe_layers().values()
    ]
    return _field(1, b"GoogleNet") + b"".join(layers) + make("loss3/loss3")


def _arrays(network: GoogLeNet) -> dict[str, np.ndarray]:
    arrays = {}
    for ours, caffe in caffe_layers().items():
        arrays[f"{caffe}_w"] = network.get_parameter(f"{ours}.weight").detach().numpy()
        arrays[f"{caffe}_b"] = network.get_parameter(f"{ours}.bias").detach().numpy()
    arrays["conv1/7x7_s2_w"] = arrays["conv1/7x7_s2_w"][:, ::-1]
    return arrays


@pytest.fixture(scope="module")
def network() -> GoogLeNet:
    torch.manual_seed(0)
    network = GoogLeNet().eval()
    for name, value in network.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(value)
    return network


@pytest.fixture(scope="module")
def arrays(network: GoogLeNet) -> Arrays:
    return _arrays(network)


@pytest.mark.parametrize("double", [False, True], ids=["float", "double"])
@pytest.mark.parametrize("old", [False, True], ids=["layers", "layers of 2014"])
def test_every_form_is_read(
    network: GoogLeNet, arrays: Arrays, tmp_path: Path, old: bool, double: bool
) -> None:
    path = tmp_path / "googlenet.caffemodel"
    path.write_bytes(_caffemodel(arrays, old=old, double=double))
    found = read_caffemodel(path)
    pairs = zip(found.parameters(), network.parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert not is_bvlc(found)


def test_activations_are_caffes(shared: Path, tmp_path: Path) -> None:
    """At the five depths at which Caffe's own results are kept."""
    exact = read_bvlc(shared / "weights" / "bvlc_googlenet.npz")
    path = tmp_path / "bvlc_googlenet.caffemodel"
    path.write_bytes(_caffemodel(_arrays(exact), old=True))
    network = read_caffemodel(path).eval()
    assert is_bvlc(network)
    with np.load(shared / "weights" / "bvlc_googlenet_reference.npz") as archive:
        expected = {name: torch.from_numpy(archive[name]) for name in archive.files}
    depths = {"norm1": "pool1_norm1", "inception_3b": "inception_3b_output", "pool4": "pool4_3x3_s2"}
    x = expected["data"].flip(1)
    worst = {}
    with torch.no_grad():
        for name, stage in network.features.named_children():
            x = stage(x)
            if name in depths:
                worst[name] = _worst(x, expected[depths[name]])
        logits = network.pool(x)
    worst["logits"] = _worst(logits, expected["loss3_classifier"])
    worst["softmax"] = _worst(logits.softmax(1), expected["prob"])
    print(f"largest differences {worst}")
    assert max(worst.values()) < 1e-4


def _worst(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"conv1/7x7_s2": None}, "layer 'conv1/7x7_s2' is missing; this is not BVLC GoogLeNet"),
        ({"conv1/7x7_s2": [np.zeros((64, 3, 7, 7))]}, "has 1 arrays, not weights and biases"),
        ({"conv1/7x7_s2": [np.zeros((64, 3, 7, 7)), np.zeros(63)]}, r"bias of .* has shape \[63\]"),
        ({"conv1/7x7_s2": [np.zeros((64, 3, 5, 5)), np.zeros(64)]}, r"needs \[64, 3, 7, 7\]"),
        ({"conv1/7x7_s2": [np.zeros((64, 3, 7, 7)), np.full(64, np.nan)]}, "values that are not finite"),
        ({"loss3/classifier": [np.zeros((205, 1024)), np.zeros(205)]}, "205 classes, not .* 1000|205, 1024"),
    ],
)
def test_layers_that_are_not_googlenets(
    arrays: Arrays, tmp_path: Path, changes: dict[str, list[np.ndarray] | None], says: str
) -> None:
    path = tmp_path / "a.caffemodel"
    data = b""
    for name in caffe_layers().values():
        blobs = changes.get(name, [arrays[f"{name}_w"], arrays[f"{name}_b"]])
        if blobs is not None:
            data += _layer(name, *(_blob(blob) for blob in blobs))
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_caffemodel(path)
    assert "a.caffemodel" in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("blob", "says"),
    [
        (b"", r"does not hold the \[0, 0, 0, 0\] numbers|has shape"),
        (_field(5, b"abc") + _number(1, 1), "does not hold"),
        (_field(5, bytes(8)) + _field(7, _field(1, _varint(3))), r"does not hold the \[3\] numbers"),
        (_field(5, bytes(8)) + _field(7, _field(1, _varint(2**64 - 2))), r"does not hold the \[-2\] numbers"),
        (_field(5, bytes(8)) + _field(7, _field(1, _varint(2**40) * 2)), "does not hold"),
        (_field(5, bytes(8)) + _field(7, _field(1, _varint(1) * 70)), "does not hold"),
    ],
)
def test_arrays_that_are_damaged(tmp_path: Path, blob: bytes, says: str) -> None:
    path = tmp_path / "a.caffemodel"
    path.write_bytes(_layer("conv1/7x7_s2", blob, blob))
    with pytest.raises(CheckpointError, match=says) as caught:
        read_caffemodel(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "holds no layers with weights"),
        (b'name: "GoogleNet"\nlayer {', "no whole .caffemodel"),
        (bytes(1000), "no whole .caffemodel"),
        (b"\x89HDF\r\n\x1a\n", "is an HDF5 file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "pointer of Git LFS"),
        (b"\x1f\x8b" + bytes(50), "compressed archive"),
        (_layer("\xff\x1b", _blob(np.zeros(1))), "'conv1/7x7_s2' is missing"),
    ],
)
def test_files_that_are_no_caffemodel(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "a.caffemodel"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_caffemodel(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda path: None, "does not exist", id="nothing"),
        pytest.param(lambda path: path.mkdir(), "is a folder", id="a folder"),
    ],
)
def test_paths_that_are_no_file(tmp_path: Path, make: Callable[[Path], object], says: str) -> None:
    path = tmp_path / "a.caffemodel"
    make(path)
    with pytest.raises(CheckpointError, match=says):
        read_caffemodel(path)


def test_a_file_cut_off_anywhere(arrays: Arrays, tmp_path: Path) -> None:
    data = _caffemodel(arrays)
    path = tmp_path / "a.caffemodel"
    for length in (1, 5, 100, 2000, 50_000, len(data) // 2, len(data) - 5000):
        path.write_bytes(data[:length])
        with pytest.raises(CheckpointError, match=r"no whole \.caffemodel|no layers with weights"):
            read_caffemodel(path)


def test_damaged_bits_end_in_an_error_or_in_finite_weights(arrays: Arrays, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    data = _caffemodel(arrays)
    path = tmp_path / "a.caffemodel"
    for _ in range(6):
        damaged = bytearray(data)
        for at in [*rng.integers(0, 300, 2), *rng.integers(0, len(data), 2)]:
            damaged[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(damaged)
        found = _read_or_refusal(path)
        assert found.isprintable() if isinstance(found, str) else found.classifier.weight.isfinite().all()


def _read_or_refusal(path: Path) -> GoogLeNet | str:
    try:
        return read_caffemodel(path)
    except CheckpointError as error:
        return str(error)


def test_without_the_package_protobuf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.caffemodel"
    path.write_bytes(b"\n\1a")
    monkeypatch.setitem(sys.modules, "google.protobuf.message", None)
    with pytest.raises(CheckpointError, match=r"pip install onnx"):
        read_caffemodel(path)

"""Weights of others: an archive of Caffe's arrays, torchvision's state dict; and files that are neither."""

import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.bvlc import _names, read_bvlc
from detector.errors import CheckpointError
from detector.googlenet import GoogLeNet
from detector.torchvision_googlenet import TorchvisionGoogLeNet
from detector.torchvision_weights import read_torchvision

Read = Callable[[Path], object]
Make = Callable[[Path], object]


class _Runs:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.path),)


@pytest.fixture(scope="module")
def arrays() -> dict[str, np.ndarray]:
    """Caffe's arrays of an untrained GoogLeNet."""
    network = GoogLeNet()
    found = {}
    for ours, caffe in _names().items():
        for part, kind in (("w", "weight"), ("b", "bias")):
            found[f"{caffe}_{part}"] = network.get_parameter(f"{ours}.{kind}").detach().numpy()
    return found


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """torchvision's state dict of an untrained GoogLeNet of three classes."""
    return {
        name.removeprefix("features.").replace("classifier.", "fc."): value
        for name, value in TorchvisionGoogLeNet(3).state_dict().items()
    }


def _loop(path: Path) -> None:
    path.symlink_to(path)


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2000])


ANY = [
    pytest.param(lambda path: path.write_bytes(b""), "is no", id="empty"),
    pytest.param(lambda path: path.write_bytes(b"PK\3\4" + bytes(100)), "is no", id="foreign"),
    pytest.param(lambda path: None, "does not exist", id="nothing"),
    pytest.param(lambda path: path.mkdir(), "is a folder", id="a folder"),
    pytest.param(os.mkfifo, "is a pipe", id="a pipe"),
    pytest.param(_loop, "lead in a circle", id="a loop of links"),
]


@pytest.mark.parametrize(("make", "says"), ANY)
@pytest.mark.parametrize(
    ("read", "name"),
    [(read_bvlc, "a.npz"), (read_torchvision, "a.pth"), (read_torchvision, "a.safetensors")],
)
def test_what_is_no_such_file_is_named(tmp_path: Path, read: Read, name: str, make: Make, says: str) -> None:
    make(tmp_path / name)
    with pytest.raises(CheckpointError, match=says) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"conv1_7x7_s2_b": None}, "array 'conv1_7x7_s2_b' is missing"),
        ({"conv1_7x7_s2_b": np.zeros(63, np.float32)}, r"has shape \[63\]"),
        (
            {"conv1_7x7_s2_b": np.full(64, np.nan, np.float32)},
            "'conv1_7x7_s2_b' holds values that are not finite",
        ),
        ({"conv1_7x7_s2_b": np.full(64, 1e300)}, "not finite"),
        ({"conv1_7x7_s2_b": np.array(["a"] * 64)}, "must hold numbers with a fraction"),
        ({"conv1_7x7_s2_b": np.zeros(64, np.int64)}, "must hold numbers with a fraction"),
        ({"conv1_7x7_s2_b": np.zeros(64, np.complex64)}, "must hold numbers with a fraction"),
        ({"conv1_7x7_s2_b": np.array([None] * 64)}, "no whole .npz archive"),
    ],
)
def test_arrays_that_are_not_googlenets(
    arrays: dict[str, np.ndarray], tmp_path: Path, changes: dict[str, np.ndarray | None], says: str
) -> None:
    path = tmp_path / "a.npz"
    np.savez(path, **{name: one for name, one in {**arrays, **changes}.items() if one is not None})
    with pytest.raises(CheckpointError, match=says) as caught:
        read_bvlc(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("dtype", [">f4", "<f8", "float16"])
def test_arrays_of_any_byte_order_and_width_are_read(
    arrays: dict[str, np.ndarray], tmp_path: Path, dtype: str
) -> None:
    np.savez(tmp_path / "a.npz", **{name: one.astype(dtype) for name, one in arrays.items()})
    network = read_bvlc(tmp_path / "a.npz")
    bias = network.get_parameter("classifier.bias").detach().numpy()
    assert np.allclose(bias, arrays["loss3_classifier_b"], atol=1e-3)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(_cut, id="cut off"),
        pytest.param(lambda path: path.write_bytes(path.read_bytes()[5000:]), id="the front lost"),
    ],
)
def test_a_damaged_archive_is_named(arrays: dict[str, np.ndarray], tmp_path: Path, damage: Make) -> None:
    path = tmp_path / "a.npz"
    np.savez_compressed(path, **arrays)
    damage(path)
    with pytest.raises(CheckpointError, match=r"no whole \.npz archive"):
        read_bvlc(path)


@pytest.mark.parametrize(
    "header", [b"", b"\x93NUMPY\x01\x00\x10\x00{'descr': 1, nope", b"\x93NUMPY" + b"\xff" * 50]
)
def test_an_archive_of_damaged_arrays_is_named(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "a.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("conv1_7x7_s2_w.npy", header)
    with pytest.raises(CheckpointError, match=r"no whole \.npz|is missing|must hold numbers") as caught:
        read_bvlc(path)
    assert str(caught.value).isprintable()


def test_a_single_array_is_no_archive(tmp_path: Path) -> None:
    path = tmp_path / "a.npz"
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    with pytest.raises(CheckpointError, match=r"no whole \.npz archive"):
        read_bvlc(path)


@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_nothing_of_a_pth_is_run(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "a.pth"
    ran = tmp_path / "ran"
    torch.save({"fc.weight": _Runs(ran)}, path, pickle_protocol=max(protocol, 2))
    with pytest.raises(CheckpointError, match="code that it holds is not run") as caught:
        read_torchvision(path)
    assert "weights_only" not in str(caught.value)
    assert not ran.exists()
    path.write_bytes(pickle.dumps({"fc.weight": _Runs(ran)}, protocol))
    with pytest.raises(CheckpointError, match="code that it holds is not run"):
        read_torchvision(path)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds no state dict"),
        (torch.zeros(3), "holds no state dict"),
        ({"fc.weight": 5}, "holds no state dict"),
        ({1: torch.zeros(1)}, "holds no state dict"),
        ({"a": torch.zeros(1)}, "no matrix 'fc.weight'"),
        ({"fc.weight": torch.tensor(1.0)}, "no matrix 'fc.weight'"),
        ({"fc.weight": torch.zeros(0, 1024)}, "no matrix 'fc.weight'"),
        ({"fc.weight": torch.zeros(3, 1024)}, "does not fit torchvision's googlenet"),
        (
            {"fc.weight": torch.full((3, 1024), float("nan"))},
            "does not fit",
        ),
        ({"fc.weight": torch.zeros(3, 1024).to_sparse()}, "no plain tensor"),
        ({"fc.weight": torch.zeros(3, 1024, dtype=torch.complex64)}, "no plain tensor"),
    ],
)
def test_other_content_of_a_pth_is_named(tmp_path: Path, content: object, says: str) -> None:
    path = tmp_path / "a.pth"
    torch.save(content, path)
    with pytest.raises(CheckpointError, match=says) as caught:
        read_torchvision(path)
    assert str(caught.value).isprintable()


def test_a_weight_that_is_no_number_is_found(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    path = tmp_path / "a.pth"
    torch.save(state, path)
    assert len(read_torchvision(path).get_parameter("classifier.bias")) == 3
    torch.save({**state, "fc.bias": torch.tensor([0.0, float("inf"), 0.0])}, path)
    with pytest.raises(CheckpointError, match="not finite"):
        read_torchvision(path)

"""Weights of no framework: read without torch, of every type, and what torch wrote is what is read."""

import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from detector.errors import CheckpointError
from detector.models.checkpoint import (
    Checkpoint,
    as_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from detector.models.checkpoint_file import FORMAT, header_digest, read_header, tensors_digest
from detector.models.multibox_spec import MultiBoxSpec
from detector.models.weights import Weights, read_metadata, read_weights
from detector.pretrained import SHIPPED
from tests.detector.models.digests import digest_by_torch
from tests.detector.models.verified import verify_checkpoint

DTYPES = {
    torch.float16: np.dtype(np.float16),
    torch.bfloat16: np.dtype(ml_dtypes.bfloat16),
    torch.float32: np.dtype(np.float32),
    torch.float64: np.dtype(np.float64),
}


def bits(value: NDArray) -> bytes:
    return np.ascontiguousarray(value).tobytes()


def bits_by_torch(value: torch.Tensor) -> bytes:
    return value.contiguous().flatten().view(torch.uint8).numpy().tobytes()


def written_by_torch(path: Path, source: Path, dtype: torch.dtype) -> dict[str, torch.Tensor]:
    """Write a checkpoint as versions did whose files torch wrote: by its own types, digest and all."""
    with safe_open(source, framework="pt") as file:
        header = json.loads(file.metadata()["googlenet-detector"])
    tensors = {
        name: value.to(dtype) if value.is_floating_point() else value
        for name, value in load_file(source).items()
    }
    header |= {"format": FORMAT, "tensors_sha256": digest_by_torch(tensors)}
    header["sha256"] = header_digest(header)
    save_file(tensors, path, metadata={"googlenet-detector": json.dumps(header)})
    return tensors


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_what_torch_wrote_is_read_bit_by_bit(multibox_path: Path, tmp_path: Path, dtype: torch.dtype) -> None:
    path = tmp_path / "written.safetensors"
    tensors = written_by_torch(path, multibox_path, dtype)
    weights = read_weights(path)
    assert weights.tensors.keys() == tensors.keys()
    for name, value in weights.tensors.items():
        expected = tensors[name]
        assert isinstance(value, np.ndarray)
        assert value.shape == tuple(expected.shape)
        assert value.dtype == (DTYPES[dtype] if expected.is_floating_point() else np.int64), name
        assert bits(value) == bits_by_torch(expected), name
    assert weights.metadata == read_metadata(path) == verify_checkpoint(path)
    assert weights.source == str(path)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_file_is_written_as_torch_would_write_it(
    multibox_path: Path, tmp_path: Path, dtype: torch.dtype
) -> None:
    """Its types, bytes and digest, whoever reads it."""
    checkpoint, path = load_checkpoint(multibox_path), tmp_path / "written.safetensors"
    save_checkpoint(path, checkpoint, dtype)
    tensors = load_file(path)
    assert {value.dtype for value in tensors.values()} == {dtype, torch.int64}
    state = checkpoint.network.state_dict()
    for name, value in state.items():
        expected = value.to(dtype) if value.is_floating_point() else value
        assert bits_by_torch(tensors[name]) == bits_by_torch(expected), name
    header = read_header(path)
    assert header["tensors_sha256"] == digest_by_torch(tensors)
    assert header["sha256"] == header_digest(header)
    assert verify_checkpoint(path) == checkpoint.metadata


@pytest.mark.parametrize(
    ("dtype", "most"),
    [
        pytest.param(torch.float32, 0, id="float32: the same"),
        pytest.param(torch.float64, 0, id="float64: the same"),
        pytest.param(torch.float16, 2**-11, id="float16: 11 bits of a number"),
        pytest.param(torch.bfloat16, 2**-8, id="bfloat16: 8 bits"),
    ],
)
def test_there_and_back(multibox_path: Path, tmp_path: Path, dtype: torch.dtype, most: float) -> None:
    """Networks are built in float32, off by no more than the file's type rounds a number."""
    before, path = load_checkpoint(multibox_path), tmp_path / "there.safetensors"
    save_checkpoint(path, before, dtype)
    for after in (load_checkpoint(path), as_checkpoint(before.as_weights(dtype))):
        assert after.metadata == before.metadata
        for name, value in before.network.state_dict().items():
            found = after.network.state_dict()[name]
            if not value.is_floating_point():
                assert torch.equal(found, value)
                continue
            assert found.dtype == torch.float32
            assert ((found - value).abs() <= most * value.abs() + 2**-25).all(), name


WHOLE = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)

SIZES = {
    "one number": (),
    "a row": (7,),
    "none": (0,),
    "none, in a table": (3, 0, 2),
    "filters": (4, 3, 2, 2),
}


@pytest.mark.parametrize("shape", SIZES.values(), ids=SIZES.keys())
@pytest.mark.parametrize(
    "dtype", [*DTYPES, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8], ids=str
)
def test_digests_are_those_of_torch(tmp_path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> None:
    """Of every type that a file may hold, in whatever order its tensors stand."""
    torch.manual_seed(0)
    value = (torch.randn(shape) * 40).to(dtype)
    tensors = {"b.weight": value, "a": value.flatten()[:1].clone()}
    path = tmp_path / "some.safetensors"
    save_file(tensors, path)
    with safe_open(path, framework="np") as file:
        arrays = {name: file.get_tensor(name) for name in ("b.weight", "a")}
    assert (
        tensors_digest(arrays) == tensors_digest(dict(reversed(arrays.items()))) == digest_by_torch(tensors)
    )


def test_digests_tell_types_shapes_and_names_apart() -> None:
    """Of the same bytes."""
    zeros = np.zeros((2, 4), np.float32)
    some = [
        {"a": zeros},
        {"b": zeros},
        {"a": zeros.reshape(4, 2)},
        {"a": zeros.view(np.int32)},
        {"a": zeros.view(np.float16).reshape(2, 8)},
        {"a": zeros.view(np.int16).view(ml_dtypes.bfloat16)},
        {"a": zeros, "b": zeros},
        {},
    ]
    assert len({tensors_digest(tensors) for tensors in some}) == len(some)


def test_an_array_that_lies_otherwise_in_memory_has_the_same_digest() -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    assert tensors_digest({"a": np.asfortranarray(values)}) == tensors_digest({"a": values})


def test_the_shipped_file_verifies() -> None:
    """By the digest of its tensors that torch gives, whoever wrote it."""
    weights = read_weights(SHIPPED)
    header = read_header(SHIPPED)
    assert header["tensors_sha256"] == tensors_digest(weights.tensors) == digest_by_torch(load_file(SHIPPED))
    assert header["sha256"] == header_digest(header)
    assert verify_checkpoint(SHIPPED) == weights.metadata == read_metadata(SHIPPED)


def test_as_weights_names_what_a_file_would_hold(
    multibox_path: Path, multibox_spec: MultiBoxSpec, tmp_path: Path
) -> None:
    """Without auxiliary classifiers, and with the head's own description whatever the metadata say."""
    whole = load_checkpoint(multibox_path)
    path = tmp_path / "file.safetensors"
    save_checkpoint(path, whole, torch.float32)
    made, read = whole.as_weights(), read_weights(path)
    assert made.metadata == read.metadata
    assert made.tensors.keys() == read.tensors.keys()
    assert all(np.array_equal(made.tensors[name], value) for name, value in read.tensors.items())
    unaware = Checkpoint(whole.network, replace(whole.metadata, multibox=None), whole.multibox)
    assert unaware.as_weights().metadata.multibox == multibox_spec
    headless = Checkpoint(whole.network, whole.metadata).as_weights()
    assert headless.metadata.multibox is None
    assert not headless.has("multibox.")
    assert made.has("multibox.")


def test_as_weights_are_no_copies_that_training_changes(multibox_path: Path) -> None:
    """And networks that are built of weights leave them as they are."""
    checkpoint = load_checkpoint(multibox_path)
    weights = checkpoint.as_weights()
    before = {name: value.copy() for name, value in weights.tensors.items()}
    built = as_checkpoint(weights)
    with torch.no_grad():
        for parameter in built.network.parameters():
            parameter.add_(1)
    for name, value in weights.tensors.items():
        assert np.array_equal(value, before[name]), name


def test_a_checkpoint_is_taken_as_it_is(classifier_checkpoint: Checkpoint) -> None:
    assert as_checkpoint(classifier_checkpoint) is classifier_checkpoint


@pytest.mark.parametrize(
    ("value", "says"),
    [(np.nan, "not finite"), (np.inf, "not finite"), (-np.inf, "not finite")],
    ids=["no number", "endless", "endless below"],
)
@pytest.mark.parametrize("kind", DTYPES.values(), ids=str)
def test_values_that_are_not_finite_are_named(
    classifier_checkpoint: Checkpoint, kind: np.dtype, value: float, says: str
) -> None:
    weights = classifier_checkpoint.as_weights()
    tensors = {name: tensor.astype(kind) for name, tensor in weights.tensors.items()}
    sound = Weights(weights.metadata, tensors)
    sound.check_finite()
    tensors["classifier.bias"][3] = value
    with pytest.raises(CheckpointError, match=rf"the checkpoint: tensor 'classifier\.bias' .*{says}"):
        sound.check_finite()
    with pytest.raises(CheckpointError, match=says):
        as_checkpoint(sound)


@pytest.mark.parametrize(
    "dtype", [torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64, torch.bool, torch.uint16], ids=str
)
def test_types_that_no_network_has_are_refused(
    classifier_checkpoint: Checkpoint, tmp_path: Path, dtype: torch.dtype
) -> None:
    """Some of them NumPy does not know: they are named all the same, by whoever reads the file."""
    path = tmp_path / "odd.safetensors"
    save_checkpoint(path, classifier_checkpoint)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["googlenet-detector"])
    tensors = load_file(path)
    tensors["classifier.bias"] = torch.zeros(1000).to(dtype)
    header["tensors_sha256"] = digest_by_torch(tensors)
    header["sha256"] = header_digest(header)
    save_file(tensors, path, metadata={"googlenet-detector": json.dumps(header)})
    with pytest.raises(CheckpointError, match=str(path)):
        load_checkpoint(path)


def test_damage_is_told_without_building_a_network(multibox_path: Path, tmp_path: Path) -> None:
    path = tmp_path / "damaged.safetensors"
    shutil.copy(multibox_path, path)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="its tensors do not have the SHA-256"):
        read_weights(path)
    assert read_metadata(path) == read_metadata(multibox_path), "the header is whole"


def test_reading_loads_no_torch(multibox_path: Path) -> None:
    script = """
import sys
from pathlib import Path
from detector.models.weights import read_metadata, read_weights
read_weights(Path(sys.argv[1])), read_metadata(Path(sys.argv[1]))
sys.exit("torch" in sys.modules)
"""
    subprocess.run([sys.executable, "-c", script, str(multibox_path)], check=True)

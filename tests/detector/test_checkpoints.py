"""Weights files: what is written is read back, and everything else is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torchvision
from safetensors.torch import load_file, save_file

from detector.bvlc import PREPROCESSING
from detector.checkpoints import (
    Checkpoint,
    Metadata,
    load_checkpoint,
    read_metadata,
    save_checkpoint,
    verify_checkpoint,
)
from detector.classes import ilsvrc_cls
from detector.errors import CheckpointError
from detector.googlenet import GoogLeNet
from detector.region_network import RegionNetwork
from detector.torchvision_weights import read_torchvision


def test_detector_round_trip_keeps_scores_and_metadata(checkpoint_path: Path, tmp_path: Path) -> None:
    first = load_checkpoint(checkpoint_path)
    assert isinstance(first.network, RegionNetwork)
    marked = Checkpoint(
        first.network,
        replace(first.metadata, metrics={"mAP": 0.25}, training={"iterations": 3}, source="here"),
    )
    path = tmp_path / "again.safetensors"
    save_checkpoint(path, marked, torch.float32)
    second = load_checkpoint(path)
    assert second.metadata == marked.metadata == read_metadata(path) == verify_checkpoint(path)
    crops = torch.randn(2, 3, 224, 224) * 50
    with torch.no_grad():
        for ours, theirs in zip(first.network(crops), second.network(crops), strict=True):
            assert torch.equal(ours, theirs)


def test_float16_halves_the_file_and_keeps_scores(classifier_checkpoint: Checkpoint, tmp_path: Path) -> None:
    half, full = tmp_path / "half.safetensors", tmp_path / "full.safetensors"
    save_checkpoint(half, classifier_checkpoint)
    save_checkpoint(full, classifier_checkpoint, torch.float32)
    assert half.stat().st_size < 0.51 * full.stat().st_size
    crops = torch.randn(4, 3, 224, 224) * 50
    with torch.no_grad():
        ours, theirs = (load_checkpoint(p).backbone.logits(crops).softmax(1) for p in (half, full))
    assert (ours - theirs).abs().max() < 1e-2


def test_auxiliary_classifiers_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "aux.safetensors"
    save_checkpoint(path, Checkpoint(GoogLeNet(aux=True), _metadata()))
    assert not [name for name in load_file(path) if name.startswith("aux")]
    load_checkpoint(path)


def _truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _foreign(path: Path) -> None:
    path.write_bytes(b"PK\x03\x04 this is some other format" * 50)


def _plain_safetensors(path: Path) -> None:
    save_file({"a": torch.zeros(2)}, path)


def _rewritten(change: Callable[[dict, dict], None]) -> Callable[[Path], None]:
    def rewrite(path: Path) -> None:
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            header = json.loads(file.metadata()["googlenet-detector"])
        tensors = load_file(path)
        change(header, tensors)
        save_file(tensors, path, metadata={"googlenet-detector": json.dumps(header)})

    return rewrite


BROKEN = [
    ("missing", lambda path: path.unlink(), "does not exist"),
    ("truncated", _truncated, "no whole safetensors file"),
    ("empty", _empty, "no whole safetensors file"),
    ("foreign format", _foreign, "no whole safetensors file"),
    ("safetensors of another project", _plain_safetensors, "not a checkpoint of this project"),
    ("later format", _rewritten(lambda h, t: h.update(format="googlenet-detector/9")), "this version reads"),
    ("unknown architecture", _rewritten(lambda h, t: h.update(architecture="vgg16")), "vgg16"),
    ("no preprocessing", _rewritten(lambda h, t: h.pop("preprocessing")), "preprocessing"),
    ("a tensor lacks", _rewritten(lambda h, t: t.pop("classifier.bias")), "lacks tensors classifier.bias"),
    ("a tensor too many", _rewritten(lambda h, t: t.update(extra=torch.zeros(1))), "unknown tensors extra"),
    (
        "a tensor of another shape",
        _rewritten(lambda h, t: t.update({"classifier.bias": torch.zeros(7)})),
        "does not fit",
    ),
]


@pytest.mark.parametrize(("damage", "says"), [b[1:] for b in BROKEN], ids=[b[0] for b in BROKEN])
def test_broken_files_are_named(
    classifier_checkpoint: Checkpoint, tmp_path: Path, damage: Callable[[Path], None], says: str
) -> None:
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, classifier_checkpoint)
    damage(path)
    with pytest.raises(CheckpointError, match=says):
        load_checkpoint(path)


def test_verify_finds_a_changed_weight(classifier_checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, classifier_checkpoint)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    load_checkpoint(path)  # nothing in its shape gives it away
    with pytest.raises(CheckpointError, match="SHA-256"):
        verify_checkpoint(path)


def test_a_failed_write_leaves_the_old_file(classifier_checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_checkpoint(path, classifier_checkpoint)
    before = path.read_bytes()
    unwritable = Checkpoint(
        classifier_checkpoint.network, replace(classifier_checkpoint.metadata, metrics={"mAP": object()})
    )
    with pytest.raises(TypeError):
        save_checkpoint(path, unwritable)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_torchvision_weights_give_torchvisions_results(tmp_path: Path, suffix: str) -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.GoogLeNet(num_classes=1000, init_weights=True).eval()
    path = tmp_path / f"googlenet{suffix}"
    if suffix == ".pth":
        torch.save(theirs.state_dict(), path)
    else:
        save_file(theirs.state_dict(), path)
    ours = read_torchvision(path).eval()
    crops = torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        assert torch.allclose(ours.logits(crops), theirs(crops), atol=1e-5)
    stored = tmp_path / "ours.safetensors"
    save_checkpoint(
        stored, Checkpoint(ours, replace(_metadata(), architecture="torchvision-googlenet")), torch.float32
    )
    with torch.no_grad():
        assert torch.allclose(load_checkpoint(stored).backbone.logits(crops), theirs(crops), atol=1e-5)


@pytest.mark.parametrize("content", [b"", b"nonsense", None], ids=["empty", "foreign", "other state dict"])
def test_foreign_torchvision_files_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "weights.pth"
    if content is None:
        torch.save({"a": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"weights\.pth"):
        read_torchvision(path)


def _metadata() -> Metadata:
    return Metadata("test", "googlenet", PREPROCESSING, ilsvrc_cls())

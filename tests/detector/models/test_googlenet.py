"""The network against the paper's table and against Caffe's own activations."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from detector.errors import CheckpointError
from detector.models.convert_bvlc import read_bvlc
from detector.models.googlenet import GoogLeNet

# Stage, its output for a 224x224 picture, its parameters: Table 1's sizes; the parameters follow from
# its filter counts (in x out x kernel, and a bias a filter).
TABLE_1 = [
    ("conv1", (64, 112, 112), 9_472),
    ("pool1", (64, 56, 56), 0),
    ("conv2_reduce", (64, 56, 56), 4_160),
    ("conv2", (192, 56, 56), 110_784),
    ("pool2", (192, 28, 28), 0),
    ("inception_3a", (256, 28, 28), 163_696),
    ("inception_3b", (480, 28, 28), 388_736),
    ("pool3", (480, 14, 14), 0),
    ("inception_4a", (512, 14, 14), 376_176),
    ("inception_4b", (512, 14, 14), 449_160),
    ("inception_4c", (512, 14, 14), 510_104),
    ("inception_4d", (528, 14, 14), 605_376),
    ("inception_4e", (832, 14, 14), 868_352),
    ("pool4", (832, 7, 7), 0),
    ("inception_5a", (832, 7, 7), 1_043_456),
    ("inception_5b", (1024, 7, 7), 1_444_080),
]


def test_stages_are_those_of_table_1() -> None:
    network = GoogLeNet().eval()
    shapes = {}
    x = torch.randn(1, 3, 224, 224)
    with torch.no_grad():
        for name, stage in network.features.named_children():
            x = stage(x)
            shapes[name] = tuple(x.shape[1:])
    got = [(name, shapes[name], _parameters(network.features.get_submodule(name))) for name, _, _ in TABLE_1]
    assert got == TABLE_1


def test_parameter_count() -> None:
    assert _parameters(GoogLeNet()) == 6_998_552


def test_auxiliary_classifiers_act_in_training_only() -> None:
    network = GoogLeNet(10, aux=True)
    x = torch.randn(2, 3, 224, 224)
    assert [tuple(t.shape) for t in network.train()(x)] == [(2, 10)] * 3
    with torch.no_grad():
        output = network.eval()(x)
    assert output.aux_4a is None
    assert output.aux_4d is None


@pytest.mark.exhaustive
def test_every_weight_learns_from_nothing() -> None:
    """One batch of four classes is learnt by heart, through 22 layers without batch norm."""
    torch.manual_seed(0)
    network = GoogLeNet(4, aux=True).train()
    images = torch.randn(4, 3, 224, 224)
    labels = torch.arange(4)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9)
    first = None
    for _ in range(12):
        main, aux_4a, aux_4d = network(images)
        loss = nn.functional.cross_entropy(main, labels)
        loss = loss + 0.3 * (
            nn.functional.cross_entropy(aux_4a, labels) + nn.functional.cross_entropy(aux_4d, labels)
        )
        optimizer.zero_grad()
        loss.backward()
        without = [name for name, p in network.named_parameters() if p.grad is None or not p.grad.any()]
        assert not without
        first = first or loss.item()
        optimizer.step()
    assert loss.item() < 0.8 * first


@pytest.mark.parametrize(
    ("ours", "caffe"),
    [
        ("norm1", "pool1_norm1"),
        ("inception_3b", "inception_3b_output"),
        ("pool4", "pool4_3x3_s2"),
        ("logits", "loss3_classifier"),
        ("softmax", "prob"),
    ],
)
def test_activations_are_caffes(
    caffe_run: dict[str, torch.Tensor], shared: Path, ours: str, caffe: str
) -> None:
    with np.load(shared / "weights" / "bvlc_googlenet_reference.npz") as archive:
        expected = torch.from_numpy(archive[caffe])
    error = (caffe_run[ours] - expected).norm() / expected.norm()
    worst = (caffe_run[ours] - expected).abs().max() / expected.abs().max()
    print(f"{caffe}: relative error {error:.1e}, worst {worst:.1e}")
    assert error < 1e-4
    assert worst < 1e-4


@pytest.fixture(scope="module")
def caffe_run(shared: Path) -> dict[str, torch.Tensor]:
    network = read_bvlc(shared / "weights" / "bvlc_googlenet.npz").eval()
    with np.load(shared / "weights" / "bvlc_googlenet_reference.npz") as archive:
        x = torch.from_numpy(archive["data"]).flip(1)  # Caffe's is BGR
    found = {}
    with torch.no_grad():
        for name, stage in network.features.named_children():
            x = stage(x)
            found[name] = x.clone()
        found["logits"] = network.pool(x)
        found["softmax"] = found["logits"].softmax(dim=1)
    return found


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "no whole .npz archive"),
        (b"not an archive", "no whole .npz archive"),
        (None, "'conv1_7x7_s2_w' is missing"),
    ],
    ids=["empty", "foreign", "other arrays"],
)
def test_foreign_bvlc_files_are_named(tmp_path: Path, content: bytes | None, says: str) -> None:
    path = tmp_path / "weights.npz"
    if content is None:
        np.savez(path, other=np.zeros(3))
    else:
        path.write_bytes(content)
    with pytest.raises(CheckpointError, match=says):
        read_bvlc(path)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())

"""The script that trains a classifier, as its users call it; and what it begins with."""

from pathlib import Path

import pytest
import torch

from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.models.metadata import Metadata
from detector.models.torchvision_googlenet import TorchvisionGoogLeNet
from detector.models.transfer import from_classifier
from detector.structures.classes import ClassList, ilsvrc_cls
from tests.run_command import run_command
from tests.training.labelled_sets import write_ilsvrc_cls
from training.classification.initialization import PREPROCESSING, fresh, from_checkpoint
from training.pretrain_cls import main


@pytest.fixture(scope="module")
def ilsvrc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("ilsvrc")
    write_ilsvrc_cls(root, train=2, val=1)
    return root


@pytest.fixture(scope="module")
def init_path(untrained: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("init") / "init.safetensors"
    save_checkpoint(path, untrained, torch.float32)
    return path


@pytest.mark.exhaustive
def test_going_on_from_a_checkpoint(ilsvrc: Path, init_path: Path, tmp_path: Path) -> None:
    """At a rate of next to nothing: what comes out is what went in, with its preprocessing."""
    status, said = run_command(main,
        "--data", ilsvrc, "--init", init_path, "--output", tmp_path, "--epochs", 1, "--batch", 2,
        "--rate", 1e-9, "--name", "mine", "--device", "cpu",
    )  # fmt: skip
    assert status == 0, said
    assert "4 pictures to learn, 2 to measure (ILSVRC CLS-LOC, its train and val), 1000 classes" in said
    assert "from untrained (the side classifiers begin anew)" in said
    assert "iteration 2: top-1 " in said
    assert f"--weights {tmp_path / 'best.safetensors'}" in said
    before, after = load_checkpoint(init_path), load_checkpoint(tmp_path / "best.safetensors")
    assert after.metadata.name == "mine"
    assert after.metadata.preprocessing == before.metadata.preprocessing
    assert after.metadata.classification == ilsvrc_cls()
    assert after.metadata.training["init"] == "untrained"
    for name, value in before.network.state_dict().items():
        assert torch.allclose(after.network.state_dict()[name], value, atol=2e-3), name


@pytest.mark.exhaustive
def test_members_of_an_ensemble(ilsvrc: Path, init_path: Path, tmp_path: Path) -> None:
    """Seeds make networks that differ in the stages that are trained, and in no bit of the others: an
    ensemble runs those once, together with the weights that all started from."""
    paths = []
    for seed in (1, 2):
        status, said = run_command(main,
            "--data", ilsvrc, "--init", init_path, "--output", tmp_path / str(seed), "--epochs", 1,
            "--batch", 2, "--rate", 0.01, "--frozen-through", "pool4", "--seed", seed, "--device", "cpu",
        )  # fmt: skip
        assert status == 0, said
        paths.append(tmp_path / str(seed) / "best.safetensors")
    half = tmp_path / "half.safetensors"
    save_checkpoint(half, load_checkpoint(init_path))  # members are kept in 16 bits
    first, second, start = (load_checkpoint(path).backbone.state_dict() for path in (*paths, half))
    for name, value in first.items():
        if not name.startswith(("features.inception_5", "classifier")):
            assert torch.equal(value, second[name]), name
            assert torch.equal(value, start[name]), name
        elif name.endswith("weight"):
            assert not torch.equal(value, second[name]), name


@pytest.mark.exhaustive
def test_learning_some_pictures_by_heart(ilsvrc: Path, tmp_path: Path) -> None:
    """They are also what is measured; nothing is cut or distorted."""
    status, said = run_command(main,
        "--data", ilsvrc, "--output", tmp_path, "--overfit", 2, "--epochs", 1, "--device", "cpu"
    )  # fmt: skip
    assert status == 0, said
    assert "2 pictures to learn, 2 to measure (2 pictures to learn by heart)" in said
    assert load_checkpoint(tmp_path / "last.safetensors").metadata.training["augmentation"] is None


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--data", "nowhere"], "nowhere is no folder"),
        (["--data", "EMPTY"], "holds neither ILSVRC/"),
        (["--data", "DATA", "--init", "absent.safetensors"], "absent.safetensors does not exist"),
        (["--data", "DATA", "--init", "PEER"], "only 'googlenet' trains here"),
        (["--data", "DATA", "--device", "quantum"], "unknown device 'quantum'"),
        (["--data", "DATA", "--batch", "2", "--accumulate", "3"], "give a larger --batch"),
        (["--data", "DATA", "--least-area", "2"], "a patch needs"),
        (["--data", "DATA", "--frozen-through", "pool3"], "there is no --init"),
        (
            ["--data", "DATA", "--init", "INIT", "--frozen-through", "pool9"],
            "'pool9' is no stage; use 'none'",
        ),
    ],
    ids=[
        "no data",
        "no layout",
        "no such weights",
        "another architecture",
        "device",
        "pieces",
        "patches",
        "stages of nothing",
        "no such stage",
    ],
)
def test_errors_are_one_line(
    ilsvrc: Path, init_path: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    paths = {
        "DATA": ilsvrc,
        "EMPTY": tmp_path / "empty",
        "INIT": init_path,
        "PEER": tmp_path / "peer.safetensors",
    }
    paths["EMPTY"].mkdir()
    if "PEER" in arguments:
        metadata = Metadata("peer", "torchvision-googlenet", PREPROCESSING, ClassList.of(["a", "b"]))
        save_checkpoint(paths["PEER"], Checkpoint(TorchvisionGoogLeNet(2), metadata))
    status, said = run_command(
        main, *(paths.get(one, one) for one in arguments), "--output", tmp_path / "out"
    )
    assert status == 1
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert says in line
    assert not (tmp_path / "out" / "last.safetensors").exists()


@pytest.mark.parametrize("option", ["--epochs", "--batch", "--accumulate", "--measure-every"])
def test_settings_below_one_are_mistakes_of_usage(ilsvrc: Path, tmp_path: Path, option: str) -> None:
    status, said = run_command(main, "--data", ilsvrc, "--output", tmp_path, option, 0)
    assert status == 2
    assert option in said


def test_the_same_classes_keep_the_classifier(untrained: Checkpoint) -> None:
    """Also of a detector, whose further rows are left out; trunk and preprocessing come along."""
    for init in (untrained, from_classifier(untrained, own_sub_classes=True)):
        start = from_checkpoint(init, ilsvrc_cls(), seed=3)
        state = start.network.state_dict()
        for name, value in untrained.backbone.state_dict().items():
            assert torch.equal(state[name], value), name
        assert start.preprocessing == untrained.metadata.preprocessing
        assert start.network.aux_4a is not None


def test_other_classes_begin_with_a_new_classifier(untrained: Checkpoint) -> None:
    start = from_checkpoint(untrained, ClassList.of(["a", "b"]), seed=3)
    assert start.network.classifier.weight.shape == (2, 1024)
    assert "its classes are others" in start.how
    first = "features.conv1.conv.weight"
    assert torch.equal(start.network.state_dict()[first], untrained.backbone.state_dict()[first])


def test_first_weights_are_a_function_of_the_seed() -> None:
    classes = ClassList.of(["a", "b"])
    one, same, other = (fresh(classes, seed).network.state_dict() for seed in (1, 1, 2))
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not torch.equal(one["classifier.weight"], other["classifier.weight"])


def test_a_classifier_of_whole_images_alone_comes_first(untrained: Checkpoint) -> None:
    """It is what the detector says of whole images."""
    init = from_classifier(untrained, own_sub_classes=True)
    init.backbone.whole = torch.nn.Linear(1024, 1000)
    classifier = from_checkpoint(init, ilsvrc_cls(), seed=3).network.classifier
    assert torch.equal(classifier.weight, init.backbone.whole.weight)
    assert torch.equal(classifier.bias, init.backbone.whole.bias)

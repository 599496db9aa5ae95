"""The command that measures classifiers, on small pictures with networks that learned nothing."""

import copy
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detector.datasets.formats.ilsvrc_cls import read_ilsvrc_cls
from detector.evaluation.classification import top_k_error
from detector.inference.classifier import Classifier
from detector.io.decoding import load
from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.structures.classes import ClassList
from tests.run_command import run_command
from tests.training.labelled_sets import write_ilsvrc_cls
from training.evaluate_cls import main
from training.evaluating.classifiers import ClassifierEvaluation, read_networks


@pytest.fixture(scope="module")
def ilsvrc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two pictures of each of two classes in val."""
    root = tmp_path_factory.mktemp("ilsvrc")
    write_ilsvrc_cls(root, train=1, val=2)
    return root


@pytest.fixture(scope="module")
def files(untrained: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three networks that have all but their classifiers in common, each with a preference, whatever it is
    shown: ``a`` for class 0; ``b`` and ``c`` for one and for four that no picture is of, then for 1."""
    folder = tmp_path_factory.mktemp("weights")
    paths = []
    for name, likely in {
        "a": {0: 9.0},
        "b": {9: 9.0, 1: 8.0},
        "c": {9: 9.0, 8: 9.0, 7: 9.0, 6: 9.0, 1: 8.0},
    }.items():
        network = copy.deepcopy(untrained.network)
        with torch.no_grad():
            network.classifier.weight.zero_()
            for label, logit in likely.items():
                network.classifier.bias[label] = logit
        metadata = replace(untrained.metadata, name=name)
        paths.append(folder / f"{name}.safetensors")
        save_checkpoint(paths[-1], Checkpoint(network, metadata))
    return paths


def read(path: Path) -> list[dict[str, Any]]:
    return json.loads(path.read_text())["runs"]


def test_one_table_of_all(ilsvrc: Path, files: list[Path], tmp_path: Path) -> None:
    """Networks alone and together, by one and ten crops: the figures of a Classifier of each."""
    a, b, c = files
    figures = tmp_path / "figures" / "all.json"
    status, said = run_command(main,
        "--data", ilsvrc, "--weights", a, "--weights", c, "--weights", f"{a}:{b}:{c}",
        "--crops", 1, "--crops", 10, "--device", "cpu", "--precision", "float32", "--json", figures,
    )  # fmt: skip
    assert status == 0, said
    assert "4 pictures of CLS-LOC/val; standard error in the first line 25.0 and " in said
    rows = [line for line in said.splitlines() if " 10 " in line or " 1 " in line]
    runs = read(figures)
    names = ["a", "a", "c", "c", "ensemble of 3: a, ...", "ensemble of 3: a, ..."]
    assert [one["name"] for one in runs] == names
    assert all(row.startswith(name) for name, row in zip(names, rows[-6:], strict=True))
    assert [(one["networks"], one["crops"], one["cost"]) for one in runs] == [
        (1, 1, 1), (1, 10, 10), (1, 1, 1), (1, 10, 10), (3, 1, 3), (3, 10, 30)
    ]  # fmt: skip
    assert [one["weights"] for one in runs[::2]] == [[str(a)], [str(c)], [str(a), str(b), str(c)]]
    images = read_ilsvrc_cls(ilsvrc, "val").images
    labels = np.array([image.label for image in images])
    for one in runs:
        checkpoints = [load_checkpoint(Path(path)) for path in one["weights"]]
        classifier = Classifier(checkpoints, device="cpu", precision="float32")
        scores = [classifier.probabilities(load(image.path), crops=one["crops"]) for image in images]
        errors = top_k_error(np.stack(scores), labels)
        assert (one["top1_error"], one["top5_error"]) == (errors[1], errors[5])
        assert (one["top1_accuracy"], one["top5_accuracy"]) == (1 - errors[1], 1 - errors[5])
    assert [one["top1_error"] for one in runs[::2]] == [0.5, 1.0, 1.0]
    assert [one["top5_error"] for one in runs[::2]] == [0, 0.5, 0]
    # The single networks ran as parts of the ensemble: only its time is known.
    assert [one["seconds"] is None for one in runs] == [True, True, True, True, False, False]
    assert "'-' where other networks ran in the same passes" in said


def test_a_network_runs_once(ilsvrc: Path, files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """However many rows it stands in; ensembles that overlap run together."""
    a, b, c = files
    ran: Counter[tuple[int, int]] = Counter()
    plain = Classifier.member_probabilities

    def counted(classifier: Classifier, image: Any, *, crops: int = 1, **more: Any) -> Any:
        each = plain(classifier, image, crops=crops, **more)
        ran[len(each), crops] += 1
        return each

    monkeypatch.setattr(Classifier, "member_probabilities", counted)
    networks = read_networks([a, b, f"{a}:{b}", f"{b}:{c}", a])
    evaluation = ClassifierEvaluation(networks, [1, 10, 1], device="cpu")
    figures = evaluation.run(read_ilsvrc_cls(ilsvrc, "val").images[:2])
    assert len(figures) == 4 * 2
    assert ran == {(3, 1): 2, (3, 10): 2}


def test_networks_that_share_no_row_keep_their_time(ilsvrc: Path, files: list[Path]) -> None:
    evaluation = ClassifierEvaluation(read_networks(files[:2]), device="cpu")
    figures = evaluation.run(read_ilsvrc_cls(ilsvrc, "val").images[:1])
    assert all(one.seconds is not None and one.seconds > 0 for one in figures)


@pytest.mark.parametrize(
    ("weights", "ensemble", "expected"),
    [
        pytest.param(["a"], False, ["a"], id="one"),
        pytest.param(["a", "b", "a"], False, ["a", "b"], id="each once"),
        pytest.param(["a:b", "c"], False, ["a b", "c"], id="as make serve WEIGHTS= spells it"),
        pytest.param(["a:b", "b:a"], False, ["a b", "b a"], id="their order is kept"),
        pytest.param(["a", "b", "c"], True, ["a", "a b", "a b c"], id="all sizes of an ensemble"),
        pytest.param(["a:b", "b", "c"], True, ["a", "a b", "a b c"], id="of all files"),
    ],
)
def test_networks_of_options(weights: Sequence[str], ensemble: bool, expected: Sequence[str]) -> None:
    assert read_networks(weights, ensemble=ensemble) == [tuple(map(Path, text.split())) for text in expected]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--weights", "A:"], "names an empty path; write path or path:path"),
        (["--weights", "A:A"], "names a file twice"),
        (["--weights", "A", "--ensemble"], "--ensemble averages several weights"),
        (["--weights", "nowhere.safetensors"], "nowhere.safetensors does not exist"),
        (["--weights", "A:OTHER"], "they have other classes of classification"),
        (["--weights", "A", "--weights", "OTHER"], "other names other classes than a"),
        (["--weights", "OTHER"], "other names other classes than the 1000 of"),
        (["--weights", "A", "--precision", "int1"], "unknown precision 'int1'"),
        (["--weights", "A", "--json", "A"], "is also read"),
        (["--weights", "A", "--split", "test"], "test"),
        (["--weights", "A", "--every", "9", "--exclude", "ALL"], "has no picture to measure on in val"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_are_one_line(
    ilsvrc: Path, files: list[Path], tmp_path: Path, arguments: list[str], says: str
) -> None:
    other, everything = tmp_path / "other.safetensors", tmp_path / "all.txt"
    if "OTHER" in " ".join(arguments):
        checkpoint = load_checkpoint(files[0])
        classes = ClassList.of([f"thing {number}" for number in range(1000)])
        metadata = replace(checkpoint.metadata, name="other", classification=classes)
        save_checkpoint(other, replace(checkpoint, metadata=metadata))
    everything.write_text((ilsvrc / "ILSVRC/ImageSets/CLS-LOC/val.txt").read_text())
    named = {"OTHER": str(other), "ALL": str(everything), "A": str(files[0])}
    texts = [":".join(named.get(part, part) for part in text.split(":")) for text in arguments]
    status, said = run_command(main, "--data", ilsvrc, "--device", "cpu", *texts)
    assert status == 1
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert says in line


@pytest.mark.parametrize("arguments", [["--crops", "2"], ["--crops", "ten"], ["--every", "0"]], ids=" ".join)
def test_mistakes_of_usage(ilsvrc: Path, arguments: list[str]) -> None:
    status, said = run_command(main, "--data", ilsvrc, *arguments)
    assert status == 2
    assert arguments[0] in said


def test_every_nth_picture_in_every_precision(ilsvrc: Path, files: list[Path], tmp_path: Path) -> None:
    """By torch, which computes in 16 bits on any processor."""
    figures = tmp_path / "figures.json"
    status, said = run_command(main,
        "--data", ilsvrc, "--weights", files[0], "--every", 2, "--device", "cpu",
        "--engine", "torch", "--precision", "float32", "--precision", "bfloat16", "--json", figures,
    )  # fmt: skip
    assert status == 0, said
    assert "2 pictures of CLS-LOC/val, one of every 2; " in said
    document = json.loads(figures.read_text())
    assert (document["pictures"], document["every"], document["left_out"]) == (2, 2, 0)
    assert [one["precision"] for one in document["runs"]] == ["float32", "bfloat16"]
    assert [one["top1_error"] for one in document["runs"]] == [0.5, 0.5]


def test_a_broken_picture_is_left_out_and_told(ilsvrc: Path, files: list[Path], tmp_path: Path) -> None:
    write_ilsvrc_cls(tmp_path, train=0, val=2)
    broken = tmp_path / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00.JPEG"
    broken.write_bytes(broken.read_bytes()[:-200])
    status, said = run_command(main, "--data", tmp_path, "--weights", files[1], "--device", "cpu")
    assert status == 0, said
    assert "3 pictures of CLS-LOC/val, 1 left out for problems in the data; " in said

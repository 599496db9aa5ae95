"""Training a classifier for real, on a few pictures that the tests make."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from detector.errors import CheckpointError, DatasetError, ParameterError
from detector.inference.loading import load_classifier
from detector.io.decoding import load
from detector.models.checkpoint import load_checkpoint
from tests.training.labelled_sets import write_folders
from training.classification.augmentation import PatchSettings
from training.classification.dataloader import Augmentation
from training.classification.dataset import read_labelled_images
from training.classification.initialization import fresh
from training.classification.pretraining import pretrain_classifier
from training.classification.task import ACCURACY, BEST, LAST, ClassificationTask, PretrainRecipe
from training.trainer.distributed import join_world, leave_world
from training.trainer.excluded_images import BrokenImages
from training.trainer.optimization import Averaging, Decay
from training.trainer.run_state import load_state, save_state
from training.trainer.trainer import Trainer

MILD = Augmentation(PatchSettings(least=0.7), color_jitter=None)
SMALL = PretrainRecipe(epochs=4, batch=3, rate=0.01, validate_every=2, save_every=3, augmentation=MILD)
LEARNT_AFTER = 10
"""Epochs of one minibatch."""

PLAIN = PretrainRecipe(epochs=2, batch=4, rate=0.01, augmentation=None)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures to learn and two to measure, of each of two classes."""
    root = tmp_path_factory.mktemp("folders")
    write_folders(root, "train", 3)
    write_folders(root, "val", 2)
    return root


def train(data: Path, output: Path, recipe: PretrainRecipe = SMALL, **more: int) -> Path:
    found = read_labelled_images(data)
    return pretrain_classifier(found, None, output, recipe, data_name="stripes", device="cpu", **more)


def without_dropout(data: Path, output: Path, recipe: PretrainRecipe) -> None:
    """One process of a training in which nothing is random but the order of the pictures."""
    world, device = join_world("cpu")
    output.mkdir(exist_ok=True)
    found = read_labelled_images(data)
    start = fresh(found.classes, seed=0)
    for part in start.network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
    broken = BrokenImages(output / "broken.txt", limit=0)
    task = ClassificationTask(
        start.network, found.train, start.preprocessing, recipe, broken=broken, device=device, world=world
    )
    weights = Trainer(task, recipe, output, device=device, world=world).run()
    if world.first:
        save_state(output / "weights", 0, "", {"all": weights})
    leave_world()


def log(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


def assert_same(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], atol: float) -> None:
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(found[name].float(), value.float(), rtol=1e-3, atol=atol), name


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    train(data, output)
    return output


@pytest.mark.exhaustive
def test_it_learns_from_nothing(data: Path, tmp_path: Path) -> None:
    """To tell stripes across from stripes down, of two colours."""
    recipe = PretrainRecipe(
        epochs=LEARNT_AFTER, batch=6, rate=0.01, decay=Decay.CONSTANT, averaging=Averaging.NONE,
        augmentation=None, validate_every=LEARNT_AFTER,
    )  # fmt: skip
    # What an earlier run left in the folder, its state deleted, is not beaten: it does not count.
    (tmp_path / ACCURACY).write_text('{"iteration": 3, "top-1": 1.0, "top-5": 1.0}\n')
    best = train(data, tmp_path, recipe)
    main = [line["main"] for line in log(tmp_path)]
    assert np.mean(main[:2]) > 0.5
    assert np.mean(main[-3:]) < 0.2
    assert load_checkpoint(best).metadata.metrics["top-1 of 4 pictures"] == 1.0


def test_what_a_run_leaves(undisturbed: Path, data: Path) -> None:
    """Two iterations an epoch, a measure every second epoch; checkpoints without side classifiers."""
    assert [line["iteration"] for line in log(undisturbed)] == list(range(8))
    for line in log(undisturbed):
        assert line["total"] == pytest.approx(
            line["main"] + 0.3 * (line["aux_4a"] + line["aux_4d"]), abs=1e-3
        )
    measured = [json.loads(line) for line in (undisturbed / ACCURACY).read_text().splitlines()]
    assert [line["iteration"] for line in measured] == [4, 8]
    for name in (BEST, LAST):
        metadata = load_checkpoint(undisturbed / name).metadata
        assert metadata.classification is not None
        assert metadata.classification.ids == ("across", "down")
        assert metadata.metrics.keys() == {"top-1 of 4 pictures", "top-5 of 4 pictures"}
        assert (metadata.training["pictures"], metadata.training["epochs"]) == (6, 4)
    classifier = load_classifier(undisturbed / BEST, device="cpu")
    image = load(next((data / "val" / "down").iterdir()))
    [found] = classifier.classify([image], top=2)
    assert sorted(found.labels.tolist()) == [0, 1]
    _, state = load_state(undisturbed / "state.safetensors", _run(undisturbed))
    assert any(name.startswith("aux_4a.") for name in state["weights"]), "the state keeps side classifiers"


def _run(output: Path) -> str:
    """What tells its state from another run's."""
    with safe_open(output / "state.safetensors", framework="pt") as file:
        return json.loads(file.metadata()["state"])["run"]


@pytest.mark.exhaustive
def test_killed_and_resumed_equals_undisturbed(data: Path, undisturbed: Path, tmp_path: Path) -> None:
    """kill -9 once something was saved, then the same command again: state, measures and log agree."""
    command = _command(tmp_path, f"train(Path({str(data)!r}), Path({str(tmp_path)!r}))")
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (tmp_path / "state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(log(tmp_path)) < 8, "it was killed before its end"
    subprocess.run(command, check=True, capture_output=True)
    folders, run = (tmp_path, undisturbed), _run(undisturbed)
    found, expected = (load_checkpoint(folder / LAST).network.state_dict() for folder in folders)
    assert_same(found, expected, atol=1e-4)
    (done, resumed), (_, state) = (load_state(folder / "state.safetensors", run) for folder in folders)
    assert done == 8
    assert resumed.keys() == state.keys() == {"weights", "average", "optimizer.momentum_buffer"}
    for part, values in state.items():
        assert_same(resumed[part], values, atol=1e-4)
    assert [line["iteration"] for line in log(tmp_path)] == list(range(8))
    assert (tmp_path / ACCURACY).read_text() == (undisturbed / ACCURACY).read_text()


def test_asked_again_a_finished_run_does_nothing(data: Path, undisturbed: Path) -> None:
    before = (undisturbed / LAST).read_bytes()
    assert train(data, undisturbed) == undisturbed / BEST
    assert (undisturbed / LAST).read_bytes() == before


@pytest.mark.parametrize(
    "recipe", [replace(SMALL, rate=0.02), replace(SMALL, seed=1), replace(SMALL, augmentation=None)]
)
def test_another_run_is_not_gone_on_with(data: Path, undisturbed: Path, recipe: PretrainRecipe) -> None:
    with pytest.raises(CheckpointError, match="belongs to a run with other data or settings"):
        train(data, undisturbed, recipe)


@pytest.mark.exhaustive
def test_pieces_and_processes_make_the_same_steps(data: Path, tmp_path: Path) -> None:
    """One minibatch at a time, or in two pieces, or in two processes: the same weights."""
    found = {}
    for how, recipe in {"whole": PLAIN, "pieces": replace(PLAIN, accumulate=2)}.items():
        without_dropout(data, tmp_path / how, recipe)
        _, parts = load_state(tmp_path / how / "weights", "")
        found[how] = parts["all"]
    output = tmp_path / "processes"
    call = f"without_dropout(Path({str(data)!r}), Path({str(output)!r}), PLAIN)"
    _, script = _command(tmp_path, call)
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run([*torchrun, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    _, parts = load_state(output / "weights", "")
    for other in (found["pieces"], parts["all"]):
        assert_same(other, found["whole"], atol=2e-4)
    lines = [log(tmp_path / how) for how in ("whole", "pieces", "processes")]
    for name in ("total", "main", "aux_4a", "aux_4d"):
        one, *others = ([line[name] for line in each] for each in lines)
        for other in others:
            assert other == pytest.approx(one, rel=0.01)


def _command(folder: Path, call: str) -> list[str]:
    """What runs a call of this file's functions in a process of its own."""
    script = folder / "run.py"
    script.write_text(
        f"import sys; from pathlib import Path; sys.path.insert(0, {str(Path(__file__).parents[3])!r})\n"
        f"from tests.training.classification.test_pretraining import *\n{call}\n"
    )
    return [sys.executable, str(script)]


@pytest.mark.exhaustive
def test_a_broken_picture_is_skipped_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_folders(tmp_path, "train", 3)
    write_folders(tmp_path, "val", 1)
    path = tmp_path / "train" / "down" / "train1.jpg"
    path.write_bytes(path.read_bytes()[:-300])
    output = tmp_path / "run"
    train(tmp_path, output, replace(SMALL, epochs=2, validate_every=1, batch=6, augmentation=None))
    assert capsys.readouterr().out.count("left out train/down/train1.jpg:") == 1
    assert (output / "broken.txt").read_text() == "train/down/train1.jpg\n"
    assert (output / BEST).exists()


def test_many_broken_pictures_stop_the_run(tmp_path: Path) -> None:
    write_folders(tmp_path, "train", 3)
    write_folders(tmp_path, "val", 1)
    for path in (tmp_path / "train" / "down").iterdir():
        path.write_bytes(b"")
    with pytest.raises(DatasetError, match="more than the 1 that may be left out"):
        train(tmp_path, tmp_path / "run", replace(SMALL, batch=6))
    assert not (tmp_path / "run" / LAST).exists()


def test_a_loss_that_runs_away_stops_the_run(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="lower the rate"):
        train(data, tmp_path, replace(SMALL, rate=1e3, weight_decay=10.0, epochs=20, validate_every=20))


def test_more_pieces_than_pictures(data: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="3 pictures a minibatch are too few"):
        train(data, tmp_path, replace(SMALL, accumulate=4))

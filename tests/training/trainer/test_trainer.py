"""The loop on a task that costs nothing: a line through points, whose minibatches are numbers."""

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from detector.errors import CheckpointError
from training.trainer.distributed import ProcessGroup
from training.trainer.early_stop import Validation
from training.trainer.optimization import Averaging, Decay, RateSchedule, TrainingSettings
from training.trainer.optimizer import OptimizerKind
from training.trainer.trainer import STATE, Trainer

SETTINGS = TrainingSettings(rate=0.1, warmup=2, save_every=4)
ITERATIONS = 12


class LineLosses(NamedTuple):
    total: Tensor
    error: Tensor


class Cut(Exception):
    """What ends a run in the middle."""


class Line:
    """Learns 3 x + 1, with dropout; ``losses_told`` are what its validations find, ``cut`` where it ends."""

    validation_interval = 3

    def __init__(self, losses_told: Sequence[float] = (), cut: int | None = None, data: bytes = b"") -> None:
        torch.manual_seed(0)
        self.module = nn.Sequential(nn.Linear(1, 8), nn.Dropout(0.5), nn.Linear(8, 1))
        self.schedule = RateSchedule(ITERATIONS, 2, Decay.COSINE)
        self._told, self._cut, self._data = losses_told, cut, data
        self.validated: list[int] = []

    def parameter_groups(self) -> list[dict[str, Any]]:
        first, _, last = self.module
        return [
            {"params": list(first.parameters()), "lr": 0.1},
            {"params": list(last.parameters()), "lr": 0.02},
        ]

    def digest(self) -> bytes:
        return self._data

    def minibatches(self, first: int, last: int) -> Iterator[Tensor]:
        for iteration in range(first, last):
            if iteration == self._cut:
                raise Cut
            yield torch.rand(6, 1, generator=torch.Generator().manual_seed(iteration))

    def pieces(self, minibatch: Tensor) -> Sequence[Tensor]:
        return minibatch.split(2)

    def losses(self, module: nn.Module, piece: Tensor) -> LineLosses:
        error = (module(piece) - (3 * piece + 1)).square().sum() / 6
        return LineLosses(error, error)

    def validate(self, done: int, averaged: nn.Module) -> Validation | None:
        assert not averaged.training
        self.validated.append(done)
        if not self._told:
            return None
        loss = self._told[done // self.validation_interval - 1]
        return Validation({"loss": loss}, loss)


def run(task: Line, output: Path, settings: TrainingSettings = SETTINGS) -> dict[str, Tensor]:
    output.mkdir(exist_ok=True)
    return Trainer(task, settings, output, device=torch.device("cpu"), world=ProcessGroup()).run()


def log(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize(
    "settings",
    [
        *(pytest.param(replace(SETTINGS, averaging=some), id=some) for some in Averaging),
        pytest.param(replace(SETTINGS, optimizer=OptimizerKind.ADAMW), id="adamw"),
        pytest.param(replace(SETTINGS, momentum=0.0), id="sgd without a momentum has no state"),
    ],
)
@pytest.mark.parametrize("cut", range(1, ITERATIONS))
def test_a_run_cut_off_anywhere_ends_as_an_undisturbed_one(
    tmp_path: Path, settings: TrainingSettings, cut: int
) -> None:
    """To the bit: weights, averages, the optimizer's state, the best weights, the log."""
    settings = replace(settings, patience=9)
    told = [4.0, 2.0, 3.0, 2.5]
    expected = run(Line(told), tmp_path / "whole", settings)
    with pytest.raises(Cut):
        run(Line(told, cut=cut), tmp_path / "cut", settings)
    resumed = run(Line(told), tmp_path / "cut", settings)
    assert resumed.keys() == expected.keys()
    assert all(torch.equal(resumed[name], value) for name, value in expected.items())
    states = [load_file(tmp_path / folder / STATE) for folder in ("cut", "whole")]
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][name], value) for name, value in states[1].items())
    assert log(tmp_path / "cut") == log(tmp_path / "whole")


def test_it_is_validated_every_so_many_iterations_and_at_the_end(tmp_path: Path) -> None:
    task = Line()
    task.validation_interval = 5
    run(task, tmp_path)
    assert task.validated == [5, 10, 12]


@pytest.mark.parametrize(
    ("patience", "told", "ended", "best"),
    [
        pytest.param(0, [1.0, 2.0, 3.0, 4.0], 12, None, id="without a patience the last weights count"),
        pytest.param(2, [4.0, 1.0, 2.0, 3.0], 12, 6, id="patience runs out with the run"),
        pytest.param(1, [2.0, 3.0, 1.0, 1.0], 6, 3, id="it ends early"),
        pytest.param(3, [4.0, 3.0, 2.0, 1.0], 12, 12, id="the last are the best"),
    ],
)
def test_early_stop(tmp_path: Path, patience: int, told: list[float], ended: int, best: int | None) -> None:
    """The result is the averages after the best validation; asked again, an ended run does nothing."""
    settings = replace(SETTINGS, patience=patience)
    result = run(Line(told), tmp_path / "run", settings)
    assert [line["iteration"] for line in log(tmp_path / "run")] == list(range(ended))
    with suppress(Cut):  # the state that is left has the averages after the best validation
        run(Line(told, cut=best or ended), tmp_path / "best", settings)
    averages = load_file(tmp_path / "best" / STATE)
    assert all(torch.equal(averages[f"average/{name}"], value) for name, value in result.items())
    again = Line(told, cut=ended)
    same = run(again, tmp_path / "run", settings)
    assert not again.validated
    assert all(torch.equal(same[name], value) for name, value in result.items())


def test_every_group_has_its_rate(tmp_path: Path) -> None:
    """The log tells that of the first group: a warm-up of two iterations, then a half cosine."""
    run(Line(), tmp_path)
    rates = [line["rate"] for line in log(tmp_path)]
    assert rates[:3] == pytest.approx([0.05, 0.1, 0.1])
    assert rates[7] == pytest.approx(0.05)


@pytest.mark.parametrize("change", ["settings", "data"])
def test_the_state_of_another_run_is_refused(tmp_path: Path, change: str) -> None:
    run(Line(), tmp_path)
    settings = replace(SETTINGS, seed=1) if change == "settings" else SETTINGS
    with pytest.raises(CheckpointError, match="other data or settings"):
        run(Line(data=b"others" if change == "data" else b""), tmp_path, settings)

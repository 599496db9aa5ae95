"""The logs of a run: JSON, one object a line, and TensorBoard's events where that package is installed."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from tqdm import tqdm

from detector.io.atomic_write import write_whole
from training.trainer.command_errors import add_path_to_errors

_MEAN_OVER = 50
"""Iterations that the progress bar's figures are a running mean over."""


class RunLog:
    """What the first process of a run writes at every iteration, and after every validation.

    ``log.jsonl`` has a line an iteration, ``tensorboard/`` the same and the figures of validations.
    """

    def __init__(self, output: Path, first: int) -> None:
        """Open the logs for a run that starts or resumes at iteration ``first``: what stands there of
        iteration ``first`` and later is cut off, for it will be done again."""
        self._lines = Lines(output / "log.jsonl", first)
        self._tensorboard = open_tensorboard(output / "tensorboard", first)
        self._mean: dict[str, float] = {}

    def add(self, iteration: int, rate: float, losses: Mapping[str, float], bar: tqdm) -> None:
        """Write one iteration's learning rate and losses; show their running mean in the progress bar."""
        rounded = {name: round(value, 5) for name, value in losses.items()}
        self._lines.add({"iteration": iteration, "rate": round(rate, 8), **rounded})
        show(self._tensorboard, "train", iteration, {**losses, "rate": rate})
        for name, value in losses.items():
            mean = self._mean.get(name, value)
            self._mean[name] = mean + (value - mean) / _MEAN_OVER
        bar.set_postfix({name: f"{value:.3f}" for name, value in self._mean.items()}, refresh=False)

    def add_validation(self, iteration: int, figures: Mapping[str, float]) -> None:
        """Show the figures of a validation after an iteration in TensorBoard."""
        show(self._tensorboard, "validation", iteration, figures)


class Lines:
    """A file of JSON objects, one a line, each of an ``iteration``."""

    def __init__(self, path: Path, first: int) -> None:
        """Open the file for lines of iteration ``first`` and later; what stands there of these is cut off."""
        with add_path_to_errors(path):
            write_whole(path, "".join(f"{line}\n" for line in lines_before(path, first)).encode())
        self._path = path

    def add(self, entry: Mapping[str, float]) -> None:
        """Append one line."""
        with add_path_to_errors(self._path), self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def lines_before(path: Path, first: int) -> list[str]:
    """Return the lines of a log whose ``iteration`` is below ``first``; none if there is no log.

    What a kill or a full disk left of a line is no line.
    """
    return [line for line, entry in log_lines(path) if entry["iteration"] < first]


def log_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Return the whole lines of a log, as they stand there and parsed; none if there is no log.

    Damaged lines are left out: half a line after a kill, zeros after a power cut. A message says how many,
    unless it is the last line alone.
    """
    entries, damaged = [], 0
    lines = path.read_text(errors="replace").split("\n") if path.exists() else [""]
    for line in lines[:-1]:  # after the last line feed nothing is whole
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and isinstance(entry.get("iteration"), int):
            entries.append((line, entry))
        else:
            damaged += 1
    if damaged:
        tqdm.write(f"{path}: {damaged} lines are damaged, and are left out")
    return entries


class TensorBoard(Protocol):
    """The part of ``SummaryWriter`` that is used."""

    def add_scalar(self, tag: str, value: float, step: int) -> object:
        """Write one figure of an iteration."""


def open_tensorboard(folder: Path, first: int) -> TensorBoard | None:
    """Return a writer of events below ``folder``, or None, with a message, where tensorboard is missing.

    What an earlier process wrote from iteration ``first`` on, which will be done again, is not shown.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        tqdm.write(
            "tensorboard is not installed: there are no charts to look at while this trains (log.jsonl has "
            "every figure); `make training` installs it"
        )
        return None
    return SummaryWriter(str(folder), purge_step=first, flush_secs=30)


def show(tensorboard: TensorBoard | None, group: str, iteration: int, figures: Mapping[str, float]) -> None:
    """Write the figures of an iteration as ``group/name``."""
    if tensorboard is not None:
        for name, value in figures.items():
            tensorboard.add_scalar(f"{group}/{name}", value, iteration)

"""The log of a training run: one JSON object a line, ready to be plotted.

TensorBoard's view of a run, where the package is installed: `tensorboard --logdir RUN`.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor
from tqdm import tqdm

from detector.io.atomic_write import write_whole
from training.trainer.script import naming

_SHOWN = 50
"""Iterations that the progress bar's figures are a running mean over."""


class RunLog:
    """Appends every iteration's losses; on resuming, what will be done again is cut off first."""

    def __init__(self, path: Path, first: int) -> None:
        """``first`` is the iteration that the run starts or goes on with."""
        self._lines = Lines(path, first)
        self._mean: dict[str, float] = {}

    def add(self, iteration: int, rate: float, part: Mapping[str, Tensor], bar: tqdm) -> dict[str, float]:
        """Write one iteration's losses, scalars by name, and show their running mean; return them."""
        values = {name: value.item() for name, value in part.items()}
        rounded = {name: round(value, 5) for name, value in values.items()}
        self._lines.add({"iteration": iteration, "rate": round(rate, 8), **rounded})
        for name, value in values.items():
            self._mean[name] = self._mean.get(name, value) + (value - self._mean.get(name, value)) / _SHOWN
        bar.set_postfix({name: f"{value:.3f}" for name, value in self._mean.items()}, refresh=False)
        return values


class Lines:
    """A file of JSON objects, one a line, each of an ``iteration``, that goes on where a run goes on."""

    def __init__(self, path: Path, first: int) -> None:
        """What stands there of iteration ``first`` and later is cut off."""
        with naming(path):
            write_whole(path, "".join(f"{line}\n" for line in lines_before(path, first)).encode())
        self._path = path

    def add(self, entry: Mapping[str, float]) -> None:
        """Append one line."""
        with naming(self._path), self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def lines_before(path: Path, first: int) -> list[str]:
    """The lines of a log whose ``iteration`` is below ``first``; none if there is no log.

    What a kill or a full disk left of a line is no line.
    """
    return [line for line, entry in log_lines(path) if entry["iteration"] < first]


def log_lines(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """The whole lines of a log, as they stand there and parsed; none if there is no log.

    Anything else is passed over: half a line, zeros that a power cut left. Where more than the last line is,
    it is said.
    """
    found, lost = [], 0
    lines = path.read_text(errors="replace").split("\n") if path.exists() else [""]
    for line in lines[:-1]:  # after the last line feed nothing is whole
        try:
            entry = json.loads(line)
        except ValueError:
            entry = None
        if isinstance(entry, dict) and isinstance(entry.get("iteration"), int):
            found.append((line, entry))
        else:
            lost += 1
    if lost:
        tqdm.write(f"{path}: {lost} lines are damaged, and are left out")
    return found


class Board(Protocol):
    """What takes the figures of an iteration."""

    def add_scalar(self, tag: str, value: float, step: int) -> object:
        """Note one figure."""


def open_board(folder: Path, first: int) -> Board | None:
    """A writer of events below ``folder``, or None, with a word about it, where tensorboard is missing.

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


def show(board: Board | None, group: str, iteration: int, values: Mapping[str, float]) -> None:
    """Note the figures of an iteration as ``group/name``."""
    if board is not None:
        for name, value in values.items():
            board.add_scalar(f"{group}/{name}", value, iteration)

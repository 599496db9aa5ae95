"""The log of a training run: one JSON object a line, ready to be plotted."""

import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor
from tqdm import tqdm

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
        path.write_text("".join(f"{line}\n" for line in lines_before(path, first)))
        self._path = path

    def add(self, entry: Mapping[str, float]) -> None:
        """Append one line."""
        with self._path.open("a") as file:
            file.write(json.dumps(entry) + "\n")


def lines_before(path: Path, first: int) -> list[str]:
    """The lines of a log whose ``iteration`` is below ``first``; none if there is no log.

    A kill may have left half a line at the end: it is no line.
    """
    text = path.read_text() if path.exists() else ""
    whole = text[: text.rfind("\n") + 1].splitlines()
    return [line for line in whole if json.loads(line)["iteration"] < first]

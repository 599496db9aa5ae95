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
        kept = [line for line in _lines(path) if json.loads(line)["iteration"] < first]
        path.write_text("".join(f"{line}\n" for line in kept))
        self._path = path
        self._mean: dict[str, float] = {}

    def add(self, iteration: int, rate: float, part: Mapping[str, Tensor], bar: tqdm) -> None:
        """Write one iteration's losses, scalars by name, and show their running mean."""
        values = {name: value.item() for name, value in part.items()}
        rounded = {name: round(value, 5) for name, value in values.items()}
        with self._path.open("a") as file:
            file.write(json.dumps({"iteration": iteration, "rate": round(rate, 8), **rounded}) + "\n")
        for name, value in values.items():
            self._mean[name] = self._mean.get(name, value) + (value - self._mean.get(name, value)) / _SHOWN
        bar.set_postfix({name: f"{value:.3f}" for name, value in self._mean.items()}, refresh=False)


def _lines(path: Path) -> list[str]:
    """Whole lines; a kill may have left half of one at the end."""
    text = path.read_text() if path.exists() else ""
    return text[: text.rfind("\n") + 1].splitlines()

"""When to stop, and which weights were best: both by a loss on held-out pictures."""

from collections.abc import Mapping

import torch
from torch import Tensor


class EarlyStop:
    """The weights of the lowest loss so far, and for how many measures there was no lower one.

    With a patience of 0 nothing is kept and nothing stops.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._loss, self._waited = float("inf"), 0
        self._best: dict[str, Tensor] = {}

    @property
    def over(self) -> bool:
        """Whether patience has run out."""
        return 0 < self._patience <= self._waited

    @property
    def best(self) -> Mapping[str, Tensor]:
        """The best weights by name; none without a patience, or before the first measure."""
        return self._best

    def add(self, loss: float, weights: Mapping[str, Tensor]) -> None:
        """Note a measure of these weights. One that is no number is none."""
        if not self._patience:
            return
        self._waited += 1
        if loss < self._loss:
            self._loss, self._waited = loss, 0
            self._best = {name: value.detach().cpu().clone() for name, value in weights.items()}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """What :meth:`restore` takes, for the state file of a run."""
        if not self._best:
            return {}
        figures = {
            "loss": torch.tensor(self._loss, dtype=torch.float64),
            "waited": torch.tensor(self._waited),
        }
        return {"best": self._best, "early_stop": figures}

    def restore(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from a state."""
        if "early_stop" in parts:
            self._best = dict(parts["best"])
            self._loss = float(parts["early_stop"]["loss"])
            self._waited = int(parts["early_stop"]["waited"])

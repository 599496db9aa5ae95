"""The result of a validation, and early stop by it."""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Validation(NamedTuple):
    """Figures of a validation by name, and the loss that early stop goes by (lower is better)."""

    figures: Mapping[str, float]
    loss: float


class EarlyStop:
    """The weights of the lowest validation loss so far, and how many validations had no lower one since.

    With a patience of 0 nothing is kept and nothing stops.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._loss, self._waited = float("inf"), 0
        self._best: dict[str, Tensor] = {}

    @property
    def over(self) -> bool:
        """Whether as many validations as the patience allows had no lower loss."""
        return 0 < self._patience <= self._waited

    @property
    def best(self) -> Mapping[str, Tensor]:
        """The best weights by name; none without a patience, or before the first validation."""
        return self._best

    def add(self, loss: float, weights: Mapping[str, Tensor]) -> None:
        """Take note of the validation loss of these weights. NaN is never lower."""
        if not self._patience:
            return
        self._waited += 1
        if loss < self._loss:
            self._loss, self._waited = loss, 0
            self._best = {name: value.detach().cpu().clone() for name, value in weights.items()}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """Return what :meth:`restore` takes, as parts of a run's state file."""
        if not self._best:
            return {}
        figures = {
            "loss": torch.tensor(self._loss, dtype=torch.float64),
            "waited": torch.tensor(self._waited),
        }
        return {"best": self._best, "early_stop": figures}

    def restore(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take up the parts of a state file; without those of :meth:`state` nothing changes."""
        if "early_stop" in parts:
            self._best = dict(parts["best"])
            self._loss = float(parts["early_stop"]["loss"])
            self._waited = int(parts["early_stop"]["waited"])

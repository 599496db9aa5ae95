"""What a training run carries from one iteration to the next, and how it outlives a kill."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from training.schedule import Keep, average_in
from training.state import load_state, momenta, restore_momenta, save_state

_LARGEST_GRADIENT = 10.0


class Progress:
    """Weights, their running average and SGD's momenta, kept in one state file.

    ``first`` is the iteration to begin or go on with.
    """

    def __init__(
        self,
        path: Path,
        run: str,
        named: Mapping[str, nn.Parameter],
        optimizer: torch.optim.SGD,
        *,
        average: Keep,
    ) -> None:
        """``run`` tells this run's settings from others, ``average`` how the weights are averaged.

        Raises CheckpointError if the file at ``path`` is another run's, or no state at all.
        """
        self._path, self._run = path, run
        self._named, self._optimizer, self._keep = named, optimizer, average
        self._average = {name: value.detach().clone() for name, value in named.items()}
        self.first = self._restore() if path.exists() else 0

    def step(self, loss: Tensor, iteration: int, factor: float) -> None:
        """One step down the gradient of ``loss``, at ``factor`` times the ``rate`` of each group."""
        for group in self._optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self._named.values(), _LARGEST_GRADIENT)
        self._optimizer.step()
        average_in(self._average, self._named, self._keep(iteration))

    def save(self, done: int) -> None:
        """Write the state after ``done`` iterations, whole or not at all."""
        held: dict[str, Mapping[str, Tensor]] = {
            "weights": self._named,
            "average": self._average,
            "momentum": momenta(self._optimizer, self._named),
        }
        save_state(self._path, done, self._run, held)

    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights by name, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self._average.items()}

    def _restore(self) -> int:
        first, parts = load_state(self._path, self._run)
        with torch.no_grad():
            for name, value in self._named.items():
                value.copy_(parts["weights"][name])
                self._average[name].copy_(parts["average"][name])
        restore_momenta(self._optimizer, self._named, parts.get("momentum", {}))
        return first

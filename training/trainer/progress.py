"""What a training run carries from one iteration to the next, and how it outlives a kill."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from training.trainer.optimization import Keep, average_in
from training.trainer.state import load_state, momenta, restore_momenta, save_state

_LARGEST_GRADIENT = 10.0


class Progress:
    """Weights, their running average and SGD's momenta, kept in one state file.

    ``first`` is the iteration to begin or go on with, ``further`` what else was kept in the file.
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
        self.further: dict[str, dict[str, Tensor]] = {}
        self.first = self._restore() if path.exists() else 0

    def step(self, loss: Tensor, iteration: int, factor: float) -> None:
        """One step down the gradient of ``loss``, at ``factor`` times the ``rate`` of each group."""
        self.clear()
        loss.backward()
        self.advance(iteration, factor)

    def clear(self) -> None:
        """Forget the gradients of the last step."""
        self._optimizer.zero_grad(set_to_none=True)

    def advance(self, iteration: int, factor: float) -> None:
        """One step down the gradients that were gathered since :meth:`clear`."""
        for group in self._optimizer.param_groups:
            group["lr"] = group["rate"] * factor
        nn.utils.clip_grad_norm_(self._named.values(), _LARGEST_GRADIENT)
        self._optimizer.step()
        average_in(self._average, self._named, self._keep(iteration))

    def save(self, done: int, further: Mapping[str, Mapping[str, Tensor]] | None = None) -> None:
        """Write the state after ``done`` iterations, whole or not at all.

        ``further`` are tensors to keep besides, by part and name.
        """
        held: dict[str, Mapping[str, Tensor]] = {
            "weights": self._named,
            "average": self._average,
            "momentum": momenta(self._optimizer, self._named),
        }
        save_state(self._path, done, self._run, {**held, **(further or {})})

    @property
    def average(self) -> Mapping[str, Tensor]:
        """The averaged weights by name, where they are; not to be changed."""
        return self._average

    def averaged(self) -> dict[str, Tensor]:
        """The averaged weights by name, on the CPU."""
        return {name: value.detach().cpu().clone() for name, value in self._average.items()}

    def _restore(self) -> int:
        first, parts = load_state(self._path, self._run)
        with torch.no_grad():
            for name, value in self._named.items():
                value.copy_(parts["weights"][name])
                self._average[name].copy_(parts["average"][name])
        restore_momenta(self._optimizer, self._named, parts.pop("momentum", {}))
        self.further = {name: part for name, part in parts.items() if name not in ("weights", "average")}
        return first

"""The training loop that all tasks share.

A task says what is trained on what; the trainer runs the iterations: optimizer, schedule, averaging, state,
log, several processes, early stop. Every iteration depends on its number, the seed and the weights alone, so
a run that was killed and resumed has the weights of an undisturbed one.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from detector.errors import DatasetError, ParameterError
from training.trainer.distributed import ProcessGroup
from training.trainer.early_stop import EarlyStop, Validation
from training.trainer.optimization import RateSchedule, TrainingSettings, averaged_model
from training.trainer.optimizer import make_optimizer, optimizer_state, restore_optimizer_state
from training.trainer.run_log import RunLog
from training.trainer.run_state import load_state, save_state

STATE = "state.safetensors"
"""What the state is called in a run's folder."""

_LARGEST_GRADIENT = 10.0
"""Longer gradients are shortened to this norm."""


M = TypeVar("M")
P = TypeVar("P")


class Losses(Protocol):
    """A NamedTuple of scalars: ``total``, whose gradient is followed, first, then its parts."""

    @property
    def total(self) -> Tensor:
        """The weighted sum of the parts."""

    def _asdict(self) -> dict[str, Any]: ...


class Task(Protocol[M, P]):
    """What one kind of training is made of; M is a minibatch, P a piece of one."""

    @property
    def module(self) -> nn.Module:
        """What is trained: its parameters with ``requires_grad``."""

    @property
    def schedule(self) -> RateSchedule:
        """The number of iterations, and the course of the rate over them."""

    @property
    def validation_interval(self) -> int:
        """Iterations from one validation to the next; the last iteration is validated as well."""

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the optimizer's groups: ``params``, and ``lr`` at the schedule's factor 1."""

    def digest(self) -> bytes:
        """Return a digest of the data and of the weights at the start: other ones are another run."""

    def minibatches(self, first: int, last: int) -> Iterator[M]:
        """Yield this process' share of the minibatches ``first`` to before ``last``, in order."""

    def pieces(self, minibatch: M) -> Sequence[P]:
        """Split a minibatch into the pieces that are run one after the other, to save memory."""

    def losses(self, module: nn.Module, piece: P) -> Losses:
        """Run ``module`` (:attr:`module`, or what shares it among processes) on a piece.

        The losses of all pieces of all processes sum up to those of the whole minibatch.
        """

    def validate(self, done: int, averaged: nn.Module) -> Validation | None:
        """Measure the averaged module, in evaluation mode, after ``done`` iterations; None without data.

        Every process calls it; the first one may write files.
        """


class Trainer(Generic[M, P]):
    """One run of a task, with its state in ``output``."""

    def __init__(
        self,
        task: Task[M, P],
        settings: TrainingSettings,
        output: Path,
        *,
        device: torch.device,
        world: ProcessGroup,
    ) -> None:
        """Put the module on the device, and resume from ``output/STATE`` where it exists.

        Raises CheckpointError if the state belongs to another run, DatasetError if the processes read
        different data.
        """
        self._task, self._settings, self._output = task, settings, output
        self._device, self._world = device, world
        module = task.module.to(device).train()
        self._weights = {name: value for name, value in module.named_parameters() if value.requires_grad}
        self._run = hashlib.sha256(repr(settings).encode() + task.digest()).hexdigest()[:16]
        if not world.agree(self._run):
            raise DatasetError(
                "the processes do not read the same data: an image changed, or a machine lacks a disk. Give "
                "the same command again"
            )
        groups = [{**group, "initial_lr": group["lr"]} for group in task.parameter_groups()]
        self._optimizer = make_optimizer(settings.optimizer, groups, settings.momentum, settings.weight_decay)
        self._averaged = averaged_model(module, settings, task.schedule.iterations)
        self._averaged.module.eval()
        self._early_stop = EarlyStop(settings.patience)
        self._first = self._resume() if (output / STATE).exists() else 0
        self._rates = LambdaLR(self._optimizer, task.schedule, last_epoch=self._first - 1)
        self._shared: nn.Module = module
        if world.size > 1:
            ids = [device.index] if device.type == "cuda" else None
            self._shared = DistributedDataParallel(module, device_ids=ids, broadcast_buffers=False)

    def run(self) -> dict[str, Tensor]:
        """Run the iterations that are left; return the trained weights that are the result, by name, on the
        CPU.

        Raises ParameterError if the loss grows beyond all numbers.
        """
        task, world, first = self._task, self._world, self._first
        iterations = task.schedule.iterations
        log = RunLog(self._output, first) if world.first else None
        bar = tqdm(
            task.minibatches(first, first if self._early_stop.over else iterations),
            desc="training",
            initial=first,
            total=iterations,
            disable=not world.first,
        )
        for iteration, minibatch in enumerate(bar, start=first):
            rate = self._optimizer.param_groups[0]["lr"]
            losses = self._step(minibatch, iteration)
            if log is not None:
                log.add(iteration, rate, losses, bar)
            done = iteration + 1
            validated = done % task.validation_interval == 0 or done == iterations
            if validated and (validation := task.validate(done, self._averaged.module)) is not None:
                self._early_stop.add(validation.loss, self._averages())
                if log is not None:
                    log.add_validation(iteration, validation.figures)
            if world.first and (validated or done % self._settings.save_every == 0):
                self._save(done)
            if self._early_stop.over:
                break
        result = self._early_stop.best or self._averages()
        return {name: value.detach().cpu().clone() for name, value in result.items()}

    def _step(self, minibatch: M, iteration: int) -> dict[str, float]:
        """Follow the gradient of a minibatch, gathered over pieces and processes; return its losses."""
        world = self._world
        # Dropout is a function of the seed, the iteration and the process.
        torch.manual_seed(((self._settings.seed * 1_000_003 + iteration) * 1009 + world.rank) % 2**63)
        self._optimizer.zero_grad(set_to_none=True)
        pieces = self._task.pieces(minibatch)
        sums: dict[str, Tensor] = {}
        for number, piece in enumerate(pieces, start=1):
            is_shared = isinstance(self._shared, DistributedDataParallel)
            exchanges_later = is_shared and number < len(pieces)
            with self._shared.no_sync() if exchanges_later else nullcontext():  # type: ignore[operator]
                losses = self._task.losses(self._shared, piece)
                (losses.total * world.size).backward()  # DDP takes the mean of the processes' gradients
            for name, value in losses._asdict().items():
                sums[name] = sums.get(name, torch.zeros_like(value)) + value.detach()
        values = world.total(torch.stack(list(sums.values()))).tolist()
        totals = dict(zip(sums, values, strict=True))
        if not torch.isfinite(torch.tensor(totals["total"])):
            raise ParameterError(f"the loss is no number any more in iteration {iteration}: lower the rates")
        nn.utils.clip_grad_norm_(self._weights.values(), _LARGEST_GRADIENT)
        self._optimizer.step()
        self._rates.step()
        self._averaged.update_parameters(self._task.module)
        return totals

    def _averages(self) -> dict[str, Tensor]:
        """Return the averages of the trained weights by name."""
        averages = dict(self._averaged.module.named_parameters())
        return {name: averages[name] for name in self._weights}

    def _save(self, done: int) -> None:
        parts: dict[str, Mapping[str, Tensor]] = {
            "weights": self._weights,
            "average": self._averages(),
            **optimizer_state(self._optimizer, self._weights),
            **self._early_stop.state(),
        }
        save_state(self._output / STATE, done, self._run, parts)

    def _resume(self) -> int:
        """Restore the state and return the iteration to go on with."""
        first, parts = load_state(self._output / STATE, self._run)
        averages = self._averages()
        with torch.no_grad():
            for name, value in self._weights.items():
                value.copy_(parts["weights"][name])
                averages[name].copy_(parts["average"][name])
        self._averaged.n_averaged.fill_(first + 1)
        restore_optimizer_state(self._optimizer, self._weights, parts)
        self._early_stop.restore(parts)
        return first

"""The learning rate over a run, which average of the weights is the result, and the settings of both."""

import math
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from detector.cli.command_line import at_least
from detector.errors import ParameterError
from training.trainer.optimizer import OptimizerKind

ANY = (0.0, sys.float_info.max)
"""Range of every finite number that is not negative."""

SHARE = (0.0, 1.0)

RATE = (0.0, 1000.0)
"""Range of learning rates: far beyond what any run survives, and far from where weights overflow at once."""

SEED = (0, 2**62)


class Decay(StrEnum):
    """How the rate falls: a half cosine down to zero, the paper's 4 % every 8 epochs, or not at all."""

    COSINE = "cosine"
    PAPER = "paper"
    CONSTANT = "constant"


class Averaging(StrEnum):
    """Which average of the weights is the result of a run."""

    EMA = "ema"
    POLYAK = "polyak"
    NONE = "none"


@dataclass(frozen=True)
class TrainingSettings:
    """Settings that every training has; a recipe adds those of its task and its own defaults.

    They are options of the commands: the text below a field is its help.
    """

    optimizer: OptimizerKind = OptimizerKind.SGD
    """How weights follow the gradient: sgd, or adamw, whose rates are some twenty times smaller."""
    rate: float = 0.01
    """Learning rate."""
    warmup: Annotated[int, at_least(0)] = 100
    """Iterations over which the rate rises."""
    decay: Decay = Decay.COSINE
    """How rates fall: cosine, paper (-4 % every 8 epochs) or constant."""
    momentum: float = 0.9
    """Share of the gradients before that a step keeps."""
    weight_decay: float = 5e-4
    """Weight decay: of the gradient with sgd, of the weights with adamw."""
    averaging: Averaging = Averaging.EMA
    """What the result is: ema (running average), polyak (mean from --average-from on) or none (the last)."""
    ema_decay: float = 0.998
    """Share of the running average that each iteration keeps."""
    average_from: float = 0.5
    """Share of the run after which the mean of polyak begins."""
    patience: Annotated[int, at_least(0)] = 0
    """Stop after so many validations without a better one, and take the best weights; 0 never does."""
    save_every: Annotated[int, at_least(1)] = 250
    """Iterations between saved states; the state is saved after each validation, too."""
    seed: int = 0
    """One seed, one result."""

    def __post_init__(self) -> None:
        """Raises ParameterError for a setting outside its range."""
        check_ranges(self, rate=RATE, patience=ANY, seed=SEED)


def check_ranges(settings: object, **ranges: tuple[float, float]) -> None:
    """Compare attributes of ``settings``, by name, with the least and the largest value that they may have.

    Raises ParameterError for one that is outside, or no number at all (NaN).
    """
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            wanted = "a finite number, 0 or more" if (low, high) == ANY else f"in {low} to {high}"
            raise ParameterError(f"{name.replace('_', '-')} must be {wanted}, got {value}")


@dataclass(frozen=True)
class RateSchedule:
    """The learning rate's factor at each iteration: a linear warm-up, then the decay.

    ``epoch_length`` is how many iterations see each image once, which the paper's decay goes by (GoogLeNet,
    arXiv 1409.4842, section 6). The factor is a closed formula of the iteration, so that a resumed run has
    the same rates to the bit.
    """

    iterations: int
    warmup: int
    decay: Decay = Decay.COSINE
    epoch_length: int = 1

    def __call__(self, iteration: int) -> float:
        """Return the factor of an iteration, counted from 0."""
        if iteration < self.warmup:
            return (iteration + 1) / self.warmup
        if self.decay is Decay.CONSTANT:
            return 1.0
        if self.decay is Decay.PAPER:
            return 0.96 ** (iteration // (8 * self.epoch_length))
        done = (iteration - self.warmup) / max(self.iterations - self.warmup, 1)
        return 0.5 * (1 + math.cos(math.pi * done))


def averaged_model(module: nn.Module, settings: TrainingSettings, iterations: int) -> AveragedModel:
    """Copy a module into one whose ``update_parameters`` averages the weights after each iteration.

    The running average keeps less than ``ema_decay`` while there is little to average.
    """
    first = round(settings.average_from * iterations)

    def kept_share(iteration: int) -> float:
        if settings.averaging is Averaging.EMA:
            return min(settings.ema_decay, (1 + iteration) / (10 + iteration))
        if settings.averaging is Averaging.POLYAK:
            return max(iteration - first, 0) / (max(iteration - first, 0) + 1)
        return 0.0

    def update(averages: Any, weights: Any, count: Tensor | int) -> None:
        for average, weight in zip(averages, weights, strict=True):
            average.lerp_(weight, 1 - kept_share(int(count) - 1))

    averaged = AveragedModel(module, multi_avg_fn=torch.no_grad()(update))
    averaged.n_averaged += 1  # the copy counts as the first: else the first update would replace it
    return averaged

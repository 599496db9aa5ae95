"""SGD's learning rate over a run, which average of the weights is the result, and the settings of both."""

import math
import sys
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from detector.errors import ParameterError

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

    SGD with ``momentum`` and ``weight_decay``; ``rate`` rises over ``warmup`` iterations and falls as
    ``decay`` says. ``averaging``: ``ema`` keeps ``ema_decay`` of a running average at every iteration,
    ``polyak`` is the plain mean of the weights from ``average_from``, a share of the run, on; ``none`` takes
    the last weights. With a ``patience`` the weights of the lowest validation loss are the result, and the
    run ends after so many validations without a lower one; 0 runs to the end and takes the last. The state is
    saved every ``save_every`` iterations and after each validation.
    """

    rate: float = 0.01
    warmup: int = 100
    decay: Decay = Decay.COSINE
    momentum: float = 0.9
    weight_decay: float = 5e-4
    averaging: Averaging = Averaging.EMA
    ema_decay: float = 0.998
    average_from: float = 0.5
    patience: int = 0
    save_every: int = 250
    seed: int = 0

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

"""Settings of a run that are numbers: what they may be, said before anything is computed.

How the rate runs over a training, and the average of its weights.
"""

import math
import sys
from collections.abc import Callable, Mapping
from enum import StrEnum

import torch
from torch import Tensor

from detector.errors import ParameterError

ANY = (0.0, sys.float_info.max)
"""Every finite number that is not negative."""

SHARE = (0.0, 1.0)

RATE = (0.0, 1000.0)
"""Of learning; far beyond what any run survives, and far from where weights overflow at once."""

SEED = (0, 2**62)


def check_ranges(settings: object, **ranges: tuple[float, float]) -> None:
    """Hold attributes of ``settings``, by name, against the least and the largest value that they may have.

    Raises ParameterError for one that is outside, or no number at all (NaN).
    """
    for name, (low, high) in ranges.items():
        value = getattr(settings, name)
        if not low <= value <= high:
            wanted = "a finite number, 0 or more" if (low, high) == ANY else f"in {low} to {high}"
            raise ParameterError(f"{name.replace('_', '-')} must be {wanted}, got {value}")


Keep = Callable[[int], float]
"""How much of the running average stays at an iteration; the weights after it make up the rest."""


class Decay(StrEnum):
    """How the rate falls: a half cosine down to zero, the paper's 4 % every 8 epochs, or not at all."""

    COSINE = "cosine"
    PAPER = "paper"
    CONSTANT = "constant"


def schedule(
    iteration: int, iterations: int, warmup: int, decay: Decay = Decay.COSINE, *, an_epoch: int = 1
) -> float:
    """The learning rate's factor: a linear warm-up, then the decay.

    ``an_epoch`` is how many iterations see each picture once, which the paper's decay goes by (GoogLeNet,
    arXiv 1409.4842, section 6).
    """
    if iteration < warmup:
        return (iteration + 1) / warmup
    if decay is Decay.CONSTANT:
        return 1.0
    if decay is Decay.PAPER:
        return 0.96 ** (iteration // (8 * an_epoch))
    done = (iteration - warmup) / max(iterations - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * done))


def exponential(keep: float) -> Keep:
    """A running average that keeps ``keep`` of itself, or less while there is little to average."""
    return lambda iteration: min(keep, (1 + iteration) / (10 + iteration))


def uniform(first: int) -> Keep:
    """The plain mean of the weights from iteration ``first`` on (Polyak averaging); before, the weights."""
    return lambda iteration: max(iteration - first, 0) / (max(iteration - first, 0) + 1)


def none(iteration: int) -> float:
    """No average: the weights as they are."""
    return 0.0


@torch.no_grad()
def average_in(average: Mapping[str, Tensor], named: Mapping[str, Tensor], keep: float) -> None:
    """Move the average towards the weights, by ``1 - keep``."""
    for name, value in named.items():
        average[name].lerp_(value, 1 - keep)

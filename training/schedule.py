"""How the rate runs over a training, and the average of its weights."""

import math
from collections.abc import Mapping

import torch
from torch import Tensor


def schedule(iteration: int, iterations: int, warmup: int) -> float:
    """The learning rate's factor: a linear warm-up, then a half cosine down to zero."""
    if iteration < warmup:
        return (iteration + 1) / warmup
    done = (iteration - warmup) / max(iterations - warmup, 1)
    return 0.5 * (1 + math.cos(math.pi * done))


@torch.no_grad()
def average_in(
    average: Mapping[str, Tensor], named: Mapping[str, Tensor], keep: float, iteration: int
) -> None:
    """Move the average towards the weights, by ``1 - keep``, or by more while there is little to average."""
    keep = min(keep, (1 + iteration) / (10 + iteration))
    for name, value in named.items():
        average[name].lerp_(value, 1 - keep)

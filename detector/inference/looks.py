"""The way of a picture as steps that others may drive.

Whenever a step needs a network it yields a :class:`Look`, and is sent what the network says of it. Who drives
the steps decides when a look is run and in whose company: :func:`complete` runs each at once, a service puts
rows of many pictures into one batch. Letters for shapes: R rows, S the side of a crop.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from detector.inference.engine import Engine

T = TypeVar("T")

Crops = Callable[[int, int], Tensor]
"""From a first and a last row (left out) to their crops [n,3,S,S], float32, on the engine's device."""


@dataclass(frozen=True)
class Look:
    """Some ``rows`` of crops that an engine is to run; they are made when their turn comes."""

    engine: Engine
    rows: int
    crops: Crops


Said = tuple[Tensor, ...]
"""What an engine says of a look: tensors of R rows, on the CPU."""

Steps = Generator[Look, Said, T]
"""Steps to a T."""


def complete(steps: Steps[T]) -> T:
    """Take all steps, running each look at once and alone."""
    try:
        look = next(steps)
        while True:
            look = steps.send(run(look))
    except StopIteration as end:
        return end.value


@torch.inference_mode()
def run(look: Look) -> Said:
    """All rows of a look, in batches of its engine's size, whose crops are made when their turn comes."""
    batch = look.engine.batch
    running = [
        look.engine.start(look.crops(first, min(first + batch, look.rows)))
        for first in range(0, look.rows or 1, batch)
    ]
    return tuple(torch.cat(column) for column in zip(*(one.finish() for one in running), strict=True))


def with_mirrored(crops: Crops, rows: int) -> Crops:
    """The crops of twice as many rows: each, and then each turned left to right."""

    def both(first: int, last: int) -> Tensor:
        plain = crops(min(first, rows), min(last, rows))
        mirrored = crops(max(first - rows, 0), max(last - rows, 0)).flip(3)
        if not len(mirrored):
            return plain
        return mirrored if not len(plain) else torch.cat([plain, mirrored])

    return both

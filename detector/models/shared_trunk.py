"""The trunks of several networks as one: what they have in common runs once.

Letters for shapes: M members, R rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detector.errors import ParameterError
from detector.models.backbone import LAST_STAGES


class SharedTrunk(nn.Module):
    """The trunks of several networks; the first stages that are the same in all of them run once.

    Crops [R,3,224,224] -> the members' maps one after the other, [M*R,1024,7,7]; with ``cells`` these as
    ``maps``, and as ``cells`` those that the last two stages read, [M*R,832,7,7]. Raises ParameterError where
    these are asked of trunks that begin after them.
    """

    def __init__(self, trunks: Sequence[nn.Sequential], *, cells: bool = False) -> None:
        super().__init__()
        if cells and any(len(trunk) < LAST_STAGES for trunk in trunks):
            raise ParameterError(
                "the location head reads the maps before the last two stages: begin with an earlier one"
            )
        count = count_shared_stages(trunks)
        self.shared = trunks[0][:count]
        self.tails = nn.ModuleList(trunk[count:] for trunk in trunks)
        self.cells = cells

    def forward(self, crops: Tensor) -> Tensor | dict[str, Tensor]:
        if not self.cells:
            begun = self.shared(crops)
            return _joined([tail(begun) for tail in self.tails])
        parts = []
        for tail in self.tails:
            assert isinstance(tail, nn.Sequential)
            parts.append(len(self.shared) + len(tail) - LAST_STAGES)
        begun, early = _run(self.shared, crops, parts[0])
        runs = [
            _run(tail, begun, first - len(self.shared))  # type: ignore[arg-type]
            for tail, first in zip(self.tails, parts, strict=True)
        ]
        return {
            "maps": _joined([maps for maps, _ in runs]),
            "cells": _joined([early if cells is None else cells for _, cells in runs]),  # type: ignore[misc]
        }


def _run(stages: nn.Sequential, x: Tensor, number: int) -> tuple[Tensor, Tensor | None]:
    """Run stages -> the last maps, and what stage ``number`` reads, None if it is none of them."""
    read = None
    for index, stage in enumerate(stages):
        if index == number:
            read = x
        x = stage(x)
    return x, read


def _joined(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts))


def count_shared_stages(trunks: Sequence[nn.Sequential]) -> int:
    """Return how many of the first stages are the same in all trunks, weight by weight."""
    count = 0
    for stages in zip(*(trunk.named_children() for trunk in trunks), strict=False):
        if not all(_same(stages[0], stage) for stage in stages[1:]):
            break
        count += 1
    return count


def _same(a: tuple[str, nn.Module], b: tuple[str, nn.Module]) -> bool:
    (name_a, stage_a), (name_b, stage_b) = a, b
    if stage_a is stage_b:
        return True
    state_a, state_b = stage_a.state_dict(), stage_b.state_dict()
    return (
        name_a == name_b
        and type(stage_a) is type(stage_b)
        and state_a.keys() == state_b.keys()
        and all(torch.equal(state_a[key], state_b[key]) for key in state_a)
    )

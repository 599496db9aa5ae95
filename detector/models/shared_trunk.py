"""The trunks of several networks as one: what they have in common runs once.

Letters for shapes: M members, R rows.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class SharedTrunk(nn.Module):
    """The trunks of several networks; the first stages that are the same in all of them run once.

    Crops [R,3,224,224] -> the members' maps one after the other, [M*R,1024,7,7].
    """

    def __init__(self, trunks: Sequence[nn.Sequential]) -> None:
        super().__init__()
        count = count_shared_stages(trunks)
        self.shared = trunks[0][:count]
        self.tails = nn.ModuleList(trunk[count:] for trunk in trunks)

    def forward(self, crops: Tensor) -> Tensor:
        maps = self.shared(crops)
        if len(self.tails) == 1:
            return self.tails[0](maps)
        return torch.cat([tail(maps) for tail in self.tails])


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

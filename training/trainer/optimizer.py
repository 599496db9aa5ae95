"""How weights follow the gradient: SGD or AdamW, and their state by the weights' names.

SGD's steps go by the gradient's length, AdamW's (Loshchilov and Hutter, arXiv 1711.05101) are about as long
as the rate in every weight, so that its rates are other ones.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any

import torch
from torch import Tensor, nn

_SQUARES_KEPT = 0.99
"""Share of AdamW's running mean of squared gradients that a step keeps: runs are some hundred steps long."""
_PART = "optimizer."


class OptimizerKind(StrEnum):
    """How weights follow the gradient."""

    SGD = "sgd"
    ADAMW = "adamw"


def make_optimizer(
    kind: OptimizerKind, groups: Iterable[dict[str, Any]], momentum: float, weight_decay: float
) -> torch.optim.Optimizer:
    """Make the optimizer of groups of parameters, each with its ``lr``.

    ``momentum`` is the share of the running mean of gradients that a step keeps. ``weight_decay`` is SGD's
    way, a part of the gradient, or AdamW's, a share of the rate by which weights shrink.
    """
    if kind is OptimizerKind.ADAMW:
        return torch.optim.AdamW(groups, betas=(momentum, _SQUARES_KEPT), weight_decay=weight_decay)
    return torch.optim.SGD(groups, momentum=momentum, weight_decay=weight_decay)


def optimizer_state(
    optimizer: torch.optim.Optimizer, named: Mapping[str, nn.Parameter]
) -> dict[str, dict[str, Tensor]]:
    """Return the optimizer's tensors as parts of a run's state file: what they are, then whose they are.

    Before the first step there are none.
    """
    parts: dict[str, dict[str, Tensor]] = {}
    for name, parameter in named.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor):
                parts.setdefault(_PART + key, {})[name] = value
    return parts


def restore_optimizer_state(
    optimizer: torch.optim.Optimizer,
    named: Mapping[str, nn.Parameter],
    parts: Mapping[str, Mapping[str, Tensor]],
) -> None:
    """Take up the parts of a state file that :func:`optimizer_state` returned; the others are not read."""
    for part, values in parts.items():
        if not part.startswith(_PART):
            continue
        for name, value in values.items():
            parameter = named[name]
            # A count of steps stays on the CPU, where AdamW keeps it.
            placed = value if value.dim() == 0 else value.to(parameter.device)
            optimizer.state[parameter][part.removeprefix(_PART)] = placed

"""How long each member of an ensemble takes for what it shares with no other."""

import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import torch
from torch import nn


class TailClock:
    """While it is entered, sums up the seconds that each of some modules runs.

    Modules on an accelerator are waited for at both ends: their time is theirs alone, at some cost in speed.
    """

    def __init__(self, tails: Sequence[nn.Module]) -> None:
        self.seconds = [0.0] * len(tails)
        self._tails = tails
        self._started = 0.0
        self._hooks = ExitStack()

    def __enter__(self) -> "TailClock":
        for index, tail in enumerate(self._tails):
            self._hooks.enter_context(tail.register_forward_pre_hook(self._start))
            self._hooks.enter_context(tail.register_forward_hook(partial(self._stop, index)))
        return self

    def __exit__(self, *_: object) -> None:
        self._hooks.close()

    def _start(self, _: nn.Module, inputs: Any) -> None:
        _wait_for(inputs[0])
        self._started = time.perf_counter()

    def _stop(self, index: int, _: nn.Module, inputs: Any, maps: torch.Tensor) -> None:
        _wait_for(maps)
        self.seconds[index] += time.perf_counter() - self._started


def _wait_for(maps: torch.Tensor) -> None:
    if maps.is_cuda:
        torch.cuda.synchronize(maps.device)

"""Several processes of one training as threads of a test: sums over them are made as processes make them."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from training.trainer.distributed import ProcessGroup

T = TypeVar("T")


class _Meeting:
    """Where the threads wait for each other to sum up."""

    def __init__(self, size: int) -> None:
        self._barrier = threading.Barrier(size, timeout=60)
        self._values: list[Tensor] = [torch.empty(0)] * size

    def total(self, rank: int, values: Tensor) -> Tensor:
        self._values[rank] = values.detach().clone()
        self._barrier.wait()
        total = torch.stack(self._values).sum(dim=0)
        self._barrier.wait()
        return total

    def abort(self) -> None:
        self._barrier.abort()


@dataclass(frozen=True, eq=False)
class _Member(ProcessGroup):
    meeting: _Meeting | None = None

    def total(self, values: Tensor) -> Tensor:
        assert self.meeting is not None
        return self.meeting.total(self.rank, values)


def run_together(size: int, work: Callable[[ProcessGroup], T]) -> list[T]:
    """Do the work of each of ``size`` processes; return what each gives. One that fails ends all."""
    meeting = _Meeting(size)

    def share(rank: int) -> T:
        try:
            return work(_Member(rank, size, meeting=meeting))
        except BaseException:
            meeting.abort()
            raise

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(share, range(size)))

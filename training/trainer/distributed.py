"""Several processes that train one network, as ``torchrun`` starts them.

Each takes its share of every minibatch. What is summed over the processes is the same number in all of them,
so they stay alike without a word more. Only the first writes files.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from detector.errors import ParameterError
from detector.inference.engine import choose_device

_PATIENCE = timedelta(days=2)
"""How long a process waits while the first one proposes boxes of a large set and fills the cache."""


@dataclass(frozen=True)
class World:
    """This process among ``size``; on its own where nobody started others."""

    rank: int = 0
    size: int = 1
    waiting: dist.ProcessGroup | None = None

    @property
    def first(self) -> bool:
        """Whether it is this one that writes files and shows progress."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """The sum of ``values`` over all processes, the same in each."""
        if self.size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values

    def agree(self, value: str) -> bool:
        """Whether all processes have the same text: each reads the data for itself."""
        if self.size == 1:
            return True
        found = [""] * self.size
        dist.all_gather_object(found, value, group=self.waiting)
        return len(set(found)) == 1

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """The block runs in the first process before it runs in the others, which find its files."""
        if not self.first:
            self._wait()
        yield
        if self.first:
            self._wait()

    def _wait(self) -> None:
        if self.waiting is not None:
            dist.barrier(group=self.waiting)


def join_world(device: str) -> tuple[World, torch.device]:
    """This process' place and its device, from what torchrun says in the environment.

    With CUDA each process of a machine takes the device of its number (NCCL), else the CPU (gloo). Raises
    ParameterError if there are more processes than devices, or if one device is named for all of them.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World(), choose_device(device)
    local = int(os.environ["LOCAL_RANK"])
    if device.startswith("cuda:"):
        raise ParameterError(f"--device {device} names one device for {size} processes; use 'cuda' or 'auto'")
    chosen = choose_device(device)
    if chosen.type == "cuda":
        if local >= torch.cuda.device_count():
            raise ParameterError(
                f"process {local} of this machine has no CUDA device: there are {torch.cuda.device_count()}; "
                "start as many with --nproc-per-node, or give --device cpu"
            )
        chosen = torch.device("cuda", local)
        torch.cuda.set_device(chosen)
    if not dist.is_initialized():
        _meet("nccl" if chosen.type == "cuda" else "gloo")
    # A group of its own: it may wait for hours, while the others' timeout tells a lost process soon.
    waiting = dist.new_group(backend="gloo", timeout=_PATIENCE)
    assert not isinstance(waiting, int)  # which it is where a process stays outside the group
    return World(dist.get_rank(), size, waiting), chosen


def _meet(backend: str) -> None:
    """Join the others that torchrun started at the same time.

    After a restart the store still holds the addresses of the processes before, and whoever comes first would
    call those: each start has keys of its own.
    """
    store, rank, size = next(rendezvous("env://"))
    start = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    own = dist.PrefixStore(f"start-{start}-of-{size}", store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=own, rank=rank, world_size=size)


def leave_world() -> None:
    """Say goodbye to the others, if there are any."""
    if dist.is_initialized():
        dist.destroy_process_group()

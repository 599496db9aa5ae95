"""Several processes that train one network, as ``torchrun`` starts them.

Each takes its share of every minibatch. Sums over the processes are the same in all of them, and so are the
weights. Only the first process writes files.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from time import monotonic, sleep
from uuid import uuid4

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from detector.errors import ParameterError
from detector.inference.torch_engine import choose_device

_PATIENCE = timedelta(days=2)
"""How long a process waits for the first one, which proposes boxes for a large set and fills the cache."""

_MEETING_SECONDS = 600
"""How long a process waits for the first one to start."""


@dataclass(frozen=True)
class ProcessGroup:
    """This process, number ``rank`` of ``size``; by default the only one."""

    rank: int = 0
    size: int = 1
    waiting: dist.ProcessGroup | None = None

    def __deepcopy__(self, memo: object) -> "ProcessGroup":
        return self  # it cannot be copied, and a copy of a module is in the same process

    @property
    def first(self) -> bool:
        """Whether this process writes files and shows progress."""
        return self.rank == 0

    def total(self, values: Tensor) -> Tensor:
        """Return the sum of ``values`` over all processes, the same in each."""
        if self.size == 1:
            return values
        values = values.clone()
        dist.all_reduce(values)
        return values

    def agree(self, value: str) -> bool:
        """Tell whether all processes have the same text."""
        if self.size == 1:
            return True
        texts = [""] * self.size
        dist.all_gather_object(texts, value, group=self.waiting)
        return len(set(texts)) == 1

    @contextmanager
    def first_alone(self) -> Iterator[None]:
        """Run the block in the first process before the others, which then find its files."""
        if not self.first:
            self._wait()
        yield
        if self.first:
            self._wait()

    def _wait(self) -> None:
        if self.waiting is not None:
            dist.barrier(group=self.waiting)


def join_world(device: str) -> tuple[ProcessGroup, torch.device]:
    """Join the processes that torchrun started; return this one's place and device.

    With CUDA each process of a machine takes the device of its number (NCCL), else the CPU (gloo). Raises
    ParameterError if there are more processes than devices, or if one device is named for all of them.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return ProcessGroup(), choose_device(device)
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
        _initialise("nccl" if chosen.type == "cuda" else "gloo")
    # A separate group, which may wait for hours; the short timeout of the default one detects lost processes.
    waiting = dist.new_group(backend="gloo", timeout=_PATIENCE)
    assert not isinstance(waiting, int)  # it would be for a process outside the group
    return ProcessGroup(dist.get_rank(), size, waiting), chosen


def _initialise(backend: str) -> None:
    """Initialise the process group.

    After a restart the store may still hold the addresses of the ended processes, so each start has its own
    prefix for keys.
    """
    store, rank, size = next(rendezvous("env://"))
    prefixed = dist.PrefixStore(_meet(store, rank, size), store)  # type: ignore[attr-defined]
    dist.init_process_group(backend, store=prefixed, rank=rank, world_size=size)


def _meet(store: Store, rank: int, size: int) -> str:
    """Return a name that all processes of this start have, and those of no other start.

    torchrun tells each process how often it was restarted, but the agents of several machines count apart: a
    restart that another machine asks for counts for that one alone. So the first process names the start,
    each other one joins it by a mark of its own, and goes on once the first has seen that very mark: what is
    left of an earlier start knows other marks. Raises TimeoutError if the others do not come.
    """
    own = uuid4().hex
    if rank == 0:
        store.set("start", own)
        marks = [store.get(f"{own}/{other}").decode() for other in range(1, size)]  # waits for each
        store.set(f"{own}/seen", " ".join(marks))
        return own
    deadline = monotonic() + _MEETING_SECONDS
    while monotonic() < deadline:
        name = store.get("start").decode()
        store.set(f"{name}/{rank}", own)
        if store.check([f"{name}/seen"]) and own in store.get(f"{name}/seen").decode().split():
            return name
        sleep(0.05)
    raise TimeoutError(f"process {rank} of {size} waited {_MEETING_SECONDS} seconds for the first one")


def leave_world() -> None:
    """Destroy the process group, if there is one."""
    if dist.is_initialized():
        dist.destroy_process_group()

"""A device's place for one worker, and the states it goes through.

    STARTING --ready--> READY --weights to be switched--> SWITCHING --all successors ready--> READY
    READY, SWITCHING --lost--> LOST, or STARTING at once --time for another try--> STARTING
    STARTING --failed--> LOST; SWITCHING --a successor failed--> READY with the old weights

:class:`api.frontend.supervisor.Supervisor` decides when; this knows what each step does to one device.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from time import monotonic

from api.frontend.worker_client import WorkerClient, WorkerState
from api.frontend.worker_subprocess import WorkerFailed
from api.protocol.model_info import ModelInfo

logger = logging.getLogger("api.frontend.supervisor")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_STEADY = 60.0  # seconds after which the loss of a worker has nothing to do with the loss before


class State(Enum):
    """Where a device stands."""

    STARTING = auto()
    READY = auto()
    SWITCHING = auto()
    LOST = auto()


@dataclass
class DeviceSlot:
    """One worker, beside which a successor starts and predecessors finish."""

    number: int
    device: str
    current: WorkerClient | None = None
    successor: WorkerClient | None = None
    leaving: list[WorkerClient] = field(default_factory=list)
    losses: int = 0  # in a row, failed starts included
    next_try: float = 0.0
    complaint: str = ""  # logged last
    weights: str = ""  # of the worker that was ready last

    @property
    def state(self) -> State:
        """The device's state."""
        if self.successor is not None:
            return State.STARTING if self.current is None else State.SWITCHING
        return State.LOST if self.current is None else State.READY

    @property
    def successor_ready(self) -> bool:
        """Whether a successor could take the place."""
        return self.successor is not None and self.successor.ready

    @property
    def in_transit(self) -> bool:
        """Whether a worker is being started or ended."""
        return self.successor is not None or bool(self.leaving)

    @property
    def workers(self) -> list[WorkerClient]:
        """All its workers, whatever their state."""
        return [worker for worker in (self.current, self.successor, *self.leaving) if worker is not None]

    def promote(self) -> None:
        """Let the successor, which is ready, take the place."""
        assert self.successor is not None
        if self.current is not None:
            self.current.retire()
            self.leaving.append(self.current)
        self.current, self.successor, self.complaint = self.successor, None, ""
        self.weights = weights_of(self.current.models)

    def drop_successor(self) -> None:
        """End a successor that is not wanted any more, if there is one."""
        if self.successor is not None:
            self.successor.kill()
            self.leaving.append(self.successor)
            self.successor = None

    def postpone(self) -> None:
        """Wait before the next try, longer each time; not after the first loss in a long while."""
        pause = 0.0 if self.losses == 0 else _FIRST_PAUSE * 2.0 ** min(self.losses - 1, 10)
        self.losses += 1
        self.next_try = monotonic() + min(pause, _LONGEST_PAUSE)

    def end_what_hangs(self, start_seconds: float, stall_seconds: float) -> None:
        """Kill workers that take too long to start, do a batch or end, and those whose process is gone."""
        for worker in self.workers:
            if worker.state is WorkerState.STARTING and worker.age > start_seconds:
                worker.kill(f"the worker for {self.device} was not ready after {start_seconds:g} s")
            elif worker.state is WorkerState.READY and worker.stuck > stall_seconds:
                logger.error("The worker for %s has hung for %.0f s: it is ended", self.device, worker.stuck)
                worker.kill()
            elif worker.vanished or worker.end_overdue:
                worker.kill()

    def notice_ends(self) -> Exception | None:
        """Let go of workers that have ended; return why the successor did, if it is one of them."""
        self.leaving = [worker for worker in self.leaving if worker.state is not WorkerState.ENDED]
        if self.current is not None and self.current.state is WorkerState.ENDED:
            if self.current.served_seconds > _STEADY:
                self.losses = 0
            self.current = None
            self.postpone()
            logger.error("The worker for %s was lost; another takes its place", self.device)
        if self.successor is not None and self.successor.state is WorkerState.ENDED:
            failed, self.successor = self.successor, None
            return failed.failure or WorkerFailed("it ended as soon as it was ready")
        return None


def weights_of(models: Sequence[ModelInfo]) -> str:
    """Return the models by name, with the names and the beginnings of the digests of their weights files."""
    return "; ".join(
        f"{model.name}: "
        + ", ".join(f"{member.file.name} {member.file.sha256[:12]}" for member in model.members)
        for model in models
    )

"""One worker on each device: started, replaced when it is lost or hangs, exchanged for new weights.

A device's worker goes through these states, which :class:`Slot` tells:

    STARTING --ready--> READY --weights to be switched--> SWITCHING --all successors ready--> READY
    READY, SWITCHING --lost--> LOST, or STARTING at once --time for another try--> STARTING
    STARTING --failed--> LOST; SWITCHING --a successor failed--> READY with the old weights

One task decides. It does not react to events but looks at what is the case (which processes are being
started, are ready, have ended) and takes the next step from there, whenever something has changed and once a
second besides. So the order in which things happen does not matter, and a step that failed is taken again.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum, auto
from time import monotonic
from typing import Any

from api.frontend.worker_client import COMMAND, Worker, WorkerFailed, WorkerState
from api.observability.metrics import Metrics
from api.worker.settings import WorkerSettings

logger = logging.getLogger("api.frontend.supervisor")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_STEADY = 60.0  # seconds after which the loss of a worker has nothing to do with the loss before
_FIRST_TRIES = 3  # of a worker that ends without a word while it loads for the first time
_TICK = 1.0
_KILL_SECONDS = 10.0  # for a killed process to be gone; one that waits for its device's driver never may be


class State(Enum):
    """Where a device stands."""

    STARTING = auto()
    READY = auto()
    SWITCHING = auto()
    LOST = auto()


@dataclass
class Slot:
    """A device's place for one worker, beside which a successor starts and a predecessor finishes."""

    number: int
    device: str
    current: Worker | None = None
    successor: Worker | None = None
    leaving: list[Worker] = field(default_factory=list)
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
    def serving(self) -> bool:
        """Whether its worker can be asked."""
        return self.current is not None and self.current.state is WorkerState.READY

    @property
    def workers(self) -> list[Worker]:
        """All its workers, whatever their state."""
        return [one for one in (self.current, self.successor, *self.leaving) if one is not None]

    def promote(self) -> None:
        """Let the successor, which is ready, take the place."""
        assert self.successor is not None
        if self.current is not None:
            self.current.retire()
            self.leaving.append(self.current)
        self.current, self.successor, self.complaint = self.successor, None, ""
        self.weights = describe(self.current.models)

    def postpone(self) -> None:
        """Wait before the next try, longer each time; not after the first loss in a long while."""
        pause = 0.0 if self.losses == 0 else _FIRST_PAUSE * 2.0 ** min(self.losses - 1, 10)
        self.losses += 1
        self.next_try = monotonic() + min(pause, _LONGEST_PAUSE)


class Supervisor:
    """Keeps one worker on each device, until it is closed."""

    def __init__(
        self,
        settings: Callable[[], list[WorkerSettings]],
        metrics: Metrics,
        *,
        stall_seconds: float,
        start_seconds: float,
        command: Sequence[str] = COMMAND,
    ) -> None:
        """``settings`` gives those of each worker, anew whenever one starts."""
        self._settings = settings
        self._metrics = metrics
        self._stall_seconds, self._start_seconds = stall_seconds, start_seconds
        self._command = command
        self.slots: list[Slot] = []
        self._together: list[Slot] = []  # exchange their workers all at once, or not at all
        self._switch_wanted = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self._first: asyncio.Future[None] | None = None
        self._without_since = monotonic()
        self._closing = False
        self._complaint = ""

    async def start(self) -> None:
        """Start all workers; return once all are ready, and keep them from then on.

        Raises WorkerFailed if one of them cannot be started; then there are none, and none is tried again.
        """
        self.slots = [Slot(number, one.device) for number, one in enumerate(self._settings())]
        self._together = list(self.slots)
        self._first = asyncio.get_running_loop().create_future()
        self._owner = asyncio.create_task(self._supervise())
        await asyncio.shield(self._first)

    def switch(self) -> None:
        """Have the weights files read as they are now, at once or as soon as what is under way is done."""
        if self._closing or self._gave_up:
            logger.warning("SIGHUP: the service is about to end; the weights stay as they are")
            return
        if self._switch_wanted:
            logger.info("SIGHUP: a switch is to follow already")
        elif any(slot.successor or slot.leaving for slot in self.slots):
            logger.info("SIGHUP: workers are being started or ended; the weights are switched after that")
        self._switch_wanted = True
        self._changed.set()

    def trouble(self, no_worker_seconds: float) -> str | None:
        """Why this cannot be expected to recover by itself, if so; None else.

        Having had no worker for more than ``no_worker_seconds`` counts as such a reason.
        """
        if self._gave_up:
            return "The workers could not be started"
        if self._owner is not None and self._owner.done() and not self._closing:
            return "What keeps the workers has ended"
        without = 0.0 if any(slot.serving for slot in self.slots) else monotonic() - self._without_since
        return f"There has been no worker for {without:.0f} s" if without > no_worker_seconds else None

    async def close(self) -> None:
        """End all workers at once; return once their processes are gone."""
        self._closing = True
        if self._owner is not None:
            self._owner.cancel()
            await asyncio.gather(self._owner, return_exceptions=True)
        for slot in self.slots:
            for worker in slot.workers:
                worker.kill()
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=_KILL_SECONDS)

    @property
    def _starting(self) -> bool:
        """Whether not all workers have been ready yet."""
        return self._first is not None and not self._first.done()

    @property
    def _gave_up(self) -> bool:
        return self._first is not None and self._first.done() and self._first.exception() is not None

    async def _supervise(self) -> None:
        while not self._gave_up:
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), self._try_step())

    def _try_step(self) -> float:
        """Take a step; the seconds to wait for the next unless something changes. An error is logged once."""
        try:
            self._step()
        except Exception as error:
            complaint = f"{type(error).__name__}: {error}"
            if complaint != self._complaint:
                logger.exception("Looking after the workers failed; it is tried again")
            self._complaint = complaint
            return _TICK
        self._complaint = ""
        tries = [slot.next_try - monotonic() for slot in self.slots if slot.state is State.LOST]
        return max(0.01, min([_TICK, *tries]))

    def _step(self) -> None:
        """Bring every device one step nearer to one ready worker with the weights that are wanted."""
        for slot in self.slots:
            self._end_those_that_hang(slot)
            self._notice_ends(slot)
        self._exchange()
        self._begin_switch()
        for slot in self.slots:
            if slot.state is State.LOST and monotonic() >= slot.next_try and not self._gave_up:
                self._start(slot)
        serving = sum(slot.serving for slot in self.slots)
        if serving:
            self._without_since = monotonic()
        self._metrics.worker_ready(serving)

    def _end_those_that_hang(self, slot: Slot) -> None:
        for worker in slot.workers:
            if worker.state is WorkerState.STARTING and worker.age > self._start_seconds:
                worker.kill(f"the worker for {slot.device} was not ready after {self._start_seconds:g} s")
            elif worker.state is WorkerState.READY and worker.stuck > self._stall_seconds:
                logger.error("The worker for %s has hung for %.0f s: it is ended", slot.device, worker.stuck)
                worker.kill()
            elif worker.vanished or worker.end_overdue:
                worker.kill()

    def _notice_ends(self, slot: Slot) -> None:
        slot.leaving = [worker for worker in slot.leaving if worker.state is not WorkerState.ENDED]
        if slot.current is not None and slot.current.state is WorkerState.ENDED:
            if slot.current.served_seconds > _STEADY:
                slot.losses = 0
            slot.current = None
            slot.postpone()
            logger.error("The worker for %s was lost; another takes its place", slot.device)
        if slot.successor is not None and slot.successor.state is WorkerState.ENDED:
            failed, slot.successor = slot.successor, None
            self._start_failed(slot, failed.failure or WorkerFailed("it ended as soon as it was ready"))

    def _start_failed(self, slot: Slot, error: Exception) -> None:
        slot.losses = max(1, slot.losses)
        slot.postpone()
        if self._starting:
            said = isinstance(error, WorkerFailed) and error.own_words
            if not self._switch_wanted and (said or slot.losses > _FIRST_TRIES):
                self._give_up(error)
                return
        elif slot in self._together:
            self._abort_switch()
            logger.error("The weights stay as they were: %s", error)
            return
        complaint = f"{error or type(error).__name__}"
        if complaint != slot.complaint:
            logger.error("The worker for %s does not start: %s. It is tried again", slot.device, complaint)
        slot.complaint = complaint

    def _abort_switch(self) -> None:
        """End the successors, but for those whose predecessor was lost meanwhile."""
        self._together = []
        for slot in self.slots:
            if slot.successor is not None and slot.current is not None:
                slot.successor.kill()
                slot.leaving.append(slot.successor)
                slot.successor = None

    def _give_up(self, error: Exception) -> None:
        assert self._first is not None
        self._first.set_exception(
            error if isinstance(error, WorkerFailed) else WorkerFailed(f"a worker does not start: {error}")
        )
        for slot in self.slots:
            for worker in slot.workers:
                worker.kill()

    def _exchange(self) -> None:
        """Let successors take their places: those of a switch together, others as soon as they are ready."""
        if self._together and all(_is_ready(slot.successor) for slot in self._together):
            for slot in self._together:
                slot.promote()
            self._together = []
            if self._starting:
                assert self._first is not None
                self._first.set_result(None)
            else:
                logger.info("The weights are switched: %s", self.slots[0].weights)
        alone = not self._starting and not any(slot.serving for slot in self.slots)
        for slot in self.slots:
            if _is_ready(slot.successor) and (alone or slot not in self._together):
                self._replace(slot)

    def _replace(self, slot: Slot) -> None:
        """Let a lost worker's successor take its place."""
        before, switching = slot.weights, slot in self._together
        self._together = [other for other in self._together if other is not slot]
        slot.promote()
        logger.info("The worker for %s is ready again", slot.device)
        if before != slot.weights and not switching:
            logger.warning(
                "The files have changed since: the worker for %s has %s, the one before had %s. "
                "SIGHUP has all workers read them",
                slot.device,
                slot.weights,
                before,
            )

    def _begin_switch(self) -> None:
        if not self._switch_wanted or any(slot.successor or slot.leaving for slot in self.slots):
            return
        self._switch_wanted = False
        logger.info("Switching to the weights as they are now")
        if not self._starting:
            self._together = [slot for slot in self.slots if slot.current is not None]
        for slot in self.slots:
            slot.next_try = 0.0
            if slot.current is not None:
                self._start(slot)

    def _start(self, slot: Slot) -> None:
        if slot not in self._together:
            self._metrics.worker_restarted()
        try:
            settings = self._settings()[slot.number]
            worker = Worker(settings, self._metrics, self._changed.set, self._command)
            task = asyncio.create_task(worker.run())
        except Exception as error:
            self._start_failed(slot, error)
            return
        slot.successor = worker
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


def _is_ready(worker: Worker | None) -> bool:
    return worker is not None and worker.state is WorkerState.READY


def describe(models: list[dict[str, Any]]) -> str:
    """The models by name, with the names and the beginnings of the digests of their weights files."""
    return "; ".join(
        f"{model['name']}: "
        + ", ".join(
            f"{member['file']['name']} {member['file']['sha256'][:12]}" for member in model["members"]
        )
        for model in models
    )

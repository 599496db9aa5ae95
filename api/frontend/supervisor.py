"""One worker on each device: started, asked, replaced when it is lost or hangs, exchanged for new weights.

One task decides. It does not react to events but looks at what is the case (which processes are being
started, are ready, have ended) and takes the next step from there, whenever something has changed and once a
second besides. So the order in which things happen does not matter, and a step that failed is taken again.
The states of a device are :class:`api.frontend.device_slot.DeviceSlot`'s.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from time import monotonic

from api.frontend.admission import Ticket
from api.frontend.device_slot import DeviceSlot, State
from api.frontend.errors import not_ready
from api.frontend.worker_client import WorkerClient
from api.frontend.worker_subprocess import COMMAND, WorkerFailed
from api.observability.metrics import Metrics
from api.protocol.messages import Answer, Task, WorkerSettings
from api.protocol.model_info import ModelInfo

logger = logging.getLogger("api.frontend.supervisor")

_FIRST_TRIES = 3  # of a worker that ends without a word while it loads for the first time
_TICK = 1.0
_KILL_SECONDS = 10.0  # for a killed process to be gone; one that waits for its device's driver never may be


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
        self.slots: list[DeviceSlot] = []
        self._together: list[DeviceSlot] = []  # exchange their workers all at once, or not at all
        self._switch_wanted = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._changed = asyncio.Event()
        self._owner: asyncio.Task[None] | None = None
        self._all_ready: asyncio.Future[None] | None = None
        self._without_since = monotonic()
        self._closing = False
        self._complaint = ""

    @property
    def ready(self) -> bool:
        """Whether any worker can be asked."""
        return bool(self._serving)

    @property
    def models(self) -> list[ModelInfo]:
        """The models that the workers have loaded, the default one first; empty while none is ready."""
        serving = self._serving
        return serving[0].models if serving else []

    @property
    def rate(self) -> float:
        """Regions a second that the devices do together, as measured, or as they found when they started."""
        return sum(worker.rate for worker in self._serving)

    def ask(
        self, model: str, task: Task, image: bytes, ticket: Ticket, regions: int
    ) -> asyncio.Future[Answer]:
        """Have a task done by the worker with the least to do. Raises ApiError 503 if there is none."""
        serving = self._serving
        if not serving:
            raise not_ready()
        worker = min(serving, key=lambda worker: worker.pending)
        return worker.ask(model, task, image, ticket, regions)

    async def start(self) -> None:
        """Start all workers; return once all are ready, and keep them from then on.

        Raises WorkerFailed if one of them cannot be started; then there are none, and none is tried again.
        """
        self.slots = [DeviceSlot(number, worker.device) for number, worker in enumerate(self._settings())]
        self._together = list(self.slots)
        self._all_ready = asyncio.get_running_loop().create_future()
        self._owner = asyncio.create_task(self._supervise())
        await asyncio.shield(self._all_ready)

    def switch(self) -> None:
        """Have the weights files read as they are now, at once or as soon as what is under way is done."""
        if self._closing or self._gave_up:
            logger.warning("SIGHUP: the service is about to end; the weights stay as they are")
            return
        if self._switch_wanted:
            logger.info("SIGHUP: a switch is to follow already")
        elif any(slot.in_transit for slot in self.slots):
            logger.info("SIGHUP: workers are being started or ended; the weights are switched after that")
        self._switch_wanted = True
        self._changed.set()

    def trouble(self, no_worker_seconds: float) -> str | None:
        """Return why this cannot be expected to recover by itself; None if it can.

        Having had no worker for more than ``no_worker_seconds`` counts as such a reason.
        """
        if self._gave_up:
            return "The workers could not be started"
        if self._owner is not None and self._owner.done() and not self._closing:
            return "What keeps the workers has ended"
        without = 0.0 if self.ready else monotonic() - self._without_since
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
    def _serving(self) -> list[WorkerClient]:
        current = (slot.current for slot in self.slots)
        return [worker for worker in current if worker is not None and worker.ready]

    @property
    def _starting(self) -> bool:
        """Whether not all workers have been ready yet."""
        return self._all_ready is not None and not self._all_ready.done()

    @property
    def _gave_up(self) -> bool:
        return (
            self._all_ready is not None and self._all_ready.done() and self._all_ready.exception() is not None
        )

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
            slot.end_what_hangs(self._start_seconds, self._stall_seconds)
            failure = slot.notice_ends()
            if failure is not None:
                self._start_failed(slot, failure)
        self._exchange()
        self._begin_switch()
        for slot in self.slots:
            if slot.state is State.LOST and monotonic() >= slot.next_try and not self._gave_up:
                self._start(slot)
        if self.ready:
            self._without_since = monotonic()
        self._metrics.worker_ready(len(self._serving))

    def _start_failed(self, slot: DeviceSlot, error: Exception) -> None:
        slot.losses = max(1, slot.losses)
        slot.postpone()
        if self._starting:
            in_own_words = isinstance(error, WorkerFailed) and error.reported_by_worker
            if not self._switch_wanted and (in_own_words or slot.losses > _FIRST_TRIES):
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
            if slot.current is not None:
                slot.drop_successor()

    def _give_up(self, error: Exception) -> None:
        assert self._all_ready is not None
        self._all_ready.set_exception(
            error if isinstance(error, WorkerFailed) else WorkerFailed(f"a worker does not start: {error}")
        )
        for slot in self.slots:
            for worker in slot.workers:
                worker.kill()

    def _exchange(self) -> None:
        """Let successors take their places: those of a switch together, others as soon as they are ready."""
        if self._together and all(slot.successor_ready for slot in self._together):
            for slot in self._together:
                slot.promote()
            self._together = []
            if self._starting:
                assert self._all_ready is not None
                self._all_ready.set_result(None)
            else:
                logger.info("The weights are switched: %s", self.slots[0].weights)
        alone = not self._starting and not self.ready
        for slot in self.slots:
            if slot.successor_ready and (alone or slot not in self._together):
                self._replace(slot)

    def _replace(self, slot: DeviceSlot) -> None:
        """Let a lost worker's successor take its place."""
        before, switching = slot.weights, slot in self._together
        self._together = [kept for kept in self._together if kept is not slot]
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
        if not self._switch_wanted or any(slot.in_transit for slot in self.slots):
            return
        self._switch_wanted = False
        logger.info("Switching to the weights as they are now")
        if not self._starting:
            self._together = [slot for slot in self.slots if slot.current is not None]
        for slot in self.slots:
            slot.next_try = 0.0
            if slot.current is not None:
                self._start(slot)

    def _start(self, slot: DeviceSlot) -> None:
        if slot not in self._together:
            self._metrics.worker_restarted()
        try:
            settings = self._settings()[slot.number]
            worker = WorkerClient(settings, self._metrics, self._changed.set, self._command)
            task = asyncio.create_task(worker.run())
        except Exception as error:
            self._start_failed(slot, error)
            return
        slot.successor = worker
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

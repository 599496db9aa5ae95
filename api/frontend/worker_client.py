"""The front's client of one worker: it asks for tasks, passes on the answers and watches the reports."""

import asyncio
import logging
from collections.abc import Callable, Sequence
from enum import Enum, auto
from itertools import count
from time import monotonic

from api.frontend.admission import Ticket
from api.frontend.worker_subprocess import COMMAND, WorkerFailed, WorkerProcess
from api.observability.logs import REQUEST_ID, TRACE_ID
from api.observability.metrics import Metrics
from api.protocol import wire
from api.protocol.errors import ApiError
from api.protocol.messages import (
    Answer,
    Cancel,
    DeviceTask,
    Failed,
    Ready,
    Refusal,
    Report,
    Stop,
    Task,
    ToWorker,
    WorkerSettings,
)
from api.protocol.model_info import ModelInfo

logger = logging.getLogger("api.frontend.worker_client")

STOP_SECONDS = 10.0
"""How long a worker that owes nothing may take to end once it was told to."""

_numbers = count(1)


class WorkerState(Enum):
    """Where a worker stands, from the front's view; it only moves downwards."""

    STARTING = auto()
    READY = auto()
    ENDING = auto()  # its end of the socket is closed, or will be: nobody asks it any more
    ENDED = auto()  # its process was reaped


class WorkerClient:
    """One worker, from the start of its process to the end."""

    def __init__(
        self,
        settings: WorkerSettings,
        metrics: Metrics,
        on_change: Callable[[], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Prepare a worker; :meth:`run` starts its process.

        ``on_change`` is called whenever ``state`` has changed. ``command`` is :class:`WorkerProcess`'s.
        """
        self._settings = settings
        self._on_change = on_change
        self._metrics = metrics
        self._answers: dict[int, asyncio.Future[Answer]] = {}  # owed, by the number of the task
        self._regions: dict[int, int] = {}
        self._stuck, self._since = 0.0, monotonic()
        self._heard = self._since
        self._writer: asyncio.StreamWriter | None = None
        self._retiring = False
        self._stopped_at: float | None = None
        self._rate = Rate(0.0)
        self.process = WorkerProcess(command)
        self.state = WorkerState.STARTING
        self.failure: Exception | None = None
        """Why it ended before it was ready."""
        self.models: list[ModelInfo] = []
        self.device = settings.device
        self.served_seconds = 0.0
        """For how long it was ready, once it is not any more."""

    @property
    def ready(self) -> bool:
        """Whether it can be asked."""
        return self.state is WorkerState.READY

    @property
    def rate(self) -> float:
        """Regions a second that its device does."""
        return self._rate.value

    @property
    def pending(self) -> int:
        """Estimated regions of what it was asked for."""
        return sum(self._regions.values())

    @property
    def age(self) -> float:
        """Seconds in the present state."""
        return monotonic() - self._since

    @property
    def stuck(self) -> float:
        """For how many seconds its device has been busy with one batch, or nothing was heard of it."""
        return max(self._stuck, monotonic() - self._heard)

    @property
    def end_overdue(self) -> bool:
        """Whether it was told to stop and does not."""
        return self._stopped_at is not None and monotonic() - self._stopped_at > STOP_SECONDS

    @property
    def vanished(self) -> bool:
        """Whether the process has ended although its socket is open: a child of its own may hold it."""
        return self.state in (WorkerState.STARTING, WorkerState.READY) and self.process.has_exited

    async def run(self) -> None:
        """Start the process, pass on its answers, and return once it has ended and was reaped.

        Whatever goes wrong before it is ready becomes ``failure``. What it still owed at its end is answered
        503. To end it early, :meth:`kill` it; this must not be cancelled.
        """
        try:
            reader = await self._open()
            self._send(self._settings)
            ready = await wire.receive(reader)
            if isinstance(ready, Failed):
                raise WorkerFailed(ready.message, reported_by_worker=True)
            assert isinstance(ready, Ready)
            self._heard = monotonic()
            self.models, self.device = ready.models, ready.device
            self._rate = Rate(ready.rate)
            self._enter(WorkerState.READY)
            await self._serve(reader)
        except (EOFError, ConnectionError) as error:
            if self.state is WorkerState.STARTING:
                self.failure = error  # the exit status, known once it is reaped, says more
        except Exception as error:
            if self.state is WorkerState.STARTING:
                self.failure = error
            else:
                logger.exception("The exchange with the worker for %s failed", self.device)
        finally:
            self._enter(WorkerState.ENDING)
            self._fail_what_was_asked()
            if self._writer is not None:
                self._writer.transport.abort()
            why = await self.process.reap(self.device)
            if isinstance(self.failure, (EOFError, ConnectionError)):
                self.failure = WorkerFailed(why)
            self._enter(WorkerState.ENDED)

    def ask(
        self, model: str, task: Task, image: bytes, ticket: Ticket, regions: int
    ) -> asyncio.Future[Answer]:
        """Have a task done; the future's exception is an ApiError. Cancel it where nobody waits any more."""
        number = next(_numbers)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._answers[number] = future
        self._regions[number] = regions
        future.add_done_callback(lambda _: self._done(number))
        self._send(
            DeviceTask(
                number,
                model,
                task,
                ticket.deadline,
                ticket.client,
                ticket.number,
                REQUEST_ID.get(),
                TRACE_ID.get(),
                body=image,
            )
        )
        return future

    def retire(self) -> None:
        """Let it end once it owes nothing; it must not be asked any more."""
        self._retiring = True
        self._stop_when_done()

    def kill(self, why: str | None = None) -> None:
        """End it at once. ``why`` is its failure if it is not ready."""
        self.process.kill(why)
        if self._writer is not None:
            self._writer.transport.abort()

    async def _open(self) -> asyncio.StreamReader:
        connection = self.process.start()
        try:
            reader, self._writer = await asyncio.open_connection(sock=connection)
        except BaseException:
            connection.close()
            raise
        return reader

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        """Pass on its answers until the socket is closed."""
        while True:
            message = await wire.receive(reader)
            if isinstance(message, Answer | Refusal):
                self._answered(message)
            elif isinstance(message, Report):
                self._reported(message)

    def _answered(self, message: Answer | Refusal) -> None:
        future = self._answers.pop(message.id, None)
        self._stop_when_done()
        if future is None or future.done():
            return
        if isinstance(message, Answer):
            future.set_result(message)
        else:
            future.set_exception(ApiError(message.status, message.code, message.message))

    def _reported(self, report: Report) -> None:
        self._stuck, self._heard = report.stuck, monotonic()
        self._rate.report(report.full_regions, report.full_seconds)
        self._metrics.device_report(self.device, report)

    def _fail_what_was_asked(self) -> None:
        lost = ApiError(503, "worker_lost", "The worker was lost and is started again. Send it again.")
        for future in self._answers.values():
            if not future.done():
                future.set_exception(lost)
        self._answers.clear()
        self._regions.clear()

    def _done(self, number: int) -> None:
        if self._answers.pop(number, None) is not None:  # not answered: cancelled
            self._send(Cancel(number))
        self._regions.pop(number, None)
        self._stop_when_done()

    def _stop_when_done(self) -> None:
        if self._retiring and not self._answers and self._stopped_at is None:
            self._stopped_at = monotonic()
            self._send(Stop())

    def _enter(self, state: WorkerState) -> None:
        if self.state is WorkerState.READY:
            self.served_seconds = self.age
        self.state, self._since = state, monotonic()
        self._on_change()

    def _send(self, message: ToWorker) -> None:
        if self._writer is not None and not self._writer.is_closing():
            # Not awaited: what waits in the buffer is bounded by the bytes that admission lets in.
            for part in wire.packed(message):  # writelines would join them, a copy more
                self._writer.write(part)


_WINDOW = 4.0  # seconds of full load that make a measurement: some batches of a slow device
_STOPPED = 5.0  # a worker that reports twice a second and tells of more at once was stopped meanwhile
_HALF_LIFE = 30.0  # seconds in which a measurement loses half of its weight against what was stated


class Rate:
    """Regions a second that a device does while there is always something to do."""

    def __init__(self, stated: float) -> None:
        """Start with ``stated``, what the device found at its start."""
        self._stated = self._measured = stated
        self._at = monotonic()
        self._regions, self._seconds = 0, 0.0

    @property
    def value(self) -> float:
        """What was measured last, the nearer to what was stated the longer ago that is: a bad time leaves no
        trace for good."""
        weight = 0.5 ** ((monotonic() - self._at) / _HALF_LIFE)
        return self._stated + (self._measured - self._stated) * weight

    def report(self, regions: int, seconds: float) -> None:
        """Take in that the device did so many regions in so many seconds in which more were waiting."""
        if seconds > _STOPPED:
            self._regions, self._seconds = 0, 0.0
            return
        self._regions += regions
        self._seconds += seconds
        if self._seconds >= _WINDOW and self._regions:  # without any, it hangs, which is no rate
            self._measured = (self.value + self._regions / self._seconds) / 2
            self._at = monotonic()
            self._regions, self._seconds = 0, 0.0

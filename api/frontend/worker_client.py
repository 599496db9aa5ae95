"""A worker as the front knows it: a process at the other end of a socket, asked and watched."""

import asyncio
import logging
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from enum import Enum, auto
from itertools import count
from time import monotonic
from typing import Any

from api.frontend.admission import Ticket
from api.frontend.errors import ApiError
from api.frontend.rate import Rate
from api.observability.logs import REQUEST_ID
from api.observability.metrics import DeviceReport, Metrics
from api.protocol import wire
from api.protocol.messages import Task, task_header
from api.worker.settings import WorkerSettings
from detector.errors import DetectorError

logger = logging.getLogger("api.frontend.worker_client")

COMMAND = (sys.executable, "-m", "api.worker")
"""What starts a worker's process."""

STOP_SECONDS = 10.0
"""How long a worker that owes nothing may take to end once it was told to."""

_numbers = count(1)


class WorkerFailed(DetectorError):
    """A worker could not be started: its models do not load, or it ended while it loaded them."""

    def __init__(self, message: str, *, own_words: bool = False) -> None:
        """``own_words``: the worker said so itself, so that another try would end the same way."""
        super().__init__(message)
        self.own_words = own_words


class WorkerState(Enum):
    """Where a worker's process stands, from the front's view; it only moves downwards."""

    STARTING = auto()
    READY = auto()
    ENDING = auto()  # its end of the socket is closed, or will be: nobody asks it any more
    ENDED = auto()  # it was reaped


@dataclass(frozen=True)
class Answer:
    """What a worker found in a picture: parts of the reply, and milliseconds in each stage."""

    about: dict[str, Any]
    media_type: str
    body: bytes
    timing_ms: dict[str, float]


class Worker:
    """One process, from its start to its end."""

    def __init__(
        self,
        settings: WorkerSettings,
        metrics: Metrics,
        on_change: Callable[[], None],
        command: Sequence[str] = COMMAND,
    ) -> None:
        """Prepare a worker; :meth:`run` starts its process.

        ``on_change`` is called whenever ``state`` has changed. ``command`` gets ``--fd N`` appended, N being
        the socket that the process speaks to the front by.
        """
        self._settings = settings
        self._on_change = on_change
        self._command = command
        self._metrics = metrics
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._work: dict[int, int] = {}
        self._stuck, self._since = 0.0, monotonic()
        self._heard = self._since
        self._process: subprocess.Popen[bytes] | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._killed: str | None = None
        self._retiring = False
        self._stopped_at: float | None = None
        self.state = WorkerState.STARTING
        self.failure: Exception | None = None
        """Why it ended before it was ready."""
        self.models: list[dict[str, Any]] = []
        self.device = settings.device
        self._rate = Rate(0.0)
        self.served_seconds = 0.0
        """For how long it was ready, once it is not any more."""

    @property
    def rate(self) -> float:
        """Regions a second that its device does."""
        return self._rate.value

    @property
    def pending(self) -> int:
        """Estimated regions of what it was asked for."""
        return sum(self._work.values())

    @property
    def age(self) -> float:
        """Seconds in the present state."""
        return monotonic() - self._since

    async def run(self) -> None:
        """Start the process, pass on its answers, and return once it has ended and was reaped.

        Whatever goes wrong before it is ready becomes ``failure``. What it still owed at its end is answered
        503. To end it early, :meth:`kill` it; this must not be cancelled.
        """
        try:
            reader = await self._open()
            header = await self._first_word(reader)
            self._heard = monotonic()
            self.models, self.device = header["models"], header["device"]
            self._rate = Rate(header["rate"])
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
            killed = self._killed
            self.kill()
            status = await self._reaped()
            if isinstance(self.failure, (EOFError, ConnectionError)):
                assert status is not None
                self.failure = WorkerFailed(killed or _early_end(self.device, status))
            self._enter(WorkerState.ENDED)

    async def _open(self) -> asyncio.StreamReader:
        """Start the process, with a socket between it and this one."""
        ours, theirs = socket.socketpair()
        try:
            with theirs:
                if self._killed:
                    raise WorkerFailed(self._killed)
                # Not asyncio's own subprocesses: these learn of an end by a signal, which is easily lost
                # where several loops run; here the end of the socket tells. PYTHONSAFEPATH keeps files of
                # the current folder that are named like a module from being imported, here and in its own
                # children.
                self._process = subprocess.Popen(
                    [*self._command, "--fd", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env={**os.environ, "PYTHONSAFEPATH": "1"},
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C is for the front, which lets requests under way finish
                )
            reader, self._writer = await asyncio.open_connection(sock=ours)
        except BaseException:
            ours.close()
            raise
        return reader

    async def _first_word(self, reader: asyncio.StreamReader) -> wire.Header:
        """What the process says when it is ready."""
        self._send(asdict(self._settings))
        header, _ = await wire.receive(reader)
        if header["op"] == "failed":
            raise WorkerFailed(header["message"], own_words=True)
        return header

    async def _serve(self, reader: asyncio.StreamReader) -> None:
        """Pass on its answers until the socket is closed."""
        while True:
            header, body = await wire.receive(reader)
            if header["op"] == "answer":
                self._answered(header, body)
            else:
                self._reported(header)

    def _fail_what_was_asked(self) -> None:
        lost = ApiError(503, "worker_lost", "The worker was lost and is started again. Send it again.")
        for future in self._asked.values():
            if not future.done():
                future.set_exception(lost)
        self._asked.clear()
        self._work.clear()

    async def _reaped(self) -> int | None:
        """The exit status of the process, once it has ended; None if there never was one.

        Asked for again and again: a thread or a descriptor to wait by may be what the machine is short of.
        """
        pause = 0.005
        while self._process is not None and self._process.poll() is None:
            await asyncio.sleep(pause)
            pause = min(2 * pause, 0.25)
        return None if self._process is None else self._process.returncode

    def _enter(self, state: WorkerState) -> None:
        if self.state is WorkerState.READY:
            self.served_seconds = self.age
        self.state, self._since = state, monotonic()
        self._on_change()

    def retire(self) -> None:
        """Let it end once it owes nothing; it must not be asked any more."""
        self._retiring = True
        self._stop_when_done()

    def _stop_when_done(self) -> None:
        if self._retiring and not self._asked and self._stopped_at is None:
            self._stopped_at = monotonic()
            self._send({"op": "stop"})

    @property
    def end_overdue(self) -> bool:
        """Whether it was told to stop and does not."""
        return self._stopped_at is not None and monotonic() - self._stopped_at > STOP_SECONDS

    @property
    def vanished(self) -> bool:
        """Whether the process has ended although its socket is open: a child of its own may hold it."""
        if self._process is None or self.state in (WorkerState.ENDING, WorkerState.ENDED):
            return False
        try:
            left = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:  # the system reaped it, where SIGCHLD is ignored
            return True
        return left is not None

    def kill(self, why: str | None = None) -> None:
        """End it at once, and whatever processes it started. ``why`` is its failure if it is not ready."""
        self._killed = self._killed or why or "it was not needed any more"
        if self._process is not None and self._process.returncode is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
        if self._writer is not None:
            self._writer.transport.abort()

    def ask(self, model: str, task: Task, data: bytes, ticket: Ticket, work: int) -> asyncio.Future[Answer]:
        """Have a task done; the future's exception is an ApiError. Cancel it where nobody waits any more."""
        number = next(_numbers)
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[number] = future
        self._work[number] = work
        future.add_done_callback(lambda _: self._done(number))
        self._send(
            {
                "op": "task",
                "id": number,
                "model": model,
                "deadline": ticket.deadline,
                "client": ticket.client,
                "request": ticket.number,
                "request_id": REQUEST_ID.get(),
                **task_header(task),
            },
            data,
        )
        return future

    @property
    def stuck(self) -> float:
        """For how many seconds its device has been busy with one batch, or nothing was heard of it."""
        return max(self._stuck, monotonic() - self._heard)

    def _done(self, number: int) -> None:
        if self._asked.pop(number, None) is not None:  # not answered: cancelled
            self._send({"op": "cancel", "id": number})
        self._work.pop(number, None)
        self._stop_when_done()

    def _send(self, header: wire.Header, body: bytes = b"") -> None:
        if self._writer is not None and not self._writer.is_closing():
            # Not awaited: what waits in the buffer is bounded by the bytes that admission lets in.
            for part in wire.packed(header, body):  # writelines would join them, a copy more
                self._writer.write(part)

    def _answered(self, header: wire.Header, body: bytes) -> None:
        future = self._asked.pop(header["id"], None)
        self._stop_when_done()
        if future is None or future.done():
            return
        error = header.get("error")
        if error is not None:
            future.set_exception(ApiError(error["status"], error["code"], error["message"]))
        else:
            future.set_result(Answer(header["about"], header["media_type"], body, header["timing_ms"]))

    def _reported(self, header: wire.Header) -> None:
        self._stuck, self._heard = header["stuck"], monotonic()
        self._rate.report(header["full_regions"], header["full_seconds"])
        fills = tuple(header["fills"])
        report = DeviceReport(header["queued"], len(fills), header["regions"], fills, header["memory"])
        self._metrics.device_report(self.device, report)
        self._metrics.log_lines_lost(header["log_lines_lost"])


def _early_end(device: str, status: int) -> str:
    """Why a process that never was ready is gone, from its exit status as subprocess gives it."""
    if status >= 0:
        return f"the worker for {device} ended with status {status}; its last words stand above"
    name = signal.strsignal(-status) or f"signal {-status}"
    return f"the worker for {device} was ended from outside ({name}); where nobody did that, memory is short"

"""A worker as the front knows it: a process at the other end of a socket, asked and watched."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from time import monotonic
from typing import Any

from api import wire
from api.errors import ApiError
from api.tasks import Task, task_header
from api.watching.logs import REQUEST_ID
from api.watching.metrics import DeviceReport, Metrics
from api.worker.settings import WorkerSettings
from detector.errors import DetectorError

_numbers = count(1)


class WorkerFailed(DetectorError):
    """A worker could not load its models, or ended while it did."""


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
        self, settings: WorkerSettings, metrics: Metrics, on_end: "Callable[[Worker], None]"
    ) -> None:
        """``on_end`` is called as soon as it is known that nobody is there any more to be asked."""
        self._settings = settings
        self._on_end = on_end
        self._metrics = metrics
        self._asked: dict[int, asyncio.Future[Answer]] = {}
        self._work: dict[int, int] = {}
        self._stuck, self._heard = 0.0, monotonic()
        self._process: subprocess.Popen[bytes] | None = None
        self.models: list[dict[str, Any]] = []
        self.device = settings.device
        self.rate = 0.0

    @property
    def pending(self) -> int:
        """Estimated regions of what it was asked for."""
        return sum(self._work.values())

    async def start(self) -> None:
        """Start the process; returns once it is ready. Raises WorkerFailed."""
        ours, theirs = socket.socketpair()
        with theirs:
            # Not asyncio's own subprocesses: these learn of an end by a signal, which is easily lost where
            # several loops run; here the end of the socket tells. PYTHONSAFEPATH keeps files of the
            # current folder that are named like a module from being imported, here and in its own children.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "api.worker", "--fd", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONSAFEPATH": "1"},
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the front, which lets requests under way finish
            )
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        try:
            header = await self._first_word()
        except BaseException:
            self._writer.close()  # left to the garbage collector, it would close what is another's by then
            self.kill()
            await asyncio.to_thread(self._process.wait)
            raise
        self._heard = monotonic()
        self.models, self.device, self.rate = header["models"], header["device"], header["rate"]
        self._serving = asyncio.create_task(self._serve())

    async def _first_word(self) -> wire.Header:
        """What the process says when it is ready."""
        assert self._process is not None
        self._send(asdict(self._settings))
        try:
            header, _ = await wire.receive(self._reader)
        except (EOFError, ConnectionError) as error:
            status = await asyncio.to_thread(self._process.wait)
            raise WorkerFailed(_early_end(self.device, status)) from error
        if header["op"] == "failed":
            raise WorkerFailed(header["message"])
        return header

    async def end(self) -> None:
        """Returns once the process has ended, of itself or not. What it then owed was answered 503."""
        await asyncio.shield(self._serving)

    async def retire(self) -> None:
        """End it once it owes nothing."""
        await asyncio.gather(*self._asked.values(), return_exceptions=True)
        self._send({"op": "stop"})
        await self.end()

    async def _serve(self) -> None:
        """Pass on its answers until it is gone."""
        try:
            while True:
                header, body = await wire.receive(self._reader)
                if header["op"] == "answer":
                    self._answered(header, body)
                else:
                    self._reported(header)
        except (EOFError, ConnectionError):
            pass
        finally:
            self._on_end(self)
            self._metrics.device_report(self.device, DeviceReport(0, 0, 0, (), 0))
            lost = ApiError(503, "worker_lost", "The worker was lost and is started again. Send it again.")
            for future in self._asked.values():
                if not future.done():
                    future.set_exception(lost)
            self._asked.clear()
            self._work.clear()
            self._writer.close()
            self.kill()
            assert self._process is not None
            await asyncio.to_thread(self._process.wait)

    def ask(self, model: str, task: Task, data: bytes, deadline: float, work: int) -> asyncio.Future[Answer]:
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
                "deadline": deadline,
                "request_id": REQUEST_ID.get(),
                **task_header(task),
            },
            data,
        )
        return future

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()

    @property
    def stuck(self) -> float:
        """For how many seconds its device has been busy with one batch, or nothing was heard of it."""
        return max(self._stuck, monotonic() - self._heard)

    def _done(self, number: int) -> None:
        if self._asked.pop(number, None) is not None:  # not answered: cancelled
            self._send({"op": "cancel", "id": number})
        self._work.pop(number, None)

    def _send(self, header: wire.Header, body: bytes = b"") -> None:
        if not self._writer.is_closing():
            # Not awaited: what waits in the buffer is bounded by the bytes that admission lets in.
            self._writer.writelines(wire.packed(header, body))

    def _answered(self, header: wire.Header, body: bytes) -> None:
        future = self._asked.pop(header["id"], None)
        if future is None or future.done():
            return
        error = header.get("error")
        if error is not None:
            future.set_exception(ApiError(error["status"], error["code"], error["message"]))
        else:
            future.set_result(Answer(header["about"], header["media_type"], body, header["timing_ms"]))

    def _reported(self, header: wire.Header) -> None:
        self._stuck, self._heard = header["stuck"], monotonic()
        fills = tuple(header["fills"])
        report = DeviceReport(header["queued"], len(fills), header["regions"], fills, header["memory"])
        self._metrics.device_report(self.device, report)


def _early_end(device: str, status: int) -> str:
    """Why a process that never was ready is gone, from its exit status as subprocess gives it."""
    if status >= 0:
        return f"the worker for {device} ended with status {status}; its last words stand above"
    name = signal.strsignal(-status) or f"signal {-status}"
    return f"the worker for {device} was ended from outside ({name}); where nobody did that, memory is short"

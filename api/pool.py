"""The workers: processes that own a device each, started, asked, watched and replaced."""

import asyncio
import logging
import socket
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from itertools import count
from typing import Any

from api import wire
from api.errors import ApiError
from api.tasks import Task, task_header
from api.watching.logs import REQUEST_ID
from api.watching.metrics import DeviceReport, Metrics
from api.worker.settings import WorkerSettings
from detector.errors import DetectorError

logger = logging.getLogger("api.pool")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
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
        self._stuck = 0.0
        self._process: asyncio.subprocess.Process | None = None
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
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "api.worker", "--fd", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for the front, which lets requests under way finish
            )
        self._reader, self._writer = await asyncio.open_connection(sock=ours)
        try:
            self._send(asdict(self._settings))
            header, _ = await wire.receive(self._reader)
        except (EOFError, ConnectionError) as error:
            status = await self._process.wait()
            raise WorkerFailed(f"the worker for {self.device} ended with status {status}") from error
        except asyncio.CancelledError:
            self.kill()
            raise
        if header["op"] == "failed":
            await self._process.wait()
            raise WorkerFailed(header["message"])
        self.models, self.device, self.rate = header["models"], header["device"], header["rate"]
        self._serving = asyncio.create_task(self._serve())

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
            await self._process.wait()

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
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    @property
    def stuck(self) -> float:
        """For how many seconds its device has been busy with one batch, when it last said so."""
        return self._stuck

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
        self._stuck = header["stuck"]
        fills = tuple(header["fills"])
        report = DeviceReport(header["queued"], len(fills), header["regions"], fills, header["memory"])
        self._metrics.device_report(self.device, report)


class Pool:
    """A worker for each device, replaced when it is lost or hangs, or when weights are switched."""

    def __init__(
        self,
        settings: Callable[[], list[WorkerSettings]],
        metrics: Metrics,
        *,
        stall_seconds: float,
    ) -> None:
        """``settings`` gives those of each worker, anew whenever workers start."""
        self._settings = settings
        self._metrics = metrics
        self._stall_seconds = stall_seconds
        self._ready: list[Worker] = []
        self._alive: set[Worker] = set()  # those that end meanwhile included
        self._keepers: list[asyncio.Task[None]] = []
        self._background: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Whether anybody can be asked."""
        return bool(self._ready)

    @property
    def models(self) -> list[dict[str, Any]]:
        """What the workers have loaded, the default model first; empty while none is ready."""
        return self._ready[0].models if self._ready else []

    @property
    def rate(self) -> float:
        """Regions a second that the devices do together, as they found when they started."""
        return sum(worker.rate for worker in self._ready)

    async def start(self) -> None:
        """Start all workers; returns once they are ready. Raises WorkerFailed if one cannot be."""
        await self._start_generation()

    async def switch(self) -> None:
        """Start new workers with the weights as they are now, and end the old ones once they owe nothing.

        Raises WorkerFailed if the new ones cannot be; then all stays as it was.
        """
        old_keepers, old = self._keepers, list(self._ready)
        await self._start_generation()
        for keeper in old_keepers:
            keeper.cancel()
        for worker in old:
            self._ready.remove(worker)
            self._in_background(worker.retire())
        self._count()

    def ask(self, model: str, task: Task, data: bytes, deadline: float, work: int) -> asyncio.Future[Answer]:
        """Have a task done by the worker with the least to do. Raises ApiError 503 if there is none."""
        if not self._ready:
            raise ApiError(503, "not_ready", "The weights are not loaded yet. Try again in a moment.")
        worker = min(self._ready, key=lambda one: one.pending)
        return worker.ask(model, task, data, deadline, work)

    async def close(self) -> None:
        """End all workers at once."""
        for task in (*self._keepers, *self._background):
            task.cancel()
        await asyncio.gather(*self._keepers, *self._background, return_exceptions=True)
        alive = list(self._alive)
        for worker in alive:
            worker.kill()
        await asyncio.gather(*(worker.end() for worker in alive))

    async def _start_generation(self) -> None:
        """One more worker for each device, kept from now on."""
        settings = self._settings()
        starting = [asyncio.create_task(self._started(one)) for one in settings]
        try:
            workers = await asyncio.gather(*starting)
        except BaseException:
            for task in starting:
                task.cancel()
            for done in await asyncio.gather(*starting, return_exceptions=True):
                if isinstance(done, Worker):
                    done.kill()
            raise
        self._ready = [*workers, *self._ready]
        self._count()
        self._keepers = [
            asyncio.create_task(self._keep(worker, one))
            for worker, one in zip(workers, settings, strict=True)
        ]

    async def _started(self, settings: WorkerSettings) -> Worker:
        worker = Worker(settings, self._metrics, self._forget)
        await worker.start()
        self._alive.add(worker)
        return worker

    async def _keep(self, worker: Worker, settings: WorkerSettings) -> None:
        """See to it that there is a worker with these settings, from this one on."""
        while True:
            watch = asyncio.create_task(self._watch(worker))
            try:
                await worker.end()
            finally:
                watch.cancel()
                self._forget(worker)
            logger.error("The worker for %s was lost; another takes its place", worker.device)
            worker = await self._replacement(settings)
            self._ready.append(worker)
            self._count()
            logger.info("The worker for %s is ready again", worker.device)

    async def _replacement(self, settings: WorkerSettings) -> Worker:
        pause = _FIRST_PAUSE
        while True:
            self._metrics.worker_restarted()
            try:
                return await self._started(settings)
            except WorkerFailed as error:
                logger.error("The worker does not start again: %s. Next try in %g s", error, pause)
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _watch(self, worker: Worker) -> None:
        """End a worker whose device hangs, so that another takes its place."""
        while worker.stuck < self._stall_seconds:
            await asyncio.sleep(min(1.0, self._stall_seconds / 4))
        logger.error("The device %s has hung for %.0f s: its worker is ended", worker.device, worker.stuck)
        worker.kill()

    def _forget(self, worker: Worker) -> None:
        if worker in self._ready:
            self._ready.remove(worker)
        self._alive.discard(worker)
        self._count()

    def _in_background(self, work: Any) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _count(self) -> None:
        self._metrics.worker_ready(len(self._ready))

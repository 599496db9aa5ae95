"""The workers: a process for each device, started, asked, and replaced."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from api.errors import ApiError
from api.tasks import Task
from api.watching.metrics import Metrics
from api.worker.settings import WorkerSettings
from api.workers import Answer, Worker, WorkerFailed

logger = logging.getLogger("api.pool")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.5, 30.0


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
        logger.error("The worker for %s has hung for %.0f s: it is ended", worker.device, worker.stuck)
        worker.kill()

    def _forget(self, worker: Worker) -> None:
        if worker in self._ready:
            self._ready.remove(worker)
        self._alive.discard(worker)
        self._count()

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    def _count(self) -> None:
        self._metrics.worker_ready(len(self._ready))

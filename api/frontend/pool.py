"""The workers, as the service asks them."""

import asyncio
from collections.abc import Callable
from typing import Any

from api.frontend.admission import Ticket
from api.frontend.errors import not_ready
from api.frontend.supervisor import Supervisor
from api.frontend.worker_client import Answer, Worker
from api.observability.metrics import Metrics
from api.protocol.messages import Task
from api.worker.settings import WorkerSettings


class Pool:
    """A worker for each device; which there are at a time, a :class:`Supervisor` sees to."""

    def __init__(
        self,
        settings: Callable[[], list[WorkerSettings]],
        metrics: Metrics,
        *,
        stall_seconds: float,
        start_seconds: float,
        no_worker_seconds: float,
    ) -> None:
        """``settings`` gives those of each worker, anew whenever one starts."""
        self._supervisor = Supervisor(
            settings, metrics, stall_seconds=stall_seconds, start_seconds=start_seconds
        )
        self._no_worker_seconds = no_worker_seconds

    @property
    def ready(self) -> bool:
        """Whether anybody can be asked."""
        return bool(self._serving)

    @property
    def models(self) -> list[dict[str, Any]]:
        """What the workers have loaded, the default model first; empty while none is ready."""
        serving = self._serving
        return serving[0].models if serving else []

    @property
    def rate(self) -> float:
        """Regions a second that the devices do together, as measured, or as they found when they started."""
        return sum(worker.rate for worker in self._serving)

    @property
    def trouble(self) -> str | None:
        """Why the workers cannot be expected to come back by themselves, if so; None else."""
        return self._supervisor.trouble(self._no_worker_seconds)

    @property
    def _serving(self) -> list[Worker]:
        slots = self._supervisor.slots
        return [slot.current for slot in slots if slot.current is not None and slot.serving]

    async def start(self) -> None:
        """Start all workers; returns once they are ready. Raises WorkerFailed if one cannot be."""
        await self._supervisor.start()

    def switch(self) -> None:
        """Start new workers with the weights as they are now, and end the old ones once they owe nothing.

        Returns at once. If the new ones cannot be started all stays as it was; the log says what was done.
        """
        self._supervisor.switch()

    def ask(self, model: str, task: Task, data: bytes, ticket: Ticket, work: int) -> asyncio.Future[Answer]:
        """Have a task done by the worker with the least to do. Raises ApiError 503 if there is none."""
        serving = self._serving
        if not serving:
            raise not_ready()
        worker = min(serving, key=lambda one: one.pending)
        return worker.ask(model, task, data, ticket, work)

    async def close(self) -> None:
        """End all workers at once."""
        await self._supervisor.close()

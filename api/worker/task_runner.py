"""Runs a task in a thread of its own, its networks on the device, in batches with others."""

import logging
from collections.abc import Callable
from contextvars import Context
from time import monotonic

from api.protocol.errors import ApiError, image_error
from api.worker.handlers import Result, Stopwatch
from api.worker.task_pool import TaskPool
from detector.errors import ImageError
from detector.inference.engine import Outputs
from detector.inference.executor import Executor, ForwardRequest
from detector.scheduling.batching import Outcome
from detector.scheduling.device_errors import Cancelled, DeviceFault, Expired, OutOfMemory
from detector.scheduling.fair_queue import RequestHandle
from detector.scheduling.scheduler import Scheduler

logger = logging.getLogger(__name__)

Answered = Callable[[Result | ApiError, Stopwatch], None]


class TaskRunner:
    """One task on its way through a worker."""

    def __init__(
        self,
        task: Callable[[Stopwatch, Executor], Result],
        handle: RequestHandle,
        scheduler: Scheduler,
        pool: TaskPool,
        answered: Answered,
        context: Context,
    ) -> None:
        """``handle`` is this task's alone. ``task`` runs in a thread of the pool and in ``context``, and so
        does ``answered``, once; that of a task cancelled before it begins runs where it is cancelled."""
        self.stopwatch = Stopwatch(self._check)
        self._task = task
        self._scheduler = scheduler
        self._pool = pool
        self._answered = answered
        self._context = context
        self._handle = handle
        handle.on_first_row = self._let_another
        self._asked = monotonic()
        self._ahead_of_device = False  # among those that were begun and wait for their first turn there

    def start(self) -> None:
        """Run the task when its time comes."""
        self._pool.begin(self._handle, self._run)

    def cancel(self) -> None:
        """Do no more: nobody waits for the answer."""
        self._scheduler.cancel(self._handle)
        if self._pool.forget(self._run):
            self._answer(_refusal(Cancelled()))

    def _run(self) -> None:
        self._context.run(self._run_in_context)

    def _run_in_context(self) -> None:
        self._ahead_of_device = True
        self.stopwatch.begin(self._asked)
        try:
            self._check()
            answer: Result | ApiError = self._task(self.stopwatch, self._execute)
        except Exception as error:
            answer = _refusal(error)
        self.stopwatch.finish()
        self._answer(answer)

    def _execute(self, request: ForwardRequest) -> Outputs:
        """Wait while the scheduler runs a request: the executor of the task's steps.

        Raises what became of it but outputs, and what the check raises.
        """
        outcomes: list[Outcome] = []
        told = 0.0

        def submit(resume: Callable[[], None]) -> None:
            def done(outcome: Outcome) -> None:
                nonlocal told
                told = monotonic()
                outcomes.append(outcome)
                resume()

            self._scheduler.submit(request, self._handle, done)

        self.stopwatch.pause()
        self._pool.wait(submit)
        [outcome] = outcomes
        self.stopwatch.add(outcome.waited + monotonic() - told, "queue")
        self.stopwatch.add(outcome.ran)
        self.stopwatch.go_on()
        if outcome.outputs is None:
            assert outcome.error is not None
            raise outcome.error
        self._check()
        return outcome.outputs

    def _check(self) -> None:
        """Raise Cancelled or Expired where nothing more is to be done."""
        if self._handle.cancelled:
            raise Cancelled
        if self._handle.deadline <= monotonic():
            raise Expired

    def _answer(self, answer: Result | ApiError) -> None:
        self._let_another()
        self._answered(answer, self.stopwatch)

    def _let_another(self) -> None:
        if self._ahead_of_device:
            self._ahead_of_device = False
            self._pool.release_slot(self._handle)


def _refusal(error: Exception) -> ApiError:
    """Return the answer to an error."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ImageError):
        return image_error(error)
    if isinstance(error, Expired):
        return ApiError(504, "deadline_exceeded", "There was no time left for this picture.")
    if isinstance(error, Cancelled):
        return ApiError(503, "draining", "The request was given up. Send it again.")
    if isinstance(error, OutOfMemory | MemoryError):
        return ApiError(503, "out_of_memory", "The picture does not fit the memory at hand. Try again later.")
    if isinstance(error, DeviceFault):
        return ApiError(503, "worker_lost", "The device failed and is started again. Send the request again.")
    logger.error("A picture met an unexpected error", exc_info=error)
    return ApiError(500, "internal_error", "Something went wrong here. It is in the service's log.")

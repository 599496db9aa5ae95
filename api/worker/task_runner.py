"""A task on its way through a worker: who takes its steps, and what is answered at the end."""

import logging
from collections.abc import Callable
from contextvars import Context
from functools import partial
from time import monotonic

from api.frontend.errors import ApiError, image_error
from api.worker.batch_queue import Outcome
from api.worker.device_errors import Cancelled, DeviceFault, Expired, OutOfMemory
from api.worker.fair_queue import Requester
from api.worker.handlers import Clock, Result
from api.worker.preprocessing_pool import Preparers
from api.worker.scheduler import Scheduler
from detector.errors import ImageError
from detector.inference.looks import Said, Steps

logger = logging.getLogger(__name__)

Answered = Callable[[Result | ApiError, Clock], None]


class Job:
    """Takes the steps of one task: each on a preparing thread, its looks on the device."""

    def __init__(
        self,
        steps: Callable[[Clock], Steps[Result]],
        requester: Requester,
        scheduler: Scheduler,
        preparers: Preparers,
        answered: Answered,
        context: Context,
    ) -> None:
        """``requester`` is this task's alone.

        ``answered`` is called once, on a preparing thread, as all steps are; they run in ``context``."""
        self.clock = Clock(self._check)
        self._steps = steps(self.clock)
        self._scheduler = scheduler
        self._preparers = preparers
        self._answered = answered
        self._context = context
        self._requester = requester
        requester.on_first_row = self._let_another
        self._asked = monotonic()
        self._counts = False  # among those that were begun and wait for their first turn

    def start(self) -> None:
        """Take the first step when its time comes."""
        self._preparers.begin(self._requester, self._begin)

    def cancel(self) -> None:
        """Do no more: nobody waits for the answer."""
        self._scheduler.cancel(self._requester)
        if self._preparers.forget(self._begin):
            self._end(_refusal(Cancelled()))

    def _begin(self) -> None:
        self._context.run(self._first)

    def _first(self) -> None:
        self._counts = True
        self.clock.add(monotonic() - self._asked, "queue")
        self._advance(None)

    def _check(self) -> None:
        """Raises Cancelled or Expired where nothing more is to be done."""
        if self._requester.cancelled:
            raise Cancelled
        if self._requester.deadline <= monotonic():
            raise Expired

    def _went(self, outcome: Outcome) -> None:
        """On the device's thread: go on elsewhere."""
        self._preparers.proceed(partial(self._context.run, self._go_on, outcome, monotonic()))

    def _go_on(self, outcome: Outcome, told: float) -> None:
        self.clock.add(outcome.waited + monotonic() - told, "queue")
        self.clock.add(outcome.ran)
        if outcome.error is not None:
            self._end(_refusal(outcome.error))
        else:
            self._advance(outcome.said)

    def _advance(self, said: Said | None) -> None:
        self.clock.go_on()
        try:
            self._check()
            # The first send starts the steps, and takes None.
            look = self._steps.send(said)  # type: ignore[arg-type]
        except StopIteration as end:
            self.clock.pause()
            self._end(end.value)
        except Exception as error:
            self._end(_refusal(error))
        else:
            self.clock.pause()
            # MultiBox's single row goes first: without it nothing is known of where to look.
            urgent = self.clock.stage == "proposals"
            self._scheduler.submit(look, self._requester, self._went, urgent=urgent)

    def _end(self, answer: Result | ApiError) -> None:
        self._let_another()
        self._answered(answer, self.clock)

    def _let_another(self) -> None:
        if self._counts:
            self._counts = False
            self._preparers.let_another(self._requester)


def _refusal(error: Exception) -> ApiError:
    """What is answered for an error."""
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

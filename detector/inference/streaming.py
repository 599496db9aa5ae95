"""Many images through one detector: several at once, their regions in shared batches, results in order.

While the network works on some images, others are read and have their proposals made. It is the library's
counterpart of the service's worker, over the same scheduler (:mod:`detector.scheduling`).
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from detector.inference.engine import Outputs
from detector.inference.executor import Executor, ForwardRequest
from detector.scheduling.batching import Outcome
from detector.scheduling.fair_queue import RequestHandle
from detector.scheduling.scheduler import Scheduler
from detector.threads import run_alone

T = TypeVar("T")
R = TypeVar("R")

_FAR = 1e12  # deadlines that never pass; the earlier an image came, the earlier its regions go

AHEAD = 2
"""Images that are read and prepared beyond those that the network is busy with."""


def stream(
    items: Iterable[T], work: Callable[[T, Executor], R], *, streams: int, ahead: int = AHEAD
) -> Iterator[tuple[T, R | Exception]]:
    """Do ``work`` on each item, several at a time in threads; yield it with its result, in order.

    ``work`` gets an item and the executor that its steps hand to the network. What it raises is yielded in
    place of the result. ``streams`` batches run at once, each on one thread; ``streams`` and ``ahead`` items
    are under way, and no more results wait to be taken: of an endless iterable as much is in memory as of a
    short one. ``items`` are taken in the caller's thread; an error of theirs is raised after the results of
    all items before it.

    Closing the generator gives up what is under way.
    """
    if streams < 1 or ahead < 1:
        raise ValueError(f"streams and ahead must be 1 or more, got {streams} and {ahead}")
    scheduler = Scheduler(streams=streams, on_start=run_alone)
    handles: deque[RequestHandle] = deque()
    under_way: deque[tuple[T, Future[R]]] = deque()
    pool = ThreadPoolExecutor(streams + ahead, "stream", initializer=run_alone)

    def first() -> tuple[T, R | Exception]:
        item, future = under_way.popleft()
        error = future.exception()
        handles.popleft()
        if error is None:
            return item, future.result()
        if not isinstance(error, Exception):
            raise error
        return item, error

    errors: list[Exception] = []
    try:
        for number, item in enumerate(_until_error(items, errors)):
            handle = RequestHandle(_FAR + number, client=scheduler)
            handles.append(handle)
            under_way.append((item, pool.submit(work, item, _executor(scheduler, handle))))
            while under_way and (len(under_way) >= 2 * (streams + ahead) or under_way[0][1].done()):
                yield first()
        while under_way:
            yield first()
        if errors:
            raise errors[0]
    finally:
        for handle in handles:
            scheduler.cancel(handle)
        pool.shutdown(wait=False, cancel_futures=True)
        scheduler.close()
        pool.shutdown()


def _until_error(items: Iterable[T], errors: list[Exception]) -> Iterator[T]:
    """Yield items; where taking one fails, add its error and end."""
    try:
        for item in items:  # noqa: UP028 (yield from would close a generator that the caller may go on with)
            yield item
    except Exception as error:
        errors.append(error)


def _executor(scheduler: Scheduler, handle: RequestHandle) -> Executor:
    """Return an executor that waits while the scheduler runs a request in batches with others."""

    def execute(request: ForwardRequest) -> Outputs:
        outcome: Future[Outcome] = Future()
        scheduler.submit(request, handle, outcome.set_result)
        done = outcome.result()
        if done.outputs is None:
            assert done.error is not None
            raise done.error
        return done.outputs

    return execute

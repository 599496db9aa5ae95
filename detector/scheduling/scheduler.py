"""The scheduler: rows of many forward requests share the batches of one device.

Whoever needs a network submits a :class:`detector.inference.executor.ForwardRequest` and is told when all its
rows are done. While the device works, what is submitted waits and forms the next batch; nothing is polled,
and the one timer is that of an idle device which waits a moment for company (``batch_timeout``).

A GPU has one stream: a thread that owns it. A CPU has one for each of its threads, and a batch runs on one of
them alone: whole batches beside each other cost less than one batch whose every layer is shared out.
"""

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

from detector.inference.engine import RunningBatch, copied_rows
from detector.inference.executor import ForwardRequest
from detector.options import QUANTUM
from detector.scheduling.batching import Batch, BatchQueue, Outcome, QueuedRequest
from detector.scheduling.device_errors import (
    Cancelled,
    DeviceFault,
    Expired,
    OutOfMemory,
    is_fault,
    is_out_of_memory,
)
from detector.scheduling.fair_queue import RequestHandle

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DeviceStats:
    """What the device did since it was last asked for, and what waits now.

    ``fills`` has a number for each batch: its rows by how many an engine takes. The oldest batch under way
    has been there for ``stuck`` seconds. In ``full_seconds`` more was waiting than was under way, and what
    was done in them takes as long as ``full_regions`` that are cut out of shared maps.
    """

    queued: int
    regions: int
    fills: tuple[float, ...]
    stuck: float
    full_regions: int
    full_seconds: float


class Scheduler:
    """Runs forward requests on one device, in batches, in threads of its own."""

    def __init__(
        self,
        *,
        streams: int = 1,
        quantum: int = QUANTUM,
        batch_timeout: float = 0.0,
        on_start: Callable[[], None] | None = None,
        on_fault: Callable[[Exception], None] | None = None,
    ) -> None:
        """Start the threads.

        ``streams``: how many batches run at once. ``batch_timeout``: seconds that an idle stream waits for
        company if there is less than a batch. ``on_start`` is called in each stream's thread before all else,
        ``on_fault`` when the device failed for good.
        """
        self._streams = streams
        self._batch_timeout = batch_timeout
        self._on_start = on_start
        self._on_fault = on_fault
        self._changed = threading.Condition()  # guards everything below
        self._queue = BatchQueue(quantum)
        self._closed = False
        self._fault: DeviceFault | None = None
        self._fills: list[float] = []
        self._regions = 0
        self._full_regions, self._full_seconds = 0, 0.0
        self._full_since: float | None = None  # since when more is waiting than is under way
        self._since: dict[int, float] = {}  # when the batch under way was started, by stream
        self._threads = [
            threading.Thread(target=self._serve, args=(stream,), name=f"device-{stream}", daemon=True)
            for stream in range(streams)
        ]
        for thread in self._threads:
            thread.start()

    def submit(self, request: ForwardRequest, handle: RequestHandle, done: Callable[[Outcome], None]) -> None:
        """Have a request run, before all others if it is urgent.

        ``done`` is called once, in a stream's thread: it must not take time, nor call the scheduler.
        """
        queued = QueuedRequest(request, handle, done, monotonic(), deque([(0, request.rows)]))
        with self._changed:
            refusal = self._fault or (Cancelled("the scheduler is closed") if self._closed else None)
            if refusal is None:
                self._queue.add(queued)
                self._note_full()
                self._changed.notify_all()
                return
        queued.conclude(refusal, queued.queued_at)

    def cancel(self, handle: RequestHandle) -> None:
        """Run nothing more of a handle's; its requests that wait are told so."""
        with self._changed:
            handle.cancelled = True
            self._changed.notify_all()

    def close(self) -> None:
        """Tell all requests that wait that they will not be run, and end once the batch under way is done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def load(self) -> DeviceStats:
        """Return what was done since the last call, and what waits."""
        now = monotonic()
        with self._changed:
            stuck = now - min(self._since.values(), default=now)
            self._note_full()
            load = DeviceStats(
                self._queue.rows,
                self._regions,
                tuple(self._fills),
                stuck,
                self._full_regions,
                self._full_seconds,
            )
            self._regions, self._fills = 0, []
            self._full_regions, self._full_seconds = 0, 0.0
        return load

    def _serve(self, stream: int) -> None:
        """Run batches, in a stream's thread, until the scheduler is closed.

        One batch is on the device, and one more is started behind it if it is whole; a device that does not
        work by itself (a CPU) is done with a batch when it was started.
        """
        if self._on_start is not None:
            self._on_start()
        running: tuple[Batch, RunningBatch] | None = None
        while True:
            batch = self._next_batch(busy=running is not None)
            if batch is None and running is None:
                return  # closed
            if running is None:
                self._note(stream, monotonic())
            started = self._start(batch) if batch is not None else None
            if running is not None:
                self._finish(*running)
                self._note(stream, monotonic())
            running = started
            if running is not None and running[1].done:
                self._finish(*running)
                running = None
            if running is None:
                self._note(stream, None)

    def _note_full(self) -> None:
        """Count the time in which more was waiting than was under way."""
        now = monotonic()
        if self._full_since is not None:
            self._full_seconds += now - self._full_since
        self._full_since = now if self._queue and len(self._since) == self._streams else None

    def _note(self, stream: int, since: float | None) -> None:
        """Note since when a stream has been busy with its batch; None: it is idle."""
        with self._changed:
            if since is None:
                self._since.pop(stream, None)
            else:
                self._since[stream] = since
            self._note_full()

    def _next_batch(self, *, busy: bool) -> Batch | None:
        """Return what to start next.

        While the device is busy only a whole batch, for any other may still grow; None if there is none.
        While it is idle this waits; None means that the scheduler is closed.
        """
        with self._changed:
            until = None  # when waiting for company ends
            while True:
                self._drop_cancelled_and_expired()
                now = monotonic()
                if self._queue and until is None:
                    until = now + self._batch_timeout
                may_wait = until is not None and now < until
                batch = self._queue.next_batch(whole=busy or may_wait, streams=self._streams)
                if batch is not None or busy or self._closed:
                    return batch
                if not self._queue:
                    until = None
                self._changed.wait(until - now if until is not None else None)

    def _start(self, batch: Batch) -> tuple[Batch, RunningBatch] | None:
        """Start a batch; return it with what runs, or None if it failed."""
        now = monotonic()
        with self._changed:
            for queued in batch.requests:
                queued.started = queued.started or now
                if not queued.urgent and queued.handle.on_first_row is not None:
                    queued.handle.on_first_row()
                    queued.handle.on_first_row = None
        with self._failures_of(batch):
            crops = [part.queued.request.make_crops(part.first, part.last) for part in batch.ranges]
            return batch, batch.engine.start(batch.engine.arrays.concatenate(crops))
        return None

    def _finish(self, batch: Batch, running: RunningBatch) -> None:
        with self._failures_of(batch):
            outputs = running.finish()
            now, row = monotonic(), 0
            with self._changed:
                self._regions += batch.rows
                if self._full_since is not None:
                    self._full_regions += batch.cost
                self._fills.append(batch.rows / batch.engine.batch)
                for part in batch.ranges:
                    arrays = batch.engine.arrays
                    part.queued.parts[part.first] = copied_rows(outputs, row, row + part.rows, arrays)
                    part.queued.under_way -= 1
                    row += part.rows
                for queued in batch.requests:
                    if not queued.waiting and not queued.under_way:
                        queued.conclude(None, now)

    @contextmanager
    def _failures_of(self, batch: Batch) -> Iterator[None]:
        """Let whatever goes wrong with a batch cost as few requests as can be."""
        try:
            yield
        except Exception as error:
            if is_fault(error):
                self._give_up(batch, error)
            elif is_out_of_memory(error):
                self._try_in_halves(batch)
            elif len(batch.requests) == 1:
                self._fail(batch.requests[0], error)
            else:  # nobody fails for the fault of a neighbour: find out whose it is
                with self._changed:
                    self._queue.put_back(batch, alone=True)
                    self._changed.notify_all()

    def _give_up(self, batch: Batch, error: Exception) -> None:
        logger.error("The device failed", exc_info=error)
        fault = DeviceFault(str(error))
        with self._changed:
            self._fault = fault
            everything = [*batch.requests, *self._queue]
        for queued in everything:
            self._fail(queued, fault)
        if self._on_fault is not None:
            self._on_fault(error)

    def _try_in_halves(self, batch: Batch) -> None:
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            torch.cuda.empty_cache()
        if batch.rows <= 1:
            self._fail(batch.requests[0], OutOfMemory("a single region does not fit the device's memory"))
            return
        rows = batch.rows // 2
        logger.warning("%d regions do not fit the device's memory: from now on at most %d", batch.rows, rows)
        with self._changed:
            self._queue.limit(batch.engine, rows)
            self._queue.put_back(batch)
            self._changed.notify_all()

    def _fail(self, queued: QueuedRequest, error: Exception) -> None:
        with self._changed:
            self._queue.remove(queued)
            queued.conclude(error, monotonic())

    def _drop_cancelled_and_expired(self) -> None:
        now = monotonic()
        for queued in self._queue:
            if self._closed or queued.handle.cancelled:
                self._fail(queued, Cancelled("nobody waits for the answer"))
            elif queued.handle.deadline <= now:
                self._fail(queued, Expired("the deadline passed"))

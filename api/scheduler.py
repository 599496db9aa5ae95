"""The scheduler: rows of many requests share the batches of one device.

One thread owns the device. Whoever needs a network submits a :class:`detector.looks.Look` and is told when
all its rows are done. While the device works, what is submitted waits and forms the next batch; nothing is
polled, and the one timer is that of an idle device which waits a moment for company (``linger``).
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import torch

from api.backlog import Backlog, Batch, Outcome, Pending
from api.fair_queue import Requester
from api.faults import Cancelled, DeviceFault, Expired, OutOfMemory, is_fault, is_out_of_memory
from detector.engine import Running
from detector.looks import Look

logger = logging.getLogger(__name__)

QUANTUM = 256
"""Rows that a request may take before it is another's turn: those of every profile but ``paper`` fit."""


@dataclass(frozen=True)
class Load:
    """What the device did since it was last asked for, and what waits now.

    ``fills`` has a number for each batch: its rows by how many an engine takes. ``busy`` seconds for
    ``regions`` rows give the device's rate. The batch under way has been there for ``stuck`` seconds.
    """

    queued: int
    regions: int
    fills: tuple[float, ...]
    busy: float
    stuck: float


class Scheduler:
    """Runs looks on one device, in batches, in a thread of its own."""

    def __init__(
        self,
        *,
        quantum: int = QUANTUM,
        linger: float = 0.0,
        on_start: Callable[[], None] | None = None,
        on_fault: Callable[[Exception], None] | None = None,
    ) -> None:
        """``linger``: seconds that an idle device waits for company if there is less than a batch.

        ``on_start`` is called in the device's thread before all else, ``on_fault`` when the device failed for
        good.
        """
        self._linger = linger
        self._on_start = on_start
        self._on_fault = on_fault
        self._changed = threading.Condition()  # guards everything below
        self._backlog = Backlog(quantum)
        self._closed = False
        self._fault: DeviceFault | None = None
        self._fills: list[float] = []
        self._regions = 0
        self._busy = 0.0
        self._batch_since: float | None = None
        self._thread = threading.Thread(target=self._serve, name="device", daemon=True)
        self._thread.start()

    def submit(
        self, look: Look, requester: Requester, done: Callable[[Outcome], None], *, urgent: bool = False
    ) -> None:
        """Have a look run.

        ``done`` is called once, in the device's thread: it must not take time, nor call the scheduler. An
        ``urgent`` look goes before all that are not: for single rows on which other work depends.
        """
        one = Pending(look, requester, done, urgent, monotonic(), deque([(0, look.rows)]))
        with self._changed:
            refusal = self._fault or (Cancelled("the scheduler is closed") if self._closed else None)
            if refusal is None:
                self._backlog.add(one)
                self._changed.notify()
                return
        one.conclude(refusal, one.asked)

    def cancel(self, requester: Requester) -> None:
        """Run nothing more of a requester; its looks that wait are told so."""
        with self._changed:
            requester.cancelled = True
            self._changed.notify()

    def close(self) -> None:
        """Tell all looks that wait that they will not be run, and end once the batch under way is done."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        self._thread.join()

    def load(self) -> Load:
        """What was done since the last call, and what waits."""
        now = monotonic()
        with self._changed:
            stuck = now - self._batch_since if self._batch_since is not None else 0.0
            load = Load(self._backlog.rows, self._regions, tuple(self._fills), self._busy, stuck)
            self._regions, self._fills, self._busy = 0, [], 0.0
        return load

    def _serve(self) -> None:
        """The device's thread. One batch is on the device, and one more is started behind it if it is whole;
        a device that does not work by itself (a CPU) is done with a batch when it was started."""
        if self._on_start is not None:
            self._on_start()
        running: tuple[Batch, Running] | None = None
        while True:
            batch = self._next_batch(busy=running is not None)
            if batch is None and running is None:
                return  # closed
            started = self._start(batch) if batch is not None else None
            if running is not None:
                self._finish(*running)
            running = started
            if running is not None and running[1].done:
                self._finish(*running)
                running = None
            with self._changed:
                self._batch_since = monotonic() if running is not None else None

    def _next_batch(self, *, busy: bool) -> Batch | None:
        """What to start next. While the device is busy only a whole batch, for any other may still grow; None
        if there is none. While it is idle this waits; None means that the scheduler is closed."""
        with self._changed:
            until = None  # when waiting for company ends
            while True:
                self._drop_what_nobody_waits_for()
                now = monotonic()
                if self._backlog and until is None:
                    until = now + self._linger
                batch = self._backlog.form(whole=busy or (until is not None and now < until))
                if batch is not None or busy or self._closed:
                    return batch
                if not self._backlog:
                    until = None
                self._changed.wait(until - now if until is not None else None)

    def _start(self, batch: Batch) -> tuple[Batch, Running] | None:
        """A batch on its way; None if it failed."""
        now = monotonic()
        for one in batch.looks:
            if one.started is None:
                one.started = now
            if not one.urgent and one.requester.on_first_row is not None:
                one.requester.on_first_row()
                one.requester.on_first_row = None
        with self._changed:
            self._batch_since = self._batch_since or now
        with self._failures_of(batch), torch.inference_mode():
            crops = [part.one.look.crops(part.first, part.last) for part in batch.slices]
            return batch, batch.engine.start(torch.cat(crops) if len(crops) > 1 else crops[0])
        return None

    def _finish(self, batch: Batch, running: Running) -> None:
        with self._failures_of(batch):
            said = running.finish()
            now = monotonic()
            with self._changed:
                self._regions += batch.rows
                self._fills.append(batch.rows / batch.engine.batch)
                if self._batch_since is not None:
                    self._busy += now - self._batch_since
            row = 0
            for part in batch.slices:
                # Copies: views would keep the rows of all others in memory.
                part.one.said[part.first] = tuple(column[row : row + part.rows].clone() for column in said)
                part.one.under_way -= 1
                row += part.rows
            for one in batch.looks:
                if not one.todo and not one.under_way:
                    one.conclude(None, now)

    @contextmanager
    def _failures_of(self, batch: Batch) -> Iterator[None]:
        """Whatever goes wrong with a batch costs as few as can be."""
        try:
            yield
        except Exception as error:
            if is_fault(error):
                self._give_up(batch, error)
            elif is_out_of_memory(error):
                self._try_in_halves(batch)
            elif len(batch.looks) == 1:
                self._fail(batch.looks[0], error)
            else:  # nobody fails for the fault of a neighbour: find out whose it is
                with self._changed:
                    self._backlog.put_back(batch, alone=True)

    def _give_up(self, batch: Batch, error: Exception) -> None:
        logger.error("The device failed", exc_info=error)
        fault = DeviceFault(str(error))
        with self._changed:
            self._fault = fault
            everything = [*batch.looks, *self._backlog]
        for one in everything:
            self._fail(one, fault)
        if self._on_fault is not None:
            self._on_fault(error)

    def _try_in_halves(self, batch: Batch) -> None:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if batch.rows <= 1:
            self._fail(batch.looks[0], OutOfMemory("a single region does not fit the device's memory"))
            return
        rows = batch.rows // 2
        logger.warning("%d regions do not fit the device's memory: from now on at most %d", batch.rows, rows)
        with self._changed:
            self._backlog.limit(batch.engine, rows)
            self._backlog.put_back(batch)

    def _fail(self, one: Pending, error: Exception) -> None:
        with self._changed:
            self._backlog.remove(one)
        one.conclude(error, monotonic())

    def _drop_what_nobody_waits_for(self) -> None:
        now = monotonic()
        for one in self._backlog:
            if self._closed or one.requester.cancelled:
                self._fail(one, Cancelled("nobody waits for the answer"))
            elif one.requester.deadline <= now:
                self._fail(one, Expired("the deadline passed"))

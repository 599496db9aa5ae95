"""The scheduler: rows of many requests share the batches of one device.

Whoever needs a network submits a :class:`detector.inference.looks.Look` and is told when
all its rows are done. While the device works, what is submitted waits and forms the next batch; nothing is
polled, and the one timer is that of an idle device which waits a moment for company (``linger``).

A GPU has one lane: a thread that owns it. A CPU has one for each of its threads, and a batch runs on one of
them alone: whole batches beside each other cost less than one batch whose every layer is shared out.
"""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from time import monotonic

import torch

from api.frontend.admission import QUANTUM
from api.worker.batch_queue import Backlog, Batch, Outcome, Pending
from api.worker.device_errors import Cancelled, DeviceFault, Expired, OutOfMemory, is_fault, is_out_of_memory
from api.worker.fair_queue import Requester
from detector.inference.engine import Running
from detector.inference.looks import Look

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Load:
    """What the device did since it was last asked for, and what waits now.

    ``fills`` has a number for each batch: its rows by how many an engine takes. The oldest batch under way
    has been there for ``stuck`` seconds. In ``full_seconds`` more was waiting than was under way, and
    ``full_regions`` were done in them.
    """

    queued: int
    regions: int
    fills: tuple[float, ...]
    stuck: float
    full_regions: int
    full_seconds: float


class Scheduler:
    """Runs looks on one device, in batches, in threads of its own."""

    def __init__(
        self,
        *,
        lanes: int = 1,
        quantum: int = QUANTUM,
        linger: float = 0.0,
        on_start: Callable[[], None] | None = None,
        on_fault: Callable[[Exception], None] | None = None,
    ) -> None:
        """``lanes``: how many batches run at once. ``linger``: seconds that an idle lane waits for company if
        there is less than a batch.

        ``on_start`` is called in each lane's thread before all else, ``on_fault`` when the device failed for
        good.
        """
        self._lanes = lanes
        self._linger = linger
        self._on_start = on_start
        self._on_fault = on_fault
        self._changed = threading.Condition()  # guards everything below
        self._backlog = Backlog(quantum)
        self._closed = False
        self._fault: DeviceFault | None = None
        self._fills: list[float] = []
        self._regions = 0
        self._full_regions, self._full_seconds = 0, 0.0
        self._full_since: float | None = None  # since when more is waiting than is under way
        self._since: dict[int, float] = {}  # when the batch under way was started, by lane
        self._threads = [
            threading.Thread(target=self._serve, args=(lane,), name=f"device-{lane}", daemon=True)
            for lane in range(lanes)
        ]
        for thread in self._threads:
            thread.start()

    def submit(
        self, look: Look, requester: Requester, done: Callable[[Outcome], None], *, urgent: bool = False
    ) -> None:
        """Have a look run.

        ``done`` is called once, in a lane's thread: it must not take time, nor call the scheduler. An
        ``urgent`` look goes before all that are not: for single rows on which other work depends.
        """
        one = Pending(look, requester, done, urgent, monotonic(), deque([(0, look.rows)]))
        with self._changed:
            refusal = self._fault or (Cancelled("the scheduler is closed") if self._closed else None)
            if refusal is None:
                self._backlog.add(one)
                self._note_full()
                self._changed.notify_all()
                return
        one.conclude(refusal, one.asked)

    def cancel(self, requester: Requester) -> None:
        """Run nothing more of a requester; its looks that wait are told so."""
        with self._changed:
            requester.cancelled = True
            self._changed.notify_all()

    def close(self) -> None:
        """Tell all looks that wait that they will not be run, and end once the batch under way is done."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def load(self) -> Load:
        """What was done since the last call, and what waits."""
        now = monotonic()
        with self._changed:
            stuck = now - min(self._since.values(), default=now)
            self._note_full()
            load = Load(
                self._backlog.rows,
                self._regions,
                tuple(self._fills),
                stuck,
                self._full_regions,
                self._full_seconds,
            )
            self._regions, self._fills = 0, []
            self._full_regions, self._full_seconds = 0, 0.0
        return load

    def _serve(self, lane: int) -> None:
        """A lane's thread. One batch is on the device, and one more is started behind it if it is whole; a
        device that does not work by itself (a CPU) is done with a batch when it was started."""
        if self._on_start is not None:
            self._on_start()
        running: tuple[Batch, Running] | None = None
        while True:
            batch = self._next_batch(busy=running is not None)
            if batch is None and running is None:
                return  # closed
            if running is None:
                self._note(lane, monotonic())
            started = self._start(batch) if batch is not None else None
            if running is not None:
                self._finish(*running)
                self._note(lane, monotonic())
            running = started
            if running is not None and running[1].done:
                self._finish(*running)
                running = None
            if running is None:
                self._note(lane, None)

    def _note_full(self) -> None:
        """Count the time in which more was waiting than was under way."""
        now = monotonic()
        if self._full_since is not None:
            self._full_seconds += now - self._full_since
        self._full_since = now if self._backlog and len(self._since) == self._lanes else None

    def _note(self, lane: int, since: float | None) -> None:
        """Since when a lane has been busy with its batch."""
        with self._changed:
            if since is None:
                self._since.pop(lane, None)
            else:
                self._since[lane] = since
            self._note_full()

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
                lingering = until is not None and now < until
                batch = self._backlog.form(whole=busy or lingering, lanes=self._lanes)
                if batch is not None or busy or self._closed:
                    return batch
                if not self._backlog:
                    until = None
                self._changed.wait(until - now if until is not None else None)

    def _start(self, batch: Batch) -> tuple[Batch, Running] | None:
        """A batch on its way; None if it failed."""
        now = monotonic()
        with self._changed:
            for one in batch.looks:
                one.started = one.started or now
                if not one.urgent and one.requester.on_first_row is not None:
                    one.requester.on_first_row()
                    one.requester.on_first_row = None
        with self._failures_of(batch), torch.inference_mode():
            crops = [part.one.look.crops(part.first, part.last) for part in batch.slices]
            return batch, batch.engine.start(torch.cat(crops) if len(crops) > 1 else crops[0])
        return None

    def _finish(self, batch: Batch, running: Running) -> None:
        with self._failures_of(batch):
            said = running.finish()
            now, row = monotonic(), 0
            with self._changed:
                self._regions += batch.rows
                if self._full_since is not None:
                    self._full_regions += batch.rows
                self._fills.append(batch.rows / batch.engine.batch)
                for part in batch.slices:
                    # Copies: views would keep the rows of all others in memory.
                    rows = tuple(column[row : row + part.rows].clone() for column in said)
                    part.one.said[part.first] = rows
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
                    self._changed.notify_all()

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
            self._changed.notify_all()

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

"""The queue of forward requests, and how batches are made of it.

Nothing here runs anything or knows of threads: the scheduler does.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from detector.inference.engine import Engine, Outputs, concatenated
from detector.inference.executor import ForwardRequest, Priority
from detector.scheduling.fair_queue import FairQueue, RequestHandle

_MIN_BATCH_ROWS = 4
"""Rows that are not shared out any further: below that a batch costs more than it does."""


@dataclass(frozen=True)
class Outcome:
    """What became of a forward request: its outputs, or the error why there are none.

    ``waited`` are the seconds until its first row went to the device, ``ran`` those from then until the last
    came back.
    """

    outputs: Outputs | None
    error: Exception | None
    waited: float
    ran: float


@dataclass(eq=False)
class QueuedRequest:
    """A forward request on its way: which rows wait, how many parts are on the device, the outputs of others.

    ``parts`` are outputs by the first of their rows; ``alone`` that it shares no batch with others.
    """

    request: ForwardRequest
    handle: RequestHandle
    done: Callable[[Outcome], None]
    queued_at: float
    waiting: deque[tuple[int, int]]
    under_way: int = 0
    parts: dict[int, Outputs] = field(default_factory=dict)
    started: float | None = None
    alone: bool = False
    concluded: bool = False

    @property
    def urgent(self) -> bool:
        """Whether it goes before all requests that are not."""
        return self.request.priority is Priority.URGENT

    @property
    def rows_waiting(self) -> int:
        """The number of rows that wait."""
        return sum(last - first for first, last in self.waiting)

    def conclude(self, error: Exception | None, now: float) -> None:
        """Hand the outcome to whoever made the request, once."""
        if self.concluded:
            return
        self.concluded = True
        outputs = None
        if error is None:
            outputs = concatenated(
                [self.parts[first] for first in sorted(self.parts)], self.request.engine.arrays
            )
        self.parts.clear()
        started = self.started if self.started is not None else now
        self.done(Outcome(outputs, error, started - self.queued_at, now - started))


@dataclass(frozen=True)
class RowRange:
    """Rows of one request, from ``first`` up to ``last``, which is left out."""

    queued: QueuedRequest
    first: int
    last: int

    @property
    def rows(self) -> int:
        """The number of rows."""
        return self.last - self.first


@dataclass(frozen=True)
class Batch:
    """Rows that go through an engine together."""

    engine: Engine
    ranges: tuple[RowRange, ...]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return sum(part.rows for part in self.ranges)

    @property
    def cost(self) -> int:
        """How many regions it takes as long as."""
        return sum(part.rows * part.queued.request.cost for part in self.ranges)

    @property
    def requests(self) -> list[QueuedRequest]:
        """The requests that it has rows of, each once."""
        return list(dict.fromkeys(part.queued for part in self.ranges))


class BatchQueue:
    """Requests that wait, urgent ones first, the others by :class:`FairQueue`."""

    def __init__(self, quantum: int) -> None:
        """``quantum``: what a request may take, by the cost of its rows, before it is another's turn."""
        self._urgent: list[QueuedRequest] = []
        self._queue: FairQueue[QueuedRequest] = FairQueue(quantum)
        self._limits: dict[Engine, int] = {}

    def __iter__(self) -> Iterator[QueuedRequest]:
        yield from list(self._urgent)
        yield from self._queue

    def __bool__(self) -> bool:
        return bool(self._urgent) or bool(len(self._queue))

    @property
    def rows(self) -> int:
        """The number of rows that wait."""
        return sum(queued.rows_waiting for queued in self)

    def add(self, queued: QueuedRequest) -> None:
        """Let a request wait."""
        if queued.urgent:
            self._urgent.append(queued)
        else:
            self._queue.add(queued)

    def remove(self, queued: QueuedRequest) -> None:
        """Let a request wait no longer, if it does."""
        queued.waiting.clear()
        if queued in self._urgent:
            self._urgent.remove(queued)
        elif queued in self._queue:
            self._queue.remove(queued)

    def limit(self, engine: Engine, rows: int) -> None:
        """Make no batch for an engine of more rows any more."""
        self._limits[engine] = min(rows, self._limits.get(engine, engine.batch))

    def next_batch(self, *, whole: bool = False, streams: int = 1) -> Batch | None:
        """Take rows for one batch out of what waits; None if there are none, or, with ``whole``, too few to
        fill it.

        Where ``streams`` run at once, a batch is no more than its share of what waits: the last rows of a
        request are run by all of them together, not by one while the others are idle.
        """
        first = self._urgent[0] if self._urgent else self._queue.next(lambda queued: True)
        if first is None:
            return None
        engine = first.request.engine
        room = self._limits.get(engine, engine.batch)

        def may_join(queued: QueuedRequest) -> bool:
            if first.alone or queued.alone:
                return queued is first
            return queued.request.engine is engine

        candidates = self._urgent if first.urgent else self._queue
        available = sum(queued.rows_waiting for queued in candidates if may_join(queued))
        if whole and available < room:
            return None
        room = min(room, max(_MIN_BATCH_ROWS, -(-available // streams)))
        take = self._take_urgent if first.urgent else self._take_by_turns
        return Batch(engine, tuple(take(may_join, room)))

    def put_back(self, batch: Batch, *, alone: bool = False) -> None:
        """Let the rows of a batch that failed wait again, where they were; with ``alone`` no request shares a
        batch with others any more."""
        for part in reversed(batch.ranges):
            queued = part.queued
            queued.under_way -= 1
            queued.alone = queued.alone or alone
            if queued.concluded:
                continue
            if not queued.waiting and queued.urgent:
                self._urgent.insert(0, queued)
            elif not queued.waiting:
                self._queue.add(queued)
            queued.waiting.appendleft((part.first, part.last))

    def _take_urgent(self, may_join: Callable[[QueuedRequest], bool], room: int) -> Iterator[RowRange]:
        for queued in [queued for queued in self._urgent if may_join(queued)]:
            if not room:
                return
            part = _cut(queued, room)
            room -= part.rows
            if not queued.waiting:
                self._urgent.remove(queued)
            yield part

    def _take_by_turns(self, may_join: Callable[[QueuedRequest], bool], room: int) -> Iterator[RowRange]:
        while room:
            queued = self._queue.next(may_join)
            if queued is None:
                return
            cost = queued.request.cost
            part = _cut(queued, min(room, max(self._queue.left_of_quantum(queued) // cost, 1)))
            room -= part.rows
            self._queue.took(queued, part.rows * cost)
            if not queued.waiting:
                self._queue.remove(queued)
            yield part


def _cut(queued: QueuedRequest, rows: int) -> RowRange:
    """Take at most so many rows of those that wait."""
    first, last = queued.waiting.popleft()
    if last - first > rows:
        queued.waiting.appendleft((first + rows, last))
        last = first + rows
    queued.under_way += 1
    return RowRange(queued, first, last)

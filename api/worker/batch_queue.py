"""What waits for the device, and how batches are made of it.

Nothing here runs anything or knows of threads: the scheduler does.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch

from api.worker.fair_queue import FairQueue, Requester
from detector.inference.engine import Engine
from detector.inference.looks import Look, Said

_LEAST_SHARE = 4
"""Rows that are not shared out any further: below that a batch costs more than it does."""


@dataclass(frozen=True)
class Outcome:
    """What became of a look: what was said, or why nothing was; seconds until its first row went to the
    device, and from then until the last came back."""

    said: Said | None
    error: Exception | None
    waited: float
    ran: float


@dataclass(eq=False)
class Pending:
    """A look on its way: which of its rows wait, which are on the device, what was said of the others."""

    look: Look
    requester: Requester
    done: Callable[[Outcome], None]
    urgent: bool
    asked: float
    todo: deque[tuple[int, int]]
    under_way: int = 0
    said: dict[int, Said] = field(default_factory=dict)
    started: float | None = None
    alone: bool = False
    over: bool = False

    @property
    def rows_to_do(self) -> int:
        """How many rows wait."""
        return sum(last - first for first, last in self.todo)

    def conclude(self, error: Exception | None, now: float) -> None:
        """Tell the asker, once."""
        if self.over:
            return
        self.over = True
        said = None
        if error is None:
            parts = [self.said[first] for first in sorted(self.said)]
            said = tuple(torch.cat(column) for column in zip(*parts, strict=True))
        self.said.clear()
        started = self.started if self.started is not None else now
        self.done(Outcome(said, error, started - self.asked, now - started))


@dataclass(frozen=True)
class Slice:
    """Rows of one look, from ``first`` up to ``last``, which is left out."""

    one: Pending
    first: int
    last: int

    @property
    def rows(self) -> int:
        """How many."""
        return self.last - self.first


@dataclass(frozen=True)
class Batch:
    """Rows that go through an engine together."""

    engine: Engine
    slices: tuple[Slice, ...]

    @property
    def rows(self) -> int:
        """How many."""
        return sum(part.rows for part in self.slices)

    @property
    def looks(self) -> list[Pending]:
        """Whose they are."""
        return list(dict.fromkeys(part.one for part in self.slices))


class Backlog:
    """Looks that wait, urgent ones first, the others by :class:`FairQueue`."""

    def __init__(self, quantum: int) -> None:
        """``quantum``: rows that a request may take before it is another's turn."""
        self._urgent: list[Pending] = []
        self._queue: FairQueue[Pending] = FairQueue(quantum)
        self._limits: dict[Engine, int] = {}

    def __iter__(self) -> Iterator[Pending]:
        yield from list(self._urgent)
        yield from self._queue

    def __bool__(self) -> bool:
        return bool(self._urgent) or bool(len(self._queue))

    @property
    def rows(self) -> int:
        """How many rows wait."""
        return sum(one.rows_to_do for one in self)

    def add(self, one: Pending) -> None:
        """Let a look wait."""
        if one.urgent:
            self._urgent.append(one)
        else:
            self._queue.add(one)

    def remove(self, one: Pending) -> None:
        """Let a look wait no longer, if it does."""
        one.todo.clear()
        if one in self._urgent:
            self._urgent.remove(one)
        elif one in self._queue:
            self._queue.remove(one)

    def limit(self, engine: Engine, rows: int) -> None:
        """Make no batch for an engine of more rows any more."""
        self._limits[engine] = min(rows, self._limits.get(engine, engine.batch))

    def form(self, *, whole: bool = False, lanes: int = 1) -> Batch | None:
        """Take rows for one batch out of what waits; None if there are none, or, with ``whole``, too few to
        fill it.

        Where ``lanes`` run at once, a batch is no more than its share of what waits: the last rows of a
        request are done by all of them together, not by one while the others look on.
        """
        first = self._urgent[0] if self._urgent else self._queue.next(lambda one: True)
        if first is None:
            return None
        engine = first.look.engine
        room = self._limits.get(engine, engine.batch)

        def may_join(other: Pending) -> bool:
            if first.alone or other.alone:
                return other is first
            return other.look.engine is engine

        waiting = self._urgent if first.urgent else self._queue
        available = sum(one.rows_to_do for one in waiting if may_join(one))
        if whole and available < room:
            return None
        room = min(room, max(_LEAST_SHARE, -(-available // lanes)))
        take = self._take_urgent if first.urgent else self._take_by_turns
        return Batch(engine, tuple(take(may_join, room)))

    def put_back(self, batch: Batch, *, alone: bool = False) -> None:
        """Let the rows of a batch that failed wait again, where they were; with ``alone`` no look shares a
        batch with others any more."""
        for part in reversed(batch.slices):
            one = part.one
            one.under_way -= 1
            one.alone = one.alone or alone
            if one.over:
                continue
            if not one.todo and one.urgent:
                self._urgent.insert(0, one)
            elif not one.todo:
                self._queue.add(one)
            one.todo.appendleft((part.first, part.last))

    def _take_urgent(self, may_join: Callable[[Pending], bool], room: int) -> Iterator[Slice]:
        for one in [one for one in self._urgent if may_join(one)]:
            if not room:
                return
            part = _cut(one, room)
            room -= part.rows
            if not one.todo:
                self._urgent.remove(one)
            yield part

    def _take_by_turns(self, may_join: Callable[[Pending], bool], room: int) -> Iterator[Slice]:
        while room:
            one = self._queue.next(may_join)
            if one is None:
                return
            part = _cut(one, min(room, self._queue.left_of_quantum(one)))
            room -= part.rows
            self._queue.took(one, part.rows)
            if not one.todo:
                self._queue.remove(one)
            yield part


def _cut(one: Pending, rows: int) -> Slice:
    """At most so many rows of those that wait."""
    first, last = one.todo.popleft()
    if last - first > rows:
        one.todo.appendleft((first + rows, last))
        last = first + rows
    one.under_way += 1
    return Slice(one, first, last)

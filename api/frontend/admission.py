"""Who is let in: at the head by an estimate, and for good once the images are here.

Work is counted in regions (the pass over a whole image as the regions that it takes as long as), and how fast
it is done is measured: so it is known whether a request can be answered in its time. One that cannot is
refused at its head, which costs nothing, instead of later, when it would have cost its work. Nothing is held
for a body that may never come: bytes count as they are received, work counts from when it can start. How long
a request waits depends on its share (:mod:`detector.scheduling.fair_queue`), not on all that is pending.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import count
from time import monotonic

from api.observability.metrics import Metrics
from api.protocol.errors import ApiError
from detector.options import QUANTUM

_MARGIN = 0.85
"""The share of a request's time that may be planned for: the rest is for what the estimate does not know."""

_PROGRESS = 64 * 1024  # bytes that show that a body is coming
_COMING = 1.0  # seconds without as much: it is not about to be complete
_SLOW = 5.0  # seconds without as much: it gives way where there is no room
_FREE_SHARE = 8  # a client may have so many times what is free: there is always room for another one

_numbers = count(1)


class Ticket:
    """A request's admission, from its head until its answer; a context manager."""

    def __init__(self, admission: "Admission", client: str, regions: int, seconds: float) -> None:
        self._admission = admission
        self.client = client
        self.number = next(_numbers)
        self.regions = regions
        self.reading = True
        self.held = 0
        self.gave_way = False
        self.deadline = monotonic() + seconds
        self.on_give_way: Callable[[], None] = lambda: None
        self._progress, self._progress_at = 0, monotonic()

    def receive(self, size: int) -> None:
        """Count bytes that came. Raises ApiError 429 where there is no room for them."""
        self._admission.hold(self, self.held + size)
        self._progress += size
        if self._progress >= _PROGRESS:
            self._progress, self._progress_at = 0, monotonic()

    def hold(self, size: int) -> None:
        """Count so many bytes for it from now on. Raises ApiError 429 where there is no room for them."""
        self._admission.hold(self, size)

    def start(self, regions: int) -> None:
        """Count its work from now on: its images are here, and are so many regions. Raises ApiError 429 where
        these cannot be done in its time."""
        self._admission.start(self, regions)

    def done(self, regions: int, size: int) -> None:
        """Count an image of so many regions and bytes no more."""
        self._admission.done(self, regions, size)

    def idle(self) -> float:
        """Return for how many seconds less than a piece worth mentioning has come."""
        return monotonic() - self._progress_at

    def __enter__(self) -> "Ticket":
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.release(self)


class Admission:
    """The books of what was admitted and is not yet answered."""

    def __init__(
        self, *, max_requests: int, max_bytes: int, rate: Callable[[], float], metrics: Metrics
    ) -> None:
        """``rate`` gives the regions a second that the devices do together."""
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._rate = rate
        self._metrics = metrics
        self._reading: dict[int, Ticket] = {}  # the oldest first
        self._working: dict[int, Ticket] = {}

    def admit(self, client: str, regions: int, size: int, seconds: float) -> Ticket:
        """Let a client's request in that may take so many seconds, with an estimate of its regions and bytes.

        Nothing is held for it yet. Raises ApiError 429 ``overloaded`` with ``Retry-After`` if it could not be
        answered in that time as things stand, or there is no room for it.
        """
        coming = [ticket for ticket in self._reading.values() if ticket.idle() < _COMING]
        expected = min(len(coming), self._max_requests // 2)
        self._check_number(client, regions, seconds, expected)
        others = sum(ticket.held for ticket in self._tickets() if not self._may_give_way(ticket))
        if others and others + size > self._max_bytes:
            raise self._overloaded(regions, seconds, "the pictures that wait fill the memory set aside")
        if self._working:
            # What is about to come counts as well, but for no more than half: it may not come.
            work = self._work_before(client, regions, self._working.values())
            soon = self._work_before(client, regions, [*self._working.values(), *coming]) - work
            self._check_time(work + min(soon, self._in(seconds) / 2), seconds)
        if len(self._reading) >= self._max_requests and not self._make_way():
            raise self._overloaded(regions, seconds, f"{len(self._reading)} requests are being sent already")
        ticket = Ticket(self, client, regions, seconds)
        self._reading[ticket.number] = ticket
        self._tell()
        return ticket

    def hold(self, ticket: Ticket, size: int) -> None:
        """Do what :meth:`Ticket.hold` says."""
        more = size - ticket.held
        while more > 0:
            total = sum(admitted.held for admitted in self._tickets())
            own = sum(admitted.held for admitted in self._tickets() if admitted.client == ticket.client)
            free = self._max_bytes - total - more
            if total == ticket.held or (
                free >= 0 and (own == ticket.held or own + more <= _FREE_SHARE * free)
            ):
                break
            if not self._make_way(but=ticket, for_bytes=True):
                seconds = ticket.deadline - monotonic()
                raise self._overloaded(
                    ticket.regions, seconds, "the pictures that wait fill the memory set aside"
                )
        ticket.held = size

    def start(self, ticket: Ticket, regions: int) -> None:
        """Do what :meth:`Ticket.start` says."""
        seconds = ticket.deadline - monotonic()
        self._check_number(ticket.client, regions, seconds)
        if self._working:  # one that comes alone is let in whatever it asks: later it would wait no less
            self._check_time(self._work_before(ticket.client, regions, self._working.values()), seconds)
        del self._reading[ticket.number]
        self._working[ticket.number] = ticket
        ticket.reading, ticket.regions = False, regions
        self._tell()

    def done(self, ticket: Ticket, regions: int, size: int) -> None:
        """Do what :meth:`Ticket.done` says."""
        ticket.regions = max(0, ticket.regions - regions)
        ticket.held = max(0, ticket.held - size)
        self._tell()

    def release(self, ticket: Ticket) -> None:
        """Forget a request that is over."""
        self._reading.pop(ticket.number, None)
        self._working.pop(ticket.number, None)
        self._tell()

    def _tickets(self) -> "list[Ticket]":
        return [*self._reading.values(), *self._working.values()]

    def _tell(self) -> None:
        regions = sum(ticket.regions for ticket in self._working.values())
        self._metrics.pending(len(self._reading) + len(self._working), regions)

    def _may_give_way(self, ticket: Ticket) -> bool:
        return ticket.reading and ticket.idle() >= _SLOW

    def _make_way(self, but: Ticket | None = None, *, for_bytes: bool = False) -> bool:
        """End a request whose body hardly comes: the oldest of the client that has most of them."""
        slow = [
            ticket
            for ticket in self._reading.values()
            if ticket is not but and self._may_give_way(ticket) and (ticket.held or not for_bytes)
        ]
        if not slow:
            return False
        numbers = Counter(ticket.client for ticket in slow)
        victim = max(slow, key=lambda ticket: numbers[ticket.client])
        del self._reading[victim.number]
        victim.held, victim.gave_way = 0, True
        victim.on_give_way()
        return True

    def _check_number(self, client: str, regions: int, seconds: float, expected: int = 0) -> None:
        number = len(self._working) + expected
        own = sum(ticket.client == client for ticket in self._working.values())
        if number >= self._max_requests or own >= _FREE_SHARE * (self._max_requests - len(self._working)):
            raise self._overloaded(regions, seconds, f"{number} requests wait already")

    def _work_before(self, client: str, regions: int, tickets: Iterable[Ticket]) -> int:
        """Return regions that the fair queue does, at most, until so many of a client's are done."""
        own = regions
        others: Counter[str] = Counter()
        turn = _turns(regions)
        for ticket in tickets:
            if ticket.client == client:
                own += min(ticket.regions, turn)
            else:
                others[ticket.client] += ticket.regions
        turn = _turns(own)
        return own + sum(min(work, turn) for work in others.values())

    def _check_time(self, work: float, seconds: float) -> None:
        if work > self._in(seconds):
            raise self._overloaded(work, seconds, "what waits already takes longer than your request may")

    def _in(self, seconds: float) -> float:
        """Return regions that can be done in the part of the time that may be planned for."""
        rate = self._rate()
        return rate * seconds * _MARGIN if rate > 0 else math.inf

    def _overloaded(self, work: float, seconds: float, why: str) -> ApiError:
        rate = self._rate()
        over = work / rate - seconds * _MARGIN if rate > 0 else 0.0
        wait = max(1, math.ceil(over))
        return ApiError(
            429,
            "overloaded",
            f"The service has too much to do: {why}. Try again in {wait} s.",
            {"Retry-After": str(wait)},
        )


def _turns(regions: int) -> int:
    """Return so many regions rounded up to whole turns."""
    return -(-regions // QUANTUM) * QUANTUM

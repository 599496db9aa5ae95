"""Who is let in: before anything is read or decoded, by an estimate of the work.

Work is counted in regions. What is admitted is known, how fast it is done is measured: so it is known whether
a request can be answered in its time. One that cannot is refused at once, which costs nothing, instead of
later, when it would have cost its work.
"""

import math
from collections.abc import Callable
from time import monotonic

from api.errors import ApiError
from api.watching.metrics import Metrics

_MARGIN = 0.85
"""The share of a request's time that may be planned for: the rest is for what the estimate does not know."""

_WINDOW = 2.0  # seconds that the rate is measured over


class Rate:
    """Regions a second that are answered while there is always something to do."""

    def __init__(self) -> None:
        self._measured: float | None = None
        self._since: float | None = None
        self._done = 0

    def value(self, stated: float) -> float:
        """What was measured, or what the devices stated themselves as long as nothing was."""
        return self._measured or stated

    def done(self, regions: int, pending: int) -> None:
        """So many regions were answered, or given up (0); ``pending`` requests wait besides."""
        now = monotonic()
        if pending < 2:  # the devices may soon have nothing to do: what is measured now says nothing
            self._since = None
            return
        if self._since is None:
            self._since, self._done = now, 0
            return
        self._done += regions
        if now - self._since >= _WINDOW:
            rate = self._done / (now - self._since)
            self._measured = rate if self._measured is None else (self._measured + rate) / 2
            self._since, self._done = now, 0


class Ticket:
    """A request's admission, from its head until its answer; a context manager."""

    def __init__(self, admission: "Admission", regions: int, size: int, deadline: float) -> None:
        self._admission = admission
        self.regions = regions
        self.size = size
        self.deadline = deadline
        self.answered = False

    def grow(self, regions: int) -> None:
        """It is more work than was thought. Raises ApiError 429 as :meth:`Admission.admit` does."""
        self._admission.extend(self, regions)

    def __enter__(self) -> "Ticket":
        return self

    def __exit__(self, *_: object) -> None:
        self._admission.release(self)


class Admission:
    """The books of what was admitted and is not yet answered."""

    def __init__(
        self, *, max_requests: int, max_bytes: int, stated_rate: Callable[[], float], metrics: Metrics
    ) -> None:
        """``stated_rate`` gives the regions a second that the devices say they can do."""
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._stated_rate = stated_rate
        self._metrics = metrics
        self._rate = Rate()
        self._requests = self._regions = self._bytes = 0

    def admit(self, regions: int, size: int, seconds: float) -> Ticket:
        """Let a request in that may take so many seconds, with an estimate of its regions and bytes.

        Raises ApiError 429 ``overloaded`` with ``Retry-After`` if it could not be answered in that time, or
        there is no room for it.
        """
        if self._requests >= self._max_requests:
            raise self._overloaded(regions, seconds, f"{self._requests} requests wait already")
        if self._bytes and self._bytes + size > self._max_bytes:
            raise self._overloaded(regions, seconds, "the pictures that wait fill the memory set aside")
        self._check_time(regions, seconds, first=not self._requests)
        ticket = Ticket(self, regions, size, monotonic() + seconds)
        self._requests += 1
        self._regions += regions
        self._bytes += size
        self._metrics.pending(self._requests, self._regions)
        return ticket

    def extend(self, ticket: Ticket, regions: int) -> None:
        """As :meth:`Ticket.grow`."""
        self._check_time(regions, ticket.deadline - monotonic(), first=self._requests == 1)
        ticket.regions += regions
        self._regions += regions
        self._metrics.pending(self._requests, self._regions)

    def release(self, ticket: Ticket) -> None:
        """The request is over."""
        self._requests -= 1
        self._regions -= ticket.regions
        self._bytes -= ticket.size
        self._metrics.pending(self._requests, self._regions)
        self._rate.done(ticket.regions if ticket.answered else 0, self._requests)

    def _check_time(self, regions: int, seconds: float, *, first: bool) -> None:
        """A request that comes alone is let in whatever it asks for: later it would wait no less."""
        if not first and self._seconds_for(self._regions + regions) > seconds * _MARGIN:
            raise self._overloaded(regions, seconds, "what waits already takes longer than your request may")

    def _seconds_for(self, regions: int) -> float:
        rate = self._rate.value(self._stated_rate())
        return regions / rate if rate > 0 else 0.0

    def _overloaded(self, regions: int, seconds: float, why: str) -> ApiError:
        over = self._seconds_for(self._regions + regions) - seconds * _MARGIN
        wait = max(1, math.ceil(over))
        return ApiError(
            429,
            "overloaded",
            f"The service has too much to do: {why}. Try again in {wait} s.",
            {"Retry-After": str(wait)},
        )

"""How often a call is tried, and when: one budget of time for all tries together."""

import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from detector.client.errors import BusyError, NoConnectionError, ServiceTimeoutError

FIRST_WAIT = 0.25
"""Seconds before the second try, or what the service asks for if that is more; twice as long before each
further one, up to ``LONGEST_WAIT``."""
LONGEST_WAIT = 8.0
JITTER = 0.25
"""The share by which a wait is lengthened at random, so that clients that were refused together do not come
back together. Never less than the service asks for."""
ANSWER_MARGIN = 0.05
"""The share of the time that is left to the service's own refusal for its way back."""
LONGEST_MARGIN = 0.5


class Attempts:
    """The tries of one call.

    :meth:`remaining` says what time the call still has, :meth:`wait_after` how long to wait before the next
    try, unless it raises what the call ends with. Waiting itself is left to the clients.
    """

    def __init__(
        self,
        timeout: float,
        retries: int,
        request_id: str,
        *,
        clock: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """``timeout``: seconds for all tries; ``retries``: further tries after the first, at most.

        ``clock`` (seconds) and ``chance`` (0..1) are given by tests.
        """
        self.request_id = request_id
        self._timeout = timeout
        self._clock = clock
        self._chance = chance
        self._deadline = clock() + timeout
        self._left = retries
        self._pause = FIRST_WAIT

    def remaining(self) -> float:
        """Return the seconds until the deadline. Raises ServiceTimeoutError when they are over."""
        seconds = self._deadline - self._clock()
        if seconds <= 0:
            raise self.expired()
        return seconds

    def allowed_milliseconds(self) -> int:
        """Return what the service is told as ``X-Timeout-Ms``: a little less than what is left."""
        seconds = self.remaining()
        return max(1, int((seconds - min(LONGEST_MARGIN, ANSWER_MARGIN * seconds)) * 1000))

    def wait_after(self, error: BusyError | NoConnectionError) -> float:
        """Return the seconds to wait before the next try; raise ``error`` if there is none.

        There is none after the last retry, nor where the wait would use up the time that is left.
        """
        asked = error.retry_after if isinstance(error, BusyError) else None
        wait = max(self._pause, asked or 0.0) * (1 + JITTER * self._chance())
        self._pause = min(LONGEST_WAIT, 2 * self._pause)
        self._left -= 1
        if self._left < 0 or self._clock() + wait >= self._deadline:
            raise error
        return wait

    def expired(self) -> ServiceTimeoutError:
        """Return the error of a call whose time is over."""
        return ServiceTimeoutError(
            "timeout",
            f"There was no answer within {self._timeout:g} s. Give the call more with timeout=.",
            None,
            self.request_id,
        )


def parse_retry_after(value: str | None) -> float | None:
    """Return the seconds that a ``Retry-After`` header asks for, as a number or a date; None for anything
    else."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return float(value)
    try:
        date = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if date.tzinfo is None:
        date = date.replace(tzinfo=UTC)
    return max(0.0, (date - datetime.now(UTC)).total_seconds())

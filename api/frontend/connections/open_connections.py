"""All open connections within their bounds: which are admitted and ended, how much waits to be read."""

import asyncio
import logging
import os
import resource
from collections.abc import Iterable
from dataclasses import dataclass
from time import monotonic
from typing import Protocol

from api.frontend.settings import Settings
from api.observability.metrics import Metrics

logger = logging.getLogger("api")

_SPARE = 64
"""File descriptors for all but clients: logs, files of the page, workers that start."""
_EACH_WORKER = 4


@dataclass(frozen=True)
class Bounds:
    """What connections may take; seconds count from the begin of each step."""

    connections: int
    """Open at once."""
    head_bytes: int
    """Of the request line and the headers; also of the trailers behind a chunked body."""
    head_seconds: float
    """From a connection's begin, or a request's first byte, to the end of its head."""
    keep_alive_seconds: float
    """Between an answer and the next request's first byte."""
    answer_seconds: float
    """For the client to take an answer, beside the time that its size allows."""
    unread_bytes: int
    """Of all answers that wait for their clients."""

    @classmethod
    def of(cls, settings: Settings) -> "Bounds":
        """Return the bounds that the settings ask for, with no more connections than the process may open."""
        return cls(
            _connections_allowed(settings),
            settings.max_head_bytes,
            settings.head_seconds,
            settings.keep_alive_seconds,
            settings.answer_seconds,
            settings.max_unread_bytes,
        )


def _connections_allowed(settings: Settings) -> int:
    """Return the connections asked for, or as many as the limit of file descriptors leaves room for.

    The soft limit is raised as far as the hard one lets it.
    """
    each = 2 if settings.allow_urls else 1  # a request may hold one more connection, to the address it names
    spare = _open_descriptors() + _SPARE + _EACH_WORKER * len(settings.devices)
    wanted = settings.max_connections * each + spare
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        if most > soft:
            resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
            soft = most
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return settings.max_connections
    allowed = max(1, max(soft - spare, soft // 4) // each)
    logger.warning(
        "The limit of %d open files leaves room for %d connections, not %d: raise it (ulimit -n)",
        soft,
        allowed,
        settings.max_connections,
    )
    return allowed


def _open_descriptors() -> int:
    try:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    except OSError:  # not on Linux
        return 32


_SWEEP_SECONDS = 1.0


class Connection(Protocol):
    """What the register knows of a connection."""

    @property
    def unread_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""

    def end_if_overdue(self, now: float) -> None:
        """End it if a step of it takes longer than allowed."""

    def abort(self, reason: str) -> None:
        """End it at once; what was not sent is lost."""


class OpenConnections:
    """The open connections of one server.

    Where there are as many as allowed, a new one takes the place of the one that has been without a request
    for the longest, so that idle connections keep nobody out; it is refused only if all have a request under
    way.
    """

    def __init__(self, bounds: Bounds, metrics: Metrics) -> None:
        self.bounds = bounds
        self.metrics = metrics
        self._open: set[Connection] = set()
        self._idle: dict[Connection, None] = {}  # the one that has been so for the longest comes first
        self._unread: dict[Connection, None] = {}  # likewise
        self._sweeping: asyncio.TimerHandle | None = None

    def admit(self, connection: Connection) -> bool:
        """Add a connection, idle for now; False if there is no room for it."""
        if len(self._open) >= self.bounds.connections:
            if not self._idle:
                return False
            next(iter(self._idle)).abort("made_room")
        self._open.add(connection)
        self.idle(connection)
        self.metrics.connections(len(self._open))
        if self._sweeping is None:
            self._sweep_later()
        return True

    def remove(self, connection: Connection) -> None:
        """Forget a connection that has ended."""
        self._open.discard(connection)
        self._idle.pop(connection, None)
        self._unread.pop(connection, None)
        self.metrics.connections(len(self._open))

    def busy(self, connection: Connection) -> None:
        """Note that a request of the connection is under way."""
        self._idle.pop(connection, None)

    def idle(self, connection: Connection) -> None:
        """Note that no request of the connection is under way any more."""
        if connection in self._open:
            self._idle.pop(connection, None)
            self._idle[connection] = None

    def unread(self, connection: Connection) -> None:
        """Note that much of an answer waits for the client of a connection.

        Ends those that have waited for the longest if all together wait with more than is allowed.
        """
        self._unread.setdefault(connection)
        waiting = sum(unread.unread_bytes for unread in self._unread)
        for waiting_longest in tuple(self._unread):
            if waiting <= self.bounds.unread_bytes or len(self._unread) == 1:
                break
            waiting -= waiting_longest.unread_bytes
            waiting_longest.abort("unread_bytes")

    def read(self, connection: Connection) -> None:
        """Note that the client took the answer, all but a little."""
        self._unread.pop(connection, None)

    def _sweep_later(self) -> None:
        self._sweeping = asyncio.get_running_loop().call_later(_SWEEP_SECONDS, self._sweep)

    def _sweep(self) -> None:
        self._end_overdue(tuple(self._open))
        self._sweeping = None
        if self._open:
            self._sweep_later()

    def _end_overdue(self, connections: Iterable[Connection]) -> None:
        now = monotonic()
        for connection in connections:
            connection.end_if_overdue(now)

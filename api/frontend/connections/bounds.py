"""The bounds of connections, from the settings and from what the system allows the process."""

import logging
import os
import resource
from dataclasses import dataclass

from api.frontend.settings import Settings

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

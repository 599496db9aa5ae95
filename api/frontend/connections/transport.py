"""The sending side of a connection: closed without losing the answer, and watched for clients that do not
read."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any

_LEAST_RATE = 256 * 1024
"""Bytes a second at which a client has to take an answer, once the seconds allowed are over."""


class SoftClosingTransport:
    """The transport of a connection as uvicorn sees it; all but closing is the transport's own.

    Closing a socket whose client still sends resets the connection, and the client loses the answer that it
    has not read yet. Here, closing calls ``on_close``, which may wait with :meth:`close_now`.
    """

    def __init__(self, transport: asyncio.Transport, on_close: Callable[[], None]) -> None:
        self._transport = transport
        self._on_close = on_close
        self._closing = False
        self.written = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        """Send data, as asyncio's; ``written`` counts the bytes."""
        self.written += len(data)
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Return whether nothing more is to be written."""
        return self._closing or self._transport.is_closing()

    def close(self) -> None:
        """Let nothing more be written, and call ``on_close``, once."""
        if not self._closing:
            self._closing = True
            self._on_close()

    def close_now(self) -> None:
        """Close once all is sent; what the client still sends resets the connection."""
        self._closing = True
        self._transport.close()

    def reset(self) -> None:
        """End the connection at once. What was not sent is thrown away by the system too, which would keep it
        for a client that does not read."""
        connected = self._transport.get_extra_info("socket")
        if connected is not None:
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()


class UnreadAnswer:
    """Whether a client takes its answers fast enough."""

    def __init__(self, transport: SoftClosingTransport, seconds: float) -> None:
        """``seconds`` may pass without any progress; and in all, beside what the size of the answer
        allows."""
        self._transport = transport
        self._seconds = seconds
        self._since: float | None = None  # when something was first seen to wait
        self._taken_then = 0  # bytes that the client had taken by then
        self._progress, self._taken = 0.0, 0  # when it was last seen to have taken some, and how many in all

    def is_overdue(self, now: float) -> bool:
        """Note what the client took until ``now``, of ``time.monotonic``; return whether that is too
        little."""
        unread = int(self._transport.get_write_buffer_size())
        taken = self._transport.written - unread
        if unread == 0:
            self._since = None
            return False
        if self._since is None:
            self._since, self._taken_then = now, taken
            self._progress, self._taken = now, taken
        elif taken > self._taken:
            self._progress, self._taken = now, taken
        allowed = self._seconds + (self._transport.written - self._taken_then) / _LEAST_RATE
        return now > self._progress + self._seconds or now > self._since + allowed

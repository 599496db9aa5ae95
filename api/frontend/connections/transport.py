"""A transport that can be closed without losing the answer."""

import asyncio
import socket
import struct
from collections.abc import Callable
from typing import Any


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
        """As asyncio's; ``written`` counts the bytes."""
        self.written += len(data)
        self._transport.write(data)

    def is_closing(self) -> bool:
        """Whether nothing more is to be written."""
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

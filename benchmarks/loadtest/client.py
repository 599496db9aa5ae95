"""An HTTP/1.1 client that costs little and tells every way in which a request can end.

A library's client would raise one of many exceptions and hide when a connection was used again; here each
request ends in exactly one :class:`Answer`, so that none is lost count of.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType

import httptools

REFUSED = "refused"
"""Nobody listens: no connection was made."""
RESET = "reset"
"""The connection broke before a whole answer."""
CLOSED = "closed"
"""The connection was closed without one byte of an answer."""
CUT = "cut off"
"""The connection was closed in the middle of an answer."""
SILENT = "silent"
"""No whole answer came in the time that the client waits."""
NO_ANSWER = (REFUSED, RESET, CLOSED, CUT, SILENT)


@dataclass(frozen=True)
class Answer:
    """How one request ended: a status such as "200", or one of :data:`NO_ANSWER`."""

    outcome: str
    started: float
    """By ``time.monotonic``."""
    seconds: float
    """From before the connection was made, if a new one was, to the last byte."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Names in lower case."""
    body: bytes = b""

    @property
    def code(self) -> str | None:
        """The code of an error in this service's shape, None for anything else."""
        try:
            return str(json.loads(self.body)["error"]["code"])
        except (ValueError, KeyError, TypeError):
            return None


def request(
    path: str,
    body: bytes = b"",
    content_type: str = "image/jpeg",
    *,
    method: str = "POST",
    headers: Mapping[str, str] | None = None,
) -> bytes:
    """Return the bytes of a request."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if body or method == "POST":
        lines += [f"Content-Length: {len(body)}", f"Content-Type: {content_type}"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def form(files: Mapping[str, bytes], boundary: str = "7d1b9f0c") -> tuple[bytes, str]:
    """Return a multipart form with the field ``file`` for each of the files by name, and its content type."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
        "Content-Type: image/jpeg\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files.items()
    ]
    return b"".join(parts) + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


class Client:
    """One user with one connection, made when needed and used again as long as the server keeps it."""

    def __init__(self, port: int, patience: float = 600, address: str = "127.0.0.1") -> None:
        """``patience``: seconds after which an answer counts as never coming; ``address``: the loopback
        address (127.0.0.0/8) that the connection comes from."""
        self._port = port
        self._patience = patience
        self._address = address
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def __aenter__(self) -> "Client":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Leave at once."""
        if self._writer is not None:
            self._writer.transport.abort()
        self._reader = self._writer = None

    async def ask(self, message: bytes) -> Answer:
        """Send a request and wait for its end."""
        started = time.monotonic()
        reply = _Reply()
        try:
            async with asyncio.timeout(self._patience):
                outcome = await self._exchange(message, reply)
        except TimeoutError:
            outcome = SILENT
        except OSError:
            outcome = RESET
        if outcome in NO_ANSWER or not reply.keep_alive:
            self.close()
        return Answer(outcome, started, time.monotonic() - started, reply.headers, bytes(reply.body))

    async def _exchange(self, message: bytes, reply: "_Reply") -> str:
        if self._reader is None or self._writer is None or self._reader.at_eof():
            self.close()
            try:
                self._reader, self._writer = await asyncio.open_connection(
                    "127.0.0.1", self._port, local_addr=(self._address, 0)
                )
            except ConnectionRefusedError:
                return REFUSED
        self._writer.write(message)  # not awaited: a refusal may come before all of it is sent
        parser = httptools.HttpResponseParser(reply)
        while not reply.complete:
            data = await self._reader.read(1 << 16)
            if not data:
                return CUT if reply.begun else CLOSED
            reply.begun = True
            parser.feed_data(data)
        reply.keep_alive = parser.should_keep_alive()
        return str(parser.get_status_code())


class _Reply:
    """What httptools calls out."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.begun = self.complete = self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, data: bytes) -> None:
        self.body += data

    def on_message_complete(self) -> None:
        self.complete = True

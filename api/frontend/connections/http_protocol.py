"""HTTP/1.1 within bounds: uvicorn's protocol, which bounds neither heads nor unread answers."""

import asyncio
import uuid
from time import monotonic
from typing import Any

import httptools
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.frontend.connections.continuing import close_if_body_was_not_asked_for
from api.frontend.connections.heads import origin_form, without_upgrade
from api.frontend.connections.register import Register
from api.frontend.connections.transport import SoftClosingTransport
from api.frontend.errors import error_reply

_MAX_HEADERS = 128
_MAX_PIPELINED = 8
"""Requests that wait behind the one under way; of more, the rest has to be sent anew."""

_DISCARDED_BYTES = 64 * 1024 * 1024
_DISCARDED_SECONDS = 30.0
"""How much of a body is taken and thrown away after its request was answered, so that the client, still
sending, gets to read the answer."""

_LEAST_RATE = 256 * 1024
"""Bytes a second at which a client has to take an answer, once ``answer_seconds`` are over."""

_MALFORMED = (400, "malformed_request", "This is no HTTP/1.1 request. Let an HTTP library write it.")
_HEAD_TOO_LARGE = (
    431,
    "head_too_large",
    "The request line and headers are too large. Send fewer or shorter.",
)
_SLOW_HEAD = (408, "slow_head", "The head of the request did not come in time. Send it faster.")
_NO_TUNNEL = (405, "method_not_allowed", "This is no proxy: CONNECT is not answered. See /docs.")
_FULL = (503, "too_many_connections", "As many connections are open as may be. Try again in a moment.")


class BoundedHttp(HttpToolsProtocol):
    """One connection.

    A request that offers to go on in another protocol (``Upgrade: h2c``, ``websocket``) is answered in
    HTTP/1.1. Trailers are dropped: nothing sent behind a body adds headers to its request.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        register: Register,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self.app = close_if_body_was_not_asked_for(self.app)
        self._register = register
        self._bounds = register.bounds
        self._since = monotonic()
        """When the present step began, where no request is under way: the head, idleness, discarding."""
        self._unread_since: float | None = None
        self._taken_then = 0  # bytes that the client had taken by then
        self._taken = 0  # and when it was last looked at
        self._progress = self._since
        """When the client was last seen to have taken some of its answer."""
        self._requests = self._under_way = 0
        self._in_head = self._in_message = False
        self._upgrade = False
        self._headers = self._head_bytes = 0
        self._fruitless = 0  # bytes since the parser last told of a head, a piece of body or an end
        self._discarded = 0
        self._deaf = False  # nothing that still comes is looked at
        self._refusal: tuple[int, str, str] | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As asyncio's; refused where there are too many."""
        self._socket = SoftClosingTransport(transport, self._close)
        super().connection_made(self._socket)  # type: ignore[arg-type]
        if not self._register.admit(self):
            self._refuse(*_FULL, retry_after=1)
            self._socket.close_now()

    def connection_lost(self, exc: Exception | None) -> None:
        """As asyncio's."""
        self._register.remove(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End it if no request is under way, else after that."""
        if self._under_way == 0:
            self._socket.close_now()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """As asyncio's: much of an answer waits."""
        super().pause_writing()
        self._register.unread(self)

    def resume_writing(self) -> None:
        """As asyncio's."""
        self._register.read(self)
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Do nothing: uvicorn's timer does not run again once a refused body has come to its end.

        :meth:`end_if_overdue` watches instead.
        """

    def _close(self) -> None:
        """The last answer is written. While its request's body still comes, it is taken and thrown away."""
        if self._in_message and not self._deaf and self.transport.can_write_eof():
            self._deaf = True
            self._since = monotonic()
            self.transport.write_eof()
            self.flow.resume_reading()
            self._register.idle(self)
        else:
            self._socket.close_now()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        super()._start_asgi_task(cycle, _quiet_when_cancelled(cycle, app))  # type: ignore[arg-type]

    # What the register asks

    @property
    def unread_bytes(self) -> int:
        """Bytes of answers that the client has not taken yet."""
        return int(self.transport.get_write_buffer_size())

    def abort(self, reason: str) -> None:
        """End it at once; what was not sent is lost."""
        self._register.metrics.connection_ended(reason)
        self._register.remove(self)
        self._socket.reset()

    def end_if_overdue(self, now: float) -> None:
        """End it if the present step takes longer than allowed."""
        unread = self.unread_bytes
        if unread == 0:
            self._unread_since = None
        elif self._is_unread_too_long(now, self._socket.written - unread):
            self.abort("unread_answer")
            return
        if unread or (self._under_way and not self._deaf):
            return
        waited = now - self._since
        if self._deaf or (self._in_message and not self._in_head):
            if waited > _DISCARDED_SECONDS:
                self.abort("slow_body")
        elif self._requests and not self._in_head and not self._fruitless:
            if waited > self._bounds.keep_alive_seconds:
                self.transport.close()
        elif waited > self._bounds.head_seconds:
            if self._in_head or self._fruitless:
                self._refuse(*_SLOW_HEAD)
            else:
                self._register.metrics.connection_ended("no_request")
                self.transport.close()

    def _is_unread_too_long(self, now: float, taken: int) -> bool:
        """Whether the client takes nothing of its answer any more, or takes it slower than allowed."""
        if self._unread_since is None:
            self._unread_since, self._taken_then = now, taken
            self._progress, self._taken = now, taken
        elif taken > self._taken:
            self._progress, self._taken = now, taken
        seconds = self._bounds.answer_seconds
        in_all = seconds + (self._socket.written - self._taken_then) / _LEAST_RATE
        return now > self._progress + seconds or now > self._unread_since + in_all

    # What comes

    def data_received(self, data: bytes) -> None:
        """As asyncio's."""
        if self._deaf:
            self._discard(len(data))
            return
        if not (self._in_message or self._in_head or self._fruitless):
            self._since = monotonic()
        self._fruitless += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as pause:
            self._go_on_without_upgrade(data[pause.args[0] :])
        except httptools.HttpParserError:
            self._parsing_failed()
        else:
            if self._fruitless > self._bounds.head_bytes:
                self._refusal = _HEAD_TOO_LARGE
                self._parsing_failed()

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Parse the request again as if it had offered nothing; its body, unread so far, included.

        The parser takes what follows such a head for another protocol.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self._refusal = _NO_TUNNEL
            self._parsing_failed()
            return
        head = without_upgrade(method, self.url, version, self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.data_received(head + rest)

    def _parsing_failed(self) -> None:
        """Refuse what cannot be read on, after the answers that are owed."""
        refusal = self._refusal or _MALFORMED
        if self._under_way == 0 and (self._in_head or not self._in_message):
            self._refuse(*refusal)
        elif self._in_head or not self._in_message:  # what is wrong comes after whole requests
            self._deaf = True
            self.cycle.keep_alive = False
        elif self._under_way == 1 and not self.cycle.response_started:
            self._refuse(*refusal)
        else:
            self.abort(refusal[1])

    def _refuse(self, status: int, code: str, message: str, retry_after: int | None = None) -> None:
        """Answer without asking the app, and close."""
        self._register.metrics.connection_ended(code)
        headers = {"Connection": "close", "X-Request-Id": uuid.uuid4().hex}
        if retry_after is not None:
            headers["Retry-After"] = str(retry_after)
        reply = error_reply(status, code, message, headers)
        lines = [b"HTTP/1.1 %d %s" % (status, _PHRASES[status])]
        lines += [b"%s: %s" % header for header in (*self.server_state.default_headers, *reply.raw_headers)]
        if self.cycle is not None:  # its app has nobody to answer any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(b"\r\n".join(lines) + b"\r\n\r\n" + bytes(reply.body))
        self._in_message = True  # the client may still send
        self.transport.close()

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > _DISCARDED_BYTES:
            self.abort("large_body")

    # What the parser finds

    def on_message_begin(self) -> None:
        """As httptools'."""
        if self._under_way > _MAX_PIPELINED:
            raise _Stop
        super().on_message_begin()
        self._in_head, self._in_message = True, True
        self._upgrade = False
        self._headers = self._head_bytes = self._discarded = 0

    def on_url(self, url: bytes) -> None:
        """As httptools'; called with each piece."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """As httptools'; also called for trailers."""
        if self._in_head:
            self._headers += 1
            self._count(len(name) + len(value))
            super().on_header(name, value)

    def _count(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > self._bounds.head_bytes or self._headers > _MAX_HEADERS:
            self._refusal = _HEAD_TOO_LARGE
            raise _Stop

    def on_headers_complete(self) -> None:
        """As httptools'."""
        self._fruitless = 0
        if self.parser.should_upgrade():
            self._upgrade = True
            return
        self.url = origin_form(self.url)
        super().on_headers_complete()
        self._in_head = False
        self._requests += 1
        self._under_way += 1
        self._register.busy(self)

    def on_body(self, body: bytes) -> None:
        """As httptools'."""
        self._fruitless = 0
        if self.cycle.response_complete:
            self._discard(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """As httptools'."""
        self._fruitless = 0
        if self._upgrade:
            return
        self._in_message = False
        if self._under_way == 0:
            self._since = monotonic()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """As uvicorn's: an answer is written, not necessarily sent."""
        self._under_way -= 1
        if self._under_way == 0 and not self._deaf:
            self._since = monotonic()
            self._register.idle(self)
        super().on_response_complete()


def _quiet_when_cancelled(cycle: RequestResponseCycle, app: ASGIApp) -> ASGIApp:
    """The app; cancelled amid an answer, as at the service's end, it cuts the connection, which tells the
    client. uvicorn would also log a traceback."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except asyncio.CancelledError:
            cycle.disconnected = True
            cycle.transport.abort()

    return answer


class _Stop(Exception):
    """Stops the parser."""


_PHRASES = {
    400: b"Bad Request",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    431: b"Request Header Fields Too Large",
    503: b"Service Unavailable",
}

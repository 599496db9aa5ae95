"""HTTP/1.1 within bounds: uvicorn's protocol, which bounds neither heads nor unread answers."""

import asyncio
from time import monotonic
from typing import Any

import httptools
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle
from uvicorn.server import ServerState

from api.frontend.connections.open_connections import OpenConnections
from api.frontend.connections.refusals import (
    FULL,
    HEAD_TOO_LARGE,
    MALFORMED,
    NO_TUNNEL,
    SLOW_HEAD,
    Refusal,
)
from api.frontend.connections.request_head import (
    close_if_body_was_not_asked_for,
    origin_form,
    without_upgrade,
)
from api.frontend.connections.transport import SoftClosingTransport, UnreadAnswer
from api.frontend.shutdown import cut_when_cancelled

_MAX_HEADERS = 128
_MAX_PIPELINED = 8
"""Requests that wait behind the one under way; of more, the rest has to be sent anew."""

_DISCARDED_BYTES = 64 * 1024 * 1024
_DISCARDED_SECONDS = 30.0
"""How much of a body is taken and thrown away after its request was answered, so that the client, still
sending, gets to read the answer."""


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
        register: OpenConnections,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._register = register
        self._bounds = register.bounds
        self._since = monotonic()
        """When the present step began, where no request is under way: the head, idleness, discarding."""
        self._requests = self._under_way = 0
        self._in_head = self._in_message = False
        self._upgrade = False
        self._headers = self._head_bytes = 0
        self._unparsed_bytes = 0  # bytes since the parser last told of a head, a piece of body or an end
        self._discarded = 0
        self._discarding = False  # nothing that still comes is looked at
        self._refusal: Refusal | None = None

    # The connection

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Take a new connection, as asyncio's; refuse it where there are too many."""
        self._socket = SoftClosingTransport(transport, self._close)
        self._unread = UnreadAnswer(self._socket, self._bounds.answer_seconds)
        super().connection_made(self._socket)  # type: ignore[arg-type]
        if not self._register.admit(self):
            self._refuse(FULL)
            self._socket.close_now()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it, as asyncio's."""
        self._register.remove(self)
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End it if no request is under way, else after that."""
        if self._under_way == 0:
            self._socket.close_now()
        else:
            super().shutdown()

    def pause_writing(self) -> None:
        """Note that much of an answer waits, as asyncio's."""
        super().pause_writing()
        self._register.unread(self)

    def resume_writing(self) -> None:
        """Note that the client reads, as asyncio's."""
        self._register.read(self)
        super().resume_writing()

    def timeout_keep_alive_handler(self) -> None:
        """Do nothing: uvicorn's timer does not run again once a refused body has come to its end.

        :meth:`end_if_overdue` watches instead.
        """

    def _close(self) -> None:
        """Close once the last answer is written. While its request's body still comes, throw that away."""
        if self._in_message and not self._discarding and self.transport.can_write_eof():
            self._discarding = True
            self._since = monotonic()
            self.transport.write_eof()
            self.flow.resume_reading()
            self._register.idle(self)
        else:
            self._socket.close_now()

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        super()._start_asgi_task(cycle, cut_when_cancelled(cycle, app))  # type: ignore[arg-type]

    # What the register calls

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
        if self._unread.is_overdue(now):
            self.abort("unread_answer")
            return
        if self.unread_bytes or (self._under_way and not self._discarding):
            return
        waited = now - self._since
        if self._discarding or (self._in_message and not self._in_head):
            if waited > _DISCARDED_SECONDS:
                self.abort("slow_body")
        elif self._requests and not self._in_head and not self._unparsed_bytes:
            if waited > self._bounds.keep_alive_seconds:
                self.transport.close()
        elif waited > self._bounds.head_seconds:
            if self._in_head or self._unparsed_bytes:
                self._refuse(SLOW_HEAD)
            else:
                self._register.metrics.connection_ended("no_request")
                self.transport.close()

    # What is received

    def data_received(self, data: bytes) -> None:
        """Parse what comes, as asyncio's."""
        if self._discarding:
            self._discard(len(data))
            return
        if not (self._in_message or self._in_head or self._unparsed_bytes):
            self._since = monotonic()
        self._unparsed_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as pause:
            self._go_on_without_upgrade(data[pause.args[0] :])
        except httptools.HttpParserError:
            self._parsing_failed()
        else:
            if self._unparsed_bytes > self._bounds.head_bytes:
                self._refusal = HEAD_TOO_LARGE
                self._parsing_failed()

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Parse the request again as if it had offered nothing; its body, unread so far, included.

        The parser takes what follows such a head for another protocol.
        """
        method, version = self.parser.get_method(), self.parser.get_http_version()
        if method == b"CONNECT":
            self._refusal = NO_TUNNEL
            self._parsing_failed()
            return
        head = without_upgrade(method, self.url, version, self.headers)
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does
        self.data_received(head + rest)

    def _parsing_failed(self) -> None:
        """Refuse what cannot be read on, after the answers that are owed."""
        refusal = self._refusal or MALFORMED
        if self._under_way == 0 and (self._in_head or not self._in_message):
            self._refuse(refusal)
        elif self._in_head or not self._in_message:  # what is wrong comes after whole requests
            self._discarding = True
            self.cycle.keep_alive = False
        elif self._under_way == 1 and not self.cycle.response_started:
            self._refuse(refusal)
        else:
            self.abort(refusal.code)

    def _refuse(self, refusal: Refusal) -> None:
        """Answer without asking the app, and close."""
        self._register.metrics.connection_ended(refusal.code)
        if self.cycle is not None:  # its app has nobody to answer any more
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(refusal.as_bytes(self.server_state.default_headers))
        self._in_message = True  # the client may still send
        self.transport.close()

    def _discard(self, count: int) -> None:
        self._discarded += count
        if self._discarded > _DISCARDED_BYTES:
            self.abort("large_body")

    # What the parser calls

    def on_message_begin(self) -> None:
        """Begin a request, as httptools'."""
        if self._under_way > _MAX_PIPELINED:
            raise _Stop
        super().on_message_begin()
        self._in_head, self._in_message = True, True
        self._upgrade = False
        self._headers = self._head_bytes = self._discarded = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the target, as httptools'."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, as httptools'; drop a trailer."""
        if self._in_head:
            self._headers += 1
            self._count(len(name) + len(value))
            super().on_header(name, value)

    def _count(self, count: int) -> None:
        self._head_bytes += count
        if self._head_bytes > self._bounds.head_bytes or self._headers > _MAX_HEADERS:
            self._refusal = HEAD_TOO_LARGE
            raise _Stop

    def on_headers_complete(self) -> None:
        """Hand the request to the app, as httptools'."""
        self._unparsed_bytes = 0
        if self.parser.should_upgrade():
            self._upgrade = True
            return
        if not self.url.startswith(b"/"):
            self.url = origin_form(self.url)
        app = self.app
        if self.expect_100_continue:
            self.app = close_if_body_was_not_asked_for(app)
        super().on_headers_complete()
        self.app = app
        self._in_head = False
        self._requests += 1
        self._under_way += 1
        self._register.busy(self)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body, as httptools'."""
        self._unparsed_bytes = 0
        if self.cycle.response_complete:
            self._discard(len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """End a request, as httptools'."""
        self._unparsed_bytes = 0
        if self._upgrade:
            return
        self._in_message = False
        if self._under_way == 0:
            self._since = monotonic()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Note that an answer is written, not necessarily sent, as uvicorn's."""
        self._under_way -= 1
        if self._under_way == 0 and not self._discarding:
            self._since = monotonic()
            self._register.idle(self)
        super().on_response_complete()


class _Stop(Exception):
    """Stops the parser."""

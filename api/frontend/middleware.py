"""What wraps the application: every request gets an id, a span, a line in the log and its share of the
metrics, and HEAD is answered as GET.

Plain ASGI: Starlette's BaseHTTPMiddleware would hide from the routes that a client has disconnected.
"""

import logging
import re
import uuid
from collections.abc import Collection
from time import perf_counter
from typing import Any
from urllib.parse import quote

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.observability.logs import FIELDS, REQUEST_ID, TRACE_ID
from api.observability.metrics import Metrics
from api.observability.tracing import Span, Tracing

logger = logging.getLogger("api.access")

API_VERSION = "1"
"""The version of the interface, which every reply states. A change that breaks clients raises it, and gets a
path of its own (``/v2/detect``): ``/detect`` stays."""

CLIENT_DISCONNECTED = 499
"""Logged and counted as the status of a request whose client disconnected; nobody receives it."""

WORK = ("/detect", "/classify")
"""Where a refusal counts by its reason."""

_KNOWN = (*WORK, "/models")  # so named even where a request is refused before it meets its route
POLLED = ("/health/live", "/health/ready", "/metrics")
"""What is asked every few seconds, and logged only where the answer is not the expected one."""

_POLLS = (200, 503)  # and these are what is expected; the service logs by itself when it becomes ready
_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_MAX_PATH = 256


class RequestObserver:
    """Wraps the whole app, so that no answer escapes it, not even that of an unexpected error:

        app.middleware_stack = RequestObserver(app.build_middleware_stack(), metrics)

    as the last step, since an app takes no further middleware or error handlers after that.

    ``scope["state"]`` gets ``request_id``, ``span``, to which routes add what they do, and ``log``, a dict in
    which a route puts what the log shall say of its request. Handlers of errors put the code of the error in
    ``error_code``.
    """

    def __init__(
        self,
        app: ASGIApp,
        metrics: Metrics,
        tracing: Tracing | None = None,
        work: Collection[str] = WORK,
        polled: Collection[str] = POLLED,
    ) -> None:
        self._app = app
        self._metrics = metrics
        self._tracing = tracing or Tracing()
        self._work = work
        self._polled = polled

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(scope, receive, send, self._metrics, self._span(scope), self._work, self._polled)
        # Never reset: a request has its task for itself, and the server may log its exception after this.
        REQUEST_ID.set(exchange.request_id)
        TRACE_ID.set(exchange.span.trace_id)
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except Exception:
            if not exchange.answered:
                raise  # the server cuts the connection, which tells the client
            # Answered as internal_error. Passed on, it would still cost the client its connection.
            logger.exception("%s %s failed", scope["method"], _shown_path(scope))
        finally:
            exchange.finish()

    def _span(self, scope: Scope) -> Span:
        if scope["path"] in self._polled:
            return Span()
        method, path = scope["method"], _shown_path(scope)
        return self._tracing.request(
            scope["headers"], {"http.request.method": method, "url.path": path, "url.scheme": scope["scheme"]}
        )


class _Exchange:
    """One request and its answer, as they pass."""

    def __init__(
        self,
        scope: Scope,
        receive: Receive,
        send: Send,
        metrics: Metrics,
        span: Span,
        work: Collection[str],
        polled: Collection[str],
    ) -> None:
        self._start = perf_counter()
        self._work, self._polled = work, polled
        self._scope, self._receive, self._send, self._metrics = scope, receive, send, metrics
        self.span = span
        self.request_id = _request_id(scope)
        self._state: dict[str, Any] = scope.setdefault("state", {})
        self._state["request_id"] = self.request_id
        self._state["span"] = span
        self._state["log"] = {}
        self._bytes_in = self._bytes_out = 0
        self._status: int | None = None
        self._disconnected = self._finished = False
        self.answered = False

    async def receive(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._bytes_in += len(message.get("body", b""))
        elif message["type"] == "http.disconnect":
            self._disconnected = not self.answered  # a server also says so once all is sent
        return message

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = int(message["status"])  # Starlette may give an HTTPStatus
            headers = (
                (b"x-request-id", self.request_id.encode("ascii")),
                (b"x-api-version", API_VERSION.encode("ascii")),
            )
            message = {**message, "headers": [*message.get("headers", ()), *headers]}
        elif message["type"] == "http.response.body":
            self._bytes_out += len(message.get("body", b""))
        await self._send(message)
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self.answered = True
            self.finish()  # at once: whoever got the answer may ask for the metrics next

    def finish(self) -> None:
        """Log and count, once."""
        if self._finished:
            return
        self._finished = True
        seconds = perf_counter() - self._start
        if self._disconnected:
            status = CLIENT_DISCONNECTED
            self._metrics.abandoned()
        else:
            status = self._status if self.answered and self._status is not None else 500
        endpoint = _endpoint(self._scope)
        self._metrics.request_done(endpoint, status, seconds)
        code = self._state.get("error_code")
        if status >= 400 and not self._disconnected and endpoint in self._work:
            self._metrics.refused(code or "unknown")
        self._end_span(endpoint, status, code)
        self._log(endpoint, status, seconds, code)

    def _end_span(self, endpoint: str, status: int, code: str | None) -> None:
        method = self._scope["method"]
        attributes = {"detector.request_id": self.request_id}
        if code is not None:
            attributes["error.type"] = code
        if self._disconnected:
            attributes["error.type"] = "client_disconnected"
        if endpoint == "other":
            self.span.end(method, status, attributes)
        else:
            self.span.end(f"{method} {endpoint}", status, {**attributes, "http.route": endpoint})

    def _log(self, endpoint: str, status: int, seconds: float, code: str | None) -> None:
        level = logging.WARNING if status >= 500 else logging.INFO
        if endpoint in self._polled and status in _POLLS:
            level = logging.DEBUG
        if not logger.isEnabledFor(level):
            return
        method, path = self._scope["method"], _shown_path(self._scope)
        milliseconds = round(seconds * 1000, 2)
        client = self._scope.get("client")
        # Neither the query nor a header: both may hold a key. Routes add the parameters that they know.
        fields = {
            **self._state["log"],
            "method": method,
            "path": path,
            "status": status,
            "duration_ms": milliseconds,
            "bytes_in": self._bytes_in,
            "bytes_out": self._bytes_out,
            "client": client[0] if client else None,
        }
        if code is not None:
            fields["error_code"] = code
        logger.log(level, "%s %s %d in %s ms", method, path, status, milliseconds, extra={FIELDS: fields})


def _request_id(scope: Scope) -> str:
    """Return the client's own id if it is a plain one, else a new one."""
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            return value.decode("ascii") if _ID.fullmatch(value) else uuid.uuid4().hex
    return uuid.uuid4().hex


def _endpoint(scope: Scope) -> str:
    """Return the path of the route: labels must not be as many as clients can make up."""
    path: str | None = getattr(scope.get("route"), "path", None)
    if path is not None:
        return path
    return scope["path"] if scope["path"] in _KNOWN else "other"


def _shown_path(scope: Scope) -> str:
    """Return the path as it was sent, percent-encoded, so that it is one word."""
    raw: bytes | None = scope.get("raw_path")
    path = raw.decode("latin-1") if raw is not None else quote(scope["path"])
    return path if len(path) <= _MAX_PATH else path[:_MAX_PATH] + "..."


class HeadAsGet:
    """Answers HEAD as GET, without the body: its length is stated all the same (RFC 9110, section 9.3.2).

    FastAPI's routes know GET alone.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] != "HEAD":
            await self._app(scope, receive, send)
            return
        as_get = {**scope, "method": "GET"}

        async def without_body(message: Message) -> None:
            if "route" in as_get:
                scope["route"] = as_get["route"]  # metrics and log go by it
            if message["type"] == "http.response.body":
                message = {**message, "body": b""}
            await send(message)

        await self._app(as_get, receive, without_body)

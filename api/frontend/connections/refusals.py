"""What a connection is told before, or instead of, being let through to the application."""

import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus

from api.frontend.errors import error_reply
from api.frontend.middleware import API_VERSION


@dataclass(frozen=True)
class Refusal:
    """An error in the one shape of all errors; ``retry_after`` is in seconds."""

    status: HTTPStatus
    code: str
    message: str
    retry_after: int | None = None

    def as_bytes(self, default_headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """Return the whole answer, which closes the connection; ``default_headers`` are the server's."""
        headers = {"Connection": "close", "X-Request-Id": uuid.uuid4().hex, "X-API-Version": API_VERSION}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        reply = error_reply(self.status, self.code, self.message, headers)
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}".encode()]
        lines += [b"%s: %s" % header for header in (*default_headers, *reply.raw_headers)]
        return b"\r\n".join(lines) + b"\r\n\r\n" + bytes(reply.body)


MALFORMED = Refusal(
    HTTPStatus.BAD_REQUEST,
    "malformed_request",
    "This is no HTTP/1.1 request. Let an HTTP library write it.",
)
HEAD_TOO_LARGE = Refusal(
    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
    "head_too_large",
    "The request line and headers are too large. Send fewer or shorter.",
)
SLOW_HEAD = Refusal(
    HTTPStatus.REQUEST_TIMEOUT,
    "slow_head",
    "The head of the request did not come in time. Send it faster.",
)
NO_TUNNEL = Refusal(
    HTTPStatus.METHOD_NOT_ALLOWED,
    "method_not_allowed",
    "This is no proxy: CONNECT is not answered. See /docs.",
)
FULL = Refusal(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "too_many_connections",
    "As many connections are open as may be. Try again in a moment.",
    retry_after=1,
)

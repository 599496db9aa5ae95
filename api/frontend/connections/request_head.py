"""What heads of requests may ask of a server of HTTP/1.1 alone: an absolute target, another protocol, to wait
with the body."""

import re
from collections.abc import Iterable

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_AUTHORITY = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)
_OFFERS = (b"upgrade", b"http2-settings")


def origin_form(target: bytes) -> bytes:
    """Return a request's target without scheme and host, which it may have (RFC 9112, section 3.2.2)."""
    absolute = _AUTHORITY.match(target)
    if absolute is None:
        return target
    rest = target[absolute.end() :]
    return rest if rest.startswith(b"/") else b"/" + rest


def without_upgrade(
    method: bytes, target: bytes, version: str, headers: Iterable[tuple[bytes, bytes]]
) -> bytes:
    """Return the head of a request without its offer to go on in another protocol (RFC 9110, section 7.8).

    Java's HTTP client offers HTTP/2 so with every request.
    """
    lines = [b"%s %s HTTP/%s" % (method, target, version.encode())]
    for name, value in headers:
        if name in _OFFERS:
            continue
        if name == b"connection":
            tokens = [token.strip() for token in value.split(b",")]
            value = b", ".join(token for token in tokens if token.lower() not in _OFFERS)
            if not value:
                continue
        lines.append(b"%s: %s" % (name, value))
    return b"\r\n".join(lines) + b"\r\n\r\n"


def close_if_body_was_not_asked_for(app: ASGIApp) -> ASGIApp:
    """Have the connection closed behind an answer to a request that still waits for ``100 Continue``.

    Whether its client sends the body after all or the next request, nobody could tell (RFC 9110, section
    10.1.1).
    """

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not any(name == b"expect" for name, _ in scope["headers"]):
            await app(scope, receive, send)
            return
        asked = False

        async def receive_asking() -> Message:
            nonlocal asked
            asked = True
            return await receive()

        async def send_closing(message: Message) -> None:
            if message["type"] == "http.response.start" and not asked:
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await app(scope, receive_asking, send_closing)

    return answer

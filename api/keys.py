"""Optional API keys: who may ask for work."""

import hmac
import re
from collections.abc import Iterable
from hashlib import sha256
from typing import Any

from fastapi import FastAPI
from starlette.types import ASGIApp, Receive, Scope, Send

from api.errors import error_reply

_GUARDED = re.compile(r"/(detect|classify|models)(/.*)?", re.DOTALL)
_SCHEMES = {
    "bearer": {"type": "http", "scheme": "bearer", "description": "Authorization: Bearer KEY"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "X-API-Key: KEY"},
}
_MESSAGE = (
    "This service asks for a key, and no valid one was sent. "
    "Send it as the header Authorization: Bearer KEY, or X-API-Key: KEY."
)
_UNAUTHORIZED = {
    "description": "No valid key",
    "content": {
        "application/json": {
            "schema": {"$ref": "#/components/schemas/ErrorReply"},
            "examples": {"unauthorized": {"value": {"error": {"code": "unauthorized", "message": _MESSAGE}}}},
        }
    },
}


class ApiKeys:
    """Asks for a key before anything is done for a request, its body unread.

    Guards /detect, /classify and /models, and whatever is below them; the page, /docs, /health and /metrics
    stay open. Only digests of the keys are kept, and all of them are compared with what was sent, each in
    constant time.
    """

    def __init__(self, app: ASGIApp, keys: Iterable[str]) -> None:
        """Without any key, nobody is let in."""
        self._app = app
        self._digests = [sha256(key.encode()).digest() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not _is_guarded(scope) or self._known(_sent_keys(scope)):
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["error_code"] = "unauthorized"
        reply = error_reply(401, "unauthorized", _MESSAGE, {"WWW-Authenticate": "Bearer"})
        await reply(scope, receive, send)

    def _known(self, sent: list[bytes]) -> bool:
        digests = [sha256(key).digest() for key in sent]
        same = [hmac.compare_digest(one, known) for one in digests for known in self._digests]
        return any(same)  # all were compared, so that the time tells nothing


def _is_guarded(scope: Scope) -> bool:
    """Whether the path needs a key, as it stands or below the place that the app is mounted at."""
    path: str = scope["path"]
    below = path.removeprefix(scope.get("root_path", ""))
    return any(_GUARDED.fullmatch(one) for one in (path, below))


def _sent_keys(scope: Scope) -> list[bytes]:
    """The keys in the headers of a request, at most one of each kind."""
    headers = dict(scope["headers"])
    sent = []
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        sent.append(key.strip())
    if b"x-api-key" in headers:
        sent.append(headers[b"x-api-key"].strip())
    return sent


def document_keys(app: FastAPI) -> None:
    """Say in the OpenAPI document what :class:`ApiKeys` asks for, which gives /docs its Authorize button."""
    without = app.openapi

    def with_keys() -> dict[str, Any]:
        document = without()
        document.setdefault("components", {})["securitySchemes"] = _SCHEMES
        for path, operations in document["paths"].items():
            if _GUARDED.fullmatch(path):
                for operation in operations.values():
                    operation["security"] = [{name: []} for name in _SCHEMES]
                    operation["responses"]["401"] = _UNAUTHORIZED
        return document

    app.openapi = with_keys  # type: ignore[method-assign]  # FastAPI's own way to change the document

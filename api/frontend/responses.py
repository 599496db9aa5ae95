"""JSON replies, serialised once."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response


def json_reply(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a reply with ``content`` as its JSON body."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")


def error_reply(status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error, which always looks like this."""
    return json_reply({"error": {"code": code, "message": message}}, status, headers)

"""JSON replies, serialised once."""

from collections.abc import Mapping
from typing import Any

import orjson
from fastapi import Response


def json_reply(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """A reply with ``content`` as its JSON body."""
    return Response(orjson.dumps(content), status, headers, media_type="application/json")

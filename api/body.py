"""From the body of a request to the bytes of the picture in it.

A body is read no further than its limit: what is too large is refused before it is in memory.
"""

from dataclasses import dataclass

from fastapi import Request

from api.errors import ApiError
from api.multipart import parse_form

RAW_TYPES = ("image/jpeg", "image/png", "image/webp", "image/bmp")
FIELD = "file"

_ALIASES = ("image/jpg", "image/x-ms-bmp")  # not registered, yet often sent
_MULTIPART = "multipart/form-data"
_MULTIPART_FRAMING = 16 * 1024  # boundaries and part headers around a picture


@dataclass(frozen=True)
class Upload:
    """The bytes of a picture, and the name that a multipart form gave it."""

    data: bytes
    name: str | None = None


async def read_body(request: Request, max_bytes: int) -> bytes:
    """The whole body of a request that carries a picture of at most ``max_bytes``.

    Raises ApiError: 400 without a body, 415 for a content type that cannot carry a picture, 413 for a body
    over the limit, from its Content-Length if it has one and else as soon as the limit is passed.
    """
    length = request.headers.get("content-length")
    if length == "0" or (length is None and "transfer-encoding" not in request.headers):
        raise ApiError(
            400,
            "empty",
            f"The request has no body. Send the picture as the body or as the form field {FIELD!r}.",
        )
    media_type = _media_type(request.headers.get("content-type", ""))
    if media_type != _MULTIPART and media_type not in RAW_TYPES + _ALIASES:
        raise ApiError(
            415,
            "unsupported_media_type",
            f"The Content-Type is {media_type or 'missing'}. Send {', '.join(RAW_TYPES)}, or {_MULTIPART} "
            f"with the field {FIELD!r}.",
        )
    limit = max_bytes + (_MULTIPART_FRAMING if media_type == _MULTIPART else 0)
    if length is not None and length.isdecimal() and int(length) > limit:
        raise _too_many_bytes(max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > limit:
            raise _too_many_bytes(max_bytes)
        body += chunk
    return bytes(body)


def extract(content_type: str, body: bytes) -> Upload:
    """The picture in a body: the body itself, or the field ``file`` of a multipart form.

    Raises ApiError: 400 for a malformed form or one without that field, 422 for another field, which would
    otherwise be ignored in silence.
    """
    if _media_type(content_type) != _MULTIPART:
        return Upload(body)
    try:
        parts = parse_form(content_type, body)
    except ValueError as error:
        raise ApiError(
            400,
            "malformed_form",
            f"The multipart form is malformed: {error}. Let your HTTP library write it.",
        ) from error
    files = [part for part in parts if part.name == FIELD]
    if len(files) != 1:
        raise ApiError(
            400, "missing_file", f"The form has {len(files)} fields {FIELD!r}. Send exactly one, the picture."
        )
    others = [part.name for part in parts if part.name != FIELD]
    if others:
        raise ApiError(
            422,
            "invalid_parameter",
            f"There is no form field {others[0]!r}. The picture goes in {FIELD!r}, all else in the query.",
        )
    return Upload(bytes(files[0].data), files[0].filename)


def _media_type(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


def _too_many_bytes(max_bytes: int) -> ApiError:
    return ApiError(
        413,
        "too_many_bytes",
        f"The picture has more than the {max_bytes:,} bytes allowed. Scale it down or compress it more.",
    )

"""What the body of a request may be, and reading it within its limits.

A body is read no further than its limit: what is too large is refused before it is in memory.
"""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request

from api.frontend.errors import ApiError

RAW_TYPES = (
    "image/jpeg",
    "image/png",
    "image/webp",
    "image/bmp",
    "image/gif",
    "image/tiff",
    "application/octet-stream",
)
"""What a picture sent as the body may be called. Any other ``image/...`` will do: the content decides."""
FORM_TYPE = "multipart/form-data"
JSON_TYPE = "application/json"
FIELD = "file"
FIELDS = (FIELD, "files", "image", "images")
"""The form fields that hold pictures, each also with ``[]`` behind it, as PHP and some libraries write it."""

# What says nothing of the content: no type at all, and what curl's --data-binary states unless it is told.
_UNSTATED = ("", "binary/octet-stream", "application/x-www-form-urlencoded")
_FRAMING = 16 * 1024  # braces and keys of JSON; a form's boundary after the last part
_PART_FRAMING = 5 * 1024  # the boundary and the headers of one part


@dataclass(frozen=True)
class Upload:
    """One picture of a request: its bytes, and the name that a form or an address gave it.

    ``refusal``, where there is one, is what the picture is refused for before anybody looks at its bytes,
    which are empty then: one of several pictures that is too large costs its neighbours nothing.
    """

    data: bytes
    name: str | None = None
    refusal: ApiError | None = None


@dataclass(frozen=True)
class UploadLimits:
    """How much a request may bring: bytes of one picture, pictures of one request, and the memory that its
    body and pictures take together, if that is not less than of one picture."""

    max_bytes: int
    max_pictures: int
    max_held: int = 2**63

    def held(self, media_type: str, size: int) -> int:
        """Return how much memory so many bytes of a body take: a form's and JSON's pictures are taken out of
        it while it is there."""
        return 2 * size if media_type in (FORM_TYPE, JSON_TYPE) else size

    def body_bytes(self, media_type: str, images: int) -> int:
        """Most bytes of a body of that type with so many pictures (a raw body is always one)."""
        one, several = self._body_bytes(media_type, 1), self._body_bytes(media_type, images)
        return max(one, min(several, self.max_held // self.held(media_type, 1)))

    def _body_bytes(self, media_type: str, images: int) -> int:
        if media_type == FORM_TYPE:
            return images * (self.max_bytes + _PART_FRAMING) + _FRAMING
        if media_type == JSON_TYPE:  # base64, in lines of 76 characters at the worst
            return images * (self.max_bytes * 4 // 3 * 39 // 38) + _FRAMING
        return self.max_bytes


def media_type_of(request: Request) -> str:
    """The content type without its parameters, in lower case; empty if there is none."""
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _may_hold_images(media_type: str) -> bool:
    return media_type.startswith("image/") or media_type in (*RAW_TYPES, *_UNSTATED, FORM_TYPE, JSON_TYPE)


def check_headers(request: Request, limits: UploadLimits) -> None:
    """Refuse by its headers what cannot be a picture, before anything is read.

    Raises ApiError: 400 ``empty`` without a body, 415 for a content type or a compression that is not read,
    413 for a stated length over the limit.
    """
    length = _stated_length(request)
    if length == 0 or (length is None and "transfer-encoding" not in request.headers):
        raise ApiError(
            400,
            "empty",
            f"The request has no body. Send the picture as the body or as the form field {FIELD!r}.",
        )
    media_type = media_type_of(request)
    if not _may_hold_images(media_type):
        raise ApiError(
            415,
            "unsupported_media_type",
            f"The Content-Type is {media_type[:80]}. Send a picture as image/jpeg, image/png or the like, or "
            f"as application/octet-stream, {FORM_TYPE} with the field {FIELD!r}, or {JSON_TYPE}.",
        )
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise ApiError(
            415,
            "unsupported_media_type",
            f"The Content-Encoding is {encoding[:80]}. Send the body as it is: it is compressed already.",
        )
    if length is not None and length > limits.body_bytes(media_type, limits.max_pictures):
        raise _body_too_large(media_type, limits)


def declared_bytes(request: Request, limits: UploadLimits) -> int:
    """What a request will take at most, by its headers: its stated length, or else that of one picture.

    A body that does not state its length is not read any further than this. Raises ApiError as
    :func:`check_headers` does.
    """
    check_headers(request, limits)
    length = _stated_length(request)
    media_type = media_type_of(request)
    return limits.held(media_type, length if length is not None else limits.body_bytes(media_type, 1))


async def read_body(
    request: Request, limits: UploadLimits, receive: Callable[[int], None] = lambda size: None
) -> bytearray:
    """The whole body of a request; ``receive`` is told of the memory that each piece takes.

    Raises ApiError as :func:`check_headers` does, and 413 as soon as the body passes its limit: that of as
    many pictures as are allowed if its length was stated, that of one picture if it was not.
    """
    check_headers(request, limits)
    media_type = media_type_of(request)
    images = 1 if _stated_length(request) is None else limits.max_pictures
    most = limits.body_bytes(media_type, images)
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > most:
            raise _body_too_large(media_type, limits, stated=images > 1)
        receive(limits.held(media_type, len(chunk)))
        body += chunk
    if not body:
        raise ApiError(400, "empty", "The body is empty. Send the content of a picture file.")
    return body


def too_many_bytes(limits: UploadLimits) -> ApiError:
    """The refusal of one picture for its size."""
    return ApiError(
        413,
        "too_many_bytes",
        f"The picture has more than the {limits.max_bytes:,} bytes allowed. Scale it down or compress it "
        "more.",
    )


def too_many_images(limits: UploadLimits) -> ApiError:
    """The refusal of a request for the number of its pictures."""
    return ApiError(
        413,
        "too_many_pictures",
        f"The request has more than the {limits.max_pictures} pictures allowed. Send several requests.",
    )


def _stated_length(request: Request) -> int | None:
    length = request.headers.get("content-length", "")
    return int(length) if length.isdecimal() and len(length) < 20 else None


def _body_too_large(media_type: str, limits: UploadLimits, stated: bool = True) -> ApiError:
    if media_type not in (FORM_TYPE, JSON_TYPE):
        return too_many_bytes(limits)
    if not stated:
        return ApiError(
            413,
            "too_many_bytes",
            f"The body has more than the {limits.max_bytes:,} bytes of one picture and states no length. "
            "Send a Content-Length, or one picture a request.",
        )
    return ApiError(
        413,
        "too_many_bytes",
        f"The body has more than the {limits.body_bytes(media_type, limits.max_pictures):,} bytes allowed. "
        "Send fewer or smaller pictures a request, or one as the body itself.",
    )

"""From a request to the bytes of the pictures it carries, whatever way they were sent."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from fastapi import Request

from api.frontend.errors import ApiError
from api.frontend.uploads.forms import TooManyParts, parse_form
from api.frontend.uploads.json_body import Images, parse_json
from api.frontend.uploads.limits import (
    FIELD,
    FIELDS,
    FORM_TYPE,
    JSON_TYPE,
    Upload,
    UploadLimits,
    check_headers,
    declared_bytes,
    media_type_of,
    read_body,
    too_many_bytes,
    too_many_images,
)
from api.frontend.uploads.remote import Fetcher

__all__ = ["Upload", "UploadLimits", "Uploads", "check_headers", "declared_bytes", "read_uploads"]

_OFF_THE_LOOP = 100_000
"""From so many bytes a body is taken apart in a thread: below, handing it over costs more than the work."""


@dataclass(frozen=True)
class Uploads:
    """The pictures of a request, at least one. ``many``: whether the reply is a list, one entry a picture."""

    items: tuple[Upload, ...]
    many: bool


async def read_uploads(
    request: Request,
    limits: UploadLimits,
    fetcher: Fetcher | None,
    receive: Callable[[int], None] = lambda size: None,
) -> Uploads:
    """The pictures that a request carries: a raw body, a form with one or several fields of
    ``FIELDS``, or JSON with base64 or an address, which ``fetcher`` is asked for (None: addresses are
    refused). ``receive`` is told of the memory that what comes takes, and may raise ApiError.

    Raises ApiError: 400 for what is no picture (``empty``, ``missing_file``, ``malformed_form``,
    ``malformed_json``, ``bad_base64``), 403 for an address that may not be fetched, 413 for too many bytes or
    pictures, 415 for a content type that is not read, 422 for a form field that would be ignored in silence,
    502 for an address that gave no picture. What is wrong with one of several pictures stands in its Upload.
    """
    body = await read_body(request, limits, receive)
    media_type = media_type_of(request)
    if media_type not in (FORM_TYPE, JSON_TYPE):
        return Uploads((Upload(bytes(body)),), many=False)
    content_type = request.headers["content-type"]
    parse = (
        (lambda: _from_form(content_type, body, limits))
        if media_type == FORM_TYPE
        else (lambda: parse_json(body, limits))
    )
    content = await asyncio.to_thread(parse) if len(body) > _OFF_THE_LOOP else parse()
    if isinstance(content, Images):
        return Uploads(content.items, content.many)
    if fetcher is None:
        raise ApiError(
            403,
            "url_disabled",
            "This service fetches no addresses. Send the picture itself.",
        )
    return Uploads((await fetcher.fetch(content, receive),), many=False)


def _from_form(content_type: str, body: bytearray, limits: UploadLimits) -> Images:
    try:
        parts = parse_form(content_type, body, limits.max_pictures + 1)
    except TooManyParts as error:
        raise too_many_images(limits) from error
    except ValueError as error:
        raise ApiError(
            400,
            "malformed_form",
            f"The multipart form is malformed: {error}. Let your HTTP library write it.",
        ) from error
    others = [part.name for part in parts if part.name.removesuffix("[]") not in FIELDS]
    if len(others) == len(parts):
        raise ApiError(
            400,
            "missing_file",
            f"The form has no field {FIELD!r}. Send the picture in one, or several in several.",
        )
    if others:
        raise ApiError(
            422,
            "invalid_parameter",
            f"There is no form field {others[0][:40]!r}. Pictures go in {FIELD!r}, all else in the query.",
        )
    if len(parts) > limits.max_pictures:
        raise too_many_images(limits)
    uploads = [
        Upload(part.data, part.filename)
        if len(part.data) <= limits.max_bytes
        else Upload(b"", part.filename, too_many_bytes(limits))
        for part in parts
    ]
    if len(uploads) == 1 and uploads[0].refusal is not None:
        raise uploads[0].refusal
    return Images(tuple(uploads), many=len(uploads) > 1)

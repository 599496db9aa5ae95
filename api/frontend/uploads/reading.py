"""From a request to the bytes of the images it carries, whatever way they were sent."""

import asyncio
from collections.abc import Callable

from fastapi import Request

from api.frontend.uploads.body import FORM_TYPE, JSON_TYPE, ExpectedBody, Upload, Uploads
from api.frontend.uploads.forms import read_form
from api.frontend.uploads.json_body import parse_json
from api.frontend.uploads.remote import Fetcher
from api.protocol.errors import ApiError

_OFF_THE_LOOP = 100_000
"""From so many bytes a body is taken apart in a thread: below, handing it over costs more than the work."""


async def read_uploads(
    request: Request,
    expected: ExpectedBody,
    fetcher: Fetcher | None,
    receive: Callable[[int], None] = lambda size: None,
) -> Uploads:
    """Return the images that a request carries: a raw body, a form with one or several fields of ``FIELDS``,
    or JSON with base64 or an address, which ``fetcher`` is asked for (None: addresses are refused).

    ``receive`` is told of the memory that what comes takes, and may raise ApiError.

    Raises ApiError: 400 for what is no image (``empty``, ``missing_file``, ``malformed_form``,
    ``malformed_json``, ``bad_base64``), 403 for an address that may not be fetched, 413 for too many bytes or
    images, 422 for a form field that would be ignored in silence, 502 for an address that gave no image. What
    is wrong with one of several images stands in its Upload.
    """
    body = await _read_body(request, expected, receive)
    if expected.media_type not in (FORM_TYPE, JSON_TYPE):
        return Uploads((Upload(bytes(body)),), many=False)

    def parse() -> Uploads | str:
        if expected.media_type == FORM_TYPE:
            return read_form(request.headers["content-type"], body, expected.limits)
        return parse_json(body, expected.limits)

    content = await asyncio.to_thread(parse) if len(body) > _OFF_THE_LOOP else parse()
    if isinstance(content, Uploads):
        return content
    if fetcher is None:
        raise ApiError(
            403,
            "url_disabled",
            "This service fetches no addresses. Send the picture itself.",
        )
    return Uploads((await fetcher.fetch(content, receive),), many=False)


async def _read_body(request: Request, expected: ExpectedBody, receive: Callable[[int], None]) -> bytearray:
    """Return the whole body of a request; ``receive`` is told of the memory that each piece takes.

    Raises ApiError 413 as soon as the body passes its limit, before it is in memory, and 400 for an empty
    one.
    """
    body = bytearray()
    async for chunk in request.stream():
        if len(body) + len(chunk) > expected.most:
            raise expected.too_large()
        receive(expected.limits.held(expected.media_type, len(chunk)))
        body += chunk
    if not body:
        raise ApiError(400, "empty", "The body is empty. Send the content of a picture file.")
    return body

"""From a request to the bytes of the images it carries, whatever way they were sent."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TypeVar

from fastapi import Request

from api.frontend.uploads.body import (
    FORM_TYPE,
    JSON_TYPE,
    ExpectedBody,
    Upload,
    UploadLimits,
    Uploads,
    check_headers,
)
from api.frontend.uploads.forms import read_form
from api.frontend.uploads.json_body import parse_json
from api.frontend.uploads.remote import Fetcher, url_disabled
from api.protocol.errors import ApiError
from api.protocol.messages import Task

T = TypeVar("T")

Receive = Callable[[int], None]
"""What is told of the memory that a request takes, as it comes; it may raise ApiError."""

_OFF_THE_LOOP = 100_000
"""From so many bytes a body is taken apart in a thread: below, handing it over costs more than the work."""


@dataclass(frozen=True)
class Requested:
    """What a request asks: of which model (None: the first), and the task of each of its images."""

    uploads: Uploads
    model: str | None
    task_of: Callable[[Upload], Task]


@dataclass(frozen=True)
class RequestReader:
    """How a request is read: its headers by ``expect``, its body by ``read``.

    ``model`` and ``task`` are what the head says is asked for each image, or what is assumed until the body
    has said it. ``read`` is told of the memory that what comes takes.
    """

    model: str | None
    task: Task
    expect: Callable[[Request, UploadLimits], ExpectedBody]
    read: Callable[[Request, ExpectedBody, Fetcher | None, Receive], Awaitable[Requested]]


def uploads_reader(model: str | None, task_of: Callable[[Upload], Task]) -> RequestReader:
    """Return what reads requests whose query says what is asked, and whose body holds images alone."""

    async def read(
        request: Request, expected: ExpectedBody, fetcher: Fetcher | None, receive: Receive
    ) -> Requested:
        return Requested(await read_uploads(request, expected, fetcher, receive), model, task_of)

    return RequestReader(model, task_of(Upload(b"")), check_headers, read)


async def read_uploads(
    request: Request,
    expected: ExpectedBody,
    fetcher: Fetcher | None,
    receive: Receive = lambda size: None,
) -> Uploads:
    """Return the images that a request carries: a raw body, a form with one or several fields of ``FIELDS``,
    or JSON with base64 or an address, which ``fetcher`` is asked for (None: addresses are refused).

    ``receive`` is told of the memory that what comes takes, and may raise ApiError.

    Raises ApiError: 400 for what is no image (``empty``, ``missing_file``, ``malformed_form``,
    ``malformed_json``, ``bad_base64``), 403 for an address that may not be fetched, 413 for too many bytes or
    images, 422 for a form field that would be ignored in silence, 502 for an address that gave no image. What
    is wrong with one of several images stands in its Upload.
    """
    body = await read_body(request, expected, receive)
    if expected.media_type not in (FORM_TYPE, JSON_TYPE):
        return Uploads((Upload(bytes(body)),), many=False)

    def parse() -> Uploads | str:
        if expected.media_type == FORM_TYPE:
            return read_form(request.headers["content-type"], body, expected.limits)
        return parse_json(body, expected.limits)

    return await uploads_of(await off_the_loop(len(body), parse), fetcher, receive)


async def uploads_of(content: Uploads | str, fetcher: Fetcher | None, receive: Receive) -> Uploads:
    """Return the images, or the one at an address, which ``fetcher`` is asked for.

    Raises ApiError 403 and 502 as :func:`read_uploads`.
    """
    if isinstance(content, Uploads):
        return content
    if fetcher is None:
        raise url_disabled()
    return Uploads((await fetcher.fetch(content, receive),), many=False)


async def off_the_loop(size: int, parse: Callable[[], T]) -> T:
    """Return what ``parse`` makes of a body of so many bytes, in a thread where that may take long."""
    return await asyncio.to_thread(parse) if size > _OFF_THE_LOOP else parse()


async def read_body(request: Request, expected: ExpectedBody, receive: Receive) -> bytearray:
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

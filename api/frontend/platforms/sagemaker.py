"""Amazon SageMaker: ``GET /ping`` and ``POST /invocations``, as it asks the containers that it runs.

A picture is the body, or base64 in JSON, sent as to ``POST /detect``, and the reply is that of ``/detect``.
What is asked for stands in the header ``X-Amzn-SageMaker-Custom-Attributes``, which SageMaker hands on, or
beside the picture as ``parameters``.
"""

from time import perf_counter

from fastapi import APIRouter, Request, Response

from api.frontend.platforms.platform import Platform, detect_options, requested
from api.frontend.responses import objects_reply
from api.frontend.schemas import DetectOptions
from api.frontend.service import Service
from api.frontend.uploads.body import (
    JSON_TYPE,
    ExpectedBody,
    UploadLimits,
    Uploads,
    check_headers,
    expect_body,
    stated_type,
)
from api.frontend.uploads.json_body import json_uploads, load_json
from api.frontend.uploads.reading import (
    Receive,
    Requested,
    RequestReader,
    off_the_loop,
    read_body,
    read_uploads,
    uploads_of,
)
from api.frontend.uploads.remote import Fetcher
from api.protocol.errors import ApiError

ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"
_PICTURE_TYPE = "application/x-image"  # what SageMaker's own image algorithms call a picture
_ADVICE = 'Send {"image": "<base64>"} or {"images": ["<base64>", ...]}, and {"parameters": {...}} beside it.'


def platform() -> Platform:
    """Return the interface."""
    return Platform(_invocations, _ping)


_invocations = APIRouter(include_in_schema=False)
_ping = APIRouter(include_in_schema=False)


@_ping.get("/ping")
async def ping(request: Request) -> Response:
    """Whether a request would be served now. Raises ApiError 503 if not."""
    service: Service = request.app.state.service
    service.check_ready()
    return Response()


@_invocations.post("/invocations")
async def invocations(request: Request) -> Response:
    """Find the objects in one or several pictures."""
    start = perf_counter()
    service: Service = request.app.state.service
    attributes = attributes_of(request.headers.get(ATTRIBUTES, ""))
    uploads, answers = await service.answer(request, _reader(attributes))
    return objects_reply(request, uploads, answers, "detections", start)


def attributes_of(text: str) -> dict[str, object]:
    """Return the parameters in the header: ``name=value`` with commas between them, ``classes`` once for each
    class.

    Raises ApiError 422 for what is not of that form.
    """
    values: dict[str, object] = {}
    classes = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        name, equals, value = (word.strip() for word in part.partition("="))
        if not equals or name in values:
            problem = f"{name[:40]!r} stands twice" if equals else f"{part[:40]!r} is not name=value"
            raise ApiError(422, "invalid_parameter", f"{ATTRIBUTES}: {problem}. See /docs.")
        if name == "classes":
            classes.append(value)
        else:
            values[name] = value
    return values | ({"classes": classes} if classes else {})


def _reader(attributes: dict[str, object]) -> RequestReader:
    assumed = detect_options(attributes)

    async def read(
        request: Request, expected: ExpectedBody, fetcher: Fetcher | None, receive: Receive
    ) -> Requested:
        if expected.media_type != JSON_TYPE:
            uploads = await read_uploads(request, expected, fetcher, receive)
            return requested(uploads, assumed)
        body = await read_body(request, expected, receive)
        content, options = await off_the_loop(len(body), lambda: _parse(body, attributes, expected.limits))
        return requested(await uploads_of(content, fetcher, receive), options)

    return RequestReader(assumed.model, assumed.task(), _expect, read)


def _parse(
    body: bytearray, attributes: dict[str, object], limits: UploadLimits
) -> tuple[Uploads | str, DetectOptions]:
    """Return the images of a JSON body, or the address in it, and what is asked; the body is nearer than the
    header."""
    content = load_json(body, _ADVICE)
    given = content.pop("parameters", {}) if isinstance(content, dict) else {}
    options = detect_options({**attributes, **given} if isinstance(given, dict) else given)
    return json_uploads(content, limits), options


def _expect(request: Request, limits: UploadLimits) -> ExpectedBody:
    if stated_type(request) == _PICTURE_TYPE:
        return expect_body(request, limits, _PICTURE_TYPE)
    return check_headers(request, limits)

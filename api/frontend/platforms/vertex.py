"""Google Vertex AI: the health and the predict route of a custom container, at the paths that it names.

    {"instances": [{"image": {"b64": "<base64>"}}, ...], "parameters": {...}}  ->  {"predictions": [...]}

An instance may also be ``{"b64": "<base64>"}``. A prediction is an entry of the reply of ``POST /detect`` to
several pictures. Errors look like those of Google's own interfaces (AIP-193).
"""

from time import perf_counter
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from api.frontend.errors import json_reply
from api.frontend.platforms.names import VertexRoutes
from api.frontend.platforms.platform import Platform, detect_options, requested
from api.frontend.responses import count_refused, entries
from api.frontend.schemas import DetectOptions
from api.frontend.service import Service
from api.frontend.uploads.body import (
    JSON_TYPE,
    ExpectedBody,
    Upload,
    UploadLimits,
    Uploads,
    expect_body,
    too_many_images,
)
from api.frontend.uploads.json_body import base64_upload, kind_of, load_json, malformed_json
from api.frontend.uploads.reading import Receive, Requested, RequestReader, off_the_loop, read_body
from api.frontend.uploads.remote import Fetcher
from api.protocol.errors import ApiError

_ADVICE = 'Send {"instances": [{"image": {"b64": "<base64>"}}, ...], "parameters": {...}}.'

_STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    408: "DEADLINE_EXCEEDED",
    413: "INVALID_ARGUMENT",
    415: "INVALID_ARGUMENT",
    422: "INVALID_ARGUMENT",
    429: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


class _Route(APIRoute):
    @staticmethod
    def error_body(status: int, code: str, message: str) -> dict[str, Any]:
        """Return an error as Google's interfaces have it; our code is the ``reason``."""
        reason = {
            "@type": "type.googleapis.com/google.rpc.ErrorInfo",
            "reason": code.upper(),
            "domain": "googlenet-detector",
        }
        name = _STATUS_NAMES.get(int(status), "INVALID_ARGUMENT" if status < 500 else "INTERNAL")
        return {"error": {"code": int(status), "status": name, "message": message, "details": [reason]}}


def platform(routes: VertexRoutes) -> Platform:
    """Return the interface at those paths."""
    keyed = APIRouter(include_in_schema=False, route_class=_Route)
    keyed.add_api_route(routes.predict, predict, methods=["POST"])
    health_router = APIRouter(include_in_schema=False, route_class=_Route)
    health_router.add_api_route(routes.health, health, methods=["GET"])
    return Platform(keyed, health_router)


async def health(request: Request) -> Response:
    """Whether a request would be served now. Raises ApiError 503 if not."""
    service: Service = request.app.state.service
    service.check_ready()
    return json_reply({"status": "ready"})


async def predict(request: Request) -> Response:
    """Find the objects in each instance's picture."""
    start = perf_counter()
    service: Service = request.app.state.service
    uploads, answers = await service.answer(request, _READER)
    if len(answers) == 1 and isinstance(answers[0], ApiError):
        raise answers[0]
    total = round((perf_counter() - start) * 1000, 1)
    count_refused(request, answers)
    return json_reply({"predictions": entries(uploads, answers, "detections", total)})


def _expect(request: Request, limits: UploadLimits) -> ExpectedBody:
    return expect_body(request, limits, JSON_TYPE)


async def _read(
    request: Request, expected: ExpectedBody, fetcher: Fetcher | None, receive: Receive
) -> Requested:
    body = await read_body(request, expected, receive)
    uploads, options = await off_the_loop(len(body), lambda: parse_instances(body, expected.limits))
    return requested(uploads, options)


_READER = RequestReader(None, DetectOptions().task(), _expect, _read)


def parse_instances(body: bytearray, limits: UploadLimits) -> tuple[Uploads, DetectOptions]:
    """Return the images of a request, one an instance, and what is asked for each.

    Raises ApiError: 400 ``malformed_json``, 413 for too many instances, 422 for parameters.
    """
    content = load_json(body, _ADVICE)
    if not isinstance(content, dict) or not isinstance(content.get("instances"), list):
        raise malformed_json("it is not an object with a list 'instances'", _ADVICE)
    unknown = content.keys() - {"instances", "parameters"}
    if unknown:
        raise malformed_json(f"there is no key {min(unknown)[:40]!r}", _ADVICE)
    instances = content["instances"]
    if not instances:
        raise malformed_json("'instances' is empty", _ADVICE)
    if len(instances) > limits.max_pictures:
        raise too_many_images(limits)
    options = detect_options(content.get("parameters"))
    uploads = [_upload(instance, number, limits) for number, instance in enumerate(instances, 1)]
    return Uploads(tuple(uploads), many=True), options


def _upload(instance: object, number: int, limits: UploadLimits) -> Upload:
    """Return the image of an instance. Raises ApiError 400 for an instance of another form."""
    match instance:
        case {"image": {"b64": str(text), **others}, **more} if not others and not more:
            return base64_upload(text, limits)
        case {"b64": str(text), **more} if not more:
            return base64_upload(text, limits)
    what = kind_of(instance) if not isinstance(instance, dict) else f"has the keys {_keys(instance)}"
    raise malformed_json(f"instance {number} is no picture: {what}", _ADVICE)


def _keys(instance: dict[str, object]) -> str:
    return ", ".join(repr(key[:40]) for key in list(instance)[:5]) or "none"

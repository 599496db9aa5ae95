"""The Open Inference Protocol, version 2 (KServe, Triton), over HTTP.

A model has two inputs, of which a request sends one: ``image``, the files of one picture or several (BYTES
[N]; base64 where they are sent as JSON), or ``pixels``, one picture's (UINT8 [H,W,3], RGB, binary data only).
Its outputs are the D objects of all pictures, those of the first picture first, ``counts`` [N] being how many
each has.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from api.frontend.errors import json_reply
from api.frontend.platforms.platform import Platform, detect_options, requested
from api.frontend.platforms.tensors import (
    InputTensor,
    OutputTensor,
    inference_reply,
    input_tensors,
    malformed_tensors,
    picture_of_pixels,
    wants_binary,
)
from api.frontend.responses import count_refused
from api.frontend.schemas import DetectOptions
from api.frontend.service import Service, find_model
from api.frontend.uploads.body import (
    JSON_TYPE,
    TENSORS_TYPE,
    ExpectedBody,
    Upload,
    UploadLimits,
    Uploads,
    bounded_upload,
    expect_body,
    too_many_images,
)
from api.frontend.uploads.json_body import base64_upload, load_json
from api.frontend.uploads.reading import Receive, Requested, RequestReader, off_the_loop, read_body
from api.frontend.uploads.remote import Fetcher
from api.protocol.errors import ApiError
from api.protocol.messages import Answer
from api.protocol.model_info import ModelInfo

JSON_LENGTH = "Inference-Header-Content-Length"
VERSION = "1"
"""The only version of each model: other weights are other models, or take the place of these."""

_ADVICE = 'Send {"inputs": [{"name": "image", "shape": [1], "datatype": "BYTES", "data": ["<base64>"]}]}.'

_INPUTS = {"image": ("BYTES", [-1]), "pixels": ("UINT8", [-1, -1, 3])}
_OUTPUTS = {
    "boxes": ("FP32", [-1, 4]),  # x1, y1, x2, y2 in pixels of the upright picture
    "scores": ("FP32", [-1]),
    "labels": ("INT64", [-1]),
    "label_names": ("BYTES", [-1]),
    "class_ids": ("BYTES", [-1]),
    "counts": ("INT64", [-1]),
    "sizes": ("INT64", [-1, 2]),  # width, height of the upright picture; 0, 0 of one that was refused
    "errors": ("BYTES", [-1]),  # why a picture of several was refused; empty if it was not
}


class _Route(APIRoute):
    @staticmethod
    def error_body(status: int, code: str, message: str) -> dict[str, Any]:
        """Return an error as the protocol has it."""
        return {"error": message}


def platform() -> Platform:
    """Return the interface."""
    return Platform(_keyed, _open)


_keyed = APIRouter(prefix="/v2", include_in_schema=False, route_class=_Route)
_open = APIRouter(prefix="/v2", include_in_schema=False, route_class=_Route)


@_open.get("/health/live")
async def live(request: Request) -> Response:
    """Whether the service does its work or can be expected to do so again. Raises ApiError 503 if not."""
    service: Service = request.app.state.service
    service.check_live()
    return json_reply({"live": True})


@_open.get("/health/ready")
async def ready(request: Request) -> Response:
    """Whether a request would be served now. Raises ApiError 503 if not."""
    service: Service = request.app.state.service
    service.check_ready()
    return json_reply({"ready": True})


@_open.get("/models/{name}/ready")
@_open.get("/models/{name}/versions/{number}/ready")
async def model_ready(request: Request, name: str, number: str = VERSION) -> Response:
    """Whether a model would serve a request now. Raises ApiError 404 for one that there is not, or 503.

    No key is asked for, so it names no model that the request does not name.
    """
    service: Service = request.app.state.service
    service.check_ready()
    if number != VERSION or all(info.name != name for info in service.models()):
        raise ApiError(404, "unknown_model", "There is no such model, or no such version of it.")
    return json_reply({"name": name, "ready": True})


@_keyed.get("")
async def server(request: Request) -> Response:
    """What serves, and what it knows beyond the protocol."""
    return json_reply(
        {
            "name": "googlenet-detector",
            "version": version("googlenet-detector"),
            "extensions": ["binary_tensor_data"],
        }
    )


@_keyed.get("/models/{name}")
@_keyed.get("/models/{name}/versions/{number}")
async def model(request: Request, name: str, number: str = VERSION) -> Response:
    """The inputs and outputs of a model, which are the same for all. Raises ApiError 404 or 503."""
    service: Service = request.app.state.service
    info = _check_model(service, name, number)
    return json_reply(
        {
            "name": info.name,
            "versions": [VERSION],
            "platform": f"googlenet_detector_{info.engine}",
            "inputs": _tensors(_INPUTS),
            "outputs": _tensors(_OUTPUTS),
        }
    )


@_keyed.post("/models/{name}/infer")
@_keyed.post("/models/{name}/versions/{number}/infer")
async def infer(request: Request, name: str, number: str = VERSION) -> Response:
    """Find the objects in one or several pictures."""
    service: Service = request.app.state.service
    info = _check_model(service, name, number)
    asked = _Asked()
    _, answers = await service.answer(request, _reader(name, asked))
    if len(answers) == 1 and isinstance(answers[0], ApiError):
        raise answers[0]
    count_refused(request, answers)
    tensors = {tensor.name: tensor for tensor in output_tensors(answers, info)}
    about = {"model_name": name, "model_version": VERSION} | ({"id": asked.id} if asked.id else {})
    outputs = [(tensors[output], binary) for output, binary in asked.outputs]
    body, json_length = inference_reply(about, outputs)
    if json_length is None:
        return Response(body, media_type=JSON_TYPE)
    return Response(body, headers={JSON_LENGTH: str(json_length)}, media_type="application/octet-stream")


def _check_model(service: Service, name: str, number: str) -> ModelInfo:
    """Return a model. Raises ApiError 404 if there is none of that name and version, 503 until there are
    any."""
    info = find_model(service.models(), name)
    if number != VERSION:
        raise ApiError(
            404, "unknown_model", f"Model {name!r} has no version {number[:40]!r}, but {VERSION!r} alone."
        )
    return info


def _tensors(kinds: dict[str, tuple[str, list[int]]]) -> list[dict[str, Any]]:
    return [{"name": name, "datatype": datatype, "shape": shape} for name, (datatype, shape) in kinds.items()]


@dataclass
class _Asked:
    """What a request asks of its reply: the id that comes back, and the outputs, each with whether it is
    wanted in the binary form."""

    id: str = ""
    outputs: Sequence[tuple[str, bool]] = ()


def _reader(name: str, asked: _Asked) -> RequestReader:
    """Return what reads a request for a model, and puts down what is asked of the reply."""

    async def read(
        request: Request, expected: ExpectedBody, fetcher: Fetcher | None, receive: Receive
    ) -> Requested:
        body = await read_body(request, expected, receive)
        length = _json_length(request)
        images, options = await off_the_loop(
            len(body), lambda: _parse(body, length, expected.limits, name, asked)
        )
        return requested(images, options)

    return RequestReader(name, DetectOptions().task(), _expect, read)


def _expect(request: Request, limits: UploadLimits) -> ExpectedBody:
    return expect_body(request, limits, JSON_TYPE if _json_length(request) is None else TENSORS_TYPE)


def _json_length(request: Request) -> int | None:
    """Return how many bytes of the body are JSON, None for all. Raises ApiError 400 for what is no number."""
    stated = request.headers.get(JSON_LENGTH)
    if stated is None:
        return None
    if not (stated.isascii() and stated.isdigit() and len(stated) < 10):
        raise malformed_tensors(f"the header {JSON_LENGTH} is no number of bytes")
    return int(stated)


def _parse(
    body: bytearray, json_length: int | None, limits: UploadLimits, name: str, asked: _Asked
) -> tuple[Uploads, DetectOptions]:
    """Return the images of a request and what is asked for each.

    Raises ApiError: 400 ``malformed_json``, ``malformed_tensors`` or ``bad_base64``, 413, 422.
    """
    if json_length is None:
        content, binary = load_json(body, _ADVICE), memoryview(b"")
    elif json_length > len(body):
        raise malformed_tensors(f"the header {JSON_LENGTH} says more bytes than the body has")
    else:
        content, binary = load_json(bytes(body[:json_length]), _ADVICE), memoryview(body)[json_length:]
    if not isinstance(content, dict):
        raise malformed_tensors("its JSON is no object")
    parameters = content.get("parameters") or {}
    if isinstance(parameters, dict):
        parameters = dict(parameters)
        all_binary = bool(parameters.pop("binary_data_output", False))
        if "model" in parameters:
            raise ApiError(422, "invalid_parameter", "model: is named by the path already.")
        parameters["model"] = name
    else:
        all_binary = False  # it is refused below
    options = detect_options(parameters)
    if options.explain:
        raise ApiError(
            422, "invalid_parameter", "explain: no output tensor holds explanations. Leave it out."
        )
    asked.id = content["id"] if isinstance(content.get("id"), str) else ""
    asked.outputs = _outputs(content.get("outputs"), all_binary)
    uploads = images_of(input_tensors(content, binary), limits)
    return Uploads(uploads, many=len(uploads) > 1), options


def _outputs(given: object, all_binary: bool) -> list[tuple[str, bool]]:
    """Return the outputs asked for, all if a request names none. Raises ApiError 400 for an unknown one."""
    if not given:
        return [(name, all_binary) for name in _OUTPUTS]
    if not isinstance(given, list) or not all(isinstance(item, dict) for item in given):
        raise malformed_tensors("'outputs' is no list of outputs")
    wanted = []
    for item in given:
        name = item.get("name")
        if not isinstance(name, str) or name not in _OUTPUTS:
            raise malformed_tensors(f"there is no output {str(name)[:40]!r}, but {', '.join(_OUTPUTS)}")
        wanted.append((name, wants_binary(item, all_binary)))
    return wanted


def images_of(tensors: Sequence[InputTensor], limits: UploadLimits) -> tuple[Upload, ...]:
    """Return the images of a request's one input. Raises ApiError: 400 for other inputs, 413 for too many
    images."""
    if len(tensors) != 1 or tensors[0].name not in _INPUTS:
        names = ", ".join(repr(tensor.name[:40]) for tensor in tensors[:5]) or "none"
        raise malformed_tensors(f"it has to have one input, 'image' or 'pixels', and has {names}")
    [tensor] = tensors
    datatype, _ = _INPUTS[tensor.name]
    if tensor.datatype != datatype:
        raise malformed_tensors(f"{tensor.name!r} is of datatype {datatype}, not {tensor.datatype[:40]}")
    if tensor.name == "pixels":
        return (_image_of_pixels(tensor, limits),)
    if tensor.size == 0:
        raise malformed_tensors("'image' has no element")
    if tensor.size > limits.max_pictures:
        raise too_many_images(limits)
    return tuple(
        base64_upload(element, limits) if isinstance(element, str) else bounded_upload(bytes(element), limits)
        for element in tensor.elements()
    )


def _image_of_pixels(tensor: InputTensor, limits: UploadLimits) -> Upload:
    if not isinstance(tensor.data, memoryview):
        raise malformed_tensors("'pixels' are taken as binary data only; send 'image' in JSON")
    if len(tensor.shape) != 3 or tensor.shape[2] != 3 or tensor.size == 0:
        raise malformed_tensors(f"the shape of 'pixels' is height, width, 3, not {list(tensor.shape)}")
    if len(tensor.data) != tensor.size:
        raise malformed_tensors(f"'pixels' has {len(tensor.data)} bytes, and by its shape {tensor.size}")
    height, width, _ = tensor.shape
    return bounded_upload(picture_of_pixels(tensor.data, width, height), limits)


def output_tensors(answers: Sequence[Answer | ApiError], info: ModelInfo) -> list[OutputTensor]:
    """Return all outputs for the answers to the images of a request."""
    found = [[] if isinstance(answer, ApiError) else orjson.loads(answer.body) for answer in answers]
    every = [one for objects in found for one in objects]
    ids = [one.get("wnid") or one["class_id"] for one in every]
    labels = {known.id: label for label, known in enumerate(info.detection_classes)}
    sizes = [(0, 0) if isinstance(answer, ApiError) else (answer.width, answer.height) for answer in answers]
    data: dict[str, list[Any]] = {
        "boxes": _flat(one["box"].values() for one in every),
        "scores": [one["score"] for one in every],
        # -1: weights with other classes took the place of these while the request was under way
        "labels": [labels.get(class_id, -1) for class_id in ids],
        "label_names": [one["label"] for one in every],
        "class_ids": ids,
        "counts": [len(objects) for objects in found],
        "sizes": _flat(sizes),
        "errors": [str(answer) if isinstance(answer, ApiError) else "" for answer in answers],
    }
    tensors = []
    for name, (datatype, shape) in _OUTPUTS.items():
        rows = len(data[name]) // (shape[1] if len(shape) > 1 else 1)
        tensors.append(OutputTensor(name, datatype, (rows, *shape[1:]), data[name]))
    return tensors


def _flat(rows: Iterable[Iterable[float]]) -> list[float]:
    return [value for row in rows for value in row]

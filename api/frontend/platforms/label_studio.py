"""A machine learning backend for Label Studio, which asks it for the boxes that people then correct."""

import asyncio
from typing import Any
from uuid import uuid4

import orjson
from fastapi import APIRouter, Request, Response
from fastapi.routing import APIRoute

from api.frontend.errors import json_reply
from api.frontend.platforms.label_config import LabelConfig
from api.frontend.platforms.label_studio_pictures import TaskPictures
from api.frontend.platforms.platform import Platform
from api.frontend.responses import count_refused
from api.frontend.schemas import DetectOptions
from api.frontend.service import Service, find_model
from api.frontend.settings import Settings
from api.frontend.uploads.body import JSON_TYPE, ExpectedBody, Upload, UploadLimits, Uploads, expect_body
from api.frontend.uploads.json_body import load_json, malformed_json
from api.frontend.uploads.reading import Receive, Requested, RequestReader, off_the_loop, read_body
from api.frontend.uploads.remote import Fetcher
from api.protocol.errors import ApiError
from api.protocol.messages import Answer
from api.protocol.model_info import ModelInfo

_ADVICE = "Connect this service in Label Studio as a model: it writes the requests."
_SETUP_LIMITS = UploadLimits(max_bytes=64 * 1024, max_pictures=1)  # of a body that is a configuration
_SETUP_SECONDS = 10.0
_MOST_DETECTIONS = 1000


class _Route(APIRoute):
    @staticmethod
    def error_body(status: int, code: str, message: str) -> dict[str, Any]:
        """Return an error as Label Studio's own backends have it."""
        return {"error": message}


def platform(settings: Settings) -> Platform:
    """Return the interface."""
    backend = _Backend(TaskPictures(settings))
    keyed = APIRouter(include_in_schema=False, route_class=_Route)
    keyed.add_api_route("/setup", backend.setup, methods=["POST"])
    keyed.add_api_route("/predict", backend.predict, methods=["POST"])
    keyed.add_api_route("/versions", backend.versions, methods=["GET"])
    health = APIRouter(include_in_schema=False, route_class=_Route)
    health.add_api_route("/health", backend.health, methods=["GET"])
    return Platform(keyed, health, keys_as_password=True, close=backend.pictures.close)


def model_version(info: ModelInfo) -> str:
    """Return what Label Studio tells predictions apart by: each network's name and the beginning of its
    file's digest."""
    return "+".join(f"{member.name}-{member.file.sha256[:8]}" for member in info.members)


class _Backend:
    """What answers Label Studio."""

    def __init__(self, pictures: TaskPictures) -> None:
        self.pictures = pictures

    async def health(self, request: Request) -> Response:
        """Whether a request would be served now. Raises ApiError 503 if not."""
        service: Service = request.app.state.service
        service.check_ready()
        return json_reply({"status": "UP", "model_class": "GoogLeNetDetector"})

    async def setup(self, request: Request) -> Response:
        """Check that a project's configuration can be worked with; nothing of it is kept.

        Raises ApiError: 400 for a configuration without rectangles, 422 for one whose labels the model does
        not know, 503.
        """
        info = _model(request)
        expected = expect_body(request, _SETUP_LIMITS, JSON_TYPE)
        try:
            async with asyncio.timeout(_SETUP_SECONDS):
                body = await read_body(request, expected, lambda size: None)
        except TimeoutError as error:
            raise ApiError(408, "slow_body", "The request did not come in time. Send it faster.") from error
        content = _object(load_json(body, _ADVICE))
        _labels(LabelConfig.parse(content.get("schema")), info)
        return json_reply({"model_version": model_version(info)})

    async def versions(self, request: Request) -> Response:
        """Which versions of the model there are: the one that is loaded. Raises ApiError 503 until it is."""
        return json_reply({"versions": [model_version(_model(request))]})

    async def predict(self, request: Request) -> Response:
        """Find the objects in the pictures of tasks.

        Of more tasks than a request may have pictures the first alone is answered: Label Studio then asks
        for one after the other.
        """
        service: Service = request.app.state.service
        reading = TaskReading(self.pictures, _model(request))
        _, answers = await service.answer(request, reading.reader)
        if len(answers) == 1 and isinstance(answers[0], ApiError):
            raise answers[0]
        count_refused(request, answers)
        results = [reading.prediction(answer) for answer in answers]
        return json_reply({"results": results, "model_version": model_version(reading.info)})


class TaskReading:
    """Reads one request, and writes its answers as the request's configuration has them."""

    def __init__(self, pictures: TaskPictures, info: ModelInfo) -> None:
        self.info = info
        self.reader = RequestReader(None, DetectOptions().task(), _expect, self._read)
        self._pictures = pictures
        self._config: LabelConfig
        self._label_of: dict[str, str]

    async def _read(
        self, request: Request, expected: ExpectedBody, fetcher: Fetcher | None, receive: Receive
    ) -> Requested:
        body = await read_body(request, expected, receive)
        sources = await off_the_loop(len(body), lambda: self._parse(body, expected.limits))
        options = DetectOptions(max_detections=_MOST_DETECTIONS)
        if self._config.score_threshold is not None:
            options.score_threshold = self._config.score_threshold
        try:
            async with asyncio.TaskGroup() as group:
                fetches = [group.create_task(self._image(source, fetcher, receive)) for source in sources]
        except ExceptionGroup as errors:  # that there is no room for a picture concerns the whole request
            raise errors.exceptions[0] from errors
        uploads = tuple(fetch.result() for fetch in fetches)
        return Requested(Uploads(uploads, many=len(uploads) > 1), None, lambda _: options.task())

    def _parse(self, body: bytearray, limits: UploadLimits) -> list[Upload | str]:
        """Return the pictures of the tasks, or the addresses at which they are.

        Raises ApiError 400 for what Label Studio does not send, 422 for labels that the model does not know.
        """
        content = _object(load_json(body, _ADVICE))
        self._config = LabelConfig.parse(content.get("label_config"))
        self._label_of = _labels(self._config, self.info)
        tasks = content.get("tasks")
        if not isinstance(tasks, list) or not tasks or not all(isinstance(task, dict) for task in tasks):
            raise malformed_json("'tasks' is no list of objects, one or more", _ADVICE)
        answered = tasks if len(tasks) <= limits.max_pictures else tasks[:1]
        return [self._source(task, limits) for task in answered]

    def _source(self, task: dict[str, Any], limits: UploadLimits) -> Upload | str:
        try:
            return self._pictures.source(task, self._config.key, limits)
        except ApiError as error:
            return Upload(b"", refusal=error)

    async def _image(self, source: Upload | str, fetcher: Fetcher | None, receive: Receive) -> Upload:
        """Return a task's picture, with a refusal if there is none. Raises ApiError 429 where there is no
        room for it."""
        if isinstance(source, Upload):
            return source
        try:
            return await self._pictures.fetch(source, fetcher, receive)
        except ApiError as error:
            if error.status == 429:
                raise
            return Upload(b"", refusal=error)

    def prediction(self, answer: Answer | ApiError) -> dict[str, Any]:
        """Return a task's prediction, whose score is the mean of its objects'. That of a picture that was
        refused has no ``result``: Label Studio passes it over."""
        version = model_version(self.info)
        if isinstance(answer, ApiError):
            return {"error": str(answer), "model_version": version}
        regions = [
            self._region(one, label, answer.width, answer.height)
            for one in orjson.loads(answer.body)
            if (label := self._label_of.get(one.get("wnid") or one["class_id"])) is not None
        ]
        score = sum(region["score"] for region in regions) / len(regions) if regions else 0.0
        return {"result": regions, "score": round(score, 4), "model_version": version}

    def _region(self, detection: dict[str, Any], label: str, width: int, height: int) -> dict[str, Any]:
        """Return an object as Label Studio has it: its sides in percent of the picture's."""
        box = detection["box"]
        return {
            "id": uuid4().hex[:10],
            "type": "rectanglelabels",
            "from_name": self._config.from_name,
            "to_name": self._config.to_name,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "score": detection["score"],
            "value": {
                "x": 100 * box["xmin"] / width,
                "y": 100 * box["ymin"] / height,
                "width": 100 * (box["xmax"] - box["xmin"]) / width,
                "height": 100 * (box["ymax"] - box["ymin"]) / height,
                "rotation": 0,
                "rectanglelabels": [label],
            },
        }


def _model(request: Request) -> ModelInfo:
    """Return the default model, which is the one that Label Studio gets. Raises ApiError 503 until there is
    one."""
    service: Service = request.app.state.service
    return find_model(service.models(), None)


def _expect(request: Request, limits: UploadLimits) -> ExpectedBody:
    return expect_body(request, limits, JSON_TYPE)


def _object(content: object) -> dict[str, Any]:
    if not isinstance(content, dict):
        raise malformed_json("it is no object", _ADVICE)
    return content


def _labels(config: LabelConfig, info: ModelInfo) -> dict[str, str]:
    """Return the label of each class that has one, by the class's id. Raises ApiError 422 if none has."""
    labels = config.labels_of(info.detection_classes)
    if not labels:
        some = ", ".join(known.name for known in info.detection_classes[:5])
        raise ApiError(
            422,
            "no_common_class",
            f"The model has none of the labels {', '.join(label.value for label in config.labels[:5])}: it "
            f"finds {len(info.detection_classes)} classes such as {some}. Serve weights that were trained on "
            "these labels, or name classes in a Label's predicted_values.",
        )
    return labels

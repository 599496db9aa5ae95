"""The routes that want a key where keys are set: images in, JSON or a drawn image out; what is loaded."""

from collections.abc import Sequence
from time import perf_counter
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from api.frontend.errors import json_reply
from api.frontend.openapi import CLASSIFY, DETECT, IMAGE_BODY, MODEL, MODELS
from api.frontend.schemas import ClassifyQuery, DetectQuery, Format
from api.frontend.service import Service, find_model
from api.frontend.uploads.body import Upload, Uploads
from api.protocol.errors import ApiError
from api.protocol.messages import Answer, ClassifyTask, DetectTask
from api.protocol.model_info import ModelBase, ModelInfo

router = APIRouter()


class ModelSummary(ModelBase):
    """A model that is loaded, its classes counted."""

    detection_class_count: int
    classification_class_count: int

    @classmethod
    def of(cls, info: ModelInfo) -> "ModelSummary":
        """Return a model's summary."""
        return cls(
            **info.model_dump(exclude={"detection_classes", "classification_classes"}),
            detection_class_count=len(info.detection_classes),
            classification_class_count=len(info.classification_classes),
        )


class ModelList(BaseModel):
    """All models, the default one first."""

    model_config = ConfigDict(extra="forbid")

    models: list[ModelSummary]


@router.post("/detect", responses=DETECT, openapi_extra=IMAGE_BODY)
async def detect(request: Request, query: Annotated[DetectQuery, Query()]) -> Response:
    """Find the objects in one or several pictures."""
    start = perf_counter()
    form = _drawn_as(request) if query.format is Format.IMAGE else query.format.value

    def task(upload: Upload) -> DetectTask:
        return DetectTask(
            query.score_threshold,
            query.max_detections,
            query.profile,
            query.classes,
            form,
            upload.name,
            query.tile,
        )

    service: Service = request.app.state.service
    uploads, answers = await service.answer(request, query.model, task)
    if query.format is Format.IMAGE:
        return _image(uploads, answers)
    kind = "coco" if query.format is Format.COCO else "detections"
    return _reply(request, uploads, answers, kind, start)


@router.post("/classify", responses=CLASSIFY, openapi_extra=IMAGE_BODY)
async def classify(request: Request, query: Annotated[ClassifyQuery, Query()]) -> Response:
    """Say what one or several pictures show as a whole."""
    start = perf_counter()
    service: Service = request.app.state.service
    uploads, answers = await service.answer(
        request, query.model, lambda _: ClassifyTask(query.top, query.crops)
    )
    return _reply(request, uploads, answers, "classes", start)


@router.get("/models", response_model=ModelList, responses=MODELS)
async def models(request: Request) -> Response:
    """Which models are loaded, the default one first, and what each can do."""
    summaries = [ModelSummary.of(info) for info in request.app.state.service.models()]
    return json_reply(ModelList(models=summaries).model_dump(mode="json"))


@router.get("/models/{name}", response_model=ModelInfo, responses=MODEL)
async def model(request: Request, name: str) -> Response:
    """One model, with all its classes."""
    return json_reply(find_model(request.app.state.service.models(), name).model_dump(mode="json"))


def _drawn_as(request: Request) -> str:
    """Return the media type of a drawn image: PNG unless JPEG is asked for."""
    accepted = request.headers.get("accept", "")
    wants_jpeg = "image/jpeg" in accepted and "image/png" not in accepted
    return "image/jpeg" if wants_jpeg else "image/png"


def _reply(
    request: Request, uploads: Uploads, answers: Sequence[Answer | ApiError], kind: str, start: float
) -> Response:
    """Return the reply to one image, or the list of all. A single image's error is the request's.

    ``kind`` is that of each entry: ``detections``, ``classes`` or ``coco``.
    """
    total = round((perf_counter() - start) * 1000, 1)
    if not uploads.many:
        [upload], [answer] = uploads.items, answers
        if isinstance(answer, ApiError):
            raise answer
        request.state.log["timing_ms"] = {**answer.timing_ms, "total": total}
        return json_reply(_entry(upload, answer, kind, total))
    entries = [
        _refused_entry(upload, answer)
        if isinstance(answer, ApiError)
        else _entry(upload, answer, kind, total)
        for upload, answer in zip(uploads.items, answers, strict=True)
    ]
    refused = [answer for answer in answers if isinstance(answer, ApiError)]
    for answer in refused:
        request.app.state.metrics.refused(answer.code)
    request.state.log.update(pictures=len(entries), refused=len(refused))
    return json_reply({"kind": "results", "results": entries})


def _refused_entry(upload: Upload, error: ApiError) -> dict[str, Any]:
    return {"kind": "error", "image": upload.name, "error": {"code": error.code, "message": str(error)}}


def _entry(upload: Upload, answer: Answer, kind: str, total: float) -> dict[str, Any] | orjson.Fragment:
    """Return the entry of one image. What the worker serialised is not parsed again."""
    about = {
        "kind": kind,
        "image": upload.name,
        "width": answer.width,
        "height": answer.height,
        "frames": answer.frames,
    }
    ends = {"model": answer.model, "timing_ms": {**answer.timing_ms, "total": total}}
    if kind != "coco":
        return {**about, kind: orjson.Fragment(answer.body), **ends}
    # COCO's keys stand beside the others: three objects become one where their braces meet.
    whole = orjson.dumps(about)[:-1] + b"," + answer.body[1:-1] + b"," + orjson.dumps(ends)[1:]
    return orjson.Fragment(whole)


def _image(uploads: Uploads, answers: Sequence[Answer | ApiError]) -> Response:
    if uploads.many:
        raise ApiError(422, "invalid_parameter", "format: an image answers one picture only. Send one.")
    [answer] = answers
    if isinstance(answer, ApiError):
        raise answer
    return Response(answer.body, media_type=answer.media_type)

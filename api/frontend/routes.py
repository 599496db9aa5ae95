"""The routes: pictures in, JSON or a drawn picture out."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Annotated, Any

import orjson
from fastapi import APIRouter, Query, Request, Response

from api.frontend.errors import ApiError
from api.frontend.openapi import CLASSIFY, DETECT, IMAGE_BODY
from api.frontend.responses import json_reply
from api.frontend.schemas import ClassifyQuery, DetectQuery, Format
from api.frontend.service import Service
from api.frontend.uploads.reading import Upload, Uploads
from api.frontend.worker_client import Answer
from api.protocol.messages import ClassifyTask, DetectTask

router = APIRouter()

Place = Callable[[Upload, Answer], dict[str, Any]]
"""What was found, as it stands in the reply."""


@router.post("/detect", responses=DETECT, openapi_extra=IMAGE_BODY)
async def detect(request: Request, query: Annotated[DetectQuery, Query()]) -> Response:
    """Find the objects in one or several pictures."""
    start = perf_counter()
    form = _drawn_as(request) if query.format is Format.IMAGE else query.format.value

    def task(upload: Upload) -> DetectTask:
        return DetectTask(
            query.score_threshold, query.max_detections, query.profile, query.classes, form, upload.name
        )

    service: Service = request.app.state.service
    uploads, answers = await service.answer(request, query.model, task)
    if query.format is Format.IMAGE:
        return _image(uploads, answers)
    place = _coco if query.format is Format.COCO else _listed("detections")
    return _reply(request, uploads, answers, place, start)


@router.post("/classify", responses=CLASSIFY, openapi_extra=IMAGE_BODY)
async def classify(request: Request, query: Annotated[ClassifyQuery, Query()]) -> Response:
    """Say what one or several pictures show as a whole."""
    start = perf_counter()
    service: Service = request.app.state.service
    uploads, answers = await service.answer(
        request, query.model, lambda _: ClassifyTask(query.top, query.crops)
    )
    return _reply(request, uploads, answers, _listed("classes"), start)


def _drawn_as(request: Request) -> str:
    """The media type of a drawn picture: PNG unless JPEG is asked for."""
    accepted = request.headers.get("accept", "")
    wants_jpeg = "image/jpeg" in accepted and "image/png" not in accepted
    return "image/jpeg" if wants_jpeg else "image/png"


def _listed(kind: str) -> Place:
    return lambda upload, answer: {kind: orjson.Fragment(answer.body)}


def _coco(upload: Upload, answer: Answer) -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(answer.body)
    return found


def _reply(
    request: Request, uploads: Uploads, answers: Sequence[Answer | ApiError], place: Place, start: float
) -> Response:
    """One picture's reply, or the list of all. A single picture's error is the request's."""
    if not uploads.many and isinstance(answers[0], ApiError):
        raise answers[0]
    total = round((perf_counter() - start) * 1000, 1)
    entries = [
        _entry(upload, answer, place, total) for upload, answer in zip(uploads.items, answers, strict=True)
    ]
    if uploads.many:
        refused = [answer for answer in answers if isinstance(answer, ApiError)]
        for answer in refused:
            request.app.state.metrics.refused(answer.code)
        request.state.log.update(pictures=len(entries), refused=len(refused))
        return json_reply({"results": entries})
    request.state.log["timing_ms"] = entries[0]["timing_ms"]
    return json_reply(entries[0])


def _entry(upload: Upload, answer: Answer | ApiError, place: Place, total: float) -> dict[str, Any]:
    if isinstance(answer, ApiError):
        return {"image": upload.name, "error": {"code": answer.code, "message": str(answer)}}
    about = dict(answer.about)
    model = about.pop("model")
    timing = {**answer.timing_ms, "total": total}
    return {"image": upload.name, **about, **place(upload, answer), "model": model, "timing_ms": timing}


def _image(uploads: Uploads, answers: Sequence[Answer | ApiError]) -> Response:
    if uploads.many:
        raise ApiError(422, "invalid_parameter", "format: an image answers one picture only. Send one.")
    [answer] = answers
    if isinstance(answer, ApiError):
        raise answer
    return Response(answer.body, media_type=answer.media_type)

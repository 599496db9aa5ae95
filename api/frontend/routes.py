"""The routes that want a key where keys are set: images in, JSON or a drawn image out; what is loaded."""

from time import perf_counter
from typing import Annotated

from fastapi import APIRouter, Query, Request, Response
from pydantic import BaseModel, ConfigDict

from api.frontend.errors import json_reply
from api.frontend.openapi import CLASSIFY, DETECT, IMAGE_BODY, MODEL, MODELS
from api.frontend.responses import image_reply, objects_reply
from api.frontend.schemas import ClassifyQuery, DetectQuery, Format
from api.frontend.service import Service, find_model
from api.frontend.uploads.body import Upload
from api.frontend.uploads.reading import uploads_reader
from api.protocol.messages import ClassifyTask, DetectTask
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
        return query.task(form, upload.name)

    service: Service = request.app.state.service
    uploads, answers = await service.answer(request, uploads_reader(query.model, task))
    if query.format is Format.IMAGE:
        return image_reply(uploads, answers)
    kind = "coco" if query.format is Format.COCO else "detections"
    return objects_reply(request, uploads, answers, kind, start)


@router.post("/classify", responses=CLASSIFY, openapi_extra=IMAGE_BODY)
async def classify(request: Request, query: Annotated[ClassifyQuery, Query()]) -> Response:
    """Say what one or several pictures show as a whole."""
    start = perf_counter()
    service: Service = request.app.state.service
    reader = uploads_reader(query.model, lambda _: ClassifyTask(query.top, query.crops))
    uploads, answers = await service.answer(request, reader)
    return objects_reply(request, uploads, answers, "classes", start)


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

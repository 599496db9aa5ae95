"""The routes: a picture in, JSON out."""

from time import perf_counter
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response

from api.documentation import CLASSIFY, DETECT, HEALTH, PICTURE_BODY
from api.inference import Answer, milliseconds
from api.replies import json_reply
from api.schemas import ClassifyQuery, ClassifyReply, DetectQuery, DetectReply, Health
from api.service import Picture, Service, ready_service

router = APIRouter()
Ready = Annotated[Service, Depends(ready_service)]


@router.post("/detect", response_model=DetectReply, responses=DETECT, openapi_extra=PICTURE_BODY)
async def detect(request: Request, query: Annotated[DetectQuery, Query()], service: Ready) -> Response:
    """Find the objects of a picture."""
    start = perf_counter()
    picture = await service.picture(request)
    answer = await service.inference.detect(
        picture.pixels,
        profile=query.profile,
        score_threshold=query.score_threshold,
        max_detections=query.max_detections,
    )
    return _reply(picture, "detections", answer, start)


@router.post("/classify", response_model=ClassifyReply, responses=CLASSIFY, openapi_extra=PICTURE_BODY)
async def classify(request: Request, query: Annotated[ClassifyQuery, Query()], service: Ready) -> Response:
    """Say what a picture shows as a whole."""
    start = perf_counter()
    picture = await service.picture(request)
    answer = await service.inference.classify(picture.pixels, top=query.top, crops=query.crops)
    return _reply(picture, "classes", answer, start)


@router.get("/health/live", response_model=Health)
async def live() -> Response:
    """Whether the process answers at all."""
    return json_reply({"status": "live"})


@router.get("/health/ready", response_model=Health, responses=HEALTH, dependencies=[Depends(ready_service)])
async def ready() -> Response:
    """Whether the weights are loaded and a first picture went through them."""
    return json_reply({"status": "ready"})


def _reply(picture: Picture, kind: str, answer: Answer, start: float) -> Response:
    height, width = picture.pixels.shape[:2]
    return json_reply(
        {
            "image": picture.name,
            "width": width,
            "height": height,
            kind: answer.items,
            "model": answer.model,
            "timing_ms": {
                "decode": picture.decode_ms,
                **answer.timing_ms,
                "total": milliseconds(perf_counter() - start),
            },
        }
    )

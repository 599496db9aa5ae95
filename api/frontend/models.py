"""``GET /models`` and ``GET /models/{name}``: what the workers have loaded."""

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from api.frontend.openapi import MODEL, MODELS
from api.frontend.responses import json_reply
from api.frontend.service import find_model
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


@router.get("/models", response_model=ModelList, responses=MODELS)
async def models(request: Request) -> Response:
    """Which models are loaded, the default one first, and what each can do."""
    summaries = [ModelSummary.of(info) for info in request.app.state.service.models()]
    return json_reply(ModelList(models=summaries).model_dump(mode="json"))


@router.get("/models/{name}", response_model=ModelInfo, responses=MODEL)
async def model(request: Request, name: str) -> Response:
    """One model, with all its classes."""
    return json_reply(find_model(request.app.state.service.models(), name).model_dump(mode="json"))

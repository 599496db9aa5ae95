"""What is loaded: ``GET /models`` and ``GET /models/{name}``, of what a worker wrote down of it."""

import difflib
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api.frontend.errors import ApiError
from api.frontend.openapi import MODEL, MODELS
from api.frontend.responses import json_reply
from detector.options import Profile

router = APIRouter()


class _Described(BaseModel):
    model_config = ConfigDict(extra="forbid")


class WeightsFile(_Described):
    """The file that was loaded."""

    name: str
    bytes: int
    sha256: str


class Member(_Described):
    """One network, as its checkpoint describes itself."""

    name: str
    architecture: str
    licence: str
    source: str
    metrics: dict[str, Any] = Field(description="a measure's name and its value")
    training: dict[str, Any] = Field(description="how the weights came about")
    file: WeightsFile


class ProfileOffered(_Described):
    """A way to look that the model can serve."""

    name: Profile
    max_regions: int | None = Field(description="most regions of a picture; null for all there are")


class ClassName(_Described):
    """A class: ``id`` as annotation files name it (a WordNet id for ILSVRC), ``name`` for people."""

    id: str
    name: str


class ModelSummary(_Described):
    """A model that is loaded, its classes counted."""

    name: str = Field(description="what `?model=` chooses it by")
    tasks: list[str] = Field(description="`detect`, `classify` or both")
    members: list[Member] = Field(description="one network, or those of an ensemble")
    profiles: list[ProfileOffered]
    default_profile: Profile | None = Field(description="null for a model that does not detect")
    scoring: dict[str, Any] | None = Field(description="how scores and boxes are made; null likewise")
    loaded_at: datetime
    detection_class_count: int
    classification_class_count: int


class Model(_Described):
    """A model that is loaded, with all its classes, label by label."""

    name: str
    tasks: list[str]
    members: list[Member]
    profiles: list[ProfileOffered]
    default_profile: Profile | None
    scoring: dict[str, Any] | None
    loaded_at: datetime
    detection_classes: list[ClassName]
    classification_classes: list[ClassName]


class ModelList(_Described):
    """All models, the default one first."""

    models: list[ModelSummary]


@router.get("/models", response_model=ModelList, responses=MODELS)
async def models(request: Request) -> Response:
    """Which models are loaded, the default one first, and what each can do."""
    return json_reply({"models": [_counted(one) for one in request.app.state.service.models()]})


@router.get("/models/{name}", response_model=Model, responses=MODEL)
async def model(request: Request, name: str) -> Response:
    """One model, with all its classes."""
    described: list[dict[str, Any]] = request.app.state.service.models()
    for one in described:
        if one["name"] == name:
            return json_reply(one)
    raise unknown_model(name, [one["name"] for one in described])


def unknown_model(name: str, known: Sequence[str]) -> ApiError:
    """The refusal of a model that is not loaded: 404."""
    near = difflib.get_close_matches(name, known, 1)
    advice = f"Did you mean {near[0]}?" if near else f"There is {', '.join(known)}."
    return ApiError(404, "unknown_model", f"No model {name[:64]!r} is loaded. {advice}")


def _counted(described: dict[str, Any]) -> dict[str, Any]:
    counted = dict(described)
    for task in ("detection", "classification"):
        counted[f"{task}_class_count"] = len(counted.pop(f"{task}_classes"))
    return counted

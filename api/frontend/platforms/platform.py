"""What the interface of a platform is made of."""

from collections.abc import Callable
from dataclasses import dataclass

from fastapi import APIRouter
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from pydantic import ValidationError

from api.frontend.schemas import DetectOptions
from api.frontend.uploads.body import Uploads
from api.frontend.uploads.json_body import kind_of
from api.frontend.uploads.reading import Requested
from api.protocol.errors import ApiError


@dataclass(frozen=True)
class Platform:
    """The routes of a platform: those that want a key where keys are set, and those that are always open, by
    which it asks for the service's health.

    ``keys_as_password``: its client can send a key in no other way. ``close`` ends what it has open.
    """

    keyed: APIRouter
    open: APIRouter
    keys_as_password: bool = False
    close: Callable[[], None] = lambda: None

    @property
    def work(self) -> list[str]:
        """The paths of its routes that do work."""
        return [route.path for route in _routes(self.keyed) if "POST" in (route.methods or ())]

    @property
    def polled(self) -> list[str]:
        """The paths of its routes that are asked every few seconds."""
        return [route.path for route in _routes(self.open)]


def _routes(router: APIRouter) -> list[APIRoute]:
    return [route for route in router.routes if isinstance(route, APIRoute)]


def requested(uploads: Uploads, options: DetectOptions) -> Requested:
    """Return what a request asks: the same of each of its images."""
    return Requested(uploads, options.model, lambda upload: options.task(name=upload.name))


def detect_options(values: object) -> DetectOptions:
    """Return what the ``parameters`` of a request ask for, those of ``POST /detect`` by the same names;
    ``classes`` may be a list as well.

    Raises ApiError 422, or RequestValidationError, which is answered like it.
    """
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise ApiError(
            422, "invalid_parameter", f"parameters: must be an object, and is {kind_of(values)}. See /docs."
        )
    classes = values.get("classes")
    if isinstance(classes, list) and all(isinstance(name, str) for name in classes):
        values = {**values, "classes": ",".join(classes)}
    try:
        return DetectOptions.model_validate(values)
    except ValidationError as error:
        raise RequestValidationError(error.errors(include_url=False, include_context=False)) from error

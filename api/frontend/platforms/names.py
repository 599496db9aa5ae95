"""The platforms' names, and what those that run containers tell them by variables."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

PORT = 8080
"""Where SageMaker and Vertex AI ask a container that they tell no other port."""

_PORT_VARIABLES = {"sagemaker": "SAGEMAKER_BIND_TO_PORT", "vertex": "AIP_HTTP_PORT"}
_TAKEN = frozenset(
    ("/", "/detect", "/classify", "/models", "/metrics", "/docs", "/openapi.json", "/health/live")
)
"""Paths of our own at which something else is answered."""

_ROUTE = re.compile(r"/[A-Za-z0-9._~!$&'()*+,;=:@/-]{1,500}")


class PlatformName(StrEnum):
    """The platforms, as settings name them."""

    OPEN_INFERENCE = "open-inference"
    SAGEMAKER = "sagemaker"
    VERTEX = "vertex"
    LABEL_STUDIO = "label-studio"


@dataclass(frozen=True)
class VertexRoutes:
    """The paths at which Vertex AI asks a container for its health and for predictions."""

    health: str
    predict: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> "VertexRoutes":
        """Return the routes that the variables ``AIP_HEALTH_ROUTE`` and ``AIP_PREDICT_ROUTE`` name.

        Raises ValueError for what is no path, or one of our own.
        """
        return cls(
            _route(environment, "AIP_HEALTH_ROUTE", "/health"),
            _route(environment, "AIP_PREDICT_ROUTE", "/predict"),
        )


def _route(environment: Mapping[str, str], variable: str, default: str) -> str:
    route = environment.get(variable) or default
    if not _ROUTE.fullmatch(route):
        raise ValueError(f"{variable} holds {route[:80]!r}, which is no path such as {default}")
    if route in _TAKEN:
        raise ValueError(f"{variable} holds {route}, a path of the service's own: choose another one")
    return route


def platform_port(platforms: tuple[PlatformName, ...], environment: Mapping[str, str]) -> int | None:
    """Return the port at which a platform that runs containers asks them; None if there is none such.

    Raises ValueError for a variable that holds no port.
    """
    variables = [_PORT_VARIABLES[name] for name in platforms if name in _PORT_VARIABLES]
    if not variables:
        return None
    for variable in variables:
        text = environment.get(variable, "")
        if not text:
            continue
        if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) <= 65535):
            raise ValueError(f"{variable} holds {text[:80]!r}, which is no port")
        return int(text)
    return PORT

"""A client of the service, for programs.

>>> from detector.client import Client
>>> with Client("http://localhost:8000") as client:
...     for found in client.detect("street.jpg", profile="fast"):
...         print(found.label, found.score, found.box)

It needs httpx and pydantic, and nothing of what runs networks (``pip install 'googlenet-detector[client]'``).
:class:`Client` waits for its answers, :class:`AsyncClient` is the same for asyncio.
"""

try:
    import httpx as _httpx  # noqa: F401
    import pydantic as _pydantic  # noqa: F401
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        f"detector.client needs the package '{error.name}': pip install 'googlenet-detector[client]'",
        name=error.name,
    ) from error

from detector.client.async_client import AsyncClient
from detector.client.errors import (
    BusyError,
    NoConnectionError,
    RefusedError,
    ServiceError,
    ServiceTimeoutError,
)
from detector.client.image_upload import ImageSource
from detector.client.parameters import ClassifyParameters, DetectParameters
from detector.client.replies import (
    Box,
    ClassifyReply,
    ClassifyTiming,
    ClassName,
    DetectedObject,
    DetectReply,
    DetectTiming,
    ErrorDetail,
    LikelyClass,
    Member,
    ModelInfo,
    ModelSummary,
    ProfileOffered,
    RefusedImage,
    WeightsFile,
)
from detector.client.sync_client import Client

__all__ = [
    "AsyncClient",
    "Box",
    "BusyError",
    "ClassName",
    "ClassifyParameters",
    "ClassifyReply",
    "ClassifyTiming",
    "Client",
    "DetectParameters",
    "DetectReply",
    "DetectTiming",
    "DetectedObject",
    "ErrorDetail",
    "ImageSource",
    "LikelyClass",
    "Member",
    "ModelInfo",
    "ModelSummary",
    "NoConnectionError",
    "ProfileOffered",
    "RefusedError",
    "RefusedImage",
    "ServiceError",
    "ServiceTimeoutError",
    "WeightsFile",
]

"""What the routes share: limits, threads that decode, and whoever runs the network."""

import asyncio
from concurrent.futures import Executor
from dataclasses import dataclass
from time import perf_counter

import numpy as np
from fastapi import Request
from numpy.typing import NDArray

from api.errors import not_ready
from api.inference import Inference, milliseconds
from api.uploads import Upload, UploadLimits, read_uploads
from detector.images import Limits, decode


@dataclass(frozen=True)
class Picture:
    """A decoded upload: upright pixels [H,W,3], its name if it has one, milliseconds of decoding."""

    pixels: NDArray[np.uint8]
    name: str | None
    decode_ms: float


@dataclass(frozen=True)
class Service:
    """One for the life of the app, at ``app.state.service``."""

    limits: Limits
    decoders: Executor
    inference: Inference

    async def picture(self, request: Request) -> Picture:
        """The picture that a request carries, decoded off the event loop.

        Raises ApiError or ImageError for what is no picture or too large a one.
        """
        uploads = await read_uploads(request, UploadLimits(self.limits.max_bytes, 1), None)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self.decoders, _decode, uploads.items[0], self.limits)


def _decode(upload: Upload, limits: Limits) -> Picture:
    start = perf_counter()
    pixels = decode(upload.data, limits)
    return Picture(pixels, upload.name, milliseconds(perf_counter() - start))


async def ready_service(request: Request) -> Service:
    """The service, for a route that needs the network. Raises ApiError 503 until it is ready."""
    service: Service = request.app.state.service
    if not service.inference.ready:
        raise not_ready()
    return service

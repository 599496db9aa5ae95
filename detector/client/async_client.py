"""The client for asyncio: the methods of the other one, awaited."""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, TypeVar, Unpack, overload

import httpx

from detector.client.attempts import Attempts
from detector.client.errors import BusyError, NoConnectionError, RefusedError
from detector.client.exchange import (
    Call,
    ClientSettings,
    Reply,
    check_status,
    failed,
    model_call,
    read_image,
    read_reply,
)
from detector.client.image_endpoint import CLASSIFY, DETECT, ImageEndpoint
from detector.client.image_upload import ImageSource, is_several
from detector.client.parameters import ClassifyParameters, DetectParameters
from detector.client.replies import (
    ClassifyReply,
    DetectReply,
    ModelInfo,
    ModelList,
    ModelSummary,
    RefusedImage,
)

One = TypeVar("One")


class AsyncClient:
    """Asks a service of this project, as :class:`~detector.client.Client` does, without blocking the loop.

    Files are read and arrays encoded in threads. Several event loops may use it, also at once: each has
    connections of its own, as many as ``connections`` says. ``async with`` closes those of its loop.
    """

    def __init__(
        self,
        address: str = "http://localhost:8000",
        *,
        key: str | None = None,
        timeout: float = 30,
        retries: int = 3,
        connections: int = 16,
        verify: ssl.SSLContext | bool = True,
    ) -> None:
        """Prepare to ask; nothing is sent yet.

        ``address``: where the service is, below a path too. ``key``: for a service that wants one.
        ``timeout``: seconds for a call, all its tries together; the service is told of them. ``retries``: so
        many further tries, at most. ``connections``: open at once, at most. ``verify``: how the certificate
        of an https address is checked, as httpx takes it.

        Raises ParameterError.
        """
        self._settings = ClientSettings(address, key, timeout, retries, connections)
        self._verify = httpx.create_ssl_context(verify=verify)
        self._by_loop: dict[asyncio.AbstractEventLoop, httpx.AsyncClient] = {}
        self._closed = False

    def __repr__(self) -> str:
        return f"AsyncClient({self._settings.shown!r})"

    async def __aenter__(self) -> "AsyncClient":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections of this event loop; nothing can be asked afterwards."""
        self._closed = True
        http = self._by_loop.pop(asyncio.get_running_loop(), None)
        if http is not None:
            await http.aclose()

    def _http(self) -> httpx.AsyncClient:
        """Return the connections of the running event loop, the only one that can use them."""
        if self._closed:
            raise RuntimeError("The client has been closed: make another one.")
        loop = asyncio.get_running_loop()
        if loop not in self._by_loop:
            for ended in [other for other in list(self._by_loop) if other.is_closed()]:
                self._by_loop.pop(ended, None)
            self._by_loop[loop] = httpx.AsyncClient(verify=self._verify, **self._settings.of_httpx())
        return self._by_loop[loop]

    @overload
    async def detect(  # type: ignore[overload-overlap]  # a text is a path, though also a sequence of texts
        self, images: ImageSource, **parameters: Unpack[DetectParameters]
    ) -> DetectReply: ...

    @overload
    async def detect(
        self, images: Sequence[ImageSource], **parameters: Unpack[DetectParameters]
    ) -> list[DetectReply | RefusedImage]: ...

    async def detect(self, images: Any, **parameters: Unpack[DetectParameters]) -> Any:
        """Find the objects in an image, or in each image of a list.

        For a list a list comes back, one entry an image: an image that cannot be read is a RefusedImage in
        its place. Raises ParameterError, ImageError or OSError for what cannot be sent.
        """
        return await self._ask(DETECT, images, parameters)

    @overload
    async def classify(  # type: ignore[overload-overlap]  # as for detect
        self, images: ImageSource, **parameters: Unpack[ClassifyParameters]
    ) -> ClassifyReply: ...

    @overload
    async def classify(
        self, images: Sequence[ImageSource], **parameters: Unpack[ClassifyParameters]
    ) -> list[ClassifyReply | RefusedImage]: ...

    async def classify(self, images: Any, **parameters: Unpack[ClassifyParameters]) -> Any:
        """Name what an image shows as a whole, or each image of a list; see :meth:`detect`."""
        return await self._ask(CLASSIFY, images, parameters)

    async def detect_coco(self, image: ImageSource, **parameters: Unpack[DetectParameters]) -> dict[str, Any]:
        """Find the objects in an image; return them as a COCO data set that pycocotools loads."""
        attempts = self._settings.attempts(parameters.get("timeout"), parameters.get("request_id"))
        call = await asyncio.to_thread(DETECT.call, [image], parameters, output="coco")
        return read_reply(dict[str, Any], await self._send(call, attempts), attempts)

    async def draw(
        self,
        image: ImageSource,
        *,
        media_type: Literal["image/png", "image/jpeg"] = "image/png",
        **parameters: Unpack[DetectParameters],
    ) -> bytes:
        """Return an image with the objects found drawn on it, as the bytes of a file."""
        attempts = self._settings.attempts(parameters.get("timeout"), parameters.get("request_id"))
        call = await asyncio.to_thread(DETECT.drawing, image, parameters, media_type)
        return read_image(await self._send(call, attempts), attempts)

    async def models(
        self, *, timeout: float | None = None, request_id: str | None = None
    ) -> list[ModelSummary]:
        """Return what is loaded, the default model first."""
        attempts = self._settings.attempts(timeout, request_id)
        reply = await self._send(Call("GET", "/models"), attempts)
        return read_reply(ModelList, reply, attempts).models

    async def model(
        self, name: str, *, timeout: float | None = None, request_id: str | None = None
    ) -> ModelInfo:
        """Return one model with all its classes."""
        attempts = self._settings.attempts(timeout, request_id)
        return read_reply(ModelInfo, await self._send(model_call(name), attempts), attempts)

    async def ready(self, *, timeout: float | None = None, request_id: str | None = None) -> bool:
        """Return whether the service would take a request now: not while it loads, ends or is not there.

        Asks once. Raises ServiceError where something else answers, or nothing in time.
        """
        attempts = self._settings.attempts(timeout, request_id)
        try:
            await self._try(Call("GET", "/health/ready"), attempts)
        except (BusyError, NoConnectionError):
            return False
        return True

    async def _ask(self, endpoint: ImageEndpoint[One], images: Any, parameters: Mapping[str, Any]) -> Any:
        attempts = self._settings.attempts(parameters.get("timeout"), parameters.get("request_id"))
        call = await asyncio.to_thread(endpoint.call, images, parameters)
        if not is_several(images):
            return endpoint.answer(await self._send(call, attempts), attempts)
        if not call.uploads:
            return []
        try:
            reply = await self._send(call, attempts)
        except RefusedError as error:
            return endpoint.refusal(call, error)
        return endpoint.answers(call, reply, attempts)

    async def _send(self, call: Call, attempts: Attempts) -> Reply:
        """Return the reply to a call, after as many tries as it takes and there is time for."""
        while True:
            try:
                return await self._try(call, attempts)
            except (BusyError, NoConnectionError) as error:
                wait = attempts.wait_after(error)
            await asyncio.sleep(wait)

    async def _try(self, call: Call, attempts: Attempts) -> Reply:
        try:
            async with asyncio.timeout(attempts.remaining()):
                response = await self._http().request(**call.arguments(attempts))
        except TimeoutError as error:
            raise attempts.expired() from error
        except httpx.RequestError as error:
            raise failed(error, attempts) from error
        reply = Reply.of(response)
        check_status(reply, attempts)
        return reply

"""The client that waits for its answers."""

import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
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

_SENT_AT_ONCE = 64 * 1024  # bytes


class _InTime(httpx.SyncByteStream):
    """A request's body that is sent while its call has time: httpx bounds the wait for each piece alone."""

    def __init__(self, body: Any, attempts: Attempts) -> None:
        self._body, self._attempts = body, attempts

    def __iter__(self) -> Iterator[bytes]:
        for part in self._body:
            for start in range(0, len(part), _SENT_AT_ONCE):
                self._attempts.remaining()
                yield part[start : start + _SENT_AT_ONCE]


class Client:
    """Asks a service of this project; threads may share it. ``with`` closes its connections.

    Every method raises ServiceError, or what it was made of (:mod:`detector.client.errors`), where no answer
    comes. Refusals for lack of room (429, 503) and cut connections are tried again, after the time that the
    service names and within the call's timeout; all else is not.
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
        self._http = httpx.Client(verify=verify, **self._settings.of_httpx())

    def __repr__(self) -> str:
        return f"Client({self._settings.shown!r})"

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        self._http.close()

    @overload
    def detect(  # type: ignore[overload-overlap]  # a text is a path, though also a sequence of texts
        self, images: ImageSource, **parameters: Unpack[DetectParameters]
    ) -> DetectReply: ...

    @overload
    def detect(
        self, images: Sequence[ImageSource], **parameters: Unpack[DetectParameters]
    ) -> list[DetectReply | RefusedImage]: ...

    def detect(self, images: Any, **parameters: Unpack[DetectParameters]) -> Any:
        """Find the objects in an image, or in each image of a list.

        For a list a list comes back, one entry an image: an image that cannot be read is a RefusedImage in
        its place. Raises ParameterError, ImageError or OSError for what cannot be sent.
        """
        return self._ask(DETECT, images, parameters)

    @overload
    def classify(  # type: ignore[overload-overlap]  # as for detect
        self, images: ImageSource, **parameters: Unpack[ClassifyParameters]
    ) -> ClassifyReply: ...

    @overload
    def classify(
        self, images: Sequence[ImageSource], **parameters: Unpack[ClassifyParameters]
    ) -> list[ClassifyReply | RefusedImage]: ...

    def classify(self, images: Any, **parameters: Unpack[ClassifyParameters]) -> Any:
        """Name what an image shows as a whole, or each image of a list; see :meth:`detect`."""
        return self._ask(CLASSIFY, images, parameters)

    def detect_coco(self, image: ImageSource, **parameters: Unpack[DetectParameters]) -> dict[str, Any]:
        """Find the objects in an image; return them as a COCO data set that pycocotools loads."""
        attempts = self._settings.attempts(parameters.get("timeout"), parameters.get("request_id"))
        call = DETECT.call([image], parameters, output="coco")
        return read_reply(dict[str, Any], self._send(call, attempts), attempts)

    def draw(
        self,
        image: ImageSource,
        *,
        media_type: Literal["image/png", "image/jpeg"] = "image/png",
        **parameters: Unpack[DetectParameters],
    ) -> bytes:
        """Return an image with the objects found drawn on it, as the bytes of a file."""
        attempts = self._settings.attempts(parameters.get("timeout"), parameters.get("request_id"))
        call = DETECT.drawing(image, parameters, media_type)
        return read_image(self._send(call, attempts), attempts)

    def models(self, *, timeout: float | None = None, request_id: str | None = None) -> list[ModelSummary]:
        """Return what is loaded, the default model first."""
        attempts = self._settings.attempts(timeout, request_id)
        return read_reply(ModelList, self._send(Call("GET", "/models"), attempts), attempts).models

    def model(self, name: str, *, timeout: float | None = None, request_id: str | None = None) -> ModelInfo:
        """Return one model with all its classes."""
        attempts = self._settings.attempts(timeout, request_id)
        return read_reply(ModelInfo, self._send(model_call(name), attempts), attempts)

    def ready(self, *, timeout: float | None = None, request_id: str | None = None) -> bool:
        """Return whether the service would take a request now: not while it loads, ends or is not there.

        Asks once. Raises ServiceError where something else answers, or nothing in time.
        """
        attempts = self._settings.attempts(timeout, request_id)
        try:
            self._try(Call("GET", "/health/ready"), attempts)
        except (BusyError, NoConnectionError):
            return False
        return True

    def _ask(self, endpoint: ImageEndpoint[One], images: Any, parameters: Mapping[str, Any]) -> Any:
        attempts = self._settings.attempts(parameters.get("timeout"), parameters.get("request_id"))
        call = endpoint.call(images, parameters)
        if not is_several(images):
            return endpoint.answer(self._send(call, attempts), attempts)
        if not call.uploads:
            return []
        try:
            reply = self._send(call, attempts)
        except RefusedError as error:
            return endpoint.refusal(call, error)
        return endpoint.answers(call, reply, attempts)

    def _send(self, call: Call, attempts: Attempts) -> Reply:
        """Return the reply to a call, after as many tries as it takes and there is time for."""
        while True:
            try:
                return self._try(call, attempts)
            except (BusyError, NoConnectionError) as error:
                wait = attempts.wait_after(error)
            time.sleep(wait)

    def _try(self, call: Call, attempts: Attempts) -> Reply:
        try:
            request = self._http.build_request(**call.arguments(attempts))
            request.stream = _InTime(request.stream, attempts)
            response = self._http.send(request, stream=True)
            try:
                content = bytearray()
                for part in response.iter_bytes():
                    content += part
                    attempts.remaining()  # httpx bounds the wait for each part alone
            finally:
                response.close()
        except httpx.RequestError as error:
            raise failed(error, attempts) from error
        reply = Reply.of(response, bytes(content))
        check_status(reply, attempts)
        return reply

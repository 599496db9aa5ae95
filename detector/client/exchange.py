"""From a call to its requests, and from a response to the call's answer: what both clients share.

Nothing here waits or sends: :mod:`detector.client.sync_client` and :mod:`detector.client.async_client` do.
"""

import re
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from numbers import Integral, Real
from typing import Any, TypeVar, cast
from urllib.parse import quote

import httpx
from pydantic import TypeAdapter, ValidationError

from detector.client.attempts import Attempts, parse_retry_after
from detector.client.errors import (
    BusyError,
    NoConnectionError,
    RefusedError,
    ServiceError,
    ServiceTimeoutError,
)
from detector.client.image_upload import ImageUpload
from detector.client.replies import ErrorDetail, ErrorReply
from detector.errors import ParameterError

T = TypeVar("T")

_VISIBLE = re.compile(r"[\x21-\x7e]+")
_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_KEEP_ALIVE = 55  # seconds; the service keeps a connection for 65


@dataclass(frozen=True)
class ClientSettings:
    """Where the service is and how it is asked.

    Raises ParameterError for what no service can be asked with.
    """

    address: str = field(repr=False)  # it may hold a password
    key: str | None = field(repr=False)
    timeout: float
    retries: int
    connections: int

    def __post_init__(self) -> None:
        if not _is_address(self.address):
            raise ParameterError(f"an address is such as http://localhost:8000, got {self.address!r}")
        if self.key is not None and (not isinstance(self.key, str) or not _VISIBLE.fullmatch(self.key)):
            raise ParameterError(
                "the key has a sign that a header cannot carry, or none: check how it was read"
            )
        if self.key is not None and httpx.URL(self.address).userinfo:
            raise ParameterError("a request carries a key or the address's user and password: leave one out")
        _check_timeout(self.timeout)
        if not _is_whole(self.retries, 0) or not _is_whole(self.connections, 1):
            raise ParameterError(
                "retries must be a whole number from 0 and connections one from 1 on, got "
                f"{self.retries!r}, {self.connections!r}"
            )

    @property
    def shown(self) -> str:
        """The address for people: without user and password."""
        url = httpx.URL(self.address)
        return str(url.copy_with(userinfo=b"")) if url.userinfo else self.address

    def of_httpx(self) -> dict[str, Any]:
        """Return the arguments of httpx's client."""
        return {
            "base_url": self.address,
            "headers": {"Authorization": f"Bearer {self.key}"} if self.key is not None else {},
            "limits": httpx.Limits(
                max_connections=self.connections,
                max_keepalive_connections=self.connections,
                keepalive_expiry=_KEEP_ALIVE,
            ),
        }

    def attempts(self, timeout: float | None, request_id: str | None) -> Attempts:
        """Return the tries of a call; None stands for the client's timeout, and for a new id."""
        timeout = self.timeout if timeout is None else timeout
        _check_timeout(timeout)
        request_id = uuid.uuid4().hex if request_id is None else request_id
        if not isinstance(request_id, str) or not _ID.fullmatch(request_id):
            raise ParameterError(
                f"request_id must be 1 to 128 letters, digits, dots, dashes, underscores: {request_id!r}"
            )
        return Attempts(timeout, self.retries, request_id)


def _is_address(text: str) -> bool:
    try:
        url = httpx.URL(text)
    except (httpx.InvalidURL, TypeError):
        return False
    plain = not url.query and not url.fragment and (url.port is None or url.port < 65536)
    return url.scheme in ("http", "https") and bool(url.host) and plain


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= least


def _check_timeout(timeout: float) -> None:
    if not isinstance(timeout, Real) or isinstance(timeout, bool) or not 0.001 <= timeout < 1e6:
        raise ParameterError(f"timeout must be a number of seconds from 0.001 on, got {timeout!r}")


@dataclass(frozen=True)
class Reply:
    """A whole response: its status in number and words, its headers, its body."""

    status: int
    reason: str
    headers: httpx.Headers
    content: bytes

    @classmethod
    def of(cls, response: httpx.Response, content: bytes | None = None) -> "Reply":
        """Return a response, which has been read unless its body is given as ``content``."""
        body = response.content if content is None else content
        return cls(response.status_code, response.reason_phrase, response.headers, body)


@dataclass(frozen=True)
class Call:
    """What is asked, the same for each try."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    uploads: Sequence[ImageUpload] = ()
    accept: str = "application/json"

    def arguments(self, attempts: Attempts) -> dict[str, Any]:
        """Return the arguments of ``httpx.Client.build_request`` for the next try.

        One nameless image is the body itself, which takes the service half the memory of a form.
        """
        headers = {"Accept": self.accept, "X-Request-Id": attempts.request_id}
        arguments: dict[str, Any] = {
            "method": self.method,
            "url": self.path,
            "headers": headers,
            "timeout": attempts.remaining(),
        }
        if self.query:
            arguments["params"] = dict(self.query)
        if not self.uploads:
            return arguments
        headers["X-Timeout-Ms"] = str(attempts.allowed_milliseconds())
        if len(self.uploads) == 1 and self.uploads[0].name is None:
            headers["Content-Type"] = "application/octet-stream"
            return {**arguments, "content": self.uploads[0].data}
        files = [("file", (one.name, one.data, "application/octet-stream")) for one in self.uploads]
        return {**arguments, "files": files}


def model_call(name: str) -> Call:
    """Return the call for one model. Raises ParameterError for what no model can be called."""
    if not isinstance(name, str) or name in ("", ".", ".."):  # dots lead to other pages
        raise ParameterError(f"a model has a name such as default, got {name!r}")
    return Call("GET", f"/models/{quote(name, safe='')}")


def check_status(reply: Reply, attempts: Attempts) -> None:
    """Raise the error that a reply states, unless it is an answer (200)."""
    status = reply.status
    if status == 200:
        return
    request_id = reply.headers.get("X-Request-Id", attempts.request_id)
    error = _stated_error(reply)
    if status in (429, 503):
        retry_after = parse_retry_after(reply.headers.get("Retry-After"))
        raise BusyError(error.code, error.message, status, request_id, retry_after)
    if status in (408, 504):
        raise ServiceTimeoutError(error.code, error.message, status, request_id)
    kind = RefusedError if 400 <= status < 500 else ServiceError
    raise kind(error.code, error.message, status, request_id)


def _stated_error(reply: Reply) -> ErrorDetail:
    try:
        stated: ErrorReply = _reader(ErrorReply).validate_json(reply.content)
        return stated.error
    except ValidationError:
        message = (
            f"The answer is {reply.status} {reply.reason}, not in the words of this service: "
            "check the address, and what stands in front of the service."
        )
        return ErrorDetail("unexpected_reply", message)


def read_image(reply: Reply, attempts: Attempts) -> bytes:
    """Return the image that a reply is. Raises ServiceError where it is something else."""
    media_type = reply.headers.get("Content-Type", "")
    if not media_type.startswith("image/"):
        raise ServiceError(
            "unexpected_reply",
            f"The answer is no image but {media_type or 'of no type'}. Check the address, and what stands in "
            "front of the service.",
            reply.status,
            reply.headers.get("X-Request-Id", attempts.request_id),
        )
    return reply.content


def failed(error: httpx.RequestError, attempts: Attempts) -> NoConnectionError | ServiceTimeoutError:
    """Return the error of a try that brought no whole answer."""
    if isinstance(error, httpx.TimeoutException):
        return attempts.expired()
    reason = str(error) or type(error).__name__
    return NoConnectionError(
        "no_connection", f"No whole answer came from the service: {reason}.", None, attempts.request_id
    )


def read_reply(kind: type[T], reply: Reply, attempts: Attempts) -> T:
    """Return what a reply holds. Raises ServiceError where it is something else."""
    try:
        reader: TypeAdapter[T] = _reader(cast(Any, kind))
        return reader.validate_json(reply.content)
    except ValidationError as error:
        [first, *_] = error.errors()
        place = ".".join(str(part) for part in first["loc"]) or "the reply"
        raise ServiceError(
            "unexpected_reply",
            f"The answer is not a {kind.__name__}: {place}: {first['msg']}. Check the address, "
            "and that service and client are of one version.",
            reply.status,
            reply.headers.get("X-Request-Id", attempts.request_id),
        ) from error


@cache
def _reader(kind: Any) -> TypeAdapter[Any]:
    return TypeAdapter(kind)

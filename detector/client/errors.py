"""What a call of the service may end in other than its answer."""

from typing import Any

from detector.errors import DetectorError


class ServiceError(DetectorError):
    """A call that did not bring what was asked for.

    ``code`` is stable and meant for programs: the service's own (docs/serving.md lists them), or one of this
    client's: ``no_connection``, ``timeout``, and ``unexpected_reply`` for what no service of this kind says.
    ``message`` is for people, ``status`` that of HTTP, None where no reply came. ``request_id`` stands in the
    service's log.
    """

    def __init__(self, code: str, message: str, status: int | None, request_id: str) -> None:
        super().__init__(f"{message} [{code}, request {request_id}]")
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.message, self.status, self.request_id), vars(self)


class RefusedError(ServiceError):
    """The request itself is refused (4xx), and would be again: correct it. ``code`` says what is wrong."""


class BusyError(ServiceError):
    """The service has no room for the request now (429, 503), after all tries that there was time for.

    ``retry_after`` is the number of seconds after which the service asks to be tried again; None if it does
    not say.
    """

    def __init__(
        self, code: str, message: str, status: int | None, request_id: str, retry_after: float | None
    ) -> None:
        super().__init__(code, message, status, request_id)
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        kind, arguments, state = super().__reduce__()
        return kind, (*arguments, self.retry_after), state


class ServiceTimeoutError(ServiceError, TimeoutError):
    """There was no answer in time: by the service's word (408, 504), or by the client's clock."""


class NoConnectionError(ServiceError, ConnectionError):
    """Nobody listens at the address, or the connection was cut before the whole answer was here."""

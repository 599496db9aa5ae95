"""The refusal of a request or of one image, which both processes raise and the front answers."""

from collections.abc import Mapping
from http import HTTPStatus

from detector.errors import ImageError

_IMAGE_STATUS = {
    "empty": 400,
    "too_many_bytes": 413,
    "too_many_pixels": 413,
    "unsupported_format": 415,
    "truncated": 422,
    "unreadable": 422,
}


class ApiError(Exception):
    """A request that is refused. ``code`` is stable and meant for programs, the message for people."""

    def __init__(
        self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None
    ) -> None:
        """``headers`` go with the reply; a 503 without any says when to try again."""
        super().__init__(message)
        self.status = status
        self.code = code
        if headers is None and status == HTTPStatus.SERVICE_UNAVAILABLE:
            headers = {"Retry-After": "1"}
        self.headers = headers


def image_error(error: ImageError) -> ApiError:
    """Return the refusal of an image that cannot be read."""
    return ApiError(_IMAGE_STATUS[error.code], error.code, str(error))

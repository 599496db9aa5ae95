"""The errors of this library. Each message says what is wrong and what to do about it.

They are sent from process to process: one whose ``__init__`` takes more than its message says how it is made
again (``__reduce__``). Else the pool of processes in which it was raised breaks while it reads the error.
"""

from typing import Any


class DetectorError(Exception):
    """Base of every error that this library raises on purpose."""


class ImageError(DetectorError):
    """An image that cannot be used.

    ``code`` is stable and meant for programs: ``empty``, ``unsupported_format``, ``too_many_bytes``,
    ``too_many_pixels``, ``truncated`` or ``unreadable``.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, str(self)), vars(self)


class CheckpointError(DetectorError):
    """A weights file that is truncated, foreign, or does not fit the network."""


class DatasetError(DetectorError):
    """A data set that is not laid out as its format says."""


class ParameterError(DetectorError, ValueError):
    """An argument outside its range or of the wrong shape."""


class WriteError(DetectorError, OSError):
    """A file that cannot be written: no room, no permission, something else in its place."""


def reason(error: DetectorError | OSError) -> str:
    """Say why something failed; of the system's errors, without number and file name."""
    if isinstance(error, DetectorError) or not error.strerror:
        return str(error)
    return error.strerror[:1].lower() + error.strerror[1:]

"""Files that a caller has opened: read whole, as bytes."""

from typing import Protocol

from detector.errors import ParameterError


class BinaryFile(Protocol):
    """A file object that was opened for reading bytes."""

    def read(self) -> bytes: ...


def read_all(file: BinaryFile) -> bytes:
    """Return what is left to read of a file. Raises ParameterError for one that gives anything but bytes."""
    data = file.read()
    if not isinstance(data, bytes | bytearray | memoryview):
        raise ParameterError(
            f"a file must be open for bytes (mode 'rb'), reading it gave {type(data).__name__}"
        )
    return bytes(data)

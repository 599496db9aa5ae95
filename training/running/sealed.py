"""Small files with a digest of their content at their end: a damaged one is told, and made again."""

from hashlib import blake2b
from pathlib import Path

from detector.errors import CheckpointError
from detector.files import write_whole
from detector.readable import unreadable
from training.running.script import naming

_SIZE = 16


def write_sealed(path: Path, data: bytes) -> None:
    """Write ``data`` and its digest, whole or not at all."""
    with naming(path):
        write_whole(path, data + _digest(data))


def read_sealed(path: Path) -> bytes | None:
    """Return what :func:`write_sealed` wrote, or None for a file that is cut off or changed.

    Raises OSError if the file cannot be read, CheckpointError for a pipe or a folder in its place.
    """
    if path.exists() and not path.is_file():
        raise CheckpointError(f"{unreadable(path)}, or delete it: a part of a cache belongs there")
    content = path.read_bytes()
    data, digest = content[:-_SIZE], content[-_SIZE:]
    return data if digest == _digest(data) else None


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=_SIZE).digest()

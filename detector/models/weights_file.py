"""Reading of a foreign file of weights into memory, and telling what often lies in its place."""

from pathlib import Path

from detector.errors import CheckpointError
from detector.io.readable_files import unreadable
from detector.io.terminal_text import printable_path


def read_weights_file(path: Path, largest: int) -> bytes:
    """Read a file of weights of at most ``largest`` bytes.

    Raises CheckpointError for what cannot be read, and for what is often found in the place of such a file:
    a pointer of Git LFS, a compressed archive.
    """
    if (reason := unreadable(path)) is not None:
        raise CheckpointError(reason)
    shown = printable_path(path)
    try:
        if (size := path.stat().st_size) > largest:
            raise CheckpointError(
                f"{shown} has {size / 2**20:.0f} MiB, GoogLeNet in no form more than {largest / 2**20:.0f}"
            )
        data = path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{shown} cannot be read: {error.strerror or error}") from error
    if data.startswith(b"version https://git-lfs"):
        raise CheckpointError(
            f"{shown} is a pointer of Git LFS, not the weights themselves: fetch them by `git lfs pull`"
        )
    if data.startswith((b"\x1f\x8b", b"PK\3\4")):
        raise CheckpointError(f"{shown} is a compressed archive: unpack it, and name the file in it")
    return data

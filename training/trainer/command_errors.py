"""Errors of scripts in one line, and checks that the disk has room for large files."""

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detector.errors import DetectorError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors of the system where a file cannot grow."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the script, with one line on standard error, for errors of the library and of the file system."""
    try:
        yield
    except DetectorError as error:
        raise SystemExit(f"error: {error}") from error
    except OSError as error:
        raise SystemExit(f"error: {explained(error)}") from error


@contextmanager
def add_path_to_errors(path: Path) -> Iterator[None]:
    """Add a file's name to errors of the file system in the block: those of writing have none."""
    try:
        yield
    except DetectorError:  # of write_whole: it names its file
        raise
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def explained(error: OSError) -> str:
    """Describe an error in one line: which file, what is wrong, and what to do."""
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    text = f"{where}{error.strerror or error}"
    if error.errno not in FULL:
        return f"{text}. Mend that, or name another file or folder; then the same command goes on"
    free = f"{free_bytes(Path(os.fsdecode(error.filename))):,} bytes free: " if error.filename else ""
    return (
        f"{text} ({free}the disk, a quota or a limit on file sizes). Make room, or name another folder; what "
        "was written before is whole, and the same command goes on from there"
    )


def free_bytes(path: Path) -> int:
    """Return how many bytes a file may take at a place, whose folder need not exist yet."""
    parent = next(place for place in (path, *path.absolute().parents) if place.exists())
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    free = shutil.disk_usage(parent).free
    return free if limit == resource.RLIM_INFINITY else min(free, limit)


_GIB = 2**30


class DiskSpaceError(DetectorError):
    """The disk has too little room for what a run has to write."""


def require(folder: Path, needed: int, what: str, instead: str) -> None:
    """Raise DiskSpaceError if fewer than ``needed`` bytes are free where ``folder`` is or will be.

    The message says ``what`` is to be written there, and what can be done ``instead`` of making room.
    """
    free = free_bytes(folder)
    if free < needed:
        raise DiskSpaceError(_message(folder, needed, free, what, instead))


def allocate(path: Path, size: int, what: str, instead: str) -> None:
    """Allocate ``size`` bytes of the disk for a file, zeros where it was shorter.

    Raises DiskSpaceError, as :func:`require` does, where there is no room; the file is then removed.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, max(size, 1))
        # This shortens a longer file; on systems without fallocate nothing more can be done.
        os.ftruncate(file, size)
    except OSError as error:
        if error.errno not in FULL:
            if error.errno in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS):
                os.ftruncate(file, size)
                return
            raise
        free = free_bytes(path)
        path.unlink(missing_ok=True)
        raise DiskSpaceError(_message(path, size, free, what, instead)) from error
    finally:
        os.close(file)


def used(folder: Path) -> int:
    """Return how many bytes of the disk the files below a folder take."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _message(path: Path, needed: int, free: int, what: str, instead: str) -> str:
    return (
        f"{path}: {what} need {needed / _GIB:.2f} GiB ({needed:,} bytes), and {free / _GIB:.2f} GiB "
        f"({free:,} bytes) can be had. Make room, or {instead}; then the same command goes on"
    )

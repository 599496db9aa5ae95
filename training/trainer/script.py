"""How every script ends that cannot go on: one line on standard error, and exit status 1.

Room for large files, asked for before hours are spent on their content.
"""

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detector.errors import DetectorError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""What the system says when a file cannot grow."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn errors of the library and of the file system into one line that says what to do."""
    try:
        yield
    except DetectorError as error:
        raise SystemExit(f"error: {error}") from error
    except OSError as error:
        raise SystemExit(f"error: {explained(error)}") from error


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give errors of the file system in the block the file's name: those of writing have none."""
    try:
        yield
    except DetectorError:  # of write_whole: it names its file
        raise
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def explained(error: OSError) -> str:
    """Say in one line which file, what is wrong with it, and what to do."""
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
    """Bytes that a file may take at a place, whose folder need not be there yet."""
    there = next(parent for parent in (path, *path.absolute().parents) if parent.exists())
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    free = shutil.disk_usage(there).free
    return free if limit == resource.RLIM_INFINITY else min(free, limit)


_GIB = 2**30


class DiskSpaceError(DetectorError):
    """Too little room for what a run has to keep."""


def require(folder: Path, needed: int, what: str, instead: str) -> None:
    """Raise DiskSpaceError if fewer than ``needed`` bytes are free where ``folder`` is or is to be.

    ``what`` is to be kept there; ``instead`` says what else can be done than making room.
    """
    free = free_bytes(folder)
    if free < needed:
        raise DiskSpaceError(_message(folder, needed, free, what, instead))


def allocate(path: Path, size: int, what: str, instead: str) -> None:
    """Give a file ``size`` bytes of the disk, zeros where it was shorter.

    Raises DiskSpaceError where there is no room; the file is then removed.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file, 0, max(size, 1))
        os.ftruncate(file, size)  # all there is on other systems; and cuts off what is too much
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
    """Bytes of the disk that the files below a folder take."""
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())


def _message(path: Path, needed: int, free: int, what: str, instead: str) -> str:
    return (
        f"{path}: {what} need {needed / _GIB:.2f} GiB ({needed:,} bytes), and {free / _GIB:.2f} GiB "
        f"({free:,} bytes) can be had. Make room, or {instead}; then the same command goes on"
    )

"""Room for large files, asked for before hours are spent on their content."""

import errno
import os
from pathlib import Path

from detector.errors import DetectorError
from training.common.script import FULL, free_bytes

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

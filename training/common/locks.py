"""One run in a folder at a time: locks that the kernel takes back when their process ends, however it ends.

They are POSIX record locks (``fcntl.lockf``): unlike those of ``flock`` they do not pass to forked processes,
which outlive a killed parent by some seconds. Over NFS they hold between machines where the server keeps
locks.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from detector.errors import ParameterError

NAME = ".lock"

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

_held: set[Path] = set()
"""Lock files of this process. Closing a second descriptor of one would give the lock back."""


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """Make a run's folder, and keep other runs out of it for the block.

    Of the processes that torchrun started the first one takes the lock for all; within a process the folder
    may be taken again. Raises ParameterError, naming the holder, if another run uses the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if os.environ.get("RANK", "0") != "0":
        yield
        return
    with _locked(folder, wait=False):
        _remove_leftovers(folder)
        yield


@contextmanager
def cache_folder(folder: Path) -> Iterator[None]:
    """Be the only process that fills a cache, waiting for another one that does."""
    folder.mkdir(parents=True, exist_ok=True)
    with _locked(folder, wait=True):
        yield


@contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[None]:
    path = (folder / NAME).resolve()
    if path in _held:
        yield
        return
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        _take(file, path, wait=wait)
        with suppress(OSError):  # a full disk: it only tells others whom to look for
            os.ftruncate(file, 0)
            os.pwrite(file, f"process {os.getpid()} ({_command()})".encode(errors="backslashreplace"), 0)
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)
    finally:
        os.close(file)


def _take(file: int, path: Path, *, wait: bool) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _UNSUPPORTED:
            tqdm.write(f"{path.parent} is on a disk without locks: see that one run at a time uses it")
            return
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        holder = os.pread(file, 500, 0).decode(errors="replace") or "another process"
        if not wait:
            raise ParameterError(
                f"{path.parent} is in use by {holder}: wait for its end, end it, or give another --output"
            ) from error
        tqdm.write(f"waiting for {holder}, which fills {path.parent}")
        fcntl.lockf(file, fcntl.LOCK_EX)


def _command() -> str:
    return " ".join(sys.argv)[:300]


def _remove_leftovers(folder: Path) -> None:
    """Remove what a kill left of files that were being written: nobody else writes into a locked folder."""
    for path in folder.glob(".*.safetensors.*"):
        path.unlink(missing_ok=True)

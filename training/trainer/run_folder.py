"""The folder of a run: locked against other runs, and apart from what the run reads.

The locks are POSIX record locks (``fcntl.lockf``), which the kernel releases when their process ends. Unlike
those of ``flock`` they do not pass to forked processes, which outlive a killed parent by some seconds. Over
NFS they hold between machines where the server keeps locks.
"""

import errno
import fcntl
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tqdm import tqdm

from detector.errors import ParameterError
from detector.io.atomic_write import check_writable
from detector.io.image_paths import has_image_suffix
from detector.io.output_paths import check_apart
from detector.io.terminal_text import printable_path, valid_name

NAME = ".lock"

_UNSUPPORTED = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL)

_held: set[Path] = set()
"""Lock files of this process. Closing a second descriptor of one would release the lock."""


@contextmanager
def run_folder(folder: Path) -> Iterator[None]:
    """Make a run's folder, and lock it for the block.

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
    """Make a cache's folder and lock it for the block, waiting for a process that holds the lock."""
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
        with suppress(OSError):  # a full disk: the text only tells others which process it is
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
    """Remove half-written files of a killed run: no other run writes into a locked folder."""
    for path in folder.glob(".*.safetensors.*"):
        path.unlink(missing_ok=True)


DETECTOR = "detector.safetensors"
"""What a detector that was trained is called in its run's folder."""

_NAMES = (
    DETECTOR, "best.safetensors", "last.safetensors", "state.safetensors", "log.jsonl",
    "held_out.jsonl", "recall.jsonl", "accuracy.jsonl", "broken.txt", "report.html", "figures.json",
)  # fmt: skip
"""The files of all trainings; there are folders besides."""


def check_run_folder(
    output: Path, inputs: Iterable[Path | None], data: Iterable[Path], members: int = 1
) -> None:
    """Check, before work is done, that a run's files can be written, and replace nothing that is read.

    ``inputs`` are files that are read (weights to start from, lists), None for one that was not given;
    ``data`` are folders of data sets. Files of the same run may exist: it is resumed. Raises ParameterError,
    or WriteError for a place that cannot be written to.
    """
    folders = [output] if members == 1 else [output, *(output / f"member-{n + 1}" for n in range(members))]
    files = [folder / name for folder in folders for name in _NAMES]
    check_apart(files, inputs)
    check_folder_apart(output, data)
    for path in files:
        check_writable(path)
    check_utf8(output)


def check_utf8(folder: Path) -> None:
    """Check that a folder's name is UTF-8, as the libraries that write maps and states need it.

    Raises ParameterError.
    """
    if valid_name(folder) != str(folder):
        raise ParameterError(
            f"{printable_path(folder)} has a name that is not UTF-8, which maps and states cannot be written "
            "below: name another folder with --output (and --cache, where there is one)"
        )


def check_folder_apart(output: Path, data: Iterable[Path]) -> None:
    """Check that a folder to write into is none of a data set's folders, nor holds images within one.

    Raises ParameterError.
    """
    place = output.resolve()
    for root in data:
        within = place.is_relative_to(root.resolve())
        if place == root.resolve() or (within and _holds_images(output)):
            raise ParameterError(
                f"{printable_path(output)} is a folder of the data in {printable_path(root)}: what is made "
                "of it would lie among it; name another folder"
            )


def _holds_images(folder: Path) -> bool:
    return folder.is_dir() and any(has_image_suffix(path.name) for path in folder.iterdir())

"""Pictures that end the process: noted on disk while they are looked at, for the next run to read.

A picture can take the whole process with it, by a decoder that crashes or by the memory that it needs. A run
that goes on would meet it at the same place each time. So the pictures under way are noted. Those that a run
left so are looked at alone by the next one, one at a time; one that ends that run too is left out.
"""

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from detector.errors import DetectorError, ImageError, ParameterError
from detector.io.terminal_text import printable_path
from detector.scheduling.device_errors import Cancelled, DeviceFault, OutOfMemory

R = TypeVar("R")

_NO_MEMORY = (MemoryError, OutOfMemory)
_NOT_THE_PICTURE = (*_NO_MEMORY, DetectorError, OSError, Cancelled, DeviceFault)
"""What the work on a picture may raise without its being the picture that ends the run."""


class Quarantine:
    """Looks at pictures, in any number of threads, and notes which are under way; a context.

    The file says at each moment what will be true if the process dies then: which pictures are ``suspects``,
    to be looked at alone, and which are ``left_out``. It goes when it has nothing to say. It is a help and no
    result: where it cannot be written, the run goes on without it.
    """

    def __init__(self, path: Path | None, *, resume: bool = True) -> None:
        """Read what an earlier run noted in ``path``, or, without ``resume``, forget it. None: note nothing.

        Raises ParameterError for a file that holds something else.
        """
        self._path = path
        self._suspects, self._left_out = (set(), set()) if path is None else _noted(path)
        if not resume:
            self._suspects, self._left_out = set(), set()
        self._turn = threading.Condition()
        self._under_way: list[str] = []
        self._alone = self._closed = False
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run: what is still under way is given up, and not suspected of anything."""
        with self._turn:
            self._under_way.clear()
            self._write()
            self._closed = True
            with suppress(OSError):
                if self._descriptor is not None:
                    os.close(self._descriptor)
                if self._path is not None and not (self._suspects or self._left_out):
                    self._path.unlink(missing_ok=True)

    def look(self, name: str, work: Callable[[], R]) -> R:
        """Return what ``work`` returns for the picture of that name; a suspect waits until no other is under
        way. One for which memory is too small beside others is tried again, alone.

        Raises what ``work`` raises, and ImageError for a picture that is left out, or needs too much memory.
        """
        if name in self._left_out:
            assert self._path is not None
            raise ImageError(
                "unreadable",
                "The process ended twice while this picture was looked at, the second time alone: it is left "
                f"out. Delete {printable_path(self._path)} to have it tried again.",
            )
        if name not in self._suspects:
            with suppress(*_NO_MEMORY), self._noting(name, alone=False):
                return work()
        try:
            with self._noting(name, alone=True):
                return work()
        except _NO_MEMORY as error:
            raise ImageError(
                "too_many_pixels",
                "The picture needs more memory than there is. Scale it down, or take a machine with more.",
            ) from error

    @contextmanager
    def _noting(self, name: str, *, alone: bool) -> Iterator[None]:
        with self._turn:
            self._turn.wait_for(lambda: not (self._under_way if alone else self._alone))
            self._alone = alone
            self._under_way.append(name)
            self._write()
        ends_the_run = True
        try:
            yield
            ends_the_run = False
        except _NOT_THE_PICTURE:
            ends_the_run = False
            raise
        finally:
            with self._turn:
                self._alone = False
                if not self._closed:
                    self._under_way.remove(name)
                    self._suspects.discard(name)
                    if ends_the_run:
                        (self._left_out if alone else self._suspects).add(name)
                    self._write()
                self._turn.notify_all()

    def _write(self) -> None:
        """Bring the file up to date: a line; what may stand behind it was left by a kill."""
        if self._path is None or self._closed:
            return
        under_way = set(self._under_way)
        suspects = self._suspects | (set() if self._alone else under_way)
        left_out = self._left_out | (under_way if self._alone else set())
        line = json.dumps({"suspects": sorted(suspects), "left_out": sorted(left_out)}).encode() + b"\n"
        with suppress(OSError):
            if self._descriptor is None:
                self._descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
            os.pwrite(self._descriptor, line, 0)
            os.ftruncate(self._descriptor, len(line))


def _noted(path: Path) -> tuple[set[str], set[str]]:
    """Return the suspects, and what is left out."""
    try:
        with path.open("rb") as file:
            line = file.readline()
    except OSError:
        return set(), set()
    try:
        there = json.loads(line) if line else {"suspects": [], "left_out": []}
        return set(there["suspects"]), set(there["left_out"])
    except (ValueError, KeyError, TypeError) as error:
        raise ParameterError(
            f"{printable_path(path)} is there, and no note of pictures under way: move it, or give the "
            "output another name"
        ) from error

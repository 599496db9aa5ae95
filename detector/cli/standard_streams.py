"""Standard output and error that may be closed, full, or read by nobody, and that may lack letters.

A command's files are worth more than what it prints: it goes on to write them whole, and tells of the loss
at its end.
"""

import errno
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from io import BufferedWriter, FileIO, TextIOWrapper
from typing import Any

_REASONS = {errno.EBADF: "it is closed", errno.ENOSPC: "the disk is full", errno.EDQUOT: "the disk is full"}


class _Lossy(FileIO):
    """An open descriptor that takes all: what the system does not is dropped, and the first error kept."""

    error: OSError | None = None

    def write(self, data: Any, /) -> int:
        """Write some of ``data``; return how many bytes need not be written again."""
        while self.error is None:
            try:
                written = super().write(data)
            except OSError as error:
                self.error = error
            else:
                if written is not None:
                    return written
                select.select([], [self], [])  # whoever shares the pipe made it one that does not wait
        return len(data)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let the block print without regard to whether standard output and error take it.

    What their encoding lacks (every byte of a file name that is not UTF-8, and most letters on a terminal
    that is ASCII) is shown as escapes. What standard output did not take is told at the end, in one line on
    standard error, and by exit status 1; where its reader had enough, as ``head`` has, by the status alone.
    """
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None or stream is getattr(sys, f"__{name}__"):
            stream = _lossy(stream, descriptor)
            setattr(sys, name, stream)
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except SystemExit as end:
        if _told() and end.code in (None, 0):
            raise SystemExit(1) from end
        raise
    if _told():
        raise SystemExit(1)


def output_is_lost() -> bool:
    """Tell whether standard output did not take all: whoever makes nothing else may end."""
    return _error() is not None


def _lossy(stream: TextIOWrapper | None, descriptor: int) -> TextIOWrapper:
    if stream is None:
        raw = _Lossy(_closed(descriptor), "w")
        return TextIOWrapper(BufferedWriter(raw), encoding="utf-8", line_buffering=descriptor == 2)
    stream.flush()
    raw = _Lossy(descriptor, "w", closefd=False)
    return TextIOWrapper(
        BufferedWriter(raw),
        encoding=stream.encoding,
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


def _closed(descriptor: int) -> int:
    """Return a descriptor that takes nothing, for one that is closed; that one is taken, too, if it is still
    free, or the next file that is opened would get what is printed."""
    null = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fstat(descriptor)
    except OSError:
        os.dup2(null, descriptor, inheritable=False)
    return null


def _error() -> OSError | None:
    raw = getattr(getattr(sys.stdout, "buffer", None), "raw", None)
    return raw.error if isinstance(raw, _Lossy) else None


def _told() -> bool:
    """Write what is still held back, and tell of a loss; whether there was one."""
    sys.stdout.flush()
    error = _error()
    if error is not None and error.errno != errno.EPIPE:
        why = _REASONS.get(error.errno or 0) or error.strerror
        print(
            f"error: standard output cannot be written: {why}; what was to be printed is lost",
            file=sys.stderr,
        )
    return error is not None

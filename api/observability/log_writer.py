"""Log lines on their way to a file descriptor, which never hold up whoever logs.

A pipe whose reader sleeps, a terminal that was stopped (Ctrl-S) or a file system that hangs blocks the thread
that writes. So one thread writes, and nobody waits for it: what finds no room in its bounded queue is
dropped and counted, and a later line says how many were.
"""

import logging
import os
import select
import threading
from collections import deque
from time import monotonic

MAX_QUEUED_BYTES = 4 * 1024 * 1024
"""Bytes of lines that wait to be written: some 10,000 requests."""

FLUSH_SECONDS = 2.0
"""How long the end of the process waits for a reader of its last lines."""


class LogWriter(logging.Handler):
    """Writes formatted records to a file descriptor, from a thread of its own.

    A record is formatted by the thread that logs it, in whose context it was made. Lines that the descriptor
    does not take (a full disk, a closed pipe) are lost as well, and counted.
    """

    def __init__(self, fd: int, max_bytes: int = MAX_QUEUED_BYTES) -> None:
        """``max_bytes`` bounds the lines that wait; a longer line passes where no other waits."""
        super().__init__()
        self._fd = fd
        self._max_bytes = max_bytes
        self._changed = threading.Condition()  # guards everything up to the thread's own
        self._queue: deque[bytes | int] = deque()  # lines; a number: so many were lost here
        self._bytes = 0
        self._lost = 0  # lines since the last one that was queued
        self._uncounted = 0  # lost lines that take_lost has not told yet
        self._writing = False
        self._taken = True  # whether the descriptor took the last line
        self._cut = False  # the thread's own: what was written last ended within a line
        threading.Thread(target=self._work, name="log", daemon=True).start()

    def emit(self, record: logging.LogRecord) -> None:
        """Format a record and queue its line, or count it as lost; returns at once."""
        try:
            line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
        except Exception:
            self.handleError(record)
            return
        with self._changed:
            if self._bytes and self._bytes + len(line) > self._max_bytes:
                self._lost += 1
                self._uncounted += 1
                return
            if self._lost:
                self._queue.append(self._lost)
                self._lost = 0
            self._queue.append(line)
            self._bytes += len(line)
            self._changed.notify_all()

    def flush(self) -> None:
        """Wait until all lines are written, :data:`FLUSH_SECONDS` at most."""
        end = monotonic() + FLUSH_SECONDS
        with self._changed:
            while (self._queue or self._writing) and monotonic() < end:
                self._changed.wait(end - monotonic())

    def take_lost(self) -> int:
        """Return how many lines were lost since the last call."""
        with self._changed:
            lost, self._uncounted = self._uncounted, 0
        return lost

    def _work(self) -> None:
        while True:
            item = self._next()
            written = self._write(item if isinstance(item, bytes) else self._notice(item))
            with self._changed:
                if isinstance(item, bytes):
                    self._bytes -= len(item)
                if not written:
                    self._lost += 1 if isinstance(item, bytes) else item
                    self._uncounted += isinstance(item, bytes)
                self._taken = written
                self._writing = False
                self._changed.notify_all()

    def _next(self) -> bytes | int:
        with self._changed:
            # Where nothing can be written, the number of what was lost waits for the next line.
            while not (self._queue or (self._lost and self._taken)):
                self._changed.wait()
            self._writing = True
            if self._queue:
                return self._queue.popleft()
            lost, self._lost = self._lost, 0
            return lost

    def _notice(self, lost: int) -> bytes:
        message = "%d lines of the log were lost: they came faster than they were read or could be written"
        record = logging.LogRecord(__name__, logging.WARNING, __file__, 0, message, (lost,), None)
        return (self.format(record) + "\n").encode()

    def _write(self, line: bytes) -> bool:
        """Write a line, however long that takes; return whether the descriptor took the whole of it."""
        left = memoryview(b"\n" + line if self._cut else line)
        while left:
            try:
                left = left[os.write(self._fd, left) :]
                self._cut = bool(left)
            except BlockingIOError:  # whoever gave us the descriptor has set it so
                select.select((), (self._fd,), ())
            except OSError:
                return False
        return True

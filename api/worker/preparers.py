"""Threads that do what comes before and after the device: decoding, proposing, choosing, writing replies.

Work that was begun goes on first. New work begins in the order of deadlines, and only while few of those
begun wait for their first turn on the device: pictures decoded long before their turn would only take memory,
and, where the device is the CPU itself, time from those before them.
"""

import heapq
import logging
import threading
from collections import deque
from collections.abc import Callable
from itertools import count

logger = logging.getLogger(__name__)


class Preparers:
    """A few threads, fed by anybody."""

    def __init__(self, threads: int, ahead: int, on_start: Callable[[], None] | None = None) -> None:
        """At most ``ahead`` pieces of work are begun and not yet :meth:`let_another`; ``on_start`` is called
        in each thread first."""
        self._ahead = ahead
        self._on_start = on_start
        self._changed = threading.Condition()
        self._fresh: list[tuple[float, int, Callable[[], None]]] = []
        self._begun: deque[Callable[[], None]] = deque()
        self._waiting = 0
        self._closed = False
        self._numbers = count()
        self._threads = [
            threading.Thread(target=self._work, name=f"prepare-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def begin(self, deadline: float, work: Callable[[], None]) -> None:
        """Have new work done when its time comes. It must not raise, and calls :meth:`let_another` once."""
        with self._changed:
            heapq.heappush(self._fresh, (deadline, next(self._numbers), work))
            self._changed.notify()

    def forget(self, work: Callable[[], None]) -> bool:
        """Do not begin this work; False if that comes too late."""
        with self._changed:
            kept = [one for one in self._fresh if one[2] != work]
            if len(kept) == len(self._fresh):
                return False
            heapq.heapify(kept)
            self._fresh = kept
            return True

    def proceed(self, work: Callable[[], None]) -> None:
        """Have work that was begun go on. It must not raise."""
        with self._changed:
            self._begun.append(work)
            self._changed.notify()

    def let_another(self) -> None:
        """What was begun is on the device, or done: another may begin."""
        with self._changed:
            self._waiting -= 1
            self._changed.notify()

    def close(self) -> None:
        """Begin nothing more, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _work(self) -> None:
        if self._on_start is not None:
            self._on_start()
        while (work := self._next()) is not None:
            try:
                work()
            except Exception:  # or the thread would be gone, and in the end all of them
                logger.exception("A fault in what prepares pictures")

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while True:
                if self._begun:
                    return self._begun.popleft()
                if self._closed:
                    return None
                if self._fresh and self._waiting < self._ahead:
                    self._waiting += 1
                    return heapq.heappop(self._fresh)[2]
                self._changed.wait()

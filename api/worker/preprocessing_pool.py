"""Threads that do what comes before and after the device: decoding, proposing, choosing, writing replies.

Work that was begun goes on first. New work begins by turns, as on the device
(:mod:`api.worker.fair_queue`), a
picture each, and only while few of those begun wait for their first turn on the device: pictures decoded
long before their turn would only take memory, and, where the device is the CPU itself, time from those before
them. Of these few, one request has no more than half: its pictures wait for each other, and others must not
wait for them.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

from api.worker.fair_queue import FairQueue, Requester

logger = logging.getLogger(__name__)


@dataclass(eq=False)
class _Fresh:
    """Work that was not begun."""

    requester: Requester
    work: Callable[[], None]


class Preparers:
    """A few threads, fed by anybody."""

    def __init__(self, threads: int, ahead: int, on_start: Callable[[], None] | None = None) -> None:
        """At most ``ahead`` pieces of work are begun and not yet :meth:`let_another`; ``on_start`` is called
        in each thread first."""
        self._ahead = ahead
        self._on_start = on_start
        self._changed = threading.Condition()
        self._fresh: FairQueue[_Fresh] = FairQueue(1)
        self._begun: deque[Callable[[], None]] = deque()
        self._waiting: Counter[object] = Counter()  # by request
        self._closed = False
        self._threads = [
            threading.Thread(target=self._work, name=f"prepare-{i}", daemon=True) for i in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def begin(self, requester: Requester, work: Callable[[], None]) -> None:
        """Have new work done when its time comes. It must not raise; :meth:`let_another` is then called once
        for it."""
        with self._changed:
            self._fresh.add(_Fresh(requester, work))
            self._changed.notify()

    def forget(self, work: Callable[[], None]) -> bool:
        """Do not begin this work; False if that comes too late."""
        with self._changed:
            found = next((one for one in self._fresh if one.work == work), None)
            if found is not None:
                self._fresh.remove(found)
            return found is not None

    def proceed(self, work: Callable[[], None]) -> None:
        """Have work that was begun go on. It must not raise."""
        with self._changed:
            self._begun.append(work)
            self._changed.notify()

    def let_another(self, requester: Requester) -> None:
        """What was begun for a requester is on the device, or done: another may begin."""
        with self._changed:
            self._waiting[requester.sharers] -= 1
            self._waiting += Counter()  # without zeros
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
                fresh = self._next_fresh() if self._waiting.total() < self._ahead else None
                if fresh is not None:
                    return fresh.work
                self._changed.wait()

    def _next_fresh(self) -> _Fresh | None:
        most = max(1, self._ahead // 2)
        fresh = self._fresh.next(lambda one: self._waiting[one.requester.sharers] < most)
        if fresh is not None:
            self._fresh.took(fresh, 1)
            self._fresh.remove(fresh)
            self._waiting[fresh.requester.sharers] += 1
        return fresh

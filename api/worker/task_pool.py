"""Threads for what comes before and after the device: decoding, proposing, suppression, writing replies.

An image has a thread from its beginning to its end, and a turn to run only while it is not waiting for the
device: no more threads run at once than there are turns. Images that were begun go on first. New ones begin
fairly (:mod:`detector.scheduling.fair_queue`), and only while few of those begun wait for their first turn
on the device: images decoded long before their turn would only take memory, and, where the device is the CPU
itself, time from those before them. Of these few, one request has no more than half: its images wait for
each other, and others must not wait for them.
"""

import logging
import threading
from collections import Counter, deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

from detector.scheduling.fair_queue import FairQueue, RequestHandle

logger = logging.getLogger(__name__)

_BEGUN_FOR_EACH_AHEAD = 4
"""Images begun and not ended, for each that may be ahead of the device: some wait for their first turn there,
as many are in the batches under way, others are behind it. A bound, seldom met, on threads and memory."""


@dataclass(eq=False)
class _NewTask:
    """A task that was not begun."""

    handle: RequestHandle
    task: Callable[[], None]


class TaskPool:
    """Runs tasks of images, which may wait for the device in between."""

    def __init__(self, threads: int, ahead: int, on_start: Callable[[], None] | None = None) -> None:
        """Run ``threads`` tasks at once, and as many more wait for the device as are begun.

        At most ``ahead`` tasks are begun without a call of :meth:`release_slot` for them; at most four times
        as many, and ``threads`` more, are begun and not ended. ``on_start`` is called in each thread first.
        """
        self._ahead = ahead
        self._most = _BEGUN_FOR_EACH_AHEAD * ahead + threads
        self._threads = ThreadPoolExecutor(self._most, "preprocess", initializer=on_start or (lambda: None))
        self._lock = threading.Lock()  # guards everything below
        self._free_turns = threads
        self._resuming: deque[threading.Event] = deque()
        self._new: FairQueue[_NewTask] = FairQueue(1)
        self._before_device: Counter[object] = Counter()  # tasks begun, by request
        self._begun = 0
        self._closed = False

    def begin(self, handle: RequestHandle, task: Callable[[], None]) -> None:
        """Have a new task run when its time comes; :meth:`release_slot` is then called once for it."""
        with self._lock:
            self._new.add(_NewTask(handle, task))
            self._start(self._give_turns())

    def forget(self, task: Callable[[], None]) -> bool:
        """Do not begin this task; False if that comes too late."""
        with self._lock:
            new = next((waiting for waiting in self._new if waiting.task == task), None)
            if new is not None:
                self._new.remove(new)
            return new is not None

    def wait(self, start: Callable[[Callable[[], None]], None]) -> None:
        """Give the calling task's turn up until something elsewhere is done, then wait to have one again.

        ``start`` begins it, and is handed the function that is to be called, once, in any thread, when it is
        done. That function takes no time.
        """
        done = threading.Event()
        start(partial(self._resume, done))
        with self._lock:
            self._free_turns += 1
            self._start(self._give_turns())
        done.wait()

    def release_slot(self, handle: RequestHandle) -> None:
        """Note that a task begun for a request is on the device, or ended: another may begin."""
        with self._lock:
            self._before_device[handle.sharers] -= 1
            self._before_device += Counter()  # without zeros
            self._start(self._give_turns())

    def close(self) -> None:
        """Begin nothing more, and return when all that was begun has ended."""
        with self._lock:
            self._closed = True
        self._threads.shutdown()

    def _resume(self, done: threading.Event) -> None:
        with self._lock:
            self._resuming.append(done)
            self._start(self._give_turns())

    def _give_turns(self) -> list[_NewTask]:
        """Give free turns to tasks that go on, then to new ones, which are returned: they need a thread."""
        beginning = []
        while self._free_turns:
            if self._resuming:
                self._resuming.popleft().set()
            elif (new := self._next_new()) is not None:
                beginning.append(new)
            else:
                break
            self._free_turns -= 1
        return beginning

    def _next_new(self) -> _NewTask | None:
        if self._closed or self._before_device.total() >= self._ahead or self._begun >= self._most:
            return None
        most = max(1, self._ahead // 2)
        new = self._new.next(lambda waiting: self._before_device[waiting.handle.sharers] < most)
        if new is not None:
            self._new.took(new, 1)
            self._new.remove(new)
            self._before_device[new.handle.sharers] += 1
            self._begun += 1
        return new

    def _start(self, tasks: list[_NewTask]) -> None:
        for new in tasks:
            self._threads.submit(self._run, new)

    def _run(self, new: _NewTask | None) -> None:
        """Run a task, and then, in the same thread, whichever is to begin at its end."""
        while new is not None:
            try:
                new.task()
            except Exception:  # nobody reads what the thread's future says
                logger.exception("A fault in what prepares pictures")
            with self._lock:
                self._free_turns += 1
                self._begun -= 1
                beginning = self._give_turns()
                new = beginning.pop(0) if beginning else None
                self._start(beginning)

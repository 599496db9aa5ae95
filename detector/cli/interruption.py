"""The orderly end of a long run: Ctrl-C, and the signals by which systems ask for the same."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """The user, or the system, wants the run to end: by signal ``number``."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise Interrupted in the block at the first signal that asks for its end; a second one ends the process
    at once. Signals that are ignored stay so, as under nohup; outside the main thread nothing changes."""
    handlers: dict[int, Any] = {}

    def interrupt(number: int, frame: FrameType | None) -> None:
        for known in handlers:
            signal.signal(known, signal.SIG_DFL)
        raise Interrupted(number)

    if threading.current_thread() is threading.main_thread():
        for number in _ENDING:
            if signal.getsignal(number) is not signal.SIG_IGN:
                handlers[number] = signal.signal(number, interrupt)
    try:
        yield
    finally:
        for known, handler in handlers.items():
            signal.signal(known, handler)

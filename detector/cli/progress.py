"""How far a long run is, with its rate and the time left: a bar on a terminal, lines in a log."""

import sys
import time
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

_SECONDS = 30.0  # from line to line


class Progress:
    """Counts what is done, as a context that shows it on standard error."""

    def __init__(self, total: int, done: int, unit: str, *, in_logs: bool = True) -> None:
        """``done`` of ``total`` were done before, and do not count for the rate. ``in_logs``: whether lines
        are printed where there is no terminal."""
        self._in_logs = in_logs
        self._total, self._before, self._unit = total, done, unit
        self._done = self._told = done
        self._start = self._shown = time.monotonic()
        self._bar: tqdm[Any] | None = None
        if sys.stderr is not None and sys.stderr.isatty():
            self._bar = tqdm(total=total, initial=done, unit=f" {unit}", dynamic_ncols=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Show how far it came, and no more."""
        if self._bar is not None:
            self._bar.close()
        elif self._in_logs and self._done > self._told:
            self._show()

    def say(self, line: str) -> None:
        """Print a line on standard error, above the bar."""
        if self._bar is not None:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)

    def add(self, count: int = 1) -> None:
        """Count some as done."""
        self._done += count
        if self._bar is not None:
            self._bar.update(count)
        elif self._in_logs and time.monotonic() - self._shown >= _SECONDS:
            self._show()

    def _show(self) -> None:
        self._shown, self._told = time.monotonic(), self._done
        spent = self._shown - self._start
        line = tqdm.format_meter(
            self._done, self._total, spent, unit=f" {self._unit}", initial=self._before, ncols=0
        )
        print(line, file=sys.stderr, flush=True)

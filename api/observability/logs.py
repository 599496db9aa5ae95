"""Logs: one line a record on standard error, as JSON for machines or as text for people.

Logging never waits for whoever reads it: see :mod:`api.observability.log_writer`.
"""

import io
import logging
import os
import sys
import threading
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from pythonjsonlogger.core import RESERVED_ATTRS, LogData
from pythonjsonlogger.orjson import OrjsonFormatter

from api.observability.log_writer import LogWriter

REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that is being handled; every record made meanwhile carries it."""

TRACE_ID: ContextVar[str | None] = ContextVar("trace_id", default=None)
"""The trace that the request is a part of, where traces are sent; in JSON every record carries it as well."""

FIELDS = "fields"
"""Records made with ``extra={FIELDS: {...}}`` have these fields in their JSON line."""

_STDERR = 2
_OURS = ("api", "detector", "uvicorn")
_TEXT = "%(asctime)s %(levelname)-8s %(name)s: %(message)s"


def configure(log_format: str = "auto", log_level: str = "info") -> None:
    """Send the records of the whole process to standard error. To be called once, at the start.

    ``log_format`` is ``json``, ``text`` or ``auto``: text on a terminal, JSON elsewhere. ``log_level`` is the
    least level of our own and the server's records; libraries are heard from warnings on, because what they
    say below that is noise (numba's bytecode) or indiscreet (httpx's addresses). What a library prints
    becomes records as well, so that in JSON no line is anything else, and no print waits for a reader.

    Uvicorn must be told ``log_config=None, access_log=False``: requests are logged by
    :class:`api.frontend.middleware.RequestObserver`.
    """
    _open_standard_streams()
    as_json = log_format == "json" or (log_format == "auto" and not os.isatty(_STDERR))
    handler = LogWriter(_STDERR)
    handler.setFormatter(_JsonFormatter() if as_json else _TextFormatter(_TEXT))
    level = logging.getLevelNamesMapping()[log_level.upper()]
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(level, logging.WARNING))
    for name in _OURS:
        logging.getLogger(name).setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").disabled = True
    logging.captureWarnings(True)
    sys.stdout = _Printed("stdout", sys.stdout)
    sys.stderr = _Printed("stderr", sys.stderr)
    sys.excepthook = _uncaught
    threading.excepthook = lambda hook: _uncaught(hook.exc_type, hook.exc_value, hook.exc_traceback)


def take_lost_lines() -> int:
    """Return how many lines of this process's log were lost since the last call: nobody read them, or they
    could not be written. 0 before :func:`configure`."""
    return sum(
        handler.take_lost() for handler in logging.getLogger().handlers if isinstance(handler, LogWriter)
    )


def _open_standard_streams() -> None:
    """Have standard input, output and error lead nowhere where they were closed: the next socket or file
    would get the number of one of them, and the log's lines with it."""
    for fd in range(_STDERR + 1):
        try:
            os.fstat(fd)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number: fd


class _TextFormatter(logging.Formatter):
    """Text whose lines begin with a time, so that no client can forge a record with a line break."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        text = super().formatMessage(record).rstrip().replace("\r", "\\r").replace("\n", "\\n")
        request_id = REQUEST_ID.get()
        return f"{text} [{request_id}]" if request_id else text


class _JsonFormatter(OrjsonFormatter):
    """One JSON object a line: time, level, logger, message, request_id, trace_id, exception, and a record's
    fields."""

    def __init__(self) -> None:
        super().__init__(
            ["levelname", "name", "message"],
            rename_fields={"levelname": "level", "name": "logger", "exc_info": "exception"},
            reserved_attrs=[*RESERVED_ATTRS, "color_message"],  # uvicorn's second message, for terminals
            timestamp="time",
        )

    def process_log_record(self, log_data: LogData) -> LogData:
        fields: dict[str, Any] = log_data.pop(FIELDS, {})
        known = {"request_id": REQUEST_ID.get(), "trace_id": TRACE_ID.get()}
        known = {name: value for name, value in known.items() if value}
        return {"time": log_data.pop("time"), **fields, **log_data, **known}

    def jsonify_log_record(self, log_data: LogData) -> str:
        try:
            return super().jsonify_log_record(log_data)
        except TypeError:  # half of a surrogate pair, a number of more than 64 bits: not JSON's
            return super().jsonify_log_record({str(key): ascii(value) for key, value in log_data.items()})


class _Printed(io.TextIOBase):
    """Stands for ``sys.stdout`` or ``sys.stderr``: every line printed becomes a record."""

    encoding = "utf-8"

    def __init__(self, name: str, stream: Any) -> None:
        self._logger = logging.getLogger(name)
        self._stream = stream
        self._thread = threading.local()

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._stream is None:  # closed since before the start
            raise io.UnsupportedOperation("fileno")
        return int(self._stream.fileno())

    def write(self, text: str) -> int:
        if getattr(self._thread, "busy", False):
            return len(text)  # the handler failed and says so here: to log that would fail the same way
        *lines, rest = (getattr(self._thread, "rest", "") + text).replace("\r", "\n").split("\n")
        self._thread.rest = rest
        self._thread.busy = True
        try:
            for line in filter(None, lines):
                self._logger.warning("%s", line)
        finally:
            self._thread.busy = False
        return len(text)


def _uncaught(
    kind: type[BaseException], error: BaseException | None, traceback: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt | SystemExit) or error is None:
        return
    logging.getLogger("api").critical("An error that nobody caught", exc_info=(kind, error, traceback))

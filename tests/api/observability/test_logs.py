"""Logs are one line a record: JSON that machines read whatever else happens, or text."""

import json
import os
import pty
import subprocess
import sys
from typing import Any

import pytest

PRELUDE = """
import contextvars, logging, sys, threading, warnings
from api.observability.logs import FIELDS, REQUEST_ID, configure
log = logging.getLogger("api.test")
"""


def run(code: str, log_format: str = "json", log_level: str = "info") -> list[str]:
    """The lines on standard error of a process that logs so."""
    script = f"{PRELUDE}\nconfigure({log_format!r}, {log_level!r})\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=300, check=False
    )
    assert done.stdout == ""
    return done.stderr.splitlines()


def run_json(code: str, log_level: str = "info") -> list[dict[str, Any]]:
    """The records of such a process, every line of which is JSON."""
    return [json.loads(line) for line in run(code, "json", log_level)]


def test_a_record_as_json() -> None:
    [record] = run_json("REQUEST_ID.set('r-1'); log.info('%s items', 3, extra={FIELDS: {'status': 200}})")
    assert record.pop("time").endswith("+00:00")
    assert record == {
        "level": "INFO",
        "logger": "api.test",
        "message": "3 items",
        "request_id": "r-1",
        "status": 200,
    }


def test_a_record_names_its_trace() -> None:
    [record] = run_json("from api.observability.logs import TRACE_ID; TRACE_ID.set('4bf9'); log.info('x')")
    assert record["trace_id"] == "4bf9"


def test_a_record_outside_of_requests_has_no_id() -> None:
    [record] = run_json("log.warning('hello')")
    assert set(record) == {"time", "level", "logger", "message"}


@pytest.mark.parametrize(
    ("code", "said"),
    [
        pytest.param("log.error('a\\nb')", ["a\nb"], id="a line break stays in its record"),
        pytest.param("warnings.warn('careful')", ["careful"], id="a library warns"),
        pytest.param("print('hello'); log.info('ours')", ["hello", "ours"], id="a library prints"),
        pytest.param(
            "print('half', file=sys.stderr, end=''); log.info('ours'); print(' done', file=sys.stderr)",
            ["ours", "half done"],
            id="it prints half a line to the logs' own stream",
        ),
        pytest.param("sys.stderr.write('10%\\r20%\\r')", ["10%", "20%"], id="a progress bar"),
        pytest.param(
            "log.info('%d', 'no number'); log.info('ours')",
            ["no number", "ours"],
            id="a record that is wrong",
        ),
        pytest.param("log.info('\\ud800'); log.info('ours')", ["ud800", "ours"], id="half a surrogate pair"),
        pytest.param(
            "log.info('big', extra={FIELDS: {'n': 2**70}}); log.info('ours')", ["big", "ours"], id="too large"
        ),
        pytest.param(
            "log.info('odd', extra={FIELDS: {'n': float('nan'), 1: object()}})", ["odd"], id="what JSON lacks"
        ),
        pytest.param("raise ValueError('nobody caught it')", ["An error that nobody caught"], id="an error"),
        pytest.param(
            "t = threading.Thread(target=lambda: 1 / 0); t.start(); t.join()",
            ["An error that nobody caught"],
            id="an error in a thread",
        ),
    ],
)
def test_every_line_is_json(code: str, said: list[str]) -> None:
    messages = [record["message"] for record in run_json(code)]
    for text in said:
        assert any(text in message for message in messages), (text, messages)
    assert [
        next(t for t in said if t in m) for m in messages if any(t in m for t in said)
    ] == said  # in order


def test_a_traceback_is_a_field() -> None:
    [record] = run_json("try:\n    1 / 0\nexcept ZeroDivisionError:\n    log.exception('failed')")
    assert record["message"] == "failed"
    assert record["exception"].startswith("Traceback")
    assert record["exception"].endswith("ZeroDivisionError: division by zero")


def test_a_broken_stream_does_not_break_the_service() -> None:
    code = "import os; os.close(2)\nfor _ in range(3): log.info('x')\nos._exit(7)"
    script = f"{PRELUDE}\nconfigure('json')\n{code}"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, timeout=300, check=False)
    assert done.returncode == 7


@pytest.mark.parametrize(
    ("log_level", "seen"),
    [
        ("debug", ["api.debug", "uvicorn.error.debug", "numba.warning"]),
        ("info", ["uvicorn.error.info", "numba.warning"]),
        ("error", ["numba.error"]),
    ],
)
def test_the_level_holds_for_every_logger(log_level: str, seen: list[str]) -> None:
    code = """
for name in ("api", "uvicorn.error", "numba"):
    for level in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger(name), level)(f"{name}.{level}")
"""
    messages = [record["message"] for record in run_json(code, log_level)]
    assert set(seen) <= set(messages)
    ours = {"debug": 4, "info": 3, "error": 1}[log_level]
    libraries = {"debug": 2, "info": 2, "error": 1}[log_level]  # from warnings on
    assert len(messages) == 2 * ours + libraries


def test_uvicorn_logs_the_same_way_and_no_requests() -> None:
    code = """
import uvicorn
uvicorn.Config(None, log_config=None, access_log=False)
logging.getLogger("uvicorn.error").info("Started", extra={"color_message": "\\x1b[32mStarted"})
logging.getLogger("uvicorn.access").info("GET /?key=secret")
"""
    [record] = run_json(code)
    assert (record["logger"], record["message"]) == ("uvicorn.error", "Started")
    assert "color_message" not in record


def test_a_message_is_one_line_of_text() -> None:
    code = """
REQUEST_ID.set("r-1")
log.info("a\\nforged line")
try:
    1 / 0
except Exception:
    log.exception("x")
"""
    first, second, *traceback = run(code, "text")
    assert first.endswith("INFO     api.test: a\\nforged line [r-1]")
    assert second.endswith("ERROR    api.test: x [r-1]")
    assert traceback[-1] == "ZeroDivisionError: division by zero"


def test_auto_is_text_on_a_terminal_and_json_elsewhere() -> None:
    [line] = run("log.info('x')", "auto")
    assert json.loads(line)["message"] == "x"
    master, terminal = pty.openpty()
    script = f"{PRELUDE}\nconfigure('auto')\nlog.info('x')"
    subprocess.run([sys.executable, "-c", script], stderr=terminal, timeout=300, check=True)
    assert os.read(master, 1000).endswith(b"api.test: x\r\n")
    os.close(master)
    os.close(terminal)

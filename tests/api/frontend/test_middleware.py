"""Every request has an id, a line in the log and its share of the metrics, however it ends."""

import asyncio
import logging
import re
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from fastapi.responses import StreamingResponse
from prometheus_client.parser import text_string_to_metric_families

from api.frontend.errors import install_error_handlers, not_ready
from api.frontend.middleware import RequestObserver
from api.observability.logs import FIELDS, REQUEST_ID
from api.observability.metrics import Metrics
from api.protocol.errors import ApiError

Serving = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
GENERATED = re.compile(r"[0-9a-f]{32}")


def watched_app() -> FastAPI:
    """Routes that end in each of the ways there are."""
    app = FastAPI()

    @app.post("/detect")
    async def detect(request: Request) -> Response:
        body = await request.body()
        if body == b"full":
            raise ApiError(429, "overloaded", "Too much to do.")
        if body == b"bug":
            raise RuntimeError("a bug")
        request.state.log["model"] = "m"
        return Response(f"{REQUEST_ID.get()} {len(body)}")

    @app.get("/models/{name}")
    async def model(name: str) -> Response:
        return Response(name)

    @app.get("/health/ready")
    async def ready(loading: bool = False) -> Response:
        if loading:
            raise not_ready()
        return Response()

    @app.get("/stream")
    async def stream(fail: bool = False) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            for _ in range(1000):  # ten seconds
                yield bytes(1000)
                if fail:
                    raise RuntimeError("half way")
                await asyncio.sleep(0.01)

        return StreamingResponse(parts())

    install_error_handlers(app)
    app.state.metrics = Metrics()
    app.middleware_stack = RequestObserver(app.build_middleware_stack(), app.state.metrics)
    return app


@dataclass
class Watched:
    """The app, a client of it, and what it logged."""

    client: httpx.Client
    metrics: Metrics
    caplog: pytest.LogCaptureFixture

    def line(self, path: str) -> dict[str, Any]:
        """The fields of the one log line about a path; waits for it."""
        deadline = time.monotonic() + 60
        while True:
            lines = [getattr(record, FIELDS, None) for record in self.records("api.access")]
            found = [line for line in lines if line is not None and line["path"] == path]
            if found:
                assert len(found) == 1
                return dict(found[0])
            assert time.monotonic() < deadline, f"nothing is logged of {path}"
            time.sleep(0.01)

    def records(self, name: str) -> list[logging.LogRecord]:
        return [record for record in self.caplog.records if record.name == name]

    def count(self, name: str, **labels: str) -> float:
        families = text_string_to_metric_families(self.metrics.exposition()[0].decode())
        return sum(s.value for f in families for s in f.samples if s.name == name and s.labels == labels)


@pytest.fixture
def watched(serving: Serving, caplog: pytest.LogCaptureFixture) -> Iterator[Watched]:
    app = watched_app()
    with serving(app) as client:
        caplog.set_level(logging.INFO, "api.access")
        yield Watched(client, app.state.metrics, caplog)


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        pytest.param(None, False, id="none: one is made"),
        pytest.param(b"job-7.part_2", True, id="a plain one is kept"),
        pytest.param(b"x" * 128, True, id="as long as allowed"),
        pytest.param(b"x" * 129, False, id="too long"),
        pytest.param(b"a b", False, id="a space"),
        pytest.param(b'"}{"forged":"', False, id="JSON"),
        pytest.param(b"\xff", False, id="no ASCII"),
        pytest.param(b"", False, id="empty"),
    ],
)
def test_request_ids(watched: Watched, sent: bytes | None, kept: bool) -> None:
    headers = {} if sent is None else {b"X-Request-Id": sent}
    reply = watched.client.post("/detect", content=b"abc", headers=headers)
    own = reply.headers["x-request-id"]
    assert own == sent.decode() if kept and sent else GENERATED.fullmatch(own)
    assert reply.text == f"{own} 3"  # what logs of the route would carry


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "endpoint", "code"),
    [
        ("POST", "/detect", b"abc", 200, "/detect", None),
        ("POST", "/detect", b"full", 429, "/detect", "overloaded"),
        ("POST", "/detect", b"bug", 500, "/detect", "internal_error"),
        ("GET", "/detect", b"", 405, "/detect", "method_not_allowed"),
        ("GET", "/models/a", b"", 200, "/models/{name}", None),
        ("GET", "/wp-login.php", b"", 404, "other", "not_found"),
        ("GET", "/a%0Ab", b"", 404, "other", "not_found"),
        ("GET", "/" + 300 * "a", b"", 404, "other", "not_found"),
    ],
)
def test_every_answer_is_watched(
    watched: Watched, method: str, path: str, body: bytes, status: int, endpoint: str, code: str | None
) -> None:
    reply = watched.client.request(method, path, params={"key": "secret"}, content=body)
    assert reply.status_code == status
    assert GENERATED.fullmatch(reply.headers["x-request-id"])
    shown = path if len(path) < 256 else path[:256] + "..."
    line = watched.line(shown)
    assert line.pop("duration_ms") > 0
    assert line == {
        "method": method,
        "path": shown,
        "status": status,
        "bytes_in": len(body),
        "bytes_out": len(reply.content),
        "client": "127.0.0.1",
        **({"model": "m"} if status == 200 and endpoint == "/detect" else {}),
        **({"error_code": code} if code else {}),
    }
    assert watched.count("detector_requests_total", endpoint=endpoint, status=str(status)) == 1
    assert watched.count("detector_request_seconds_count", endpoint=endpoint) == 1
    refusals = 1 if code and endpoint == "/detect" else 0
    assert watched.count("detector_refusals_total", reason=code or "") == refusals
    assert "secret" not in watched.caplog.text


def test_a_bug_is_logged_once_and_keeps_the_connection(watched: Watched) -> None:
    watched.client.post("/detect", content=b"bug")
    watched.client.post("/detect", content=b"fine")  # on the same connection, or it would raise at times
    with_traceback = [record for record in watched.caplog.records if record.exc_info]
    assert [record.name for record in with_traceback] == ["api.access"]
    assert "a bug" in watched.caplog.text


def test_a_failure_half_way_is_told_by_a_broken_answer(watched: Watched) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        watched.client.get("/stream", params={"fail": True})
    assert watched.line("/stream")["status"] == 500
    assert watched.count("detector_requests_total", endpoint="/stream", status="500") == 1


def test_a_client_that_leaves_while_it_sends(watched: Watched) -> None:
    address = (watched.client.base_url.host, watched.client.base_url.port)
    with socket.create_connection(address) as connection:
        connection.sendall(b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        time.sleep(0.1)
    line = watched.line("/detect")
    assert (line["status"], line["bytes_in"]) == (499, 3)
    assert watched.count("detector_abandoned_total") == 1
    assert watched.count("detector_requests_total", endpoint="/detect", status="499") == 1
    assert watched.count("detector_refusals_total", reason="unknown") == 0  # it was not refused


def test_a_client_that_leaves_while_it_is_answered(watched: Watched) -> None:
    with watched.client.stream("GET", "/stream") as reply:
        next(reply.iter_raw())
    assert watched.line("/stream")["status"] == 499
    assert watched.count("detector_abandoned_total") == 1


def test_polling_is_logged_only_if_it_is_odd(watched: Watched) -> None:
    watched.client.get("/health/ready")
    watched.client.get("/health/ready", params={"loading": True})
    watched.client.post("/health/ready")
    assert watched.line("/health/ready")["status"] == 405

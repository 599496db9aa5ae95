"""The real service sends its traces to a real collector: what the spans are, and what costs nothing."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
STAGES = ["queue", "decode", "trunk", "proposals", "regions"]


class Collector:
    """What takes spans by OTLP over HTTP, as OpenTelemetry's collector does."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, Any]] = []
        self.paths: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                collector.paths.add(self.path)
                for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
                    collector.resources.append(values(resource.resource))
                    for scope in resource.scope_spans:
                        collector.spans.extend(scope.spans)
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def values(holder: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in holder.attributes}


@dataclass
class Served:
    """A service that has ended, what it was sent, answered and logged."""

    seconds_to_end: float = 0.0
    lines: list[dict[str, Any]] = field(default_factory=list)


@contextmanager
def service(weights: Path, served: Served, **environment: str) -> Iterator[httpx.Client]:
    """``python -m api`` with these variables; it has ended when the block has."""
    others = {
        name: value for name, value in os.environ.items() if not name.startswith(("DETECTOR_", "OTEL_"))
    }
    settings = {
        "PORT": "0",
        "DEVICE": "cpu",
        "WEIGHTS": str(weights),
        "PROFILE": "balanced",
        "MAX_PROPOSALS": "6",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "api"],
        env=others | {f"DETECTOR_{name}": value for name, value in settings.items()} | environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None

    def next_line() -> dict[str, Any]:
        served.lines.append(json.loads(process.stderr.readline()))  # type: ignore[union-attr]
        return served.lines[-1]

    try:
        while not (listening := re.search("Listening on (http.*)", next_line()["message"])):
            pass
        while next_line()["message"] != "Ready":
            pass
        with httpx.Client(base_url=listening[1], timeout=600) as client:
            yield client
        asked = time.monotonic()
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[1]
        served.seconds_to_end = time.monotonic() - asked
        served.lines.extend(map(json.loads, rest.splitlines()))
    finally:
        process.kill()
        process.wait()


@dataclass
class Traces:
    """The traces of one service by what was asked."""

    collector: Collector
    served: Served
    replies: dict[str, httpx.Response]

    def trace(self, name: str) -> list[Span]:
        """The spans of a request, by its id; that of the server first."""
        [server] = [span for span in self.collector.spans if values(span).get("detector.request_id") == name]
        others = [
            span for span in self.collector.spans if span.trace_id == server.trace_id and span != server
        ]
        return [server, *others]


@pytest.fixture(scope="module")
def traces(multibox_path: Path, image: bytes) -> Traces:
    collector, served, replies = Collector(), Served(), {}
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.address,
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
    }
    with service(multibox_path, served, **variables) as client:

        def ask(name: str, method: str, path: str, headers: dict[str, str] | None = None, **how: Any) -> None:
            headers = {"X-Request-Id": name, **(headers or {})}
            replies[name] = client.request(method, path, headers=headers, **how)

        png = {"Content-Type": "image/png"}
        context = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
        ask("one", "POST", "/detect?score_threshold=0", {**png, **context}, content=image)
        files = [("file", ("a.png", image)), ("file", ("b.png", image[: len(image) // 2]))]
        ask("several", "POST", "/detect?model=default", files=files)
        ask("bad", "POST", "/detect", png, content=image[:40])
        ask("wrong", "POST", "/classify?crops=3", png, content=image)
        ask(
            "unsampled",
            "POST",
            "/classify",
            {**png, "traceparent": f"00-{TRACE[::-1]}-{PARENT}-00"},
            content=image,
        )
        ask("forged", "GET", "/models", {"traceparent": "00-nonsense"})
        ask("polled", "GET", "/health/ready")
    collector.close()
    return Traces(collector, served, replies)


def test_they_come_where_the_variable_says(traces: Traces) -> None:
    assert traces.collector.paths == {"/v1/traces"}
    for resource in traces.collector.resources:
        assert resource["service.name"] == "googlenet-detector"
        assert resource["deployment.environment"] == "test"


def test_a_request_is_a_part_of_its_callers_trace(traces: Traces) -> None:
    server, *others = traces.trace("one")
    assert (server.trace_id.hex(), server.parent_span_id.hex()) == (TRACE, PARENT)
    assert (server.name, server.kind) == ("POST /detect", Span.SPAN_KIND_SERVER)
    about = values(server)
    assert about["http.response.status_code"] == traces.replies["one"].status_code == 200
    assert about["http.route"] == about["url.path"] == "/detect"
    assert "error.type" not in about
    body, picture = (
        next(span for span in others if span.name == name) for name in ("receive body", "picture")
    )
    assert {body.parent_span_id, picture.parent_span_id} == {server.span_id}
    stages = [span for span in others if span.parent_span_id == picture.span_id]
    assert [span.name for span in stages] == STAGES
    assert len(others) == 2 + len(stages)


def test_stages_lie_where_they_were(traces: Traces) -> None:
    """One after the other, within their picture, which comes after the body; as long as the reply says."""
    server, *others = traces.trace("one")
    body, picture = (
        next(span for span in others if span.name == name) for name in ("receive body", "picture")
    )
    stages = [span for span in others if span.parent_span_id == picture.span_id]
    assert server.start_time_unix_nano <= body.start_time_unix_nano <= body.end_time_unix_nano
    assert body.end_time_unix_nano <= picture.start_time_unix_nano
    assert picture.end_time_unix_nano <= server.end_time_unix_nano
    between = 5_000_000  # clocks are read one after the other
    before = picture.start_time_unix_nano - between
    for span in stages:
        assert before <= span.start_time_unix_nano <= span.end_time_unix_nano
        before = span.end_time_unix_nano - between
    assert before <= picture.end_time_unix_nano
    timing = traces.replies["one"].json()["timing_ms"]
    waited = [values(span)["detector.waited_ms"] for span in stages]
    assert sum(waited) == pytest.approx(timing["queue"], abs=0.5)
    for span, wait in list(zip(stages, waited, strict=True))[1:]:
        milliseconds = (span.end_time_unix_nano - span.start_time_unix_nano) / 1e6
        assert milliseconds - wait == pytest.approx(timing[span.name], abs=5)


def test_each_picture_has_its_own(traces: Traces) -> None:
    _, *others = traces.trace("several")
    pictures = {values(span)["detector.picture"]: span for span in others if span.name == "picture"}
    stages = {
        number: [span.name for span in others if span.parent_span_id == picture.span_id]
        for number, picture in pictures.items()
    }
    assert stages == {0: STAGES, 1: []}, "the second is cut short"
    assert values(pictures[1])["error.type"] == "truncated"
    assert pictures[1].status.code == Status.STATUS_CODE_ERROR


@pytest.mark.parametrize(
    ("name", "status", "code"), [("bad", 422, "truncated"), ("wrong", 422, "invalid_parameter")]
)
def test_errors_are_told_by_their_code(traces: Traces, name: str, status: int, code: str) -> None:
    server = traces.trace(name)[0]
    assert values(server)["http.response.status_code"] == traces.replies[name].status_code == status
    assert values(server)["error.type"] == code
    assert server.status.code == Status.STATUS_CODE_UNSET, "the client's mistake is no failure of the server"


def test_no_query_and_no_key_is_told(traces: Traces) -> None:
    told = " ".join(str(values(span)) + span.name for span in traces.collector.spans)
    assert "query" not in told
    assert "score_threshold" not in told


def test_a_traceparent_that_is_none_begins_a_trace(traces: Traces) -> None:
    server = traces.trace("forged")[0]
    assert server.name == "GET /models"
    assert not server.parent_span_id


@pytest.mark.parametrize("name", ["unsampled", "polled"])
def test_what_is_not_recorded(traces: Traces, name: str) -> None:
    """The caller records nothing; Kubernetes asks every second."""
    assert traces.replies[name].status_code == 200
    assert all(values(span).get("detector.request_id") != name for span in traces.collector.spans)


def test_lines_of_the_log_name_the_trace(traces: Traces) -> None:
    by_request = {line["request_id"]: line["trace_id"] for line in traces.served.lines if "trace_id" in line}
    assert by_request["one"] == TRACE
    assert by_request["several"] == traces.trace("several")[0].trace_id.hex()
    assert by_request["unsampled"] == TRACE[::-1]
    assert "polled" not in by_request


@pytest.mark.exhaustive
def test_a_collector_that_is_gone_costs_log_lines_alone(multibox_path: Path, image: bytes) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{nobody.getsockname()[1]}"
        served = Served()
        with service(multibox_path, served, DETECTOR_OTLP_ENDPOINT=address) as client:
            reply = client.post("/detect", content=image, headers={"Content-Type": "image/png"})
    assert reply.status_code == 200
    assert served.seconds_to_end < 15


@pytest.mark.parametrize(
    ("variables", "without", "kind", "warns"),
    [
        pytest.param({}, "", "Tracing", False, id="nobody asked for traces"),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"}, "", "OtlpTracing", False, id="the cluster did"
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c", "OTEL_TRACES_EXPORTER": "none"},
            "",
            "Tracing",
            False,
            id="it did, but not for traces",
        ),
        pytest.param(
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c"},
            "sys.modules['opentelemetry.exporter'] = None",
            "Tracing",
            True,
            id="the packages are not installed",
        ),
    ],
)
def test_off_unless_wanted(variables: dict[str, str], without: str, kind: str, warns: bool) -> None:
    code = f"""
import sys
{without}
import api.frontend.app
from api.observability.tracing import open_tracing
print(type(open_tracing(None)).__name__, "opentelemetry.sdk" in sys.modules)
"""
    others = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    done = subprocess.run(
        [sys.executable, "-c", code], env=others | variables, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.split() == [kind, str(kind == "OtlpTracing")], done.stderr
    assert ("googlenet-detector[tracing]" in done.stderr) == warns

"""docker/nginx in front of replicas: what it tries again, what it passes on, and what it says itself.

A real nginx, where one is installed; the replicas are small servers that do as they are told, or the service.
"""

import json
import logging
import re
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from loadtest import balancer

from api.frontend.settings import Settings
from api.frontend.uploads.body import FORM_TYPE, JSON_TYPE, UploadLimits
from api.observability.logs import FIELDS
from detector.client import BusyError, Client
from tests.detector.client.scripted_server import CUT, Scripted, Step, serve_steps

TEXT = balancer.CONFIGURATION.read_text()
needs_nginx = pytest.mark.skipif(not balancer.installed(), reason="nginx is not installed")

BUSY = Step.error(429, "overloaded", Retry_After="7")
LOADING = Step.error(503, "not_ready")
LARGE = bytes(10_000_000)


def seconds(directive: str) -> float:
    [value] = re.findall(rf"^\s*{directive} (\d+)s;", TEXT, re.MULTILINE)
    return float(value)


def test_bodies_and_times_that_the_service_takes_pass() -> None:
    settings = Settings()
    limits = UploadLimits(settings.max_bytes, settings.max_pictures, settings.max_pending_bytes // 2)
    largest = max(limits.body_bytes(kind, settings.max_pictures) for kind in (FORM_TYPE, JSON_TYPE, ""))
    [mebibytes] = re.findall(r"client_max_body_size (\d+)m;", TEXT)
    assert int(mebibytes) * 2**20 == largest
    assert seconds("proxy_read_timeout") > settings.max_timeout_seconds
    replicas = balancer.CONFIGURATION.with_name("replicas.conf").read_text()
    [idle] = re.findall(r"keepalive_timeout (\d+)s;", replicas)
    assert int(idle) < settings.keep_alive_seconds


@contextmanager
def replicas(*scripts: Iterable[Step]) -> Iterator[tuple[int, list[Scripted]]]:
    """nginx's port, and a replica for each script."""
    with ExitStack() as stack:
        servers = [stack.enter_context(serve_steps(steps)) for steps in scripts]
        ports = [int(server.address.rpartition(":")[2]) for server in servers]
        yield stack.enter_context(balancer.balanced(ports)), servers


def ask(port: int, **arguments: Any) -> httpx.Response:
    """POST /detect, once."""
    arguments = {"content": b"image", "timeout": 20, "trust_env": False} | arguments
    return httpx.post(f"http://127.0.0.1:{port}/detect", **arguments)


@needs_nginx
@pytest.mark.parametrize(
    ("first", "body", "status", "requests"),
    [
        pytest.param(LOADING, b"image", 200, 2, id="a refusal at the door: another replica"),
        pytest.param(CUT, b"image", 200, 2, id="a replica that ends: another one"),
        pytest.param(BUSY, b"image", 429, 1, id="too much to do: the client's to know"),
        pytest.param(Step.error(500, "internal_error"), b"image", 500, 1, id="a fault would come again"),
        pytest.param(
            Step.error(503, "worker_lost"), LARGE, 503, 1, id="a body that was passed on cannot be sent again"
        ),
        pytest.param(
            Step(503, {}, Step.error(503, "worker_lost").body, pause=1.2),
            b"image",
            503,
            1,
            id="work was begun: what cost one worker is not sent to another",
        ),
    ],
)
def test_what_is_tried_again(first: Step, body: bytes, status: int, requests: int) -> None:
    """Both replicas take their steps from one script: whichever is asked first does what is ``first``."""
    seen = iter([first, Step()])
    with replicas(seen, seen) as (port, servers):
        reply = ask(port, content=body)
        came = [request for server in servers for request in server.requests]
    assert reply.status_code == status
    assert len(came) == requests
    assert all(request.body == body for request in came)
    assert max(len(server.requests) for server in servers) == 1  # the second try is another replica's


@needs_nginx
def test_a_replica_without_worker_takes_no_requests_from_the_other() -> None:
    """It answers fastest, and least_conn alone would send it everything."""
    with replicas([LOADING] * 100, [Step()] * 100) as (port, [loading, ready]):
        statuses = {ask(port).status_code for _ in range(20)}
    assert statuses == {200}
    assert len(ready.requests) == 20
    assert len(loading.requests) <= 3  # one in each two seconds


@needs_nginx
@pytest.mark.parametrize(
    ("headers", "forwarded"),
    [
        pytest.param({}, None, id="none"),
        pytest.param({"X-Forwarded-For": "1.2.3.4", "X-Request-Id": "mine-7"}, "mine-7", id="the client's"),
        pytest.param({"X-Request-Id": "two words"}, None, id="an id that the service would not take"),
    ],
)
def test_who_asks_and_by_which_id(headers: dict[str, str], forwarded: str | None) -> None:
    with replicas([Step()]) as (port, [replica]):
        ask(port, headers=headers)
    [request] = replica.requests
    assert request.headers["X-Forwarded-For"] == "127.0.0.1"
    if forwarded is None:
        assert re.fullmatch("[0-9a-f]{32}", request.headers["X-Request-Id"])
    else:
        assert request.headers["X-Request-Id"] == forwarded


@needs_nginx
def test_the_service_tells_clients_apart_behind_it(
    unready_client: httpx.Client, caplog: pytest.LogCaptureFixture
) -> None:
    """By the addresses that nginx sees: each client has its own share."""
    addresses = ["127.0.0.2", "127.0.0.3"]
    caplog.set_level(logging.DEBUG, "api.access")
    with balancer.balanced([int(str(unready_client.base_url.port))]) as port:
        for address in addresses:
            with httpx.Client(transport=httpx.HTTPTransport(local_address=address)) as client:
                client.post(
                    f"http://127.0.0.1:{port}/detect",
                    content=b"image",
                    headers={"X-Forwarded-For": "1.2.3.4"},
                )
    fields = [getattr(record, FIELDS) for record in caplog.records if hasattr(record, FIELDS)]
    assert [one["client"] for one in fields if one.get("path") == "/detect"] == addresses


@needs_nginx
def test_query_and_path_arrive_as_they_were_sent() -> None:
    with replicas([Step(), Step()]) as (port, [replica]):
        for body in (b"image", LARGE):
            ask(port, content=body, params={"classes": "domestic cat,dog", "profile": "fast"})
    [small, large] = replica.requests
    assert small.path == large.path == "/detect?classes=domestic+cat%2Cdog&profile=fast"
    assert large.body == LARGE


def send_head(port: int, length: int) -> tuple[int, str]:
    """Send the head of a request and the first kilobyte of its body; return the status and code that come."""
    head = f"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Type: image/jpeg\r\nContent-Length: {length}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", port), 10) as client:
        client.sendall(head.encode() + bytes(1000))
        reply = client.recv(1 << 16).decode()
    return int(reply.split()[1]), json.loads(reply.partition("\r\n\r\n")[2])["error"]["code"]


@needs_nginx
def test_what_nginx_says_itself_has_the_shape_of_all_errors() -> None:
    with replicas([CUT] * 10) as (port, _):
        gone = ask(port)
        with Client(f"http://127.0.0.1:{port}", retries=0) as client, pytest.raises(BusyError) as raised:
            client.detect(b"image")
        large = send_head(port, 2**30)
        metrics = httpx.get(f"http://127.0.0.1:{port}/metrics", trust_env=False)
    assert (gone.status_code, gone.json()["error"]["code"]) == (503, "not_ready")
    assert (gone.headers["Retry-After"], len(gone.headers["X-Request-Id"])) == ("1", 32)
    assert (raised.value.code, raised.value.retry_after) == ("not_ready", 1)
    assert large == (413, "too_many_bytes")
    assert metrics.status_code == 404


@needs_nginx
def test_a_large_body_is_refused_before_it_is_sent(unready_client: httpx.Client) -> None:
    """By the service itself, through nginx."""
    service = int(str(unready_client.base_url.port))
    with balancer.balanced([service]) as port:
        assert send_head(port, 20_000_000) == (503, "not_ready")

"""What both clients do when no answer comes at first, against a real server that is told what to do."""

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest

from detector.client import (
    BusyError,
    NoConnectionError,
    RefusedError,
    ServiceError,
    ServiceTimeoutError,
)
from tests.detector.client.scripted_server import CUT, Step, serve_steps

IMAGE = b"the bytes of an image"
BUSY = Step.error(429, "overloaded", Retry_After="0")
LOADING = Step.error(503, "not_ready")


@pytest.mark.parametrize(
    ("steps", "requests"),
    [
        pytest.param([Step()], 1, id="answered at once"),
        pytest.param([BUSY, Step()], 2, id="room a moment later"),
        pytest.param([LOADING, Step()], 2, id="a 503 that names no time"),
        pytest.param(
            [BUSY, LOADING, Step.error(503, "draining", Retry_After="0"), Step()], 4, id="the last try"
        ),
        pytest.param([CUT, Step()], 2, id="cut before the answer"),
        pytest.param([Step(sent=0), Step()], 2, id="cut after the head"),
        pytest.param([Step(sent=40), Step()], 2, id="cut within the body"),
        pytest.param([CUT, BUSY, Step()], 3, id="cut, then refused"),
    ],
)
def test_what_may_pass_is_tried_again(ask: Callable[..., Any], steps: list[Step], requests: int) -> None:
    with serve_steps(steps) as server:
        reply = ask(server.address, "detect", IMAGE)
    assert [found.label for found in reply] == ["domestic cat", "mug"]
    assert len(server.requests) == requests
    assert {request.body for request in server.requests} == {IMAGE}
    assert len({request.headers["X-Request-Id"] for request in server.requests}) == 1  # one call in the logs


@pytest.mark.parametrize(
    ("step", "kind"),
    [
        pytest.param(Step.error(400, "empty"), RefusedError, id="400"),
        pytest.param(Step.error(401, "unauthorized"), RefusedError, id="401"),
        pytest.param(Step.error(404, "unknown_model"), RefusedError, id="404"),
        pytest.param(Step.error(413, "too_many_pixels", Retry_After="0"), RefusedError, id="413"),
        pytest.param(Step.error(422, "invalid_parameter"), RefusedError, id="422"),
        pytest.param(Step.error(408, "slow_body", Retry_After="1"), ServiceTimeoutError, id="408"),
        pytest.param(Step.error(500, "internal_error"), ServiceError, id="500"),
        pytest.param(Step.error(501, "not_supported"), ServiceError, id="501"),
        pytest.param(Step.error(504, "deadline_exceeded"), ServiceTimeoutError, id="504"),
    ],
)
def test_what_would_end_in_the_same_is_not_tried_again(
    ask: Callable[..., Any], step: Step, kind: type[ServiceError]
) -> None:
    with serve_steps([step, Step()]) as server, pytest.raises(ServiceError) as raised:
        ask(server.address, "detect", IMAGE, request_id="mine-1")
    assert type(raised.value) is kind
    assert raised.value.status == step.status
    assert raised.value.request_id == "mine-1"
    assert f'"code": "{raised.value.code}"' in step.body.decode()
    assert raised.value.message == f"It is {raised.value.code}."
    assert len(server.requests) == 1


@pytest.mark.parametrize("retries", [0, 2])
def test_tries_are_bounded(ask: Callable[..., Any], retries: int) -> None:
    with serve_steps([BUSY] * 10) as server, pytest.raises(BusyError) as raised:
        ask(server.address, "detect", IMAGE, settings={"retries": retries})
    assert len(server.requests) == retries + 1
    assert (raised.value.code, raised.value.status, raised.value.retry_after) == ("overloaded", 429, 0)


def test_the_time_that_the_service_names_is_kept(ask: Callable[..., Any]) -> None:
    with serve_steps([Step.error(429, "overloaded", Retry_After="1"), Step()]) as server:
        ask(server.address, "detect", IMAGE, timeout=30)
    first, second = server.requests
    assert 1 <= second.at - first.at < 3


def test_a_wait_beyond_the_timeout_is_not_begun(ask: Callable[..., Any]) -> None:
    with serve_steps([Step.error(429, "overloaded", Retry_After="60"), Step()]) as server:
        start = time.monotonic()
        with pytest.raises(BusyError) as raised:
            ask(server.address, "detect", IMAGE, timeout=20)
        assert time.monotonic() - start < 10
    assert raised.value.retry_after == 60
    assert len(server.requests) == 1


def test_each_try_tells_the_service_what_time_is_left(ask: Callable[..., Any]) -> None:
    with serve_steps([Step.error(429, "overloaded", Retry_After="1"), Step()]) as server:
        ask(server.address, "detect", IMAGE, timeout=8)
    first, second = (int(request.headers["X-Timeout-Ms"]) for request in server.requests)
    assert 7000 < first <= 7600  # a twentieth less: time for a 504 to come back
    assert second <= first - 900


@pytest.mark.parametrize(
    "step",
    [
        pytest.param(Step(pause=5), id="no answer"),
        pytest.param(Step.error(429, "overloaded", Retry_After="0"), id="refused again and again"),
    ],
)
def test_the_timeout_is_that_of_all_tries(ask: Callable[..., Any], step: Step) -> None:
    with serve_steps([step] * 10_000) as server:
        start = time.monotonic()
        with pytest.raises((ServiceTimeoutError, BusyError)):
            ask(server.address, "detect", IMAGE, timeout=0.5, settings={"retries": 10_000})
        assert time.monotonic() - start < 3


@pytest.mark.parametrize("images", [1, 2])
def test_an_image_that_is_sent_too_slowly(ask: Callable[..., Any], images: int) -> None:
    """By a network on which each piece goes in time: 20 MB would take four seconds."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def read_slowly() -> None:
            connection, _ = listening.accept()
            with connection, suppress(OSError):
                while connection.recv(200_000):
                    time.sleep(0.05)

        reader = threading.Thread(target=read_slowly)
        reader.start()
        address = f"http://127.0.0.1:{listening.getsockname()[1]}"
        start = time.monotonic()
        with pytest.raises(ServiceTimeoutError):
            ask(address, "detect", [bytes(20_000_000)] * images, timeout=0.5)
        assert time.monotonic() - start < 2
        reader.join()


def test_nobody_listens(ask: Callable[..., Any]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(NoConnectionError) as raised:
        ask(address, "detect", IMAGE, settings={"retries": 1})
    assert (raised.value.code, raised.value.status) == ("no_connection", None)
    assert isinstance(raised.value, ConnectionError)
    assert ask(address, "ready") is False


@pytest.mark.parametrize(
    ("step", "says"),
    [
        pytest.param(Step(502, {}, b"<html>Bad gateway</html>"), "502 Bad Gateway", id="a proxy's own error"),
        pytest.param(Step(200, {}, b"<html>Welcome</html>"), "not a DetectReply", id="another server"),
        pytest.param(
            Step(200, {}, b'{"kind": "detections"}'), "image: Field required", id="fields are lacking"
        ),
        pytest.param(
            Step(307, {"Location": "http://127.0.0.1:9/"}, b""), "307", id="redirects are not followed"
        ),
    ],
)
def test_what_is_no_answer_of_this_service(ask: Callable[..., Any], step: Step, says: str) -> None:
    with serve_steps([step, Step()]) as server, pytest.raises(ServiceError, match=says) as raised:
        ask(server.address, "detect", IMAGE)
    assert (raised.value.code, raised.value.status) == ("unexpected_reply", step.status)
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("step", "ready"),
    [
        pytest.param(Step(200, {}, b'{"status": "ready"}'), True, id="ready"),
        pytest.param(Step.error(503, "not_ready"), False, id="loading"),
        pytest.param(Step.error(503, "draining", Retry_After="1"), False, id="ending"),
        pytest.param(CUT, False, id="cut"),
    ],
)
def test_ready_asks_once(ask: Callable[..., Any], step: Step, ready: bool) -> None:
    with serve_steps([step, Step()]) as server:
        assert ask(server.address, "ready") is ready
    assert [request.path for request in server.requests] == ["/health/ready"]

"""The service under load and in trouble: who is let in, what happens to those who wait, leave or are too
late, and what the loss of a worker costs."""

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import psutil
import pytest

from api.frontend.settings import Settings

Ready = Callable[[Settings], AbstractContextManager[httpx.Client]]

PNG = {"Content-Type": "image/png"}
PATIENT = {**PNG, "X-Timeout-Ms": "300000"}
SLOW = "/classify?crops=144"
"""Some seconds of work: there is time to leave, to be too late and to be in the way."""


@pytest.fixture(scope="module")
def narrow(checkpoint_path: Path, ready: Ready) -> Iterator[httpx.Client]:
    """A client of a service that lets two requests wait, and no more bytes than of one large picture."""
    settings = Settings(
        weights=checkpoint_path,
        device="cpu",
        max_proposals=5,
        max_bytes=100_000,
        max_pending_bytes=150_000,
        max_pending_requests=2,
        max_timeout_seconds=300,
    )
    with ready(settings) as client:
        yield client


def metric(client: httpx.Client, name: str) -> float:
    """A counter or gauge without labels, or the sum over its labels."""
    lines = client.get("/metrics").text.splitlines()
    values = [float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name]
    assert values, f"there is no {name}"
    return sum(values)


def at_work(client: httpx.Client) -> float:
    """The work of requests whose pictures are here: their bytes count too."""
    return metric(client, "detector_pending_regions")


def eventually(holds: Callable[[], bool], seconds: float = 120) -> None:
    """Returns once it holds; fails if it never does."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.02)


def worker_of(client: httpx.Client) -> psutil.Process:
    """The worker process of the service that was started last in this process."""
    workers = [child for child in psutil.Process().children() if "api.worker" in " ".join(child.cmdline())]
    return max(workers, key=lambda child: child.create_time())


def sent_and_left(client: httpx.Client, image: bytes, share: float) -> None:
    """A client that sends so much of a request, and vanishes."""
    head = (
        f"POST {SLOW} HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: {len(image)}\r\n\r\n"
    )
    with socket.create_connection((client.base_url.host, client.base_url.port or 0)) as connection:
        connection.sendall(head.encode() + image[: round(len(image) * share)])
        eventually(lambda: metric(client, "detector_pending_requests") == 1)


@pytest.mark.parametrize("share", [0.5, 1], ids=["while it sends", "while it waits"])
def test_whoever_leaves_costs_nothing_more(narrow: httpx.Client, image: bytes, share: float) -> None:
    abandoned = metric(narrow, "detector_abandoned_total")
    sent_and_left(narrow, image, share)
    eventually(lambda: metric(narrow, "detector_pending_requests") == 0, seconds=1.5)
    eventually(lambda: metric(narrow, "detector_abandoned_total") == abandoned + 1)
    assert narrow.post("/classify", content=image, headers=PNG).status_code == 200


@pytest.mark.exhaustive
def test_no_more_wait_than_there_is_room_for(narrow: httpx.Client, image: bytes) -> None:
    """Two are let in, the third is refused before it has sent anything but its head, and told when to try
    again; as soon as one is done there is room."""

    with ThreadPoolExecutor(2) as pool:
        slow = [pool.submit(narrow.post, SLOW, content=image, headers=PATIENT)]
        eventually(lambda: at_work(narrow) > 0)
        one = at_work(narrow)
        slow.append(pool.submit(narrow.post, SLOW, content=image, headers=PATIENT))
        eventually(lambda: at_work(narrow) > one)
        with socket.create_connection((narrow.base_url.host, narrow.base_url.port or 0)) as connection:
            connection.sendall(
                b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 9\r\n\r\n"
            )
            connection.settimeout(60)
            head = connection.recv(65536).decode()
        assert head.startswith("HTTP/1.1 429 ")
        assert int(head.lower().split("retry-after: ")[1].split("\r\n")[0]) >= 1
        assert [reply.result().status_code for reply in slow] == [200, 200]
    assert narrow.post("/classify", content=image, headers=PNG).status_code == 200


@pytest.mark.exhaustive
def test_no_more_bytes_wait_than_there_is_memory_for(narrow: httpx.Client, image: bytes) -> None:
    large = image + bytes(90_000)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(narrow.post, SLOW, content=large, headers=PATIENT)
        eventually(lambda: at_work(narrow) > 0)
        refused = narrow.post("/classify", content=large, headers=PNG)
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert narrow.post("/classify", content=image, headers=PATIENT).status_code == 200
        assert slow.result().status_code == 200


def test_what_cannot_be_done_in_time_is_refused_at_once(narrow: httpx.Client, image: bytes) -> None:
    """While seconds of work wait, a request that has next to none is told so instead of failing later."""
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(narrow.post, SLOW, content=image, headers=PATIENT)
        eventually(lambda: at_work(narrow) > 0)
        refused = narrow.post("/classify", content=image, headers={**PNG, "X-Timeout-Ms": "20"})
        assert (refused.status_code, refused.json()["error"]["code"]) == (429, "overloaded")
        assert slow.result().status_code == 200


def test_alone_a_request_is_let_in_and_its_deadline_holds(narrow: httpx.Client, image: bytes) -> None:
    """Alone, a request is let in however little time it has; its deadline holds all the same."""
    reply = narrow.post(SLOW, content=image, headers={**PNG, "X-Timeout-Ms": "150"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert narrow.post("/classify", content=image, headers=PNG).status_code == 200


def test_a_body_that_never_ends(narrow: httpx.Client, image: bytes) -> None:
    head = (
        "POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: image/png\r\nContent-Length: 5000\r\n"
        "X-Timeout-Ms: 200\r\n\r\n"
    )
    with socket.create_connection((narrow.base_url.host, narrow.base_url.port or 0)) as connection:
        connection.settimeout(60)
        connection.sendall(head.encode() + image[:10])
        assert connection.recv(65536).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize("value", ["0", "-5", "1.5", "soon", "300001", "٣", "9" * 30])
def test_times_that_are_none(narrow: httpx.Client, image: bytes, value: str) -> None:
    headers = {**PNG, "X-Timeout-Ms": value.encode()}
    reply = narrow.post("/detect", content=image, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "invalid_parameter")
    assert "X-Timeout-Ms" in reply.json()["error"]["message"]


def test_a_lost_worker_costs_what_it_had_and_no_more(narrow: httpx.Client, image: bytes) -> None:
    restarts = metric(narrow, "detector_worker_restarts_total")
    worker = worker_of(narrow)
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(narrow.post, SLOW, content=image, headers=PATIENT)
        eventually(lambda: at_work(narrow) > 0)
        worker.kill()
        reply = slow.result()
    assert (reply.status_code, reply.json()["error"]["code"]) == (503, "worker_lost")
    assert reply.headers["retry-after"] == "1"
    unready = narrow.post("/detect", content=image, headers=PNG)
    assert (unready.status_code, unready.json()["error"]["code"]) == (503, "not_ready")
    assert narrow.get("/health/live").status_code == 200
    eventually(lambda: narrow.get("/health/ready").status_code == 200, seconds=600)
    assert narrow.post("/detect", content=image, headers=PNG).status_code == 200
    assert metric(narrow, "detector_worker_restarts_total") == restarts + 1
    assert not psutil.pid_exists(worker.pid), "it was reaped"


@pytest.mark.exhaustive
def test_a_worker_that_hangs_is_replaced(checkpoint_path: Path, image: bytes, ready: Ready) -> None:
    settings = Settings(weights=checkpoint_path, device="cpu", max_proposals=5, stall_seconds=2)
    with ready(settings) as client:
        worker = worker_of(client)
        worker.suspend()
        reply = client.post("/classify", content=image, headers=PNG)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "worker_lost")
        eventually(lambda: client.get("/health/ready").status_code == 200, seconds=600)
        assert client.post("/classify", content=image, headers=PNG).status_code == 200


def test_one_bad_picture_costs_its_neighbours_nothing(client: httpx.Client, image: bytes) -> None:
    files = [
        ("file", ("good.png", image)),
        ("file", ("broken.png", image[:60])),
        ("file", ("text.png", b"no picture")),
        ("file", ("large.png", image + bytes(300_000))),
        ("file", ("good too.png", image)),
    ]
    reply = client.post("/detect?score_threshold=0&max_detections=3", files=files)
    assert reply.status_code == 200
    results = reply.json()["results"]
    assert [result["image"] for result in results] == [name for _, (name, _) in files]
    codes = [result.get("error", {}).get("code") for result in results]
    assert codes == [None, "truncated", "unsupported_format", "too_many_bytes", None]
    alone = client.post("/detect?score_threshold=0&max_detections=3", content=image, headers=PNG).json()
    for result in (results[0], results[4]):
        assert result["detections"] == alone["detections"]


def test_the_stages_account_for_the_time(client: httpx.Client, image: bytes) -> None:
    timing = client.post("/detect", content=image, headers=PNG).json()["timing_ms"]
    assert timing.keys() == {"queue", "decode", "trunk", "proposals", "regions", "total"}
    stages = sum(time for stage, time in timing.items() if stage != "total")
    assert 0.5 * timing["total"] <= stages <= timing["total"] + 1

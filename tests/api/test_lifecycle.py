"""``python -m api`` from its start to its end, as an operator meets it."""

import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import httpx
import psutil
import pytest

from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint

pytestmark = pytest.mark.exhaustive


def environment(**settings: object) -> dict[str, str]:
    """The environment, with these settings of the service and no others."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("DETECTOR_")}
    return others | {f"DETECTOR_{name.upper()}": str(value) for name, value in settings.items()}


@dataclass
class Running:
    """The service as a process of its own, and a client of it."""

    process: "subprocess.Popen[str]"
    client: httpx.Client
    log: "Log"


class Log:
    """What a process says on standard error, read as it comes: a full pipe would stop it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._ended = False
        self._reading = threading.Event()
        self._reading.set()
        threading.Thread(target=self._read, args=(process.stderr,), daemon=True).start()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match of a pattern in a line, once there is one."""
        with self._changed:
            for number in count():
                while number >= len(self._lines):
                    assert not self._ended, f"it ended without saying {pattern}: {self._lines}"
                    assert self._changed.wait(600), f"it never said {pattern}: {self._lines}"
                found = re.search(pattern, self._lines[number])
                if found:
                    return found
        raise AssertionError("unreachable")

    def text(self) -> str:
        """All of it, once the process has ended."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._ended, 60)
            return "".join(self._lines)

    def sleep(self) -> None:
        """Read nothing more, and leave the pipe open."""
        self._reading.clear()

    def _read(self, stream: Iterable[str]) -> None:
        for line in stream:
            self._reading.wait()
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()


@contextmanager
def running(**settings: object) -> Iterator[Running]:
    """The service, ready."""
    process = subprocess.Popen(
        [sys.executable, "-m", "api"],
        env=environment(**{"port": 0, "device": "cpu", "max_proposals": 5, "drain_seconds": 600, **settings}),
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        log = Log(process)
        address = log.wait_for(r"Listening on (http://[0-9.:]+)")[1]
        log.wait_for("Ready")
        with httpx.Client(base_url=address, timeout=6000) as client:
            yield Running(process, client, log)
    finally:
        process.kill()
        process.wait()


def test_sigterm_lets_a_request_under_way_finish(checkpoint_path: Path, image: bytes) -> None:
    with running(weights=checkpoint_path) as service:
        process, client = service.process, service.client

        def body() -> Iterator[bytes]:
            yield image[:50]
            until_admitted(client)
            process.send_signal(signal.SIGTERM)
            while accepts_connections(client.base_url):
                time.sleep(0.01)
            yield image[50:]

        reply = client.post("/detect", content=body(), headers={"Content-Type": "image/png"})
        assert reply.status_code == 200
        assert process.wait(timeout=600) == 0


def until_admitted(client: httpx.Client) -> None:
    """Returns once a request was let in; asks by another connection."""
    while "detector_pending_requests 1.0" not in httpx.get(f"{client.base_url}/metrics").text:
        time.sleep(0.02)


def accepts_connections(address: httpx.URL) -> bool:
    try:
        socket.create_connection((address.host, address.port), timeout=600).close()
    except ConnectionRefusedError:
        return False
    return True


def test_weights_for_detection_alone(checkpoint_path: Path, image: bytes, tmp_path: Path) -> None:
    whole = load_checkpoint(checkpoint_path)
    path = tmp_path / "detector.safetensors"
    save_checkpoint(path, Checkpoint(whole.network, replace(whole.metadata, classification=None)))
    with running(weights=path) as service:
        client = service.client
        assert client.post("/detect", files={"file": ("a", image)}).status_code == 200
        refused = client.post("/classify", files={"file": ("a", image)})
        assert (refused.status_code, refused.json()["error"]["code"]) == (501, "not_supported")


def test_weights_are_switched_without_losing_a_request(
    checkpoint_path: Path, image: bytes, tmp_path: Path
) -> None:
    """SIGHUP: every request is answered, the first by the old weights and the last by the new."""
    first = load_checkpoint(checkpoint_path)
    path, next_path = tmp_path / "weights.safetensors", tmp_path / "next.safetensors"
    for one, name in ((path, "before"), (next_path, "after")):
        save_checkpoint(one, replace(first, metadata=replace(first.metadata, name=name)))
    with running(weights=path) as service:
        answered = []
        for number in range(10_000):
            reply = service.client.post("/classify", files={"file": ("a", image)})
            answered.append((reply.status_code, reply.json().get("model")))
            if number == 0:
                next_path.replace(path)
                service.process.send_signal(signal.SIGHUP)
            if answered[-1][1] == "after":
                break
    assert {status for status, _ in answered} == {200}
    assert (answered[0][1], answered[-1][1]) == ("before", "after")


def test_weights_that_cannot_be_used_change_nothing(
    checkpoint_path: Path, image: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(checkpoint_path.read_bytes())
    with running(weights=path) as service:
        path.unlink()
        service.process.send_signal(signal.SIGHUP)
        service.log.wait_for("stay as they were.*weights.safetensors does not exist")
        assert service.client.post("/classify", files={"file": ("a", image)}).status_code == 200


def test_sigterm_first_says_that_it_is_not_ready(checkpoint_path: Path, image: bytes) -> None:
    """For so long as a load balancer takes to notice, it still serves whoever has not noticed."""
    with running(weights=checkpoint_path, shutdown_delay_seconds=4) as service:
        assert service.client.get("/health/ready").status_code == 200
        service.process.send_signal(signal.SIGTERM)
        service.log.wait_for("Told to end")
        unready = service.client.get("/health/ready")
        assert (unready.status_code, unready.json()["error"]["code"]) == (503, "draining")
        assert service.client.post("/classify", files={"file": ("a", image)}).status_code == 200
        assert service.process.wait(timeout=600) == 0


def test_what_is_not_done_when_the_time_is_over_is_answered(checkpoint_path: Path, image: bytes) -> None:
    with running(weights=checkpoint_path, drain_seconds=1) as service, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(service.client.post, "/classify?crops=144", files=[("file", image)] * 4)
        until_admitted(service.client)
        service.process.send_signal(signal.SIGTERM)
        assert (slow.result().status_code, slow.result().json()["error"]["code"]) == (503, "draining")
        assert service.process.wait(timeout=600) == 0


# What a client may be sending when the time is over: after the head, the rest never comes.
UNFINISHED = {
    "a raw body": b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc",
    "chunks": b"POST /detect HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    "JSON": b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: 50\r\n\r\n{",
    "a form": b"POST /detect HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\n"
    b"Content-Length: 50\r\n\r\n--b",
    "another route": b"POST /classify HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nabc",
}
SILENT = {"nothing": b"", "half a head": b"POST /detect HTTP/1.1\r\nHost: x\r\n"}


@pytest.mark.parametrize(
    ("settings", "signals"),
    [
        pytest.param({"drain_seconds": 1}, [signal.SIGTERM], id="the time is over"),
        pytest.param({"drain_seconds": 0}, [signal.SIGINT], id="no time at all"),
        pytest.param({"drain_seconds": 600}, [signal.SIGTERM, signal.SIGTERM], id="told twice"),
        pytest.param(
            {"drain_seconds": 600, "shutdown_delay_seconds": 600},
            [signal.SIGTERM, signal.SIGINT],
            id="told again while it still serves",
        ),
    ],
)
def test_a_request_still_coming_at_the_end_is_refused(
    checkpoint_path: Path, settings: dict[str, object], signals: list[signal.Signals]
) -> None:
    """In the one shape, without a traceback; connections without a request end, and so does the process."""
    with running(weights=checkpoint_path, **settings) as service, ExitStack() as sockets:
        url = service.client.base_url
        opened = {}
        for name, sent in {**UNFINISHED, **SILENT}.items():
            opened[name] = sockets.enter_context(socket.create_connection((url.host, url.port), timeout=60))
            opened[name].sendall(sent)
        while f"detector_pending_requests {len(UNFINISHED)}.0" not in service.client.get("/metrics").text:
            time.sleep(0.02)
        service.process.send_signal(signals[0])
        for again in signals[1:]:
            service.log.wait_for("Told to end")
            service.process.send_signal(again)
        answers = {name: one.makefile("rb").read() for name, one in opened.items()}
        for name in UNFINISHED:
            assert answers[name].startswith(b"HTTP/1.1 503 "), name
            assert b'"code":"draining"' in answers[name], name
            assert b"connection: close" in answers[name].lower(), name
        assert [answers[name] for name in SILENT] == [b"", b""]
        assert service.process.wait(timeout=60) == 0
        assert "Traceback" not in service.log.text()


def test_a_worker_does_not_outlive_its_front(checkpoint_path: Path) -> None:
    """Neither one that loads, nor one that is stopped and could not notice."""
    with running(weights=checkpoint_path) as service:
        front = psutil.Process(service.process.pid)
        [stopped] = front.children()
        service.process.send_signal(signal.SIGHUP)
        service.log.wait_for("Switching to the weights")
        while len(front.children()) < 2:
            time.sleep(0.01)
        stopped.suspend()
        workers = front.children()
        service.process.kill()
        _, left = psutil.wait_procs(workers, timeout=60)
        assert not left


@pytest.mark.parametrize(
    ("settings", "status", "message"),
    [
        pytest.param(
            {"weights": "absent.safetensors"}, 1, "absent.safetensors does not exist", id="no weights"
        ),
        pytest.param({"max_bytes": "lots"}, 2, "DETECTOR_MAX_BYTES: ", id="a setting that is no number"),
    ],
)
def test_what_cannot_work_ends_at_once_and_says_why(
    settings: dict[str, object], status: int, message: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "api"],
        env=environment(**{"port": 0} | settings),
        capture_output=True,
        text=True,
        timeout=6000,
        check=False,
    )
    assert done.returncode == status
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_log_that_nobody_reads_stops_nothing(checkpoint_path: Path, image: bytes) -> None:
    """Standard error is a pipe whose reader sleeps."""
    with running(weights=checkpoint_path, log_level="debug") as service:
        service.log.sleep()
        for _ in range(300):  # lines of 400 bytes: a pipe holds 64 KB
            assert service.client.get("/" + "x" * 200).status_code == 404
        assert service.client.post("/detect", files={"file": ("a", image)}).status_code == 200
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(timeout=60) == 0

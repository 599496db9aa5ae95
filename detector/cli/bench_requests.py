"""How many requests a service answers in a second: `detector serve` as a process, asked by clients.

The service is the installed command, not a package of this library: it is started as a user starts it.
"""

import http.client
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from io import BytesIO
from pathlib import Path

from PIL import Image

from detector.errors import DetectorError
from detector.io.decoding import RGB

_START_SECONDS = 300
_ANSWER_SECONDS = 120


class ServiceError(DetectorError):
    """The service that was to be measured did not start, or did not answer."""


def can_serve() -> bool:
    """Tell whether the service is installed."""
    return all(find_spec(name) is not None for name in ("api", "fastapi", "uvicorn"))


def requests_a_second(
    options: Sequence[str], pictures: Sequence[RGB], *, clients: int, seconds: float
) -> float:
    """Return how many pictures a service with ``options`` of `detector serve` answers in a second.

    ``clients`` ask for one picture [H,W,3] after the other, as JPEG, for so many seconds, after one each that
    does not count. Raises ServiceError where the service does not start, or answers anything but 200.
    """
    bodies = [_as_jpeg(picture) for picture in pictures]
    with _service(options) as port:
        counts = [0] * clients
        failures: list[str] = []
        begin = threading.Barrier(clients + 1)

        def ask(number: int) -> None:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
            try:
                _post(connection, bodies[number % len(bodies)])
                begin.wait()
                while time.perf_counter() < end:
                    _post(connection, bodies[(number + counts[number]) % len(bodies)])
                    counts[number] += 1
            except (ServiceError, OSError, http.client.HTTPException, threading.BrokenBarrierError) as error:
                failures.append(str(error))
                begin.abort()
            finally:
                connection.close()

        end = float("inf")
        threads = [threading.Thread(target=ask, args=(number,), daemon=True) for number in range(clients)]
        for thread in threads:
            thread.start()
        start = time.perf_counter()
        try:
            begin.wait()
            start = time.perf_counter()
            end = start + seconds
        except threading.BrokenBarrierError:
            end = 0.0
        for thread in threads:
            thread.join()
        spent = time.perf_counter() - start
    if failures:
        raise ServiceError(f"the service failed: {failures[0]}")
    return sum(counts) / spent


def _post(connection: http.client.HTTPConnection, body: bytes) -> None:
    connection.request("POST", "/detect", body, {"Content-Type": "image/jpeg"})
    reply = connection.getresponse()
    said = reply.read()
    if reply.status != 200:
        raise ServiceError(f"status {reply.status}: {said[:200].decode(errors='replace')}")


def _as_jpeg(picture: RGB) -> bytes:
    file = BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=90)
    return file.getvalue()


@contextmanager
def _service(options: Sequence[str]) -> Iterator[int]:
    """Run a service on a free port of loopback; yield the port once it is ready, end it afterwards."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    settings = {name: value for name, value in os.environ.items() if not name.startswith("DETECTOR_")}
    command = [sys.executable, "-P", "-m", "detector.cli.entry", "serve", "--port", str(port), *options]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            [*command, "--log-level", "warning"], env=settings, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            deadline = time.monotonic() + _START_SECONDS
            while not _is_ready(port):
                if process.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    said = log.read().decode(errors="replace").strip()[-500:]
                    raise ServiceError(f"the service did not start: {said}")
                time.sleep(0.1)
            yield port
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
                try:
                    process.wait(60)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()


def _is_ready(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def service_options(
    weights: Sequence[Path], *, engine: str, precision: str, device: str, profile: str
) -> list[str]:
    """Return the options of `detector serve` that have it run these weights in this way."""
    return [
        *("--weights", os.pathsep.join(str(path.resolve()) for path in weights)),
        *("--engine", engine, "--precision", precision, "--device", device, "--profile", profile),
    ]

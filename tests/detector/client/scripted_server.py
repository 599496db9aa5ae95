"""A small HTTP server that answers as it is told."""

import json
import socket
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

FOUND = {
    "kind": "detections",
    "image": None,
    "width": 451,
    "height": 300,
    "frames": 1,
    "detections": [
        {
            "label": "domestic cat",
            "wnid": "n02121808",
            "score": 0.6,
            "box": {"xmin": 42.2, "ymin": 12.7, "xmax": 379.0, "ymax": 288.2},
        },
        {"label": "mug", "class_id": "m1", "score": 0.4, "box": {"xmin": 0, "ymin": 1, "xmax": 2, "ymax": 3}},
    ],
    "model": "googlenet",
    "timing_ms": {"queue": 1, "decode": 1, "trunk": 1, "proposals": 1, "regions": 1, "total": 5},
}
"""A reply of ``POST /detect``."""


@dataclass(frozen=True)
class Step:
    """What a request gets: a status, headers and a body, after a pause.

    Of the body ``sent`` bytes are sent before the connection is cut; None: all, and it is kept. Without a
    status the connection is cut at once.
    """

    status: int | None = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = json.dumps(FOUND).encode()
    sent: int | None = None
    pause: float = 0

    @classmethod
    def error(cls, status: int, code: str, **headers: str) -> "Step":
        """The service's own error; underscores in the names of headers stand for dashes."""
        body = json.dumps({"error": {"code": code, "message": f"It is {code}."}}).encode()
        return cls(status, {name.replace("_", "-"): value for name, value in headers.items()}, body)


CUT = Step(None)


@dataclass(frozen=True)
class Request:
    """What came, and when (``time.monotonic``), over which connection (the client's port)."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    at: float
    connection: int


@dataclass
class Scripted:
    """The server: its address, and the requests that came."""

    address: str
    requests: list[Request]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False  # a client that gave up leaves a thread that is still to answer it

    def handle_error(self, *_: object) -> None:
        """Say nothing of clients that gave up."""


@contextmanager
def serve_steps(steps: Iterable[Step]) -> Iterator[Scripted]:
    """A server that answers each request with the next of the steps."""
    left = iter(steps)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen.requests.append(
                Request(self.path, dict(self.headers), body, time.monotonic(), self.client_address[1])
            )
            step = next(left, Step.error(500, "script_is_over"))
            time.sleep(step.pause)
            if step.status is None:
                self._cut()
                return
            self.send_response(step.status)
            for name, value in {**step.headers, "Content-Length": str(len(step.body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(step.body[: step.sent])
            if step.sent is not None:
                self._cut()

        do_POST = do_GET

        def _cut(self) -> None:
            self.close_connection = True
            self.wfile.flush()
            self.connection.shutdown(socket.SHUT_RDWR)

        def log_message(self, *_: object) -> None:
            pass

    with _Server(("127.0.0.1", 0), Handler) as server:
        seen = Scripted(f"http://127.0.0.1:{server.server_address[1]}", [])
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield seen
        finally:
            server.shutdown()
            thread.join()

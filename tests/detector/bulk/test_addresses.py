"""Pictures from a server of our own: what it answers, and how often it is asked."""

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread

import pytest

from detector.bulk.addresses import is_address, read_address
from detector.errors import ImageError
from tests.detector.bulk.pictures import jpeg


class Server(HTTPServer):
    """Answers with the statuses that it is given, one after the other, then with a picture."""

    statuses: list[int]


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        status = self.server.statuses.pop(0) if self.server.statuses else 200
        body = jpeg(2) if status == 200 else b"busy"
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(("127.0.0.1", 0), Handler) as server:
        server.statuses = []
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("statuses", "waits"),
    [
        pytest.param([], [], id="at once"),
        pytest.param([503], [1], id="busy once"),
        pytest.param([429, 500], [1, 2], id="busy twice"),
    ],
)
def test_a_busy_server_is_asked_again(server: Server, statuses: list[int], waits: list[float]) -> None:
    server.statuses = list(statuses)
    waited: list[float] = []
    decoded = read_address(f"http://127.0.0.1:{server.server_port}/a", sleep=waited.append)
    assert decoded.pixels.shape == (30, 42, 3)
    assert waited == waits


@pytest.mark.parametrize(
    ("statuses", "left"),
    [
        pytest.param([404, 404], 1, id="what is not there is not asked for again"),
        pytest.param([503] * 4, 1, id="three times is enough"),
    ],
)
def test_a_server_that_refuses(server: Server, statuses: list[int], left: int) -> None:
    server.statuses = list(statuses)
    with pytest.raises(OSError, match=f"the server says {statuses[0]}"):
        read_address(f"http://127.0.0.1:{server.server_port}/a", sleep=lambda seconds: None)
    assert len(server.statuses) == left


def test_a_server_that_is_away(server: Server) -> None:
    address = f"http://127.0.0.1:{server.server_port}/a"
    server.server_close()
    with pytest.raises(OSError, match="cannot be reached"):
        read_address(address, sleep=lambda seconds: None)


@pytest.mark.parametrize("address", ["http://[/a.jpg", "s3:///", "http:///a.jpg"])
def test_what_is_no_address(address: str) -> None:
    with pytest.raises((ImageError, OSError)):
        read_address(address, sleep=lambda seconds: None)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("http://a/b.jpg", True),
        ("s3://a/b", True),
        ("a/b.jpg", False),
        ("/a:b/c.jpg", False),
        ("c:/a", False),
    ],
)
def test_addresses_and_paths(text: str, is_one: bool) -> None:
    assert is_address(text) == is_one

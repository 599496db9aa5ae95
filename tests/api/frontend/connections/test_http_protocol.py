"""Connections over real sockets: what is refused, what is ended, and what is served all the same."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI, Request, Response

from api.frontend.connections import transport
from api.frontend.connections.listening import listening_sockets
from api.frontend.middleware import HeadAsGet
from api.frontend.server import server_config
from api.frontend.settings import Settings
from api.observability.metrics import Metrics

H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n"
WEBSOCKET = b"Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: a\r\n"
LENGTH = b"Content-Length: 5\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"2\r\nab\r\n3;x=y\r\ncde\r\n0\r\n\r\n"
LARGE = 32 * 1024 * 1024
"""More than any socket buffers."""


def app() -> FastAPI:
    """Answers with what it was sent, with much, with nothing of a body read, or after a while."""
    made = FastAPI()
    made.state.metrics = Metrics()
    made.state.service = None

    @made.post("/echo")
    async def echo(request: Request) -> dict[str, Any]:
        body = await request.body()
        return {"body": body.decode(), "x": request.headers.get("x"), "upgrade": "upgrade" in request.headers}

    @made.get("/large")
    async def large() -> Response:
        return Response(bytes(LARGE))

    @made.post("/refuse")
    async def refuse() -> Response:
        return Response("refused", 429)

    @made.get("/slow")
    async def slow() -> str:
        await asyncio.sleep(2.5)
        return "slow"

    @made.get("/metrics")
    async def metrics() -> Response:
        return Response(made.state.metrics.exposition()[0])

    made.middleware_stack = HeadAsGet(made.build_middleware_stack())
    return made


@contextmanager
def served(**settings: Any) -> Iterator[int]:
    """The port of that app, served within these bounds."""
    given = Settings(**settings)
    server = uvicorn.Server(server_config(app(), given))
    sockets = listening_sockets("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=(sockets,))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
            time.sleep(0.01)
        yield sockets[0].getsockname()[1]
    finally:
        server.should_exit = server.force_exit = True
        thread.join()


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """That of an app with the bounds as they are, but for shorter times."""
    with served(head_seconds=1, keep_alive_seconds=1, answer_seconds=1) as port:
        yield port


class Client:
    """A connection, and what came over it until the server closed it."""

    def __init__(self, port: int, *, receive_buffer: int | None = None) -> None:
        self.socket = socket.socket()
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(30)
        self.socket.connect(("127.0.0.1", port))

    def send(self, *pieces: bytes, pause: float = 0.05) -> "Client":
        """Send the pieces one after the other; stop where the server has closed."""
        try:
            for piece in pieces:
                self.socket.sendall(piece)
                time.sleep(pause if len(pieces) > 1 else 0)
        except OSError:
            pass
        return self

    def all(self) -> bytes:
        """What comes until the end of the connection."""
        came = bytearray()
        try:
            while piece := self.socket.recv(65536):
                came += piece
        except ConnectionResetError:
            came += b"<reset>"
        self.socket.close()
        return bytes(came)


def request(line: bytes, *headers: bytes, body: bytes = b"") -> bytes:
    return line + b" HTTP/1.1\r\nHost: a\r\n" + b"".join(headers) + b"\r\n" + body


def metric(port: int, name: str) -> float:
    came = Client(port).send(request(b"GET /metrics", b"Connection: close\r\n")).all().decode()
    return sum(float(line.split()[-1]) for line in came.splitlines() if line.startswith(name))


@pytest.mark.parametrize("apart", [False, True], ids=["at once", "head and body apart"])
@pytest.mark.parametrize(
    ("framing", "body"),
    [pytest.param(LENGTH, b"abcde", id="length"), pytest.param(CHUNKED, CHUNKS, id="chunks")],
)
@pytest.mark.parametrize(
    "offer",
    [b"", H2C, WEBSOCKET, b"Connection: Upgrade\r\nUpgrade: TLS/1.0\r\n"],
    ids=["none", "h2c", "ws", "tls"],
)
def test_an_offered_upgrade_is_passed_over(
    port: int, offer: bytes, framing: bytes, body: bytes, apart: bool
) -> None:
    """As Java's client offers it with every request; httptools loses the body (MagicStack/httptools#124)."""
    head = request(b"POST /echo", b"X: 1\r\n", offer, framing, b"Expect: 100-continue\r\n" if apart else b"")
    came = Client(port).send(*((head, body) if apart else (head + body,))).all()
    if apart:
        assert came.startswith(b"HTTP/1.1 100 Continue\r\n\r\n")
        came = came.partition(b"\r\n\r\n")[2]
    assert came.startswith(b"HTTP/1.1 200 ")
    assert b'{"body":"abcde","x":"1","upgrade":false}' in came


def test_requests_behind_an_upgrade_are_answered_too(port: int) -> None:
    two = request(b"POST /echo", H2C, LENGTH, body=b"first") + request(
        b"POST /echo", H2C, LENGTH, body=b"other"
    )
    came = Client(port).send(two).all()
    assert came.count(b"HTTP/1.1 200 ") == 2
    assert came.index(b'"first"') < came.index(b'"other"')


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        pytest.param([b"GET / HTTP/1.1\r\nX: " + b"a" * 40_000], 431, id="a header without end"),
        pytest.param([b"GET / HTTP/1.1\r\nX: ", *[b"a" * 4000] * 20], 431, id="the same, bit by bit"),
        pytest.param([request(b"GET /large", b"X: a\r\n" * 5000)], 431, id="5,000 headers"),
        pytest.param([request(b"GET /large", b"X: a\r\n" * 129)], 431, id="more headers than any client has"),
        pytest.param([request(b"GET /" + b"a" * 40_000)], 431, id="a path of 40 kB"),
        pytest.param([b"\r\n" * 20_000], 431, id="empty lines without end"),
        pytest.param([b"G"], 408, id="one byte"),
        pytest.param([b"GET / HTTP/1.1\r\n", *[b"a: b\r\n"] * 40], 408, id="a header at a time, slowly"),
        pytest.param([b"\r\n"] * 40, 408, id="empty lines, slowly"),
        pytest.param([bytes(range(256))], 400, id="noise"),
        pytest.param([request(b"POST /echo", LENGTH, CHUNKED, body=b"0\r\n\r\n")], 400, id="two framings"),
        pytest.param([request(b"POST /echo", LENGTH, b"Content-Length: 4\r\n")], 400, id="two lengths"),
        pytest.param([request(b"POST /echo", CHUNKED, body=b"x\r\n")], 400, id="a broken chunk"),
        pytest.param(
            [request(b"POST /echo", CHUNKED, body=b"1;"), *[b"a" * 9000] * 9], 431, id="an endless extension"
        ),
        pytest.param(
            [request(b"POST /echo", CHUNKED, body=b"1\r\na\r\n0\r\n"), *[b"X: " + b"a" * 9000 + b"\r\n"] * 9],
            431,
            id="endless trailers",
        ),
        pytest.param([b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n"], 405, id="a tunnel"),
        pytest.param([b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"], 400, id="HTTP/2 at once"),
    ],
)
def test_what_is_no_request_is_refused(port: int, pieces: list[bytes], status: int) -> None:
    """In the one shape of errors, and the connection is closed."""
    came = Client(port).send(*pieces).all()
    head, _, body = came.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert body.startswith(b'{"error":{"code":"')
    assert came.count(b"HTTP/1.1 4") == 1
    assert b"x-request-id: " in head


def test_trailers_add_no_headers(port: int) -> None:
    trailing = request(b"POST /echo", CHUNKED, body=b"1\r\na\r\n0\r\nX: smuggled\r\n\r\n")
    assert b'{"body":"a","x":null,"upgrade":false}' in Client(port).send(trailing).all()


@pytest.mark.parametrize(
    "target",
    [b"/slow", b"http://a/slow", b"HTTPS://user@[::1]:8/slow"],
    ids=["path", "address", "odd address"],
)
def test_every_form_of_target_reaches_its_route(port: int, target: bytes) -> None:
    came = Client(port).send(b"HEAD " + target + b" HTTP/1.0\r\n\r\n").all()
    assert came.startswith(b"HTTP/1.1 200 ")
    assert b"content-length: 6\r\n" in came
    assert came.endswith(b"\r\n\r\n"), "HEAD has no body"


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([], id="nothing was ever sent"),
        pytest.param([request(b"HEAD /large")], id="after an answer"),
        pytest.param([request(b"POST /refuse", LENGTH), b"abcde"], id="after a refused body came to its end"),
    ],
)
def test_idle_connections_are_closed(port: int, pieces: list[bytes]) -> None:
    start = time.monotonic()
    came = Client(port).send(*pieces).all()
    assert came.count(b"HTTP/1.1 ") == bool(pieces)
    assert time.monotonic() - start < 20


def test_a_request_under_way_is_not_idle(port: int) -> None:
    assert Client(port).send(request(b"GET /slow")).all().endswith(b'"slow"')


@pytest.mark.parametrize(
    ("least_rate", "reads"),
    [
        pytest.param(1, False, id="nothing is taken, though its size would allow years"),
        pytest.param(LARGE, True, id="some is taken now and then, slower than allowed"),
    ],
)
def test_answers_that_are_not_read_are_given_up(
    port: int, monkeypatch: pytest.MonkeyPatch, least_rate: int, reads: bool
) -> None:
    monkeypatch.setattr(transport, "_LEAST_RATE", least_rate)
    name = 'detector_connections_ended_total{reason="unread_answer"}'
    before = metric(port, name)
    client = Client(port, receive_buffer=4096).send(request(b"GET /large"))
    deadline = time.monotonic() + 60
    while metric(port, name) == before:
        assert time.monotonic() < deadline
        if reads:
            client.socket.recv(1 << 18)
        time.sleep(0.2)
    assert b"<reset>" in client.all()


def test_answers_that_wait_are_bounded_together() -> None:
    """The one that has waited for the longest goes first; what is read in time comes whole."""
    with served(max_unread_bytes=LARGE + LARGE // 2) as port:
        first = Client(port, receive_buffer=4096).send(request(b"GET /large"))
        assert first.socket.recv(10) == b"HTTP/1.1 2"
        second = Client(port).send(request(b"GET /large", b"Connection: close\r\n"))
        assert len(second.all()) > LARGE
        assert b"<reset>" in first.all()
        assert metric(port, 'detector_connections_ended_total{reason="unread_bytes"}') == 1


def test_a_refused_body_is_not_taken_without_end(port: int) -> None:
    client = Client(port).send(request(b"POST /refuse", b"Content-Length: 99999999999\r\n"))
    sent = 0
    try:
        while sent < 1 << 30:
            sent += client.socket.send(bytes(1 << 20))
    except OSError:
        pass
    assert 16 << 20 < sent < 1 << 30, "the answer is not lost for a body of an ordinary size"


@pytest.mark.parametrize("last", [b"", b"Connection: close\r\n"], ids=["kept", "closed"])
def test_the_answer_reaches_a_client_that_sends_its_body_first(port: int, last: bytes) -> None:
    body = bytes(8 << 20)
    head = request(b"POST /refuse", b"Content-Length: %d\r\n" % len(body), last)
    came = Client(port).send(head, body).all()
    assert came.startswith(b"HTTP/1.1 429 ")
    assert came.endswith(b"refused")


def test_a_body_that_was_not_asked_for_ends_the_connection(port: int) -> None:
    """Else nobody could tell the body from the next request."""
    came = Client(port).send(request(b"POST /refuse", LENGTH, b"Expect: 100-continue\r\n")).all()
    assert came.startswith(b"HTTP/1.1 429 ")
    assert b"connection: close\r\n" in came


def test_pipelined_requests_are_bounded(port: int) -> None:
    few = Client(port).send(request(b"HEAD /slow") + request(b"HEAD /large") * 4).all()
    assert few.count(b"HTTP/1.1 200 ") == 5
    many = Client(port).send(request(b"HEAD /slow") + request(b"HEAD /large") * 5000).all()
    assert 2 <= many.count(b"HTTP/1.1 200 ") <= 20
    assert many.rpartition(b"HTTP/1.1 200 ")[2].count(b"connection: close\r\n") == 1


def test_what_follows_a_request_and_is_none_costs_it_nothing(port: int) -> None:
    came = Client(port).send(request(b"GET /slow") + b"nonsense\r\n\r\n").all()
    assert came.count(b"HTTP/1.1 ") == 1
    assert came.endswith(b'"slow"')


def hold(port: int, count: int, *pieces: bytes) -> list[Client]:
    return [Client(port).send(*pieces) for _ in range(count)]


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([], id="silent"),
        pytest.param([b"G"], id="one byte"),
        pytest.param([request(b"HEAD /large")], id="kept alive"),
        pytest.param([request(b"POST /refuse", b"Content-Length: 99\r\n")], id="refused, the body missing"),
    ],
)
def test_idle_connections_keep_nobody_out(pieces: list[bytes]) -> None:
    with served(max_connections=8) as port:
        clients = hold(port, 30, *pieces)
        for _ in range(3):
            assert (
                Client(port)
                .send(request(b"GET /metrics", b"Connection: close\r\n"))
                .all()
                .startswith(b"HTTP/1.1 200 ")
            )
        assert metric(port, "detector_connections ") <= 8
        assert metric(port, 'detector_connections_ended_total{reason="made_room"}') >= 22
        for client in clients:
            client.socket.close()


def test_no_more_connections_than_allowed() -> None:
    with served(max_connections=4) as port:
        clients = hold(port, 4, request(b"GET /slow", b"Connection: close\r\n"))
        time.sleep(0.5)  # all are under way
        came = Client(port).send(request(b"GET /metrics")).all()
        assert b"<reset>" in came or b'"too_many_connections"' in came
        assert all(client.all().endswith(b'"slow"') for client in clients)
        assert metric(port, 'detector_connections_ended_total{reason="too_many_connections"}') >= 1

"""Keys guard the work, and nothing tells what they are; and who shares a turn."""

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.routing import iter_route_contexts

from api.frontend.app import create_app
from api.frontend.auth import RequireKey, client_of
from api.frontend.errors import install_error_handlers
from api.frontend.middleware import RequestObserver
from api.frontend.openapi import UNAUTHORIZED
from api.frontend.settings import Settings
from api.observability.metrics import Metrics

Serving = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
KEYS = ("sesame-1", "sesame-2")
OPEN = ("/", "/docs", "/health/ready", "/metrics")
GUARDED = ("/detect", "/classify", "/models", "/models/one")


def guarded_app() -> FastAPI:
    """Routes that say where they are."""
    app = FastAPI(docs_url=None)

    async def here(request: Request) -> Response:
        return Response(str(len(await request.body())))

    for paths, options in (
        (GUARDED, {"dependencies": [Depends(RequireKey(KEYS))], "responses": UNAUTHORIZED}),
        (OPEN, {}),
    ):
        router = APIRouter()
        for path in paths:
            router.add_api_route(path, here, methods=["POST"])
        app.include_router(router, **options)
    install_error_handlers(app)
    app.middleware_stack = RequestObserver(app.build_middleware_stack(), Metrics())
    return app


@pytest.fixture(scope="module")
def client(serving: Serving) -> Iterator[httpx.Client]:
    with serving(guarded_app()) as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        pytest.param({"Authorization": "Bearer sesame-1"}, 200, id="bearer"),
        pytest.param({"Authorization": "bEARER  sesame-2"}, 200, id="a scheme has no case"),
        pytest.param({"X-API-Key": "sesame-2"}, 200, id="header"),
        pytest.param(
            {"Authorization": "Bearer of-the-proxy", "X-API-Key": "sesame-2"}, 200, id="one of both is right"
        ),
        pytest.param({}, 401, id="none"),
        pytest.param({"X-API-Key": ""}, 401, id="empty"),
        pytest.param({"X-API-Key": "sesame-"}, 401, id="the beginning of one"),
        pytest.param({"X-API-Key": "SESAME-1"}, 401, id="another case"),
        pytest.param({"X-API-Key": "sesame-1,sesame-2"}, 401, id="a list is no key"),
        pytest.param({"Authorization": "sesame-1"}, 401, id="no scheme"),
        pytest.param({"Authorization": "Basic sesame-1"}, 401, id="another scheme"),
    ],
)
def test_who_is_let_in(
    client: httpx.Client, caplog: pytest.LogCaptureFixture, headers: dict[str, str], status: int
) -> None:
    caplog.set_level(logging.DEBUG)
    for path in GUARDED:
        reply = client.post(path, content=b"abc", headers=headers)
        assert reply.status_code == status
        if status == 401:
            assert reply.json()["error"]["code"] == "unauthorized"
            assert reply.headers["www-authenticate"] == "Bearer"
            assert reply.headers["x-request-id"]
        sent = [value for value in headers.values() if value]
        assert not any(value in reply.text + str(reply.headers) for value in sent)
    assert "sesame" not in caplog.text.lower()
    assert "sesame" not in str([vars(record) for record in caplog.records]).lower()


@pytest.mark.parametrize("path", OPEN)
def test_the_rest_is_open(client: httpx.Client, path: str) -> None:
    assert client.post(path).status_code == 200


def test_no_keys_let_nobody_in(serving: Serving) -> None:
    app = FastAPI(dependencies=[Depends(RequireKey(()))])
    app.add_api_route("/detect", lambda: None, methods=["POST"])
    install_error_handlers(app)
    with serving(app) as client:
        assert client.post("/detect", headers={"X-API-Key": ""}).status_code == 401


def test_the_document_says_so() -> None:
    app = guarded_app()
    document = app.openapi()
    schemes = document["components"]["securitySchemes"]
    assert {(one["type"], one.get("name")) for one in schemes.values()} == {
        ("http", None),
        ("apiKey", "X-API-Key"),
    }
    for path in GUARDED:
        operation = document["paths"][path]["post"]
        assert [list(one) for one in operation["security"]] == [[name] for name in schemes]  # either of them
        assert "401" in operation["responses"]
    assert "ErrorReply" in document["components"]["schemas"]
    for path in OPEN:
        assert "security" not in document["paths"][path]["post"]
    assert app.openapi() == document


KEYED_ROUTES = {"/detect": "POST", "/classify": "POST", "/models": "GET", "/models/{name}": "GET"}
OPEN_ROUTES = {
    *("/", "/page/{name}", "/docs", "/docs/start.js", "/docs/{name}", "/openapi.json"),
    *("/health/live", "/health/ready", "/metrics"),
}
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND")


def test_every_route_is_known_as_keyed_or_open() -> None:
    """A new route has to be put into one of both lists; what a router or a mount brings counts, too."""
    app = create_app(Settings(api_keys="a-key"))
    paths = [route.path for route in iter_route_contexts(app.routes)]
    assert set(paths) == set(KEYED_ROUTES) | OPEN_ROUTES
    guarded = [
        path
        for path, methods in app.openapi()["paths"].items()
        if any("security" in m for m in methods.values())
    ]
    assert set(guarded) == set(KEYED_ROUTES)


def test_open_routes_ask_for_no_key(guarded_client: httpx.Client) -> None:
    for path in OPEN_ROUTES:
        assert guarded_client.get(path.replace("{name}", "x")).status_code != 401


def exchange(client: httpx.Client, request: bytes) -> bytes:
    """The whole answer to the bytes of a request, on a connection of its own."""
    with socket.create_connection(
        (client.base_url.host, client.base_url.port or 0), timeout=60
    ) as connection:
        connection.sendall(request)
        connection.shutdown(socket.SHUT_WR)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def status_of(client: httpx.Client, method: str, target: str, headers: str = "") -> int:
    body = "abc" if method in ("POST", "PUT", "PATCH") else ""
    head = (
        f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: image/png\r\n"
        f"Content-Length: {len(body)}\r\n{headers}\r\n{body}"
    )
    answer = exchange(client, head.encode("latin-1"))
    assert answer.startswith(b"HTTP/1.1 "), (method, target, answer)
    return int(answer.split(b" ", 2)[1])


def spellings(path: str) -> Iterator[str]:
    """Request targets that a server, a proxy or a guard could take for this path."""
    ends = ("%0a", "%0A", "%0d", "%0d%0a", "%0a%0a", "%00", "%20", "%09", "%2f", "%3f", "%23", "%5c", "%85")
    ends += ("%c2%85", "%e2%80%a8", "/", "//", "/.", "/..", "/x/..", ";", ";a=b", ".", ".json", "%", "%zz")
    ends += ("?", "?%0a", "?a=b#c", "#", "#c", "&", "\x0b", "\xa0")
    yield path
    yield from (path + end for end in ends)
    head, _, last = path.rpartition("/")
    letter = f"%{ord(last[0]):02x}{last[1:]}"
    yield from (f"{head}/{letter}", f"{head}/%25{letter[1:]}", f"{head}/{letter}%0a", f"{head}%2f{last}")
    yield from (path.upper(), path.title(), path.upper() + "%0a", f"{head}/{last}".replace("e", "%65"))
    starts = (
        "/",
        "/.",
        "/x/..",
        "/health/..",
        "/docs/..",
        "/docs/../.",
        "/%2e",
        "/x/%2e%2e",
        "/..;",
        "/page/..",
    )
    yield from (start + path for start in starts)
    yield from (path[1:], "*", "*" + path, "%2f" + path[1:], "\\" + path[1:], "%5c" + path[1:])
    for server in ("http://x", "https://x", "http://x:80", "http://u:p@x", "http://[::1]", "HTTP://X", "//x"):
        yield from (server + path, server + path + "%0a")


@pytest.mark.parametrize(
    ("path", "method"),
    [(route.replace("{name}", "default"), method) for route, method in KEYED_ROUTES.items()],
)
def test_no_spelling_of_a_path_passes_the_key(guarded_client: httpx.Client, path: str, method: str) -> None:
    key = "X-API-Key: the-key-of-this-service\r\n"
    assert status_of(guarded_client, method, path) == 401
    assert status_of(guarded_client, method, path, key) == 503  # let in; the service is not ready
    if path != "/models/default":  # there it would be another name
        # Starlette's "$" matches before a line feed.
        assert status_of(guarded_client, method, path + "%0a", key) == 503
    for target in spellings(path):
        status = status_of(guarded_client, method, target)
        assert status in (400, 401, 404, 405), (target, status)
    for other in METHODS:
        for target in (path, path + "%0a"):
            status = status_of(guarded_client, other, target)
            assert status in (400, 401, 404, 405), (other, target, status)


@pytest.mark.parametrize(
    "headers",
    [
        pytest.param("X-Original-URL: /health/live\r\nX-Rewrite-URL: /health/live", id="another path"),
        pytest.param("X-Forwarded-Prefix: /detect\r\nX-Forwarded-For: 127.0.0.1", id="a proxy's words"),
        pytest.param("X-HTTP-Method-Override: GET", id="another method"),
        pytest.param("Cookie: X-API-Key=the-key-of-this-service", id="a key in a cookie"),
        pytest.param(
            "Authorization: Basic dGhlLWtleS1vZi10aGlzLXNlcnZpY2U6", id="a key as basic credentials"
        ),
        pytest.param("X-API-Key: the-key-of-this-servic", id="nearly a key"),
        pytest.param("X-API-Key:\r\nX-API-Key: x", id="two of a header"),
        pytest.param("X-API-Key: \xff\xfe", id="no text"),
        pytest.param("Authorization: Bearer", id="no key after the scheme"),
        pytest.param("Upgrade: websocket\r\nSec-WebSocket-Version: 13", id="an upgrade that is none"),
        pytest.param("Expect: 100-continue", id="asks before it sends"),
    ],
)
def test_no_header_passes_for_a_key(guarded_client: httpx.Client, headers: str) -> None:
    for route, method in KEYED_ROUTES.items():
        path = route.replace("{name}", "default")
        assert status_of(guarded_client, method, path, headers + "\r\n") == 401
        assert status_of(guarded_client, method, path + "?X-API-Key=the-key-of-this-service") == 401


def test_the_key_is_asked_for_before_all_else(guarded_client: httpx.Client) -> None:
    """Neither the body is waited for nor parameters, content type or timeout looked at."""
    head = "Host: x\r\nContent-Type: text/x\r\nX-Timeout-Ms: never\r\nContent-Length: 9000000000\r\n\r\n"
    with socket.create_connection(
        (guarded_client.base_url.host, guarded_client.base_url.port or 0), timeout=60
    ) as connection:
        connection.sendall(f"POST /detect?crops=none HTTP/1.1\r\n{head}".encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
    for request in (b"GET /models\r\n\r\n", b"GET /models HTTP/1.0\r\n\r\n"):
        assert b'"models"' not in exchange(guarded_client, request)


def request_of(host: str | None = None, **headers: str) -> Request:
    raw = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    client = (host, 1) if host is not None else None
    return Request({"type": "http", "headers": raw, "client": client})


@pytest.mark.parametrize(
    ("one", "other", "keys", "same"),
    [
        pytest.param(request_of("10.0.0.1"), request_of("10.0.0.1"), (), True, id="an address"),
        pytest.param(request_of("10.0.0.1"), request_of("10.0.0.2"), (), False, id="two addresses"),
        pytest.param(request_of("2001:db8::1"), request_of("2001:db8::ffff"), (), True, id="a /64"),
        pytest.param(request_of("2001:db8::1"), request_of("2001:db8:0:1::1"), (), False, id="two /64"),
        pytest.param(request_of("::ffff:10.0.0.1"), request_of("10.0.0.1"), (), True, id="mapped IPv4"),
        pytest.param(
            request_of("::ffff:10.0.0.1"), request_of("::ffff:10.0.0.2"), (), False, id="two mapped"
        ),
        pytest.param(request_of("fe80::1%eth0"), request_of("fe80::1"), (), True, id="a zone"),
        pytest.param(request_of(), request_of(), (), True, id="no address: a Unix socket"),
        pytest.param(
            request_of("10.0.0.1", x_api_key=KEYS[0]),
            request_of("10.0.0.2", authorization=f"Bearer {KEYS[0]}"),
            frozenset(KEYS),
            True,
            id="a key, from anywhere and in either header",
        ),
        pytest.param(
            request_of("10.0.0.1", x_api_key=KEYS[0]),
            request_of("10.0.0.1", x_api_key=KEYS[1]),
            frozenset(KEYS),
            False,
            id="two keys",
        ),
        pytest.param(
            request_of("a", x_api_key=KEYS[0], authorization="Bearer made-up"),
            request_of("a", x_api_key=KEYS[0], authorization="Bearer another"),
            frozenset(KEYS),
            True,
            id="what is no key makes no new client",
        ),
        pytest.param(
            request_of("10.0.0.1", x_api_key="a"),
            request_of("10.0.0.1", x_api_key="b"),
            (),
            True,
            id="without keys nobody has one",
        ),
    ],
)
def test_same_client(one: Request, other: Request, keys: frozenset[str], same: bool) -> None:
    assert (client_of(one, keys) == client_of(other, keys)) == same

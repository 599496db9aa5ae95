"""Keys guard the work, and nothing tells what they are."""

import asyncio
import logging
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import httpx
import pytest
from fastapi import FastAPI, Request, Response
from starlette.types import Message

from api.errors import install_error_handlers
from api.keys import ApiKeys, document_keys
from api.schemas import ErrorReply
from api.watching.metrics import Metrics
from api.watching.middleware import Watch

Serving = Callable[[FastAPI], AbstractContextManager[httpx.Client]]
KEYS = ("sesame-1", "sesame-2")
OPEN = ("/", "/docs", "/health/ready", "/metrics")
GUARDED = ("/detect", "/classify", "/models", "/models/one")


def guarded_app() -> FastAPI:
    """Routes that say where they are."""
    app = FastAPI(docs_url=None)

    async def here(request: Request) -> Response:
        return Response(str(len(await request.body())))

    for path in OPEN + GUARDED:
        app.add_api_route(path, here, methods=["POST"], responses={400: {"model": ErrorReply}})
    install_error_handlers(app)
    app.add_middleware(ApiKeys, keys=KEYS)
    document_keys(app)
    app.middleware_stack = Watch(app.build_middleware_stack(), Metrics())
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


def status_of(path: str, root_path: str = "") -> int:
    """What is answered to a request without a key and with a body that must not be read."""
    statuses: list[int] = []

    async def receive() -> Message:
        raise AssertionError("the body was read before the key")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {"type": "http", "method": "POST", "path": path, "root_path": root_path, "headers": []}
    asyncio.run(ApiKeys(Response("let in"), KEYS)(scope, receive, send))
    [status] = statuses
    return status


@pytest.mark.parametrize(
    ("root_path", "path", "status"),
    [
        pytest.param("", "/detect", 401, id="as it is"),
        pytest.param("", "/models/one/two", 401, id="below a guarded path, whatever will be there"),
        pytest.param("", "/detect/", 401, id="with a slash"),
        pytest.param("", "/models/a\nb", 401, id="with a line break"),
        pytest.param("", "/detection", 200, id="merely begins alike"),
        pytest.param("/vision", "/vision/detect", 401, id="mounted, and the proxy sends the prefix"),
        pytest.param("/vision", "/detect", 401, id="mounted, and the proxy takes it off"),
        pytest.param("/de", "/detect", 401, id="a prefix that is no folder of it"),
    ],
)
def test_what_is_guarded(root_path: str, path: str, status: int) -> None:
    assert status_of(path, root_path) == status


def test_no_keys_let_nobody_in(serving: Serving) -> None:
    app = FastAPI()
    app.add_middleware(ApiKeys, keys=())
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

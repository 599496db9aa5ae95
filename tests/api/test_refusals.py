"""Whatever is wrong: the right status, a stable code, a message for people, always in one shape."""

import asyncio
import socket
import struct
import time
import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
from PIL import Image

from api.frontend.app import create_app
from api.frontend.settings import Settings

PNG = {"Content-Type": "image/png"}
FORM = {"Content-Type": "multipart/form-data; boundary=xx"}
NO_BOUNDARY = {"Content-Type": "multipart/form-data"}
TEXT = {"Content-Type": "text/plain"}
HTML = {"Content-Type": "text/html; charset=utf-8"}


def encoded(kind: str) -> bytes:
    buffer = BytesIO()
    Image.effect_noise((64, 64), 80).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def bomb() -> bytes:
    """A PNG of a few bytes whose header states 3.6 gigapixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def part(name: str, data: bytes = b"x") -> bytes:
    head = f'--xx\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\n\r\n'
    return head.encode() + data + b"\r\n"


IMAGE = encoded("PNG")
DAMAGED = IMAGE[:100] + bytes(100) + IMAGE[200:]
LARGE = bytes(300_001)
END = b"--xx--\r\n"
NAMELESS = b"--xx\r\nContent-Type: image/png\r\n\r\nx\r\n"
WITH_PARAMETER = part("file", IMAGE) + part("score_threshold", b"0.5") + END


def error_of(reply: httpx.Response) -> dict[str, Any]:
    """The error of a reply, once its shape is as promised."""
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert list(body) == ["error"]
    assert sorted(body["error"]) == ["code", "message"]
    assert body["error"]["message"].endswith(".")
    return body["error"]


@pytest.mark.parametrize("path", ["/detect", "/classify"])
@pytest.mark.parametrize(
    ("body", "headers", "status", "code"),
    [
        pytest.param(b"", {}, 400, "empty", id="nothing at all"),
        pytest.param(b"", PNG, 400, "empty", id="a content type without content"),
        pytest.param((b"",), PNG, 400, "empty", id="chunked, no chunk"),
        pytest.param(part("file", b"") + END, FORM, 400, "empty", id="an empty file"),
        pytest.param(part("file"), FORM, 400, "malformed_form", id="a form cut off"),
        pytest.param(b"nonsense", FORM, 400, "malformed_form", id="no form"),
        pytest.param(NAMELESS + END, FORM, 400, "malformed_form", id="a nameless part"),
        pytest.param(part("file") + END, NO_BOUNDARY, 400, "malformed_form", id="no boundary"),
        pytest.param(END, FORM, 400, "missing_file", id="a form without parts"),
        pytest.param(part("picture") + END, FORM, 400, "missing_file", id="another field"),
        pytest.param(part("file") * 17 + END, FORM, 413, "too_many_pictures", id="too many files"),
        pytest.param(LARGE, PNG, 413, "too_many_bytes", id="a byte too many"),
        pytest.param((LARGE,), PNG, 413, "too_many_bytes", id="a byte too many, length unknown"),
        pytest.param(part("file", LARGE) + END, FORM, 413, "too_many_bytes", id="a byte too many, in a form"),
        pytest.param(part("file", LARGE * 2) + END, FORM, 413, "too_many_bytes", id="a form far too large"),
        pytest.param(bomb(), PNG, 413, "too_many_pixels", id="decompression bomb"),
        pytest.param(b"no picture", {}, 415, "unsupported_format", id="no content type, and no picture"),
        pytest.param(IMAGE, HTML, 415, "unsupported_media_type", id="a page, by its type"),
        pytest.param(IMAGE, TEXT, 415, "unsupported_media_type", id="a foreign content type"),
        pytest.param(b"%PDF-1.7", PNG, 415, "unsupported_format", id="a document under another name"),
        pytest.param(b"no picture", PNG, 415, "unsupported_format", id="text under another name"),
        pytest.param(IMAGE[: len(IMAGE) // 2], PNG, 422, "truncated", id="half a picture"),
        pytest.param(DAMAGED, PNG, 422, "unreadable", id="a damaged picture"),
        pytest.param(WITH_PARAMETER, FORM, 422, "invalid_parameter", id="a parameter in the form"),
    ],
)
def test_a_body_that_is_refused(
    client: httpx.Client,
    path: str,
    body: bytes | tuple[bytes, ...],
    headers: dict[str, str],
    status: int,
    code: str,
) -> None:
    content = iter(body) if isinstance(body, tuple) else body  # a tuple of chunks: sent without a length
    reply = client.post(path, content=content, headers=headers)
    assert (reply.status_code, error_of(reply)["code"]) == (status, code)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/detect?score_threshold=1.01", "score_threshold"),
        ("/detect?score_threshold=-0.01", "score_threshold"),
        ("/detect?score_threshold=nan", "score_threshold"),
        ("/detect?score_threshold=", "score_threshold"),
        ("/detect?max_detections=0", "max_detections"),
        ("/detect?max_detections=1001", "max_detections"),
        ("/detect?max_detections=2.5", "max_detections"),
        ("/detect?treshold=0.5", "treshold"),
        ("/detect?profile=turbo", "profile"),
        ("/detect?profile=", "profile"),
        ("/detect?profile=FAST", "profile"),
        ("/detect?top=5", "top"),
        ("/classify?top=0", "top"),
        ("/classify?top=1001", "top"),
        ("/classify?crops=2", "crops"),
        ("/classify?crops=ten", "crops"),
        ("/classify?score_threshold=0.5", "score_threshold"),
        ("/classify?profile=fast", "profile"),
    ],
)
def test_a_query_that_is_refused(client: httpx.Client, path: str, named: str) -> None:
    reply = client.post(path, content=IMAGE, headers=PNG)
    assert (reply.status_code, error_of(reply)["code"]) == (422, "invalid_parameter")
    assert named in error_of(reply)["message"]


def test_a_number_of_crops_that_is_refused_says_which_there_are(client: httpx.Client) -> None:
    reply = client.post("/classify?crops=2", content=IMAGE, headers=PNG)
    assert "crops: Input should be 1, 10 or 144" in error_of(reply)["message"]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("POST", "/detect/", 404, "not_found"),
        ("GET", "/detect", 405, "method_not_allowed"),
        ("PUT", "/classify", 405, "method_not_allowed"),
        ("POST", "/health/live", 405, "method_not_allowed"),
    ],
)
def test_a_path_or_method_that_is_refused(
    client: httpx.Client, method: str, path: str, status: int, code: str
) -> None:
    reply = client.request(method, path)
    assert (reply.status_code, error_of(reply)["code"]) == (status, code)
    assert ("allow" in reply.headers) == (status == 405)


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/detect"), ("POST", "/classify"), ("GET", "/health/ready")]
)
def test_not_ready(unready_client: httpx.Client, method: str, path: str) -> None:
    reply = unready_client.request(method, path, content=IMAGE if method == "POST" else None, headers=PNG)
    assert (reply.status_code, error_of(reply)["code"]) == (503, "not_ready")
    assert reply.headers["retry-after"] == "1"


def test_a_service_whose_weights_could_not_be_used_is_not_live(unready_client: httpx.Client) -> None:
    """Once that is known: before, waiting may help."""
    end = time.monotonic() + 300
    while (reply := unready_client.get("/health/live")).status_code == 200:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert (reply.status_code, error_of(reply)["code"]) == (503, "not_live")
    assert "could not be started" in error_of(reply)["message"]


def test_an_internal_error_tells_nothing_of_the_inside() -> None:
    app = create_app(Settings())

    @app.get("/broken")
    async def broken() -> None:
        raise RuntimeError("secret of the inside")

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            return await client.get("/broken")

    reply = asyncio.run(ask())
    assert (reply.status_code, error_of(reply)["code"]) == (500, "internal_error")
    assert "secret" not in reply.text


def test_the_refusal_does_not_wait_for_the_end_of_the_body(client: httpx.Client) -> None:
    head = (
        b"POST /detect HTTP/1.1\r\nHost: a\r\nContent-Type: image/png\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=60) as connection:
        connection.sendall(head)
        for _ in range(4):
            connection.sendall(b"186a0\r\n" + bytes(100_000) + b"\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_real_photographs_cut_short(client: httpx.Client, shared: Path) -> None:
    for path in sorted((shared / "voc100" / "JPEGImages").iterdir())[:10]:
        data = path.read_bytes()[:30_000]
        reply = client.post("/detect", files={"file": (path.name, data)})
        assert (reply.status_code, error_of(reply)["code"]) == (422, "truncated")

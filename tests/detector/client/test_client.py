"""What both clients send, and what they are built with."""

import asyncio
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from detector.client import AsyncClient, Client, RefusedError, RefusedImage, ServiceError
from detector.errors import ParameterError
from detector.options import Profile
from tests.detector.client.scripted_server import Step, serve_steps

ROOT = Path(__file__).resolve().parents[3]
IMAGE = b"the bytes of an image"
CLASSES = Step(
    body=b'{"kind": "classes", "image": null, "width": 1, "height": 1, "frames": 1, "model": "m", '
    b'"classes": [{"label": "tabby", "wnid": "n02123045", "score": 0.5}], '
    b'"timing_ms": {"queue": 0, "decode": 0, "classify": 1, "total": 1}}'
)


def query(path: str) -> dict[str, str]:
    return {name: value for name, [value] in parse_qs(urlsplit(path).query).items()}


@pytest.mark.parametrize(
    ("given", "sent"),
    [
        pytest.param({}, {}, id="the service's defaults"),
        pytest.param({"profile": None, "tile": None}, {}, id="None is left out"),
        pytest.param({"score_threshold": 0.5, "max_detections": 3}, None, id="numbers"),
        pytest.param({"profile": Profile.FAST}, {"profile": "fast"}, id="a profile"),
        pytest.param({"classes": "dog, mug"}, {"classes": "dog, mug"}, id="classes as a text"),
        pytest.param({"classes": ["dog", "n02121808"]}, {"classes": "dog,n02121808"}, id="classes as a list"),
        pytest.param({"tile": 640, "model": "birds & co"}, None, id="signs that a query escapes"),
        pytest.param(
            {"timeout": 5, "encoding": "jpeg", "request_id": "a"}, {}, id="what is not of the query"
        ),
    ],
)
def test_parameters(ask: Callable[..., Any], given: dict[str, Any], sent: dict[str, str] | None) -> None:
    with serve_steps([Step()]) as server:
        ask(server.address, "detect", IMAGE, **given)
    [request] = server.requests
    assert urlsplit(request.path).path == "/detect"
    assert query(request.path) == (sent if sent is not None else {k: str(v) for k, v in given.items()})


def test_a_parameter_that_there_is_not_is_told_at_once(ask: Callable[..., Any]) -> None:
    with serve_steps([Step()]) as server:
        with pytest.raises(ParameterError, match="there is no parameter threshold: there is classes"):
            ask(server.address, "detect", IMAGE, threshold=0.5)
        with pytest.raises(ParameterError, match="there is crops, model, top"):
            ask(server.address, "classify", IMAGE, profile="fast")
    assert not server.requests


def test_classify(ask: Callable[..., Any]) -> None:
    with serve_steps([CLASSES]) as server:
        [found] = ask(server.address, "classify", IMAGE, crops=10, top=1)
    assert (found.label, found.wnid, found.class_id, found.score) == ("tabby", "n02123045", None, 0.5)
    assert query(server.requests[0].path) == {"crops": "10", "top": "1"}


def test_an_answer_reads_like_a_list(ask: Callable[..., Any]) -> None:
    with serve_steps([Step()]) as server:
        reply = ask(server.address, "detect", IMAGE)
    assert len(reply) == 2
    cat, mug = reply
    assert (cat.label, cat.score, cat.wnid, cat.class_id) == ("domestic cat", 0.6, "n02121808", None)
    assert list(cat.box) == [42.2, 12.7, 379.0, 288.2]
    assert (mug.class_id, mug.box.xmax) == ("m1", 2)
    assert (reply.width, reply.height, reply.timing_ms.total) == (451, 300, 5)


def test_a_field_of_a_later_service_is_passed_over(ask: Callable[..., Any]) -> None:
    later = Step().body.replace(b'"frames": 1', b'"frames": 1, "sharpness": 0.5')
    with serve_steps([Step(body=later)]) as server:
        assert len(ask(server.address, "detect", IMAGE)) == 2


def test_one_nameless_image_is_the_body_and_all_else_a_form(ask: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    path.write_bytes(IMAGE)
    many = Step(body=b'{"kind": "results", "results": []}')
    with serve_steps([Step(), Step(), many]) as server:
        ask(server.address, "detect", IMAGE)
        ask(server.address, "detect", path)
        ask(server.address, "detect", [IMAGE, path])
    raw, named, several = server.requests
    assert raw.headers["Content-Type"] == "application/octet-stream"
    assert raw.body == IMAGE
    assert all(one.headers["Content-Type"].startswith("multipart/form-data") for one in (named, several))
    assert b'name="file"; filename="a.jpg"' in named.body
    assert several.body.count(IMAGE) == 2


def test_no_images_need_no_service(ask: Callable[..., Any]) -> None:
    assert ask("http://127.0.0.1:9", "detect", []) == []


@pytest.mark.parametrize(
    ("code", "entry"),
    [
        pytest.param("truncated", True, id="the image's fault"),
        pytest.param("invalid_parameter", False, id="the request's"),
    ],
)
def test_the_only_image_of_a_list(ask: Callable[..., Any], tmp_path: Path, code: str, entry: bool) -> None:
    """The service answers it as one image; the caller asked for a list."""
    path = tmp_path / "a.jpg"
    path.write_bytes(IMAGE)
    with serve_steps([Step(), Step.error(422, code)]) as server:
        [reply] = ask(server.address, "detect", [path])
        assert len(reply) == 2
        if entry:
            [refused] = ask(server.address, "detect", [path])
            assert isinstance(refused, RefusedImage)
            assert (refused.image, refused.error.code) == ("a.jpg", code)
        else:
            with pytest.raises(RefusedError):
                ask(server.address, "detect", [path])


def test_a_client_keeps_its_connection() -> None:
    with serve_steps([Step()] * 3) as server, Client(server.address) as client:
        for _ in range(3):
            client.detect(IMAGE)
    assert len({request.connection for request in server.requests}) == 1


def test_the_key_is_sent_and_never_shown(ask: Callable[..., Any]) -> None:
    with serve_steps([Step.error(401, "unauthorized")]) as server, pytest.raises(RefusedError) as raised:
        ask(server.address, "detect", IMAGE, settings={"key": "the-key"})
    assert server.requests[0].headers["Authorization"] == "Bearer the-key"
    assert "the-key" not in str(raised.value)
    with Client(server.address, key="the-key") as client:
        assert "the-key" not in repr(client) + repr(vars(client))


def test_a_password_is_sent_and_never_shown(ask: Callable[..., Any]) -> None:
    with serve_steps([Step()]) as server:
        address = server.address.replace("http://", "http://me:the-password@")
        ask(address, "detect", IMAGE)
        with Client(address) as client:
            assert "the-password" not in repr(client) + repr(vars(client))
            assert repr(client) == f"Client('{server.address}')"
    assert server.requests[0].headers["Authorization"].startswith("Basic ")


def test_a_drawn_image(ask: Callable[..., Any]) -> None:
    drawn = Step(headers={"Content-Type": "image/jpeg"}, body=b"the drawing")
    portal = Step(headers={"Content-Type": "text/html"}, body=b"<html>Welcome</html>")
    with serve_steps([drawn, portal, Step(body=b"")]) as server:
        assert ask(server.address, "draw", IMAGE, media_type="image/jpeg") == b"the drawing"
        for says in ("no image but text/html", "no image but of no type"):
            with pytest.raises(ServiceError, match=says) as raised:
                ask(server.address, "draw", IMAGE)
            assert (raised.value.code, raised.value.status) == ("unexpected_reply", 200)
        with pytest.raises(ParameterError, match="'image/png' or 'image/jpeg'"):
            ask(server.address, "draw", IMAGE, media_type="image/gif")
    assert [request.headers["Accept"] for request in server.requests] == ["image/jpeg", *["image/png"] * 2]


@pytest.mark.parametrize("name", ["", ".", "..", None])
def test_what_no_model_is_called(ask: Callable[..., Any], name: Any) -> None:
    """A path with dots would ask for another page."""
    with pytest.raises(ParameterError, match="a model has a name"):
        ask("http://127.0.0.1:9", "model", name)


def test_loops_one_after_another_share_a_client() -> None:
    with serve_steps([Step()] * 4) as server:
        client = AsyncClient(server.address)

        async def ask(times: int) -> int:
            found = [await client.detect(IMAGE) for _ in range(times)]
            if times == 1:
                await client.close()
            return sum(map(len, found))

        assert [asyncio.run(ask(times)) for times in (2, 1)] == [4, 2]
        assert len({request.connection for request in server.requests}) == 2, "a loop keeps its connection"
        with pytest.raises(RuntimeError, match="closed"):
            asyncio.run(client.models())


def test_loops_of_several_threads_share_a_client() -> None:
    with serve_steps([Step()] * 12) as server, ThreadPoolExecutor(3) as threads:
        client = AsyncClient(server.address)

        async def ask() -> int:
            return sum(map(len, await asyncio.gather(*(client.detect(IMAGE) for _ in range(4)))))

        assert list(threads.map(lambda _: asyncio.run(ask()), range(3))) == [8] * 3


def test_a_service_below_a_path(ask: Callable[..., Any]) -> None:
    with serve_steps([Step()]) as server:
        ask(f"{server.address}/vision/", "detect", IMAGE, profile="fast")
    assert server.requests[0].path == "/vision/detect?profile=fast"


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param({"address": "localhost:8000"}, "an address is such as", id="no scheme"),
        pytest.param(
            {"address": "http://localhost:port"}, "an address is such as", id="a port that is no number"
        ),
        pytest.param({"address": "http:///detect"}, "an address is such as", id="no host"),
        pytest.param({"key": "two words"}, "the key has a sign", id="a space in the key"),
        pytest.param({"key": "line\n"}, "the key has a sign", id="a line's end in the key"),
        pytest.param({"key": ""}, "the key has a sign", id="an empty key"),
        pytest.param({"key": 7}, "the key has a sign", id="a key that is no text"),
        pytest.param(
            {"address": "http://me:pass@localhost", "key": "k"}, "leave one out", id="two kinds of keys"
        ),
        pytest.param({"address": None}, "an address is such as", id="no address"),
        pytest.param({"address": "http://localhost:99999"}, "an address is such as", id="no such port"),
        pytest.param({"address": "http://localhost/?a=1"}, "an address is such as", id="a query"),
        pytest.param({"timeout": "30"}, "timeout must be", id="a timeout as a text"),
        pytest.param({"timeout": None}, "timeout must be", id="no timeout"),
        pytest.param({"retries": None}, "retries must be", id="no number of retries"),
        pytest.param({"retries": 1.5}, "retries must be", id="half a retry"),
        pytest.param({"connections": "2"}, "connections one from 1", id="connections as a text"),
        pytest.param({"timeout": 0}, "timeout must be", id="no time"),
        pytest.param({"timeout": float("nan")}, "timeout must be", id="no number"),
        pytest.param({"retries": -1}, "retries must be", id="fewer than no retries"),
        pytest.param({"connections": 0}, "connections one from 1", id="no connection"),
    ],
)
def test_what_no_client_is_made_of(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ParameterError, match=says) as raised:
        Client(**settings)
    assert "two words" not in str(raised.value)


@pytest.mark.parametrize(
    "options", [{"timeout": -1}, {"timeout": "1"}, {"request_id": "two words"}, {"request_id": 7}]
)
def test_options_of_a_call_are_checked_before_it(ask: Callable[..., Any], options: dict[str, Any]) -> None:
    with pytest.raises(ParameterError):
        ask("http://127.0.0.1:9", "models", **options)


HEAVY = ("torch", "torchvision", "openvino", "onnx", "onnxruntime", "numba", "cv2", "numpy", "PIL", "api")


def test_importing_it_takes_nothing_of_what_runs_networks() -> None:
    code = f"import sys, detector.client; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("package", ["httpx", "pydantic"])
def test_what_is_not_installed_is_named(package: str) -> None:
    code = f"import sys; sys.modules[{package!r}] = None; import detector.client"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        f"ModuleNotFoundError: detector.client needs the package '{package}': "
        "pip install 'googlenet-detector[client]'"
    )

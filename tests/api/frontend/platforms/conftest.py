"""A service with the interfaces of all platforms, and what it fetches pictures from."""

import base64
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.frontend.settings import Settings
from detector.options import Profile

Ready = Callable[[Settings], AbstractContextManager[httpx.Client]]

ALL = "open-inference,sagemaker,vertex,label-studio"
PREDICT, HEALTH = "/v1/endpoints/1/deployedModels/2:predict", "/v1/endpoints/1/deployedModels/2"
PERSONAL_TOKEN = "three.parts.long"


class Studio:
    """A server that hands out files as Label Studio does: to whoever shows an access token, for which it is
    shown a personal one."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.redirects: dict[str, str] = {}
        self.requests: list[str] = []
        studio = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                studio.requests.append(self.path)
                if self.headers["Authorization"] != "Bearer of-access":
                    self.reply(401)
                elif self.path in studio.redirects:
                    self.reply(302, location=studio.redirects[self.path])
                elif self.path in studio.files:
                    self.reply(200, studio.files[self.path])
                else:
                    self.reply(404)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                right = self.path == "/api/token/refresh/" and PERSONAL_TOKEN.encode() in body
                self.reply(200 if right else 401, b'{"access": "of-access"}')

            def reply(self, status: int, body: bytes = b"", location: str = "") -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                if location:
                    self.send_header("Location", location)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *args: object) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.origin = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture(scope="package")
def studio() -> Iterator[Studio]:
    """Label Studio, as far as pictures are concerned."""
    studio = Studio()
    thread = threading.Thread(target=studio.server.serve_forever)
    thread.start()
    yield studio
    studio.server.shutdown()
    studio.server.server_close()
    thread.join()


@pytest.fixture(scope="package")
def platforms(ready: Ready, eager_path: Path, studio: Studio) -> Iterator[httpx.Client]:
    """A client of a ready service with all platforms: three pictures a request, of 300,000 bytes each."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AIP_PREDICT_ROUTE", PREDICT)
        patch.setenv("AIP_HEALTH_ROUTE", HEALTH)
        settings = Settings(
            model={"eager": (eager_path,)},
            device="cpu",
            profile=Profile.FAST,
            max_proposals=3,
            max_bytes=300_000,
            max_pictures=3,
            platforms=ALL,
            label_studio_url=studio.origin,
            label_studio_api_key=PERSONAL_TOKEN,
        )
        with ready(settings) as client:
            yield client


@pytest.fixture(scope="package")
def found(platforms: httpx.Client, image: bytes) -> list[dict[str, Any]]:
    """What ``/detect`` finds in the picture: at most five objects, of any score."""
    reply = platforms.post("/detect?score_threshold=0&max_detections=5", content=image)
    detections: list[dict[str, Any]] = reply.json()["detections"]
    assert len(detections) == 5
    return detections


def text(data: bytes) -> str:
    """Bytes as base64."""
    return base64.b64encode(data).decode()

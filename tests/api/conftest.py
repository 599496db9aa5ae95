"""The real service, under a real server on a loopback port."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image

from api.frontend.app import create_app
from api.frontend.connections.listening import listening_sockets
from api.frontend.server import server_config
from api.frontend.settings import Settings
from api.observability.metrics import Metrics
from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.options import Profile


@contextmanager
def serve(app: FastAPI, settings: Settings | None = None) -> Iterator[httpx.Client]:
    """A client of the app, served in a thread as ``detector serve`` does it; connections are counted in the
    app's own metrics where it has some."""
    if not hasattr(app.state, "metrics"):
        app.state.metrics = Metrics()
    server = uvicorn.Server(server_config(app, settings or Settings()))
    thread = threading.Thread(target=server.run, args=(listening_sockets("127.0.0.1", 0),))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive(), "the server did not start"
            time.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=600) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def serving() -> Callable[[FastAPI], AbstractContextManager[httpx.Client]]:
    """What serves an app of the test's own: :func:`serve`."""
    return serve


def wait_until_ready(client: httpx.Client, seconds: float = 600) -> None:
    """Returns once /health/ready says so; a test that waits in vain fails."""
    deadline = time.monotonic() + seconds
    while client.get("/health/ready").status_code != 200:
        assert time.monotonic() < deadline, "the service did not become ready"
        time.sleep(0.05)


@pytest.fixture(scope="session")
def ready() -> Callable[[Settings], AbstractContextManager[httpx.Client]]:
    """What serves with settings of the test's own, and waits until it is ready."""

    @contextmanager
    def start(settings: Settings) -> Iterator[httpx.Client]:
        with serve(create_app(settings), settings) as client:
            wait_until_ready(client)
            yield client

    return start


@pytest.fixture(scope="session")
def client(checkpoint_path: Path) -> Iterator[httpx.Client]:
    """A client of a ready service: 20 proposals a picture, at most 300,000 bytes and a million pixels."""
    settings = Settings(
        weights=checkpoint_path, device="cpu", max_proposals=20, max_bytes=300_000, max_pixels=1_000_000
    )
    with serve(create_app(settings), settings) as client:
        wait_until_ready(client)
        yield client


@pytest.fixture(scope="session")
def fast_client(multibox_path: Path) -> Iterator[httpx.Client]:
    """A client of a service whose weights have a MultiBox head, and which is set to ``fast``."""
    settings = Settings(weights=multibox_path, device="cpu", profile=Profile.FAST, max_proposals=7)
    with serve(create_app(settings), settings) as client:
        wait_until_ready(client)
        yield client


@pytest.fixture(scope="session")
def eager_path(multibox_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained detector that finds dozens of things, as a file: a power raises its scores."""
    whole = load_checkpoint(multibox_path)
    eager = replace(whole.metadata, scoring=replace(whole.metadata.scoring, score_power=0.1))
    path = tmp_path_factory.mktemp("weights") / "eager.safetensors"
    save_checkpoint(path, Checkpoint(whole.network, eager, whole.multibox))
    return path


@pytest.fixture(scope="session")
def eager_client(multibox_path: Path, eager_path: Path) -> Iterator[httpx.Client]:
    """A client of a service whose detector finds dozens of things; the same detector without the power that
    raises its scores is a second model, ``plain``."""
    settings = Settings(
        model={"eager": (eager_path,), "plain": (multibox_path,)},
        device="cpu",
        profile=Profile.FAST,
        max_proposals=3,
    )
    with serve(create_app(settings), settings) as client:
        wait_until_ready(client)
        yield client


@pytest.fixture(scope="session")
def unready_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a service whose weights are not there, and which therefore never is ready."""
    settings = Settings(weights=tmp_path_factory.mktemp("empty") / "absent.safetensors", device="cpu")
    with serve(create_app(settings), settings) as client:
        yield client


@pytest.fixture(scope="session")
def guarded_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client, which has no key, of a service that asks for ``the-key-of-this-service``; never ready."""
    absent = tmp_path_factory.mktemp("empty") / "absent.safetensors"
    settings = Settings(weights=absent, device="cpu", api_keys="the-key-of-this-service")
    with serve(create_app(settings), settings) as client:
        yield client


@pytest.fixture(scope="session")
def pixels() -> np.ndarray:
    """A picture [96,128,3] with two things in it."""
    image = np.full((96, 128, 3), (90, 140, 200), np.uint8)
    image[30:80, 20:60] = 200, 60, 40
    image[50:90, 70:120] = 30, 30, 30
    return image


@pytest.fixture(scope="session")
def image(pixels: np.ndarray) -> bytes:
    """The same as PNG, which keeps every pixel."""
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()

"""The page in a real browser, before the real service."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from api.frontend.settings import Settings
from detector.inference.thresholds import Thresholds
from detector.models.weights import change_metadata
from detector.options import Profile

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

ASKED = {"score_threshold": 0.05, "max_detections": 300}
CAMERA = ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a file. Playwright's event loop must end before others' tests."""
    if CHROMIUM is None:
        pytest.skip("no Chromium in PATH to open the page with")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CAMERA)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser, eager_client: httpx.Client) -> Iterator[Callable[..., Page]]:
    """Opens the page in a fresh profile. No request may leave the service, no script may fail."""
    contexts, strangers, failures = [], [], []

    def open_page(client: httpx.Client = eager_client, **options: Any) -> Page:
        own = str(client.base_url)
        context = browser.new_context(**{"base_url": own, "reduced_motion": "reduce"} | options)
        contexts.append(context)
        context.on(
            "request",
            lambda request: (
                strangers.append(request.url) if not request.url.startswith((own, "blob:", "data:")) else None
            ),
        )
        page = context.new_page()
        page.on("pageerror", lambda error: failures.append(str(error)))
        page.on("console", lambda line: failures.append(line.text) if "Policy" in line.text else None)
        page.goto("/")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert strangers == []
    assert failures == []


@pytest.fixture
def page(open_page: Callable[..., Page]) -> Page:
    return open_page()


@pytest.fixture
def requests(page: Page) -> list[str]:
    """The addresses that the page posted to, as they come."""
    posted: list[str] = []
    page.on("request", lambda request: posted.append(request.url) if request.method == "POST" else None)
    return posted


@pytest.fixture(scope="session")
def reply(eager_client: httpx.Client, image: bytes) -> dict[str, Any]:
    """What the service says of the picture when it is asked as the page asks."""
    body = eager_client.post("/detect", params=ASKED, files={"file": ("a.png", image)}).json()
    assert 20 < len(body["detections"]) < 300  # enough to choose among, all in one reply
    return body


LEAST = tuple(0.3 if label % 2 else None for label in range(200))
"""Thresholds of ``measured_client``'s model: of every other class nothing is shown."""


@pytest.fixture(scope="session")
def measured_client(
    eager_path: Path,
    multibox_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    ready: Callable[[Settings], AbstractContextManager[httpx.Client]],
) -> Iterator[httpx.Client]:
    """A client of a service whose first model has thresholds and finds dozens of things; its second one has
    none."""
    path = tmp_path_factory.mktemp("weights") / "measured.safetensors"
    change_metadata(eager_path, path, thresholds=Thresholds(0.8, 0.3, LEAST, "some pictures"))
    settings = Settings(
        model={"measured": (path,), "plain": (multibox_path,)},
        device="cpu",
        profile=Profile.FAST,
        max_proposals=3,
    )
    with ready(settings) as client:
        yield client

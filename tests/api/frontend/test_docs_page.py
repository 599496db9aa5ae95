"""/docs works in a browser that reaches nothing but the service."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

pytestmark = pytest.mark.exhaustive

sync_api: Any = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
CHROMIUM = Path("/usr/bin/chromium")


@pytest.fixture
def page() -> Iterator[Any]:
    """A page of headless Chromium."""
    if not CHROMIUM.exists():
        pytest.skip("no Chromium in PATH to open the page with")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=["--no-sandbox", "--disable-gpu"]
        )
        yield browser.new_page()
        browser.close()


def test_it_shows_the_operations_and_asks_nobody_else(page: Any, unready_client: httpx.Client) -> None:
    asked: list[str] = []
    problems: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{unready_client.base_url}/docs")
    page.wait_for_selector("#operations-default-detect_detect_post, .opblock", timeout=60_000)
    shown = page.locator(".opblock-summary-path").all_inner_texts()
    assert {"/detect", "/classify", "/models", "/metrics", "/health/ready"} <= {
        path.replace("\u200b", "") for path in shown
    }
    page.locator(".opblock-summary-path", has_text="classify").click()
    page.locator(".opblock-body .try-out__btn").wait_for(timeout=60_000)
    addresses = [url for url in asked if not url.startswith(("data:", "blob:"))]
    assert all(url.startswith(f"{unready_client.base_url}/") for url in addresses), addresses
    assert problems == []  # a source that the policy forbids would be one


def test_the_policy_allows_no_other_source(unready_client: httpx.Client) -> None:
    reply = unready_client.get("/docs")
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().split(" ", 1) for part in reply.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == "'self'"
    assert not any("http" in sources or "*" in sources for sources in policy.values())
    assert "http" not in reply.text


@pytest.mark.parametrize(
    ("path", "content_type"),
    [
        ("/docs/swagger-ui-bundle.js", "text/javascript; charset=utf-8"),
        ("/docs/swagger-ui.css", "text/css; charset=utf-8"),
        ("/docs/favicon-32x32.png", "image/png"),
        ("/docs/start.js", "text/javascript; charset=utf-8"),
    ],
)
def test_its_files(unready_client: httpx.Client, path: str, content_type: str) -> None:
    reply = unready_client.get(path)
    assert (reply.status_code, reply.headers["content-type"]) == (200, content_type)
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/docs/__init__.py", "/docs/..%2f__init__.py", "/docs/other.js", "/redoc"])
def test_nothing_else_is_served(unready_client: httpx.Client, path: str) -> None:
    reply = unready_client.get(path)
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "not_found")

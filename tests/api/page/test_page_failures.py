"""What goes wrong is told in words, and what was found before does not pass for the answer."""

from collections.abc import Callable
from typing import Any

import httpx
import pytest
from playwright.sync_api import Page, Route, expect

from tests.api.page.driving import choose, hand_over, refusal, scoring, settle

pytestmark = pytest.mark.exhaustive


def test_a_broken_picture_is_told_in_the_services_words(
    page: Page, eager_client: httpx.Client, image: bytes
) -> None:
    broken = image[:100]
    told = eager_client.post("/detect", files={"file": ("a.png", broken)}).json()["error"]["message"]
    choose(page, image)
    choose(page, broken)
    expect(page.get_by_role("alert")).to_have_text(told)
    expect(page.locator("#overlay .box")).to_have_count(0)  # nothing is left of the picture before
    expect(page.locator("#list li")).to_have_count(0)
    choose(page, image)
    expect(page.get_by_role("alert")).to_be_empty()
    expect(page.locator("#overlay .box")).not_to_have_count(0)


@pytest.mark.parametrize(
    ("answer", "words", "retry"),
    [
        pytest.param(
            refusal(429, "overloaded", **{"Retry-After": "60"}), "again in 60 seconds", "wait", id="busy"
        ),
        pytest.param(refusal(503, "draining", **{"Retry-After": "0"}), "is draining", "now", id="leaving"),
        pytest.param(refusal(504, "deadline_exceeded"), "least time", "now", id="too slow"),
        pytest.param(refusal(413, "too_many_bytes"), "It is too_many_bytes.", "no use", id="too large"),
        pytest.param(lambda route: route.fulfill(status=502, body="<h1>Bad"), "502", "now", id="a proxy"),
        pytest.param(lambda route: route.fulfill(body="<h1>Hello"), "proxy", "now", id="not the service"),
        pytest.param(lambda route: route.abort(), "cannot be reached", "now", id="nobody there"),
    ],
)
def test_every_failure_is_told_in_words(
    page: Page, image: bytes, answer: Callable[[Route], None], words: str, retry: str
) -> None:
    page.route("**/detect?*", answer)
    choose(page, image)
    expect(page.get_by_role("alert")).to_contain_text(words)
    button = page.locator("#retry")
    if retry == "no use":
        expect(button).to_be_hidden()
    else:
        expect(button).to_be_enabled(enabled=retry == "now")
    page.unroute("**/detect?*")
    if retry == "now":
        button.click()
        settle(page)
        expect(page.locator("#overlay .box")).not_to_have_count(0)


def test_a_request_is_cancelled_by_hand_and_by_a_new_picture(
    page: Page, image: bytes, reply: dict[str, Any]
) -> None:
    aborted: list[str] = []
    page.on("requestfailed", lambda request: aborted.append(request.url))
    page.route("**/detect?*", lambda route: None)  # an answer that never comes
    hand_over(page, "drop", image)
    page.get_by_role("button", name="Cancel").click()
    settle(page)
    expect(page.get_by_role("alert")).to_contain_text("Cancelled")
    page.get_by_role("button", name="Try again").click()
    expect(page.locator("#busy")).to_be_visible()
    page.unroute("**/detect?*")
    choose(page, image, "another.png")
    expect(page.locator("#overlay .box")).to_have_count(len(scoring(reply, 0.3)[:100]))
    expect(page.get_by_role("alert")).to_be_empty()
    assert len(aborted) == 2


def test_a_picture_waits_for_a_service_that_is_starting(
    open_page: Callable[..., Page], unready_client: httpx.Client, image: bytes
) -> None:
    page = open_page(unready_client)
    hand_over(page, "drop", image)
    expect(page.locator("#phase")).to_have_text("The service is starting")
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_role("button", name="Try again")).to_be_focused()


def test_it_is_sent_once_the_service_is_ready(
    page: Page, requests: list[str], image: bytes, reply: dict[str, Any]
) -> None:
    page.route("**/detect?*", refusal(503, "not_ready"), times=1)
    choose(page, image)
    expect(page.locator("#overlay .box")).to_have_count(len(scoring(reply, 0.3)[:100]))
    assert len(requests) == 2


def test_a_key_is_asked_for_and_kept_for_the_tab_alone(
    open_page: Callable[..., Page], guarded_client: httpx.Client, image: bytes
) -> None:
    """The service has no weights: behind the key, it is starting for ever."""
    page = open_page(guarded_client)
    choose(page, image)
    field = page.get_by_label("API key")
    for key in ("wrong", "the-key-of-this-service"):
        expect(page.get_by_role("alert")).to_contain_text("key")
        expect(field).to_be_focused()
        page.keyboard.type(key)
        page.keyboard.press("Enter")
    expect(page.locator("#phase")).to_have_text("The service is starting")
    expect(page.locator("#curl")).to_contain_text('-H "X-API-Key: $API_KEY"')
    assert "the-key-of" not in (page.locator("body").text_content() or "")
    page.reload()
    hand_over(page, "drop", image)
    expect(page.locator("#phase")).to_have_text("The service is starting")
    assert page.evaluate("localStorage.length") == 0

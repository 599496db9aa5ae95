"""What a user does with the page."""

import json
from collections.abc import Callable
from typing import Any

from playwright.sync_api import Page, Route, expect


def choose(page: Page, image: bytes, name: str = "a.png") -> None:
    """Pick the picture, and wait until the page has an answer to it."""
    page.set_input_files("#file", {"name": name, "mimeType": "image/png", "buffer": image})
    settle(page)


def settle(page: Page) -> None:
    """Wait until no request is under way."""
    expect(page.locator("#busy")).to_be_hidden(timeout=60_000)


def scoring(reply: dict[str, Any], threshold: float) -> list[dict[str, Any]]:
    """The detections of a reply with this score or more, as they came: best first."""
    return [one for one in reply["detections"] if one["score"] >= threshold]


TRANSFER = """(bytes) => {
  const transfer = new DataTransfer();
  if (bytes) transfer.items.add(new File([new Uint8Array(bytes)], "a.png", { type: "image/png" }));
  else transfer.setData("text/uri-list", "https://example.org/a.png");
  return transfer;
}"""


def hand_over(page: Page, way: str, image: bytes | None) -> None:
    """Drop or paste a picture, or without one a link."""
    transfer = page.evaluate_handle(TRANSFER, list(image) if image else None)
    if way == "drop":
        for event in ("dragenter", "dragover", "drop"):
            page.dispatch_event("main", event, {"dataTransfer": transfer})
    else:
        page.evaluate(
            "(clipboardData) => document.body.dispatchEvent("
            "new ClipboardEvent('paste', { clipboardData, bubbles: true, cancelable: true }))",
            transfer,
        )


def told(page: Page) -> dict[str, Any]:
    """The JSON that the page shows."""
    text = page.locator("#json").text_content()
    assert text
    return json.loads(text)


def refusal(status: int, code: str, **headers: str) -> Callable[[Route], None]:
    """An answer of the service with this error, for ``page.route``."""
    body = json.dumps({"error": {"code": code, "message": f"It is {code}."}})
    return lambda route: route.fulfill(status=status, body=body, headers=headers)

"""Why an object has its score: its factors in the list, its heat map over the picture."""

import base64
from io import BytesIO
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from detector.io.heat_map import overlay_heat
from tests.api.page.conftest import ASKED
from tests.api.page.driving import choose, settle, told

pytestmark = pytest.mark.exhaustive


@pytest.fixture(scope="module")
def explained(eager_client: httpx.Client, image: bytes) -> list[dict[str, Any]]:
    """What the service finds in the picture, the best 20 explained."""
    params = ASKED | {"explain": 20}
    found = eager_client.post("/detect", params=params, files={"file": ("a.png", image)}).json()["detections"]
    assert len(found) > 20
    return found


def written(factors: list[dict[str, Any]]) -> str:
    """The factors as the page's text has them."""
    return " × ".join(
        f"{one['name'].replace('predicted_iou', 'predicted IoU')} {figures(one['value'])}"
        + (f" to the power {figures(one['power'])}" if one["power"] != 1 else "")
        for one in factors
    )


def figures(value: float) -> str:
    """Three significant ones, without an exponent."""
    return np.format_float_positional(float(f"{value:.3g}"), trim="-")


def test_an_object_that_was_chosen_is_explained(
    page: Page, requests: list[str], image: bytes, explained: list[dict[str, Any]]
) -> None:
    choose(page, image)
    page.locator("#threshold").press("Home")
    page.locator("#list .entry").nth(1).click()
    expect(page.locator("#heat")).to_be_hidden()
    page.get_by_label("Explain the scores").check()
    settle(page)
    assert requests[-1].endswith("&explain=20")
    expect(page.locator("#curl")).to_contain_text("&explain=20")
    expect(page.locator('#list .entry[data-index="1"]')).to_have_class("entry active")  # it stays chosen
    assert_heat_is_of(page, explained[1])

    lines = page.locator("#list .factors").all_text_contents()
    assert lines == [written(one["explanation"]["factors"]) for one in explained[:20]]
    assert told(page)["detections"] == explained[:100]

    page.mouse.move(0, 0)
    page.locator("#list .entry").nth(20).focus()
    expect(page.locator("#heat")).to_be_hidden()  # it is not among the best 20
    page.locator("#list .entry").first.focus()
    assert_heat_is_of(page, explained[0])
    page.get_by_label("Explain the scores").uncheck()
    settle(page)
    expect(page.locator("#heat")).to_be_hidden()
    expect(page.locator("#list .factors")).to_have_count(0)


def test_the_saved_picture_has_the_heat_map_that_is_shown(page: Page, image: bytes) -> None:
    choose(page, image)
    page.locator("#count").press("Home")  # one frame and one tag, which hide little of the map
    page.get_by_label("Explain the scores").check()
    settle(page)
    page.mouse.move(0, 0)
    without = saved(page)
    page.locator("#list .entry").first.click()
    page.mouse.move(0, 0)
    expect(page.locator("#heat")).to_be_visible()
    covered = page.locator("#heat").evaluate(
        "(canvas) => { const [w, h] = [canvas.width, canvas.height];"
        " const { data } = canvas.getContext('2d').getImageData(0, 0, w, h);"
        " return data.filter((_, i) => i % 4 === 3 && data[i] > 90).length / (w * h); }"
    )
    changed = (np.abs(saved(page) - without).max(axis=2) > 20).mean()
    assert covered > 0.01
    assert 0.5 * covered < changed < 1  # but for what the tag hides, and colours that are alike


def saved(page: Page) -> np.ndarray:
    """The pixels [H,W,3] of the picture that "Save PNG" gives."""
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    return np.asarray(Image.open(download.value.path()).convert("RGB"), int)


def assert_heat_is_of(page: Page, detection: dict[str, Any]) -> None:
    """What lies over the picture is what the library draws, but for the pixels that the map's sides cross."""
    canvas = page.locator("#heat")
    expect(canvas).to_be_visible()
    url = canvas.evaluate("(canvas) => canvas.toDataURL()")
    over = Image.open(BytesIO(base64.b64decode(url.partition(",")[2])))
    composed = Image.alpha_composite(Image.new("RGBA", over.size, "black"), over).convert("RGB")
    shown = np.asarray(composed.resize((128, 96), Image.Resampling.BOX)).astype(int)

    explanation = detection["explanation"]
    activation = np.array(explanation["activation"], np.float32)
    x1, y1, x2, y2 = explanation["region"]
    drawn = overlay_heat(np.zeros((96, 128, 3), np.uint8), activation, (x1, y1, x2, y2)).astype(int)
    assert drawn.max() > 100  # there is something to see
    x, y = np.arange(128), np.arange(96)[:, None]
    beside = [abs(x + 0.5 - side) < 2 for side in (x1, x2)] + [abs(y + 0.5 - side) < 2 for side in (y1, y2)]
    crossed = np.logical_or.reduce(np.broadcast_arrays(*beside))
    difference = abs(shown - drawn)[~crossed]
    assert difference.max() <= 24
    assert difference.mean() < 3

"""By keyboard, on a phone, in light and in dark."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.api.page.driving import choose, settle

pytestmark = pytest.mark.exhaustive


def test_the_keyboard_is_enough(page: Page, image: bytes, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    file.write_bytes(image)
    with page.expect_file_chooser() as chooser:
        tab_to(page, "file")
        page.keyboard.press("Enter")
    chooser.value.set_files(file)
    settle(page)
    boxes = page.locator("#overlay .box")
    before = boxes.count()
    tab_to(page, "threshold")
    page.keyboard.press("PageUp")
    expect(boxes).not_to_have_count(before)
    tab_to(page, "count")
    page.keyboard.press("Home")
    expect(boxes).to_have_count(1)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "explain"
    page.keyboard.press("Space")
    settle(page)
    expect(page.locator("#list .factors")).to_have_count(1)
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "chip"
    while page.evaluate("document.activeElement.className") == "chip":
        page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "entry active"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    expect(page.locator("#heat")).to_be_visible()


def tab_to(page: Page, id: str) -> None:
    for _ in range(20):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == id:
            return
    raise AssertionError(f"Tab does not reach {id}")


@pytest.mark.parametrize("state", ["empty", "result", "error"])
def test_nothing_is_wider_than_a_phone(open_page: Callable[..., Page], image: bytes, state: str) -> None:
    page = open_page(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    name = "a_file_name_that_is_much_longer_than_any_phone_is_wide_" * 3 + ".png"
    if state != "empty":
        choose(page, image if state == "result" else image[:100], name)
    if state == "result":
        page.locator("#threshold").press("Home")  # all entries and classes there are
        page.get_by_label("Explain the scores").check()
        settle(page)
        best = page.locator('#overlay .box[data-index="0"]')
        best.scroll_into_view_if_needed()
        drawn = best.bounding_box()
        assert drawn is not None
        page.touchscreen.tap(drawn["x"] + drawn["width"] / 2, drawn["y"] + drawn["height"] / 2)
        expect(page.locator("#list .entry.active")).to_have_count(1)
    assert page.evaluate("document.scrollingElement.scrollWidth") == 360
    wide = page.evaluate(
        """() => [...document.querySelectorAll("body *")]
            .filter((one) => one.checkVisibility() && !one.closest("pre, .visually-hidden, .viewer"))
            .filter((one) => one.getBoundingClientRect().right > 360.5)
            .map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert wide == []


CONTRAST = """() => {
  const pen = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const rgba = (colour) => {
    pen.clearRect(0, 0, 1, 1);
    pen.fillStyle = colour;
    pen.fillRect(0, 0, 1, 1);
    return pen.getImageData(0, 0, 1, 1).data;
  };
  const luminance = (colour) => {
    const [r, g, b] = [...rgba(colour)].map((one) => one / 255)
      .map((one) => (one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const ground = (one) => {
    while (one && rgba(getComputedStyle(one).backgroundColor)[3] < 255) one = one.parentElement;
    return getComputedStyle(one ?? document.documentElement).backgroundColor;
  };
  return [...document.querySelectorAll("main *, header *")]
    .filter((one) => one.checkVisibility() && !one.closest("svg, :disabled, .visually-hidden"))
    .filter((one) => [...one.childNodes].some((node) => node.nodeType === 3 && node.data.trim()))
    .map((one) => {
      const [a, b] = [luminance(getComputedStyle(one).color), luminance(ground(one))];
      return [(Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05), one.outerHTML.slice(0, 80)];
    });
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_stands_out_in_both_schemes(open_page: Callable[..., Page], image: bytes, scheme: str) -> None:
    """WCAG 2.2, 1.4.3: a contrast of 4.5 at least."""
    page = open_page(color_scheme=scheme)
    texts = page.evaluate(CONTRAST)
    choose(page, image)
    page.get_by_label("Explain the scores").check()
    settle(page)
    page.locator(".chip").first.click()
    page.mouse.move(0, 0)
    texts += page.evaluate(CONTRAST)
    choose(page, image[:100])
    texts += page.evaluate(CONTRAST)
    assert len(texts) > 60
    assert [text for text in texts if text[0] < 4.5] == []
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    shade = sum(int(part) for part in re.findall(r"\d+", ground)[:3]) / 765
    assert (shade > 0.5) == (scheme == "light")

"""How a picture comes to the page, and what is taken away from it."""

import json
import shutil
import subprocess
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from tests.api.page.driving import choose, hand_over, scoring, settle, told

pytestmark = pytest.mark.exhaustive


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_picture_may_be_dropped_or_pasted(
    page: Page, image: bytes, reply: dict[str, Any], way: str
) -> None:
    hand_over(page, way, image)
    settle(page)
    expect(page.locator("#overlay .box")).to_have_count(len(scoring(reply, 0.3)[:100]))
    expect(page.locator(".drop")).to_be_hidden()


@pytest.mark.parametrize("way", ["drop", "paste"])
def test_a_link_is_no_picture(page: Page, requests: list[str], way: str) -> None:
    hand_over(page, way, None)
    expect(page.get_by_role("alert")).to_contain_text("picture")
    assert requests == []


def test_a_picture_lying_on_its_side_is_shown_upright(page: Page, pixels: np.ndarray) -> None:
    buffer, exif = BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    choose(page, buffer.getvalue(), "side.jpg")
    shown = told(page)
    assert (shown["width"], shown["height"]) == (96, 128)
    natural = page.locator("#picture").evaluate("(one) => [one.naturalWidth, one.naturalHeight]")
    assert natural == [96, 128]
    box = page.locator("#picture").bounding_box()
    assert box is not None
    assert box["width"] / box["height"] == pytest.approx(96 / 128, rel=0.01)


def test_the_webcam_is_started_stopped_and_taken_from(page: Page, requests: list[str]) -> None:
    page.get_by_role("button", name="Webcam").click()
    expect(page.locator("#camera-take")).to_be_enabled(timeout=20_000)
    page.get_by_role("button", name="Stop the webcam").click()
    expect(page.locator("#camera")).to_be_hidden()
    assert page.evaluate("document.querySelector('#video').srcObject") is None
    assert requests == []
    page.get_by_role("button", name="Webcam").click()
    take = page.get_by_role("button", name="Take the picture")
    expect(take).to_be_enabled(timeout=20_000)
    take.click()
    expect(page.locator("#status")).to_contain_text("Found ", timeout=60_000)
    expect(page.locator("#camera")).to_be_hidden()
    shown = told(page)
    assert shown["image"] == "webcam.jpg"
    assert shown["width"] > 300


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl in PATH")
def test_the_command_that_is_shown_does_the_same(page: Page, image: bytes, tmp_path: Path) -> None:
    name = """it's <b>one; "two", $three\\.png"""
    (tmp_path / name).write_bytes(image)
    choose(page, image, name)
    page.get_by_role("radio", name="Fast").check()
    settle(page)
    page.locator("#threshold").press("Home")
    page.locator(".chip").first.click()
    page.locator(".chip").nth(1).click()
    page.locator("#count").press("Home")
    for _ in range(2):  # the best three of two classes
        page.locator("#count").press("ArrowRight")
    command = page.locator("#curl").text_content()
    assert command is not None
    done = subprocess.run(
        ["sh", "-c", command], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    answer, shown = json.loads(done.stdout), told(page)
    assert len(answer["detections"]) == 3
    assert answer.keys() == shown.keys()
    for timed in (answer, shown):
        del timed["timing_ms"]
    assert answer == shown


def test_text_is_copied(open_page: Callable[..., Page], image: bytes) -> None:
    page = open_page(permissions=["clipboard-read", "clipboard-write"])
    choose(page, image)
    for label, block in (("Copy the curl command", "#curl"), ("Copy the JSON", "#json")):
        page.get_by_role("button", name=label).click()
        expect(page.get_by_role("button", name=label)).to_have_text("Copied")
        assert page.evaluate("navigator.clipboard.readText()") == page.locator(block).text_content()


def test_the_drawn_picture_is_saved(page: Page, image: bytes, pixels: np.ndarray, tmp_path: Path) -> None:
    choose(page, image, "street.view.png")
    page.locator("#count").press("Home")
    with page.expect_download() as download:
        page.get_by_role("button", name="Save PNG").click()
    assert download.value.suggested_filename == "street.view-detected.png"
    path = tmp_path / "drawn.png"
    download.value.save_as(path)
    drawn = Image.open(path)
    assert (drawn.format, drawn.size) == ("PNG", (720, 540))  # a small picture is enlarged for its text
    plain = Image.fromarray(pixels).resize(drawn.size, Image.Resampling.BICUBIC)
    changed = np.abs(np.asarray(drawn.convert("RGB"), int) - np.asarray(plain, int)).max(axis=2) > 60
    assert 0.002 < changed.mean() < 0.2  # a frame and a tag: neither nothing nor everything

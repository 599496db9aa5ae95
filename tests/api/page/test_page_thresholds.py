"""Thresholds that go with the weights are offered where there are some, and choose class by class."""

from collections.abc import Callable

import httpx
import pytest
from playwright.sync_api import Page, expect

from detector.structures.classes import ilsvrc_det
from tests.api.page.conftest import ASKED, LEAST
from tests.api.page.driving import choose, settle, told

pytestmark = pytest.mark.exhaustive


def test_auto_shows_of_each_class_what_its_threshold_keeps(
    open_page: Callable[..., Page], measured_client: httpx.Client, image: bytes
) -> None:
    every = measured_client.post("/detect", params=ASKED, files={"file": ("a.png", image)}).json()
    labels = [ilsvrc_det().ids.index(one["wnid"]) for one in every["detections"]]
    kept = [
        one
        for one, label in zip(every["detections"], labels, strict=True)
        if (least := LEAST[label]) is not None and one["score"] >= least
    ]
    assert 0 < len(kept) < sum(one["score"] >= 0.3 for one in every["detections"])

    page = open_page(measured_client)
    choose(page, image)
    auto = page.get_by_label("Auto")
    expect(page.locator("#auto-field")).to_contain_text("80 %")
    auto.check()
    settle(page)
    assert told(page)["detections"] == kept[:100]
    expect(page.locator("#threshold")).to_be_disabled()
    expect(page.locator("#threshold-value")).to_have_text("auto")
    expect(page.locator("#curl")).to_contain_text("score_threshold=auto&")
    auto.uncheck()
    settle(page)
    expect(page.locator("#threshold")).to_be_enabled()
    assert told(page)["detections"] == [one for one in every["detections"] if one["score"] >= 0.3][:100]


def test_auto_is_offered_for_weights_with_thresholds_alone(
    open_page: Callable[..., Page], measured_client: httpx.Client, image: bytes
) -> None:
    page = open_page(measured_client)
    posted: list[str] = []
    page.on("request", lambda request: posted.append(request.url) if request.method == "POST" else None)
    choose(page, image)
    page.get_by_label("Auto").check()
    settle(page)
    page.get_by_label("Model").select_option("plain")
    settle(page)
    expect(page.locator("#auto-field")).to_be_hidden()
    expect(page.locator("#threshold")).to_be_enabled()
    assert posted[-1].endswith("/detect?score_threshold=0.05&max_detections=300&model=plain")
    page.get_by_label("Model").select_option("measured")
    expect(page.get_by_label("Auto")).not_to_be_checked()

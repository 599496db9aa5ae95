"""What is found is drawn, listed and chosen from, in a real browser."""

import re
from typing import Any

import httpx
import numpy as np
import pytest
from playwright.sync_api import Page, expect

from detector.io.visualization import colour
from detector.structures.classes import ilsvrc_det
from tests.api.page.driving import choose, refusal, scoring, settle, told

pytestmark = pytest.mark.exhaustive


def test_it_draws_what_the_service_finds(
    page: Page, requests: list[str], image: bytes, reply: dict[str, Any], eager_client: httpx.Client
) -> None:
    choose(page, image)
    assert requests == [eager_client.base_url.join("/detect?score_threshold=0.05&max_detections=300")]
    found = scoring(reply, 0.3)[:100]
    assert found
    expect(page.locator("#overlay .box")).to_have_count(len(found))
    texts = [f"{one['label']}{one['score']:.2f}" for one in found]
    assert page.locator("#list .entry").all_text_contents() == texts
    expect(page.locator("#status")).to_contain_text("Found ")
    expect(page.locator("#timing-list")).to_contain_text("regions")

    image_box, box = page.locator("#picture").bounding_box(), found[0]["box"]
    drawn = page.locator('#overlay .box[data-index="0"]').bounding_box()
    assert image_box is not None
    assert drawn is not None
    scale = image_box["width"] / reply["width"]
    assert drawn["x"] - image_box["x"] == pytest.approx(box["xmin"] * scale, abs=3)
    assert drawn["y"] - image_box["y"] == pytest.approx(box["ymin"] * scale, abs=3)
    assert drawn["width"] == pytest.approx((box["xmax"] - box["xmin"]) * scale, abs=6)
    assert drawn["height"] == pytest.approx((box["ymax"] - box["ymin"]) * scale, abs=6)


@pytest.mark.parametrize(
    ("slider", "key", "threshold", "count"),
    [
        pytest.param("#threshold", "Home", 0.05, 100, id="lowest score"),
        pytest.param("#threshold", "ArrowRight", 0.31, 100, id="a step up"),
        pytest.param("#threshold", "End", 1.0, 100, id="nothing scores so much"),
        pytest.param("#count", "Home", 0.3, 1, id="the best alone"),
    ],
)
def test_sliders_choose_without_asking_again(
    page: Page,
    requests: list[str],
    image: bytes,
    reply: dict[str, Any],
    slider: str,
    key: str,
    threshold: float,
    count: int,
) -> None:
    choose(page, image)
    page.locator(slider).press(key)
    expected = len(scoring(reply, threshold)[:count])
    expect(page.locator("#overlay .box")).to_have_count(expected)
    expect(page.locator("#list li")).to_have_count(expected)
    expect(page.locator("#nothing")).to_be_visible(visible=expected == 0)
    assert len(told(page)["detections"]) == expected
    assert len(requests) == 1


def test_a_class_is_chosen_by_its_label(
    page: Page, requests: list[str], image: bytes, reply: dict[str, Any]
) -> None:
    choose(page, image)
    label = scoring(reply, 0.3)[0]["label"]
    expected = sum(one["label"] == label for one in scoring(reply, 0.3))
    chip = page.locator(f'.chip[data-label="{label}"]')
    chip.click()
    expect(chip).to_have_attribute("aria-pressed", "true")
    expect(page.locator("#overlay .box")).to_have_count(expected)
    assert set(page.locator("#list .label").all_text_contents()) == {label}
    chip.click()
    expect(page.locator("#overlay .box")).to_have_count(len(scoring(reply, 0.3)[:100]))
    assert len(requests) == 1


def test_boxes_and_entries_point_at_each_other(page: Page, image: bytes) -> None:
    choose(page, image)
    page.locator("#list .entry").nth(1).hover()
    expect(page.locator('#overlay .box[data-index="1"]')).to_have_class(re.compile("active"))
    page.locator("#list .entry").first.focus()
    expect(page.locator('#overlay .box[data-index="0"]')).to_have_class(re.compile("active"))
    page.locator("#count").press("Home")
    page.locator('#overlay .box[data-index="0"]').hover()
    expect(page.locator("#list .entry.active")).to_have_count(1)
    page.mouse.move(0, 0)
    expect(page.locator("#list .entry.active")).to_have_count(0)


def test_a_profile_asks_again_and_a_failure_marks_the_result_as_old(
    page: Page, requests: list[str], image: bytes
) -> None:
    choose(page, image)
    page.get_by_role("radio", name="Fast").check()
    settle(page)
    assert requests[-1].endswith("&profile=fast")
    expect(page.locator("#stale")).to_be_hidden()
    page.route("**/detect?*", refusal(503, "worker_lost"))
    page.get_by_role("radio", name="Thorough").check()
    expect(page.locator("#stale")).to_contain_text("Old result")
    expect(page.locator("#overlay .box")).not_to_have_count(0)
    page.unroute("**/detect?*")
    page.get_by_role("radio", name="Fast").check()
    expect(page.locator("#stale")).to_be_hidden()


def test_another_model_is_asked_and_the_default_comes_first(
    page: Page, requests: list[str], image: bytes, reply: dict[str, Any]
) -> None:
    model = page.get_by_label("Model")
    assert model.locator("option").all_text_contents() == ["eager", "plain"]
    choose(page, image)
    model.select_option("plain")
    settle(page)
    assert requests[-1].endswith("&model=plain")
    assert 0 < len(told(page)["detections"]) < len(scoring(reply, 0.3))  # its scores are lower


def test_classes_have_the_colours_of_drawn_pictures(page: Page, image: bytes, reply: dict[str, Any]) -> None:
    choose(page, image)
    ids = ilsvrc_det().ids
    drawn = page.locator("#overlay .line").evaluate_all(
        """(lines) => lines.map((line) => {
          const pen = document.createElement("canvas").getContext("2d");
          pen.fillStyle = line.getAttribute("stroke");
          pen.fillRect(0, 0, 1, 1);
          return [...pen.getImageData(0, 0, 1, 1).data.slice(0, 3)];
        })"""
    )
    found = scoring(reply, 0.3)[:100]
    expected = [colour(ids.index(one["wnid"])) for one in reversed(found)]  # the best lies on top
    assert drawn == pytest.approx(np.array(expected), abs=24)

"""Vertex AI's predict route, asked as Vertex AI asks it."""

from typing import Any

import httpx
import pytest

from tests.api.frontend.platforms.conftest import HEALTH, PREDICT, text

ASKED = {"score_threshold": 0, "max_detections": 5}


def test_it_is_healthy_when_it_is_ready(platforms: httpx.Client) -> None:
    assert platforms.get(HEALTH).status_code == 200


def test_predictions_are_what_detect_finds(
    platforms: httpx.Client, image: bytes, found: list[dict[str, Any]]
) -> None:
    instances = [{"image": {"b64": text(image)}}, {"b64": text(image)}]
    reply = platforms.post(PREDICT, json={"instances": instances, "parameters": ASKED})
    assert reply.status_code == 200
    assert reply.json().keys() == {"predictions"}
    for prediction in reply.json()["predictions"]:
        assert prediction["kind"] == "detections"
        assert (prediction["width"], prediction["height"]) == (128, 96)
        assert prediction["detections"] == found


def test_classes_may_be_a_list(platforms: httpx.Client, image: bytes, found: list[dict[str, Any]]) -> None:
    names = list(dict.fromkeys(one["label"] for one in found))[:2]
    asked = {"instances": [{"b64": text(image)}], "parameters": {**ASKED, "classes": names}}
    [prediction] = platforms.post(PREDICT, json=asked).json()["predictions"]
    assert {one["label"] for one in prediction["detections"]} <= set(names)
    assert prediction["detections"][0] == found[0]


def test_explanations_are_handed_on(
    platforms: httpx.Client, image: bytes, found: list[dict[str, Any]]
) -> None:
    asked = {"instances": [{"b64": text(image)}], "parameters": {**ASKED, "explain": 1}}
    [prediction] = platforms.post(PREDICT, json=asked).json()["predictions"]
    first, *others = prediction["detections"]
    assert first.pop("explanation").keys() == {"factors", "region", "activation"}
    assert [first, *others] == found


def test_one_that_is_no_picture_costs_its_neighbours_nothing(
    platforms: httpx.Client, image: bytes, found: list[dict[str, Any]]
) -> None:
    instances = [{"b64": "?"}, {"b64": text(image)}]
    reply = platforms.post(PREDICT, json={"instances": instances, "parameters": ASKED})
    bad, good = reply.json()["predictions"]
    assert (bad["kind"], bad["error"]["code"]) == ("error", "bad_base64")
    assert good["detections"] == found


@pytest.mark.parametrize(
    ("content", "status", "name", "message"),
    [
        ({"instances": [{"b64": "?"}]}, 400, "INVALID_ARGUMENT", "not base64"),
        ({"instances": [{"b64": "eA=="}]}, 415, "INVALID_ARGUMENT", "not a picture in a supported format"),
        ({"instances": [{"b64": "eA=="}] * 4}, 413, "INVALID_ARGUMENT", "more than the 3 pictures"),
        ({"instances": []}, 400, "INVALID_ARGUMENT", "'instances' is empty"),
        ({"instances": {"b64": "eA=="}}, 400, "INVALID_ARGUMENT", "a list 'instances'"),
        ({"instances": [], "parameter": {}}, 400, "INVALID_ARGUMENT", "no key 'parameter'"),
        ({"instances": ["eA=="]}, 400, "INVALID_ARGUMENT", "instance 1 is no picture: a text"),
        ({"instances": [{"b64": "eA==", "key": "1"}]}, 400, "INVALID_ARGUMENT", "the keys 'b64', 'key'"),
        ({"instances": [{"image": {"url": "gs://a"}}]}, 400, "INVALID_ARGUMENT", "the keys 'image'"),
        ({"instances": [{"b64": "eA=="}], "parameters": {"top": 5}}, 422, "INVALID_ARGUMENT", "top: "),
        ({"instances": [{"b64": "eA=="}], "parameters": {"model": "b"}}, 404, "NOT_FOUND", "There is eager"),
    ],
    ids=["no base64", "no picture", "too many", "none", "no list", "a misspelt key", "a bare text",
         "a key beside", "an address", "an unknown parameter", "an unknown model"],
)  # fmt: skip
def test_refusals(platforms: httpx.Client, content: object, status: int, name: str, message: str) -> None:
    reply = platforms.post(PREDICT, json=content)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"], error["status"]) == (status, status, name)
    assert message in error["message"]


def test_another_method_is_the_callers_fault(platforms: httpx.Client) -> None:
    reply = platforms.put(PREDICT, json={})
    assert (reply.status_code, reply.json()["error"]["status"]) == (405, "INVALID_ARGUMENT")

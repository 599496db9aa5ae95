"""SageMaker's two routes, asked as SageMaker asks them."""

from typing import Any

import httpx
import pytest

from api.frontend.platforms.sagemaker import ATTRIBUTES, attributes_of
from api.protocol.errors import ApiError
from tests.api.frontend.platforms.conftest import text

ASKED = {ATTRIBUTES: "score_threshold=0,max_detections=5"}
IN_BODY = {"score_threshold": 0, "max_detections": 5}


def test_it_is_healthy_when_it_is_ready(platforms: httpx.Client) -> None:
    reply = platforms.get("/ping")
    assert (reply.status_code, reply.content) == (200, b"")


def test_a_picture_in_every_way_gives_what_detect_gives(
    platforms: httpx.Client, image: bytes, found: list[dict[str, Any]]
) -> None:
    other = {ATTRIBUTES: "score_threshold=1,max_detections=5"}
    for reply in (
        platforms.post(
            "/invocations", content=image, headers=ASKED | {"Content-Type": "application/x-image"}
        ),
        platforms.post("/invocations", content=image, headers=ASKED | {"Content-Type": "image/png"}),
        platforms.post("/invocations", content=image, headers=ASKED),
        platforms.post("/invocations", files={"file": ("a.png", image)}, headers=ASKED),
        platforms.post("/invocations", json={"image": text(image)}, headers=ASKED),
        platforms.post("/invocations", json={"image": text(image), "parameters": IN_BODY}),
        platforms.post("/invocations", json={"image": text(image), "parameters": IN_BODY}, headers=other),
    ):
        assert reply.status_code == 200, reply.text
        assert reply.json()["detections"] == found


def test_several_pictures(platforms: httpx.Client, image: bytes, found: list[dict[str, Any]]) -> None:
    content = {"images": [text(image), "?"], "parameters": IN_BODY}
    good, bad = platforms.post("/invocations", json=content).json()["results"]
    assert good["detections"] == found
    assert bad["error"]["code"] == "bad_base64"


@pytest.mark.parametrize(
    ("header", "values"),
    [
        ("", {}),
        (" profile = fast , tile=640,", {"profile": "fast", "tile": "640"}),
        ("classes=dog,classes=domestic cat", {"classes": ["dog", "domestic cat"]}),
    ],
    ids=["none", "spaces and a comma too many", "a name for each class"],
)
def test_attributes(header: str, values: dict[str, object]) -> None:
    assert attributes_of(header) == values


@pytest.mark.parametrize(
    ("header", "problem"),
    [("fast", "'fast' is not name=value"), ("tile=640,tile=320", "'tile' stands twice")],
    ids=["a bare word", "one name twice"],
)
def test_attributes_that_are_none(header: str, problem: str) -> None:
    with pytest.raises(ApiError, match=problem) as caught:
        attributes_of(header)
    assert (caught.value.status, caught.value.code) == (422, "invalid_parameter")


@pytest.mark.parametrize(
    ("content", "headers", "status", "code"),
    [
        ({"image": "?"}, {}, 400, "bad_base64"),
        ({"image": "eA==", "parameters": 1}, {}, 422, "invalid_parameter"),
        ({"image": "eA==", "parameters": {"format": "coco"}}, {}, 422, "invalid_parameter"),
        ({"image": "eA=="}, {ATTRIBUTES: "top=5"}, 422, "invalid_parameter"),
        ({"image": "eA=="}, {ATTRIBUTES: "model=other"}, 404, "unknown_model"),
        ({"image": "eA==", "parameters": {"model": "other"}}, {}, 404, "unknown_model"),
        ({"parameters": {}}, {}, 400, "malformed_json"),
        ([], {}, 400, "malformed_json"),
        ({"url": "https://example.org/a.jpg"}, {}, 403, "url_disabled"),
    ],
    ids=["no base64", "parameters that are none", "another form of reply", "an unknown attribute",
         "an unknown model in the header", "an unknown model in the body", "no picture", "a list",
         "an address"],
)  # fmt: skip
def test_refusals(
    platforms: httpx.Client, content: object, headers: dict[str, str], status: int, code: str
) -> None:
    reply = platforms.post("/invocations", json=content, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (status, code)


def test_other_types_are_refused(platforms: httpx.Client) -> None:
    reply = platforms.post("/invocations", content=b"1,2", headers={"Content-Type": "text/csv"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (415, "unsupported_media_type")

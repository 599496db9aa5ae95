"""A model of Label Studio's, asked as Label Studio 1.23 asks it."""

import asyncio
from typing import Any
from xml.sax.saxutils import quoteattr

import httpx
import orjson
import pytest
from fastapi import Request

from api.frontend.platforms.label_studio import TaskReading
from api.frontend.platforms.label_studio_pictures import TaskPictures
from api.frontend.settings import Settings
from api.frontend.uploads.body import UploadLimits
from api.protocol.errors import ApiError
from api.protocol.model_info import ModelInfo
from tests.api.frontend.platforms.conftest import PERSONAL_TOKEN, Ready, Studio, text


def config(*labels: str, threshold: str = "0") -> str:
    """A project's labelling configuration."""
    tags = "".join(f"<Label value={quoteattr(label)}/>" for label in labels)
    return (
        '<View><Image name="picture" value="$image"/><RectangleLabels name="label" toName="picture" '
        f'model_score_threshold="{threshold}">{tags}</RectangleLabels></View>'
    )


def request(label_config: str, *addresses: object) -> dict[str, Any]:
    """What Label Studio sends for tasks with these pictures."""
    return {
        "tasks": [
            {"id": number, "data": {"image": address}, "meta": {}, "project": 1}
            for number, address in enumerate(addresses, 1)
        ],
        "project": "1.1790000000",
        "label_config": label_config,
        "params": {"login": None, "password": None, "context": None},
    }


@pytest.fixture(scope="module")
def everything(platforms: httpx.Client, image: bytes) -> list[dict[str, Any]]:
    """All objects of the picture."""
    reply = platforms.post("/detect?score_threshold=0&max_detections=1000", content=image)
    detections: list[dict[str, Any]] = reply.json()["detections"]
    return detections


def names_of(detections: list[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(one["label"] for one in detections))


def test_it_is_healthy_when_it_is_ready(platforms: httpx.Client) -> None:
    reply = platforms.get("/health")
    assert (reply.status_code, reply.json()["status"]) == (200, "UP")


def test_predictions_are_what_detect_finds(
    platforms: httpx.Client, image: bytes, everything: list[dict[str, Any]]
) -> None:
    """Of the classes that the project has a label for, in percent."""
    first, second, *_ = names_of(everything)
    asked = request(config(first.upper(), second, "Gadget"), f"data:image/png;base64,{text(image)}")
    reply = platforms.post("/predict", json=asked)
    assert reply.status_code == 200, reply.text
    [prediction] = reply.json()["results"]
    expected = [one for one in everything if one["label"] in (first, second)]
    label_of = {first: first.upper(), second: second}
    assert len(prediction["result"]) == len(expected) > 1
    for region, one in zip(prediction["result"], expected, strict=True):
        assert {key: region[key] for key in ("type", "from_name", "to_name", "image_rotation")} == {
            "type": "rectanglelabels", "from_name": "label", "to_name": "picture", "image_rotation": 0
        }  # fmt: skip
        assert (region["original_width"], region["original_height"]) == (128, 96)
        assert region["score"] == one["score"]
        value = region["value"]
        assert value["rectanglelabels"] == [label_of[one["label"]]]
        assert value["rotation"] == 0
        corners = [value["x"], value["y"], value["x"] + value["width"], value["y"] + value["height"]]
        sides = [side * size / 100 for side, size in zip(corners, (128, 96, 128, 96), strict=True)]
        assert sides == pytest.approx(list(one["box"].values()))
    assert len({region["id"] for region in prediction["result"]}) == len(expected)
    mean = sum(one["score"] for one in expected) / len(expected)
    assert prediction["score"] == pytest.approx(mean, abs=1e-4)


def test_the_version_is_that_of_the_weights(platforms: httpx.Client, image: bytes) -> None:
    [member] = platforms.get("/models/eager").json()["members"]
    version = f"{member['name']}-{member['file']['sha256'][:8]}"
    schema = {"project": "1.1790000000", "schema": config("dog"), "hostname": "http://localhost:8080",
              "access_token": "x", "extra_params": None}  # fmt: skip
    reply = platforms.post("/setup", json=schema)
    assert (reply.status_code, reply.json()) == (200, {"model_version": version})
    assert platforms.get("/versions").json() == {"versions": [version]}
    reply = platforms.post("/predict", json=request(config("dog"), f"data:;base64,{text(image)}"))
    assert reply.json()["model_version"] == reply.json()["results"][0]["model_version"] == version


def test_the_projects_threshold_counts(
    platforms: httpx.Client, image: bytes, everything: list[dict[str, Any]]
) -> None:
    name = everything[0]["label"]
    scores = [one["score"] for one in everything if one["label"] == name]
    threshold = (scores[0] + scores[-1]) / 2
    asked = request(config(name, threshold=str(threshold)), f"data:;base64,{text(image)}")
    [prediction] = platforms.post("/predict", json=asked).json()["results"]
    kept = [score for score in scores if score > threshold]
    assert [region["score"] for region in prediction["result"]] == kept
    assert 0 < len(kept) < len(scores)


def test_pictures_that_lie_in_label_studio(
    platforms: httpx.Client, studio: Studio, image: bytes, everything: list[dict[str, Any]]
) -> None:
    """They are fetched with the key, from an address that need not be public."""
    name = everything[0]["label"]
    studio.files["/data/upload/1/a%20b.png"] = image
    studio.files["/tasks/3/resolve/?fileuri=czM6Ly9iL2EucG5n"] = image  # s3://b/a.png
    studio.redirects["/data/local-files/?d=a.png"] = "/data/upload/1/a%20b.png"
    pictures = ("/data/upload/1/a%20b.png", f"{studio.origin}/data/local-files/?d=a.png", "s3://b/a.png")
    reply = platforms.post("/predict", json=request(config(name), *pictures))
    results = reply.json()["results"]
    count = sum(one["label"] == name for one in everything)
    assert [len(result.get("result", [])) for result in results] == [count] * 3, reply.text


@pytest.mark.parametrize(
    ("address", "status", "message"),
    [
        ("/data/upload/1/absent.png", 502, "status 404"),
        ("/api/projects/1/export", 403, "not one of a picture"),
        ("/data/upload/../../api/users", 403, "not one of a picture"),
        ("/data/%2e%2e/api/users", 403, "not one of a picture"),
        ("{studio}/api/users", 403, "not one of a picture"),
        ("/data/elsewhere.png", 403, "fetches no addresses"),
        ("https://example.org/a.png", 403, "fetches no addresses"),
        ("http://127.0.0.1:1/data/a.png", 403, "fetches no addresses"),
        ("//127.0.0.1:1/data/a.png", 403, "not one of a picture"),
        ("/data/upload/1/text.png", 415, "not a picture in a supported format"),
        ("data:image/png;base64,?", 400, "not base64"),
        ("a.png", 403, "fetches no addresses"),
        (7, 400, "no address as 'image'"),
        ("", 400, "no address as 'image'"),
    ],
    ids=["none there", "not a picture's path", "dots", "dots in disguise", "the same as an address",
         "a redirect elsewhere", "another host", "a private host", "a host as a path", "no picture",
         "no base64", "a bare name", "a number", "empty"],
)  # fmt: skip
def test_pictures_that_are_not_to_be_had(
    platforms: httpx.Client, studio: Studio, address: object, status: int, message: str
) -> None:
    studio.files["/data/upload/1/text.png"] = b"no picture"
    studio.redirects["/data/elsewhere.png"] = "http://127.0.0.1:1/a.png"
    if isinstance(address, str):
        address = address.replace("{studio}", studio.origin)
    asked = len(studio.requests)
    reply = platforms.post("/predict", json=request(config("dog"), address))
    assert reply.status_code == status
    assert message in reply.json()["error"]
    assert not any("/api/" in path for path in studio.requests[asked:])


def test_one_that_is_not_to_be_had_costs_its_neighbours_nothing(
    platforms: httpx.Client, image: bytes
) -> None:
    """Label Studio passes over what has no ``result``."""
    asked = request(config("dog"), "/data/absent.png", f"data:;base64,{text(image)}")
    bad, good = platforms.post("/predict", json=asked).json()["results"]
    assert "result" not in bad
    assert "status 404" in bad["error"]
    assert "result" in good


def test_of_too_many_tasks_the_first_is_answered(platforms: httpx.Client, image: bytes) -> None:
    """Label Studio then asks for one after the other."""
    picture = f"data:;base64,{text(image)}"
    results = platforms.post("/predict", json=request(config("dog"), *[picture] * 4)).json()["results"]
    assert len(results) == 1


def test_no_room_for_the_pictures_is_told_as_such(
    platforms: httpx.Client, studio: Studio, image: bytes
) -> None:
    """It concerns all tasks, not the one whose picture came last: they are to be asked for again."""
    studio.files["/data/upload/1/a.png"] = image
    body = orjson.dumps(request(config("dog"), *["/data/upload/1/a.png"] * 2))
    settings = Settings(label_studio_url=studio.origin, label_studio_api_key=PERSONAL_TOKEN)
    info = ModelInfo.model_validate(platforms.get("/models/eager").json())

    def receive(size: int) -> None:
        if size != 2 * len(body):
            raise ApiError(429, "overloaded", "There is no room.")

    async def body_of_request() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def read() -> None:
        pictures = TaskPictures(settings)
        headers = [(b"content-length", str(len(body)).encode())]
        asked = Request({"type": "http", "method": "POST", "headers": headers}, body_of_request)
        reader = TaskReading(pictures, info).reader
        try:
            await reader.read(asked, reader.expect(asked, UploadLimits(300_000, 3)), None, receive)
        finally:
            pictures.close()

    with pytest.raises(ApiError, match="There is no room"):
        asyncio.run(read())


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        ([], 400, "it is no object"),
        ({}, 400, "it is no text"),
        (request("<View/>", "/data/a.png"), 400, "no <RectangleLabels>"),
        (request(config("Gadget", "Gizmo"), "/data/a.png"), 422, "none of the labels Gadget, Gizmo"),
        (request(config("dog")), 400, "'tasks' is no list of objects"),
        ({**request(config("dog")), "tasks": ["a"]}, 400, "'tasks' is no list of objects"),
    ],
    ids=["a list", "nothing", "no rectangles", "labels of other things", "no tasks", "tasks that are none"],
)
def test_refusals(platforms: httpx.Client, content: object, status: int, message: str) -> None:
    reply = platforms.post("/predict", json=content)
    assert reply.status_code == status
    assert message in reply.json()["error"]


@pytest.mark.parametrize(
    ("content", "status", "message"),
    [
        ({"schema": "<View/>"}, 400, "no <RectangleLabels>"),
        ({"schema": config("Gadget")}, 422, "none of the labels Gadget"),
        ({"schema": "x" * 500_000}, 413, "more than"),
    ],
    ids=["no rectangles", "labels of other things", "huge"],
)
def test_a_project_that_cannot_be_served_is_told_so(
    platforms: httpx.Client, content: object, status: int, message: str
) -> None:
    reply = platforms.post("/setup", json=content)
    assert reply.status_code == status
    assert message in reply.json()["error"]


def test_without_an_address_nothing_of_label_studios_is_fetched(
    ready: Ready, eager_path: object, studio: Studio
) -> None:
    settings = Settings(model={"eager": (eager_path,)}, device="cpu", platforms="label-studio")
    with ready(settings) as client:
        for address in ("/data/upload/1/a.png", f"{studio.origin}/data/upload/1/a.png"):
            reply = client.post("/predict", json=request(config("dog"), address))
            assert reply.status_code == 403
        assert (
            "DETECTOR_LABEL_STUDIO_URL"
            in client.post("/predict", json=request(config("dog"), "/data/a.png")).json()["error"]
        )

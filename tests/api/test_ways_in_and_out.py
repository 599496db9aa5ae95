"""Every way to send pictures, and every form of the answer, through the real service."""

import base64
from io import BytesIO

import httpx
import numpy as np
import pytest
from PIL import Image

from api.frontend.schemas import ClassifyReply, CocoReply, DetectReply, ManyClassifyReply, ManyReply
from detector.io.decoding import decode

ALL = "score_threshold=0&max_detections=5"


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.fixture(scope="module")
def animation(pixels: np.ndarray) -> bytes:
    """An animated WebP of two frames, the picture the first of them."""
    first, second = Image.fromarray(pixels), Image.fromarray(255 - pixels)
    buffer = BytesIO()
    first.save(buffer, "WEBP", save_all=True, append_images=[second], lossless=True)
    return buffer.getvalue()


@pytest.mark.exhaustive
def test_one_picture_in_every_way_gives_the_same(
    client: httpx.Client, image: bytes, animation: bytes
) -> None:
    replies = [
        client.post(f"/detect?{ALL}", content=image, headers={"Content-Type": "image/png"}),
        client.post(f"/detect?{ALL}", files={"file": ("a.png", image)}),
        client.post(f"/detect?{ALL}", json={"image": text(image)}),
        client.post(f"/detect?{ALL}", json={"image": f"data:image/png;base64,{text(image)}"}),
        client.post(f"/detect?{ALL}", content=animation, headers={"Content-Type": "image/webp"}),
        client.post(f"/detect?{ALL}", content=image),
        client.post(f"/detect?{ALL}", content=image, headers={"Content-Type": "application/octet-stream"}),
        client.post(f"/detect?{ALL}", files={"images[]": ("b.png", image)}),
        client.post(f"/detect?{ALL}", json={"file": text(image)}),
    ]
    bodies = [DetectReply.model_validate_json(reply.content) for reply in replies]
    assert len(bodies[0].detections) == 5
    assert all(body.detections == bodies[0].detections for body in bodies)
    assert [body.frames for body in bodies] == [1, 1, 1, 1, 2, 1, 1, 1, 1]
    assert [body.image for body in bodies] == [None, "a.png", None, None, None, None, None, "b.png", None]


@pytest.mark.parametrize("query", [ALL, f"{ALL}&format=coco"])
def test_one_bad_picture_does_not_fail_its_neighbours(client: httpx.Client, image: bytes, query: str) -> None:
    files = [("a.png", image), ("b.txt", b"no picture"), ("c.png", image), ("d.png", bytes(300_001))]
    reply = client.post(f"/detect?{query}", files=[("file", file) for file in files])
    assert reply.status_code == 200
    entries = ManyReply.model_validate_json(reply.content).results
    assert [entry.image for entry in entries] == ["a.png", "b.txt", "c.png", "d.png"]
    results = reply.json()["results"]
    assert [entry.get("error", {}).get("code") for entry in results] == [
        *(None, "unsupported_format", None, "too_many_bytes")
    ]
    kind = "annotations" if "coco" in query else "detections"
    assert results[0][kind] == results[2][kind] != []


def test_several_pictures_as_base64(client: httpx.Client, image: bytes) -> None:
    reply = client.post("/classify?top=1", json={"images": [text(image), "?"]})
    assert reply.status_code == 200
    good, bad = ManyClassifyReply.model_validate_json(reply.content).results
    assert isinstance(good, ClassifyReply)
    assert not isinstance(bad, ClassifyReply)
    assert bad.error.code == "bad_base64"
    [alone] = client.post("/classify?top=1", json={"images": [text(image)]}).json()["results"]
    assert alone["classes"] == good.model_dump(exclude_unset=True)["classes"], (
        "a list of one is answered by a list of one"
    )


@pytest.mark.parametrize(
    ("path", "kind", "keys"),
    [
        (f"/detect?{ALL}", "detections", {"detections"}),
        (f"/detect?{ALL}&format=coco", "coco", {"images", "categories", "annotations"}),
        ("/classify", "classes", {"classes"}),
    ],
)
def test_replies_say_what_they_are(
    client: httpx.Client, image: bytes, path: str, kind: str, keys: set[str]
) -> None:
    """No reply to one picture can be mistaken for that to several, nor one of a kind for another."""
    alone = client.post(path, files={"file": ("a.png", image)})
    about = {"kind", "image", "width", "height", "frames", "model", "timing_ms"}
    assert alone.json().keys() == about | keys
    assert alone.json()["kind"] == kind
    many = client.post(path, files=[("file", ("a.png", image)), ("file", ("b.txt", b"no picture"))])
    assert many.json().keys() == {"kind", "results"}
    assert many.json()["kind"] == "results"
    assert [entry["kind"] for entry in many.json()["results"]] == [kind, "error"]
    for reply in (alone, many, client.get("/nothing")):
        assert reply.headers["x-api-version"] == "1"


def test_an_address_where_none_are_allowed(client: httpx.Client) -> None:
    reply = client.post("/detect", json={"url": "https://example.org/a.jpg"})
    assert (reply.status_code, reply.json()["error"]["code"]) == (403, "url_disabled")


def test_coco_has_the_same_objects(client: httpx.Client, image: bytes) -> None:
    """The same objects in another form."""
    files = {"file": ("a.png", image)}
    plain = DetectReply.model_validate_json(client.post(f"/detect?{ALL}", files=files).content)
    coco = CocoReply.model_validate_json(client.post(f"/detect?{ALL}&format=coco", files=files).content)
    names = {category.id: category.name for category in coco.categories}
    assert [(names[one.category_id], one.score) for one in coco.annotations] == [
        (one.label, one.score) for one in plain.detections
    ]
    assert [one.bbox[:2] for one in coco.annotations] == [
        (one.box.xmin, one.box.ymin) for one in plain.detections
    ]
    [listed] = coco.images
    assert (listed.file_name, listed.width, listed.height) == ("a.png", 128, 96)


def test_only_some_classes(client: httpx.Client, image: bytes) -> None:
    def found(query: str) -> list[tuple[str, float]]:
        reply = client.post(f"/detect?score_threshold=0&{query}", files={"file": ("a.png", image)})
        return [(one["label"], one["score"]) for one in reply.json()["detections"]]

    every = found("max_detections=1000")
    label = every[0][0]
    mine = found(f"max_detections=1000&classes={label.upper()}")
    assert mine
    assert {name for name, _ in mine} == {label}
    assert [one for one in every if one[0] == label] == mine[: sum(one[0] == label for one in every)]


@pytest.mark.parametrize(
    ("accept", "media_type"),
    [("*/*", "image/png"), ("image/jpeg", "image/jpeg"), ("image/png, image/jpeg", "image/png")],
)
def test_a_drawn_picture(client: httpx.Client, image: bytes, accept: str, media_type: str) -> None:
    reply = client.post(
        f"/detect?{ALL}&format=image", files={"file": ("a.png", image)}, headers={"Accept": accept}
    )
    assert (reply.status_code, reply.headers["content-type"]) == (200, media_type)
    assert decode(reply.content).shape == (540, 720, 3), "a small picture is enlarged for the text's sake"


def test_several_pictures_cannot_be_drawn(client: httpx.Client, image: bytes) -> None:
    reply = client.post("/detect?format=image", files=[("file", ("a.png", image))] * 2)
    assert (reply.status_code, reply.json()["error"]["code"]) == (422, "invalid_parameter")

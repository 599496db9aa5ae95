"""A picture in, the library's own answer out."""

from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

from api.frontend.schemas import ClassifyReply, DetectReply
from detector import Classifier, Detector, load, load_classifier, load_detector

PNG = {"Content-Type": "image/png"}


@pytest.fixture(scope="module")
def detector(checkpoint_path: Path) -> Detector:
    return load_detector(checkpoint_path, device="cpu", max_proposals=20)


@pytest.fixture(scope="module")
def classifier(checkpoint_path: Path) -> Classifier:
    return load_classifier(checkpoint_path, device="cpu")


def test_detect_answers_as_the_library_does(
    client: httpx.Client, detector: Detector, pixels: np.ndarray, image: bytes
) -> None:
    settings = {"score_threshold": 0.0, "max_detections": 7}
    reply = client.post("/detect", content=image, headers=PNG, params=settings)
    assert reply.status_code == 200
    assert reply.headers["content-type"] == "application/json"
    [expected] = detector.detect([pixels], **settings)
    body = reply.json()
    assert body["detections"] == expected.as_dicts(detector.classes)
    assert len(body["detections"]) == 7
    assert (body["image"], body["width"], body["height"]) == (None, 128, 96)
    assert body["model"] == detector.name


def test_explanations_are_the_library_s(
    client: httpx.Client, detector: Detector, pixels: np.ndarray, image: bytes
) -> None:
    """The best have one, the others none."""
    settings = {"score_threshold": 0.0, "max_detections": 4, "explain": 2}
    reply = client.post("/detect", content=image, headers=PNG, params=settings)
    body = reply.json()
    DetectReply.model_validate(body)
    expected = detector.detect(pixels, **settings).as_dicts()
    assert ["explanation" in found for found in body["detections"]] == [True, True, False, False]
    for found, known in zip(body["detections"][:2], expected, strict=False):
        explanation = found["explanation"]
        assert explanation["factors"] == known["explanation"]["factors"]
        assert explanation["region"] == known["explanation"]["region"]
        assert np.allclose(explanation["activation"], known["explanation"]["activation"], atol=0.02)
        product = np.prod([factor["contribution"] for factor in explanation["factors"]])
        assert product == pytest.approx(found["score"], abs=1e-4)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        pytest.param({"explain": 21}, "explain: Input should be less than or equal to 20", id="too many"),
        pytest.param({"explain": -1}, "explain: Input should be greater than", id="less than none"),
        pytest.param({"explain": 1, "tile": 640}, "explain: what tiles show", id="tiles are merged"),
        pytest.param({"explain": 1, "format": "coco"}, "format: explanations come as json", id="no place"),
        pytest.param({"explain": 1, "format": "image"}, "format: explanations come as json", id="a picture"),
    ],
)
def test_what_cannot_be_explained(
    client: httpx.Client, image: bytes, query: dict[str, int | str], says: str
) -> None:
    reply = client.post("/detect", content=image, headers=PNG, params=query)
    error = reply.json()["error"]
    assert (reply.status_code, error["code"]) == (422, "invalid_parameter")
    assert error["message"].startswith(says)


@pytest.mark.parametrize(
    ("query", "top", "crops"),
    [
        pytest.param({}, 5, 1, id="defaults"),
        pytest.param({"top": 3, "crops": 10}, 3, 10, id="ten crops"),
        pytest.param({"top": 1, "crops": 144}, 1, 144, id="144 crops", marks=pytest.mark.exhaustive),
    ],
)
def test_classify_answers_as_the_library_does(
    client: httpx.Client,
    classifier: Classifier,
    pixels: np.ndarray,
    image: bytes,
    query: dict[str, int],
    top: int,
    crops: int,
) -> None:
    reply = client.post("/classify", content=image, headers=PNG, params=query)
    assert reply.status_code == 200
    [expected] = classifier.classify([pixels], top=top, crops=crops)
    body = reply.json()
    assert [entry["wnid"] for entry in body["classes"]] == [
        classifier.classes.ids[i] for i in expected.labels
    ]
    assert [entry["score"] for entry in body["classes"]] == pytest.approx(expected.scores, abs=1e-3)
    assert (body["image"], body["width"], body["height"]) == (None, 128, 96)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF"])
@pytest.mark.parametrize("multipart", [False, True], ids=["raw", "multipart"])
def test_every_format_either_way(
    client: httpx.Client, pixels: np.ndarray, kind: str, multipart: bool
) -> None:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind)
    name, media_type = f"photo.{kind.lower()}", f"image/{kind.lower()}"
    if multipart:
        reply = client.post("/classify", files={"file": (name, buffer.getvalue(), media_type)})
    else:
        reply = client.post("/classify", content=buffer.getvalue(), headers={"Content-Type": media_type})
    assert reply.status_code == 200
    assert reply.json()["image"] == (name if multipart else None)


@pytest.mark.parametrize(
    ("content_type", "reason"),
    [
        ("image/jpeg", "the content decides, not the header"),
        ("IMAGE/PNG; charset=utf-8", "case and parameters do not matter"),
        ("image/jpg", "not registered, yet often sent"),
        ("image/x-whatever", "some kind of picture"),
        ("image/*", "some kind of picture"),
        ("application/octet-stream", "what a client states that does not know"),
        ("binary/octet-stream", "what object stores state"),
        ("application/x-www-form-urlencoded", "what curl --data-binary states"),
        ("", "nothing stated"),
    ],
)
def test_content_types_that_are_taken(
    client: httpx.Client, image: bytes, content_type: str, reason: str
) -> None:
    reply = client.post("/classify", content=image, headers={"Content-Type": content_type})
    assert reply.status_code == 200, reason


def test_a_body_of_unknown_length(client: httpx.Client, image: bytes) -> None:
    reply = client.post("/classify", content=iter([image[:100], image[100:]]), headers=PNG)
    assert reply.request.headers["transfer-encoding"] == "chunked"
    assert reply.status_code == 200


@pytest.mark.parametrize(
    ("path", "schema", "steps"),
    [
        ("/detect?score_threshold=0", DetectReply, ["queue", "decode", "trunk", "proposals", "regions"]),
        ("/classify", ClassifyReply, ["queue", "decode", "classify"]),
    ],
)
def test_replies_keep_to_their_schema(
    client: httpx.Client,
    image: bytes,
    path: str,
    schema: type[DetectReply | ClassifyReply],
    steps: list[str],
) -> None:
    reply = schema.model_validate_json(client.post(path, content=image, headers=PNG).content, strict=True)
    timing = reply.timing_ms.model_dump()
    assert sorted(timing) == sorted([*steps, "total"])
    assert timing["total"] >= max(timing[step] for step in steps)


def test_more_classes_than_there_are_gives_all(
    client: httpx.Client, classifier: Classifier, image: bytes
) -> None:
    body = client.post("/classify?top=1000", content=image, headers=PNG).json()
    assert len(body["classes"]) == min(1000, len(classifier.classes))


def test_the_orientation_is_applied(client: httpx.Client, pixels: np.ndarray) -> None:
    buffer, exif = BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(buffer, "JPEG", exif=exif)
    body = client.post("/classify", content=buffer.getvalue(), headers={"Content-Type": "image/jpeg"}).json()
    assert (body["width"], body["height"]) == (96, 128)


def test_file_names_come_back_as_they_were(client: httpx.Client, image: bytes) -> None:
    name = "Straße 日本.png"
    body = client.post("/classify", files={"file": (name, image)}).json()
    assert body["image"] == name


def test_requests_at_once_get_their_own_answers(
    client: httpx.Client, classifier: Classifier, pixels: np.ndarray
) -> None:
    images = [np.roll(pixels, 16 * i, axis=1)[: 60 + i] for i in range(8)]

    def ask(image: np.ndarray) -> dict[str, object]:
        buffer = BytesIO()
        Image.fromarray(image).save(buffer, "PNG")
        body = client.post("/classify?top=1", files={"file": ("a.png", buffer.getvalue())}).json()
        return {"height": body["height"], "wnid": body["classes"][0]["wnid"]}

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, images))
    for image, answer in zip(images, answers, strict=True):
        [best] = classifier.classify([image], top=1)
        assert answer == {"height": len(image), "wnid": classifier.classes.ids[best.labels[0]]}


@pytest.mark.exhaustive
def test_the_service_answers_while_the_network_works(client: httpx.Client, image: bytes) -> None:
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(client.post, "/classify?crops=144", content=image, headers=PNG)
        assert client.get("/health/live").json() == {"status": "live"}
        assert not slow.done()
        assert slow.result().status_code == 200


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/health/live", {"status": "live"}), ("/health/ready", {"status": "ready"})],
)
def test_health(client: httpx.Client, path: str, expected: dict[str, str]) -> None:
    reply = client.get(path)
    assert (reply.status_code, reply.json()) == (200, expected)


def test_a_real_photograph(client: httpx.Client, shared: Path) -> None:
    path = shared / "voc100" / "JPEGImages" / "2007_000027.jpg"
    height, width = load(path).shape[:2]
    reply = client.post("/detect?score_threshold=0", files={"file": (path.name, path.read_bytes())})
    body = DetectReply.model_validate_json(reply.content)
    assert (body.image, body.width, body.height) == (path.name, width, height)
    assert body.detections
    for found in body.detections:
        assert 0 <= found.box.xmin <= found.box.xmax <= width
        assert 0 <= found.box.ymin <= found.box.ymax <= height
    scores = [found.score for found in body.detections]
    assert scores == sorted(scores, reverse=True)

"""The Open Inference Protocol, as Triton's own client speaks it and as it should not be spoken."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput, InferResult
from tritonclient.utils import InferenceServerException

from tests.api.frontend.platforms.conftest import text

ASKED = {"score_threshold": 0, "max_detections": 5}
OUTPUTS = {
    "boxes": np.float32,
    "scores": np.float32,
    "labels": np.int64,
    "label_names": np.object_,
    "class_ids": np.object_,
    "counts": np.int64,
    "sizes": np.int64,
    "errors": np.object_,
}


@pytest.fixture(scope="module")
def triton(platforms: httpx.Client) -> Iterator[InferenceServerClient]:
    url = platforms.base_url
    with InferenceServerClient(f"{url.host}:{url.port}", network_timeout=600) as client:
        yield client


def files(*pictures: bytes, binary: bool = True) -> InferInput:
    """The input that holds files."""
    tensor = InferInput("image", [len(pictures)], "BYTES")
    data = pictures if binary else [text(picture).encode() for picture in pictures]
    tensor.set_data_from_numpy(np.array(data, np.object_), binary_data=binary)
    return tensor


def objects(result: InferResult) -> list[tuple[str, float, list[float]]]:
    """Class id, score and box of all objects."""
    ids = [one.decode() if isinstance(one, bytes) else one for one in result.as_numpy("class_ids")]
    scores = result.as_numpy("scores").round(4).tolist()
    return list(zip(ids, scores, result.as_numpy("boxes").round(1).tolist(), strict=True))


def expected(found: list[dict[str, Any]]) -> list[tuple[str, float, list[float]]]:
    return [
        (one["wnid"], pytest.approx(one["score"]), pytest.approx(list(one["box"].values()), abs=0.01))
        for one in found
    ]


def test_what_serves(triton: InferenceServerClient) -> None:
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.get_server_metadata()["extensions"] == ["binary_tensor_data"]
    assert triton.is_model_ready("eager")
    assert triton.is_model_ready("eager", "1")
    assert not triton.is_model_ready("eager", "2")
    assert not triton.is_model_ready("another")


def test_readiness_needs_no_key_and_names_no_model(platforms: httpx.Client) -> None:
    for path in ("/v2/models/another/ready", "/v2/models/eager/versions/2/ready"):
        reply = platforms.get(path)
        assert (reply.status_code, "eager" in reply.text) == (404, False)


def test_a_model_tells_its_inputs_and_outputs(triton: InferenceServerClient, image: bytes) -> None:
    about = triton.get_model_metadata("eager")
    assert (about["name"], about["versions"]) == ("eager", ["1"])
    assert {one["name"]: one["datatype"] for one in about["inputs"]} == {"image": "BYTES", "pixels": "UINT8"}
    assert [one["name"] for one in about["outputs"]] == list(OUTPUTS)
    result = triton.infer("eager", [files(image)])
    for one in about["outputs"]:
        tensor = result.as_numpy(one["name"])
        assert tensor.dtype == OUTPUTS[one["name"]]
        sides = zip(one["shape"], tensor.shape, strict=True)
        assert all(side in (-1, length) for side, length in sides)


@pytest.mark.parametrize("binary_outputs", [True, False], ids=["binary outputs", "outputs as JSON"])
@pytest.mark.parametrize("way", ["file", "base64", "pixels"])
def test_a_picture_in_every_way_gives_what_detect_gives(
    triton: InferenceServerClient,
    image: bytes,
    pixels: np.ndarray,
    found: list[dict[str, Any]],
    way: str,
    binary_outputs: bool,
) -> None:
    tensor = InferInput("pixels", pixels.shape, "UINT8")
    tensor.set_data_from_numpy(pixels)
    inputs = {"file": files(image), "base64": files(image, binary=False), "pixels": tensor}
    outputs = [InferRequestedOutput(name, binary_data=binary_outputs) for name in OUTPUTS]
    result = triton.infer("eager", [inputs[way]], outputs=outputs, parameters=ASKED, request_id="7")
    assert objects(result) == expected(found)
    assert result.get_response()["id"] == "7"
    assert result.as_numpy("sizes").tolist() == [[128, 96]]
    names = [one.decode() if binary_outputs else one for one in result.as_numpy("label_names")]
    assert names == [one["label"] for one in found]


def test_labels_are_places_in_the_models_list(
    platforms: httpx.Client, triton: InferenceServerClient, image: bytes
) -> None:
    classes = platforms.get("/models/eager").json()["detection_classes"]
    result = triton.infer("eager", [files(image)], parameters=ASKED)
    ids = [classes[label]["id"] for label in result.as_numpy("labels")]
    assert [one.decode() for one in result.as_numpy("class_ids")] == ids


def test_several_pictures_are_told_apart_by_their_counts(
    triton: InferenceServerClient, image: bytes, found: list[dict[str, Any]]
) -> None:
    """One that is none costs its neighbours nothing."""
    result = triton.infer("eager", [files(image, b"no picture", image)], parameters=ASKED)
    assert result.as_numpy("counts").tolist() == [5, 0, 5]
    assert objects(result) == expected(found) * 2
    assert [bool(error) for error in result.as_numpy("errors")] == [False, True, False]
    assert result.as_numpy("sizes").tolist() == [[128, 96], [0, 0], [128, 96]]


@pytest.mark.parametrize(
    ("parameters", "count"),
    [
        ({"score_threshold": 1.0}, 0),
        ({"score_threshold": 0, "max_detections": 2}, 2),
        ({"score_threshold": 0, "max_detections": 1, "profile": "search"}, 1),
    ],
    ids=["a threshold that none reaches", "two at most", "another profile"],
)
def test_what_is_asked_for(
    triton: InferenceServerClient, image: bytes, parameters: dict[str, Any], count: int
) -> None:
    result = triton.infer("eager", [files(image)], parameters=parameters)
    assert result.as_numpy("counts").tolist() == [count]
    assert result.as_numpy("boxes").shape == (count, 4)


def test_only_some_classes(triton: InferenceServerClient, image: bytes, found: list[dict[str, Any]]) -> None:
    name = found[0]["label"]
    result = triton.infer("eager", [files(image)], parameters={**ASKED, "classes": name.upper()})
    assert {one.decode() for one in result.as_numpy("label_names")} == {name}


@pytest.mark.parametrize(
    ("tensor", "model", "parameters", "status", "message"),
    [
        (files(b"no picture"), "eager", {}, "415", "not a picture in a supported format"),
        (files(b"x" * 300_001), "eager", {}, "413", "more than the 300,000 bytes"),
        (files(*[b"x"] * 4), "eager", {}, "413", "more than the 3 pictures"),
        (files(b"x"), "another", {}, "404", "There is eager"),
        (files(b"x"), "eager", {"score": 1}, "422", "score: there is no such parameter"),
        (files(b"x"), "eager", {"score_threshold": 2}, "422", "score_threshold: "),
        (files(b"x"), "eager", {"explain": 1}, "422", "no output tensor holds explanations"),
        (files(b"x"), "eager", {"model": "eager"}, "422", "named by the path"),
        (InferInput("picture", [1], "BYTES"), "eager", {}, "400", "has 'picture'"),
    ],
    ids=["no picture", "too large", "too many", "unknown model", "unknown parameter", "out of range",
         "what no tensor holds",
         "a model beside the path's", "unknown input"],
)  # fmt: skip
def test_the_client_gets_refusals_as_its_own_exceptions(
    triton: InferenceServerClient,
    tensor: InferInput,
    model: str,
    parameters: dict[str, Any],
    status: str,
    message: str,
) -> None:
    if tensor.name() == "picture":
        tensor.set_data_from_numpy(np.array([b"x"], np.object_))
    with pytest.raises(InferenceServerException) as caught:
        triton.infer(model, [tensor], parameters=parameters)
    assert caught.value.status() == status
    assert message in caught.value.message()


IMAGE = {"name": "image", "shape": [1], "datatype": "BYTES"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "its JSON is no object"),
        ({}, "'inputs' is no list"),
        ({"inputs": []}, "has none"),
        ({"inputs": [{"name": "image"}]}, "lacks its name or its datatype"),
        ({"inputs": [{**IMAGE, "shape": [-1], "data": ["x"]}]}, "shape of 'image' is no list of numbers"),
        ({"inputs": [{**IMAGE, "shape": [True], "data": ["x"]}]}, "shape of 'image' is no list of numbers"),
        ({"inputs": [{**IMAGE, "shape": [0], "data": []}]}, "has no element"),
        ({"inputs": [IMAGE]}, "neither a list 'data' nor a 'binary_data_size'"),
        ({"inputs": [{**IMAGE, "data": []}]}, "fewer elements than its shape [1] says"),
        ({"inputs": [{**IMAGE, "data": ["x", "x"]}]}, "more elements than its shape [1] says"),
        ({"inputs": [{**IMAGE, "data": [1]}]}, "an element of 'image' is no text"),
        ({"inputs": [{**IMAGE, "data": [[[[[[[[[[[["x"]]]]]]]]]]]]}]}, "nested too deeply"),
        ({"inputs": [{**IMAGE, "datatype": "FP32", "data": [1.0]}]}, "of datatype BYTES, not FP32"),
        ({"inputs": [{**IMAGE, "parameters": {"binary_data_size": 9}}]}, "not a number of bytes that follow"),
        ({"inputs": [{**IMAGE, "name": "pixels", "datatype": "UINT8", "data": [1]}]}, "as binary data only"),
        ({"inputs": [{**IMAGE, "data": ["x"]}], "outputs": [{"name": "masks"}]}, "no output 'masks'"),
        ({"inputs": [{**IMAGE, "data": ["x"]}], "outputs": [{"name": [1]}]}, "there is no output '[1]'"),
        ({"inputs": [{**IMAGE, "data": ["x"]}], "outputs": [{"name": {}}]}, "no output '{}'"),
        ({"inputs": [{**IMAGE, "data": ["x"]}], "outputs": {}, "parameters": 1}, "must be an object"),
    ],
    ids=["a list", "nothing", "no input", "no datatype", "a side of -1", "a side of true", "an empty shape",
         "no data", "too few", "too many", "a number for a picture", "deep lists", "another datatype",
         "bytes that do not come", "pixels as JSON", "an unknown output", "a list of outputs in one",
         "an output without a name", "parameters of another kind"],
)  # fmt: skip
def test_what_is_no_request(platforms: httpx.Client, content: object, message: str) -> None:
    reply = platforms.post("/v2/models/eager/infer", json=content)
    assert reply.status_code in (400, 422)
    assert message in reply.json()["error"]


PIXELS = {"name": "pixels", "datatype": "UINT8"}


def sized(tensor: dict[str, Any], size: object) -> dict[str, Any]:
    return {"inputs": [{**tensor, "parameters": {"binary_data_size": size}}]}


@pytest.mark.parametrize(
    ("content", "binary", "length", "message"),
    [
        (sized(IMAGE, 5), b"\x01\0\0\0x", "x", "is no number of bytes"),
        (sized(IMAGE, 5), b"\x01\0\0\0x", "9999", "more bytes than the body has"),
        (sized(IMAGE, 6), b"\x01\0\0\0x", None, "not a number of bytes that follow"),
        (sized(IMAGE, True), b"x", None, "not a number of bytes that follow"),
        (sized(IMAGE, 4), b"\x01\0\0\0x", None, "1 bytes follow that belong to no input"),
        (sized(IMAGE, 5), b"\x02\0\0\0x", None, "end within an element"),
        (sized(IMAGE, 3), b"\x01\0\0", None, "end within an element"),
        (sized(IMAGE, 10), b"\x01\0\0\0x" * 2, None, "more elements than its shape"),
        (sized({**PIXELS, "shape": [2, 2, 3]}, 11), b"x" * 11, None, "has 11 bytes, and by its shape 12"),
        (sized({**PIXELS, "shape": [3, 2, 2]}, 12), b"x" * 12, None, "height, width, 3"),
        (sized({**PIXELS, "shape": [0, 2, 3]}, 0), b"", None, "height, width, 3"),
    ],
    ids=["a length that is none", "JSON beyond the body", "an input beyond the body", "true for a size",
         "bytes left over", "an element beyond its input", "half a length", "an element too many",
         "a pixel too few", "channels first", "no rows"],
)  # fmt: skip
def test_what_is_no_binary_request(
    platforms: httpx.Client, content: dict[str, Any], binary: bytes, length: str | None, message: str
) -> None:
    head = json.dumps(content).encode()
    headers = {"Inference-Header-Content-Length": length or str(len(head))}
    reply = platforms.post("/v2/models/eager/infer", content=head + binary, headers=headers)
    assert reply.status_code == 400
    assert message in reply.json()["error"]

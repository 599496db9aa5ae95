"""The client of programs (detector.client) and the service: each call through both, and types that agree."""

import asyncio
from collections.abc import Mapping
from dataclasses import is_dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, get_args, get_type_hints

import httpx
import numpy as np
import pytest
from PIL import Image
from pycocotools.coco import COCO
from pydantic import TypeAdapter

from api.frontend.schemas import Format
from detector.client import (
    AsyncClient,
    BusyError,
    Client,
    DetectReply,
    RefusedError,
    RefusedImage,
    ServiceTimeoutError,
    replies,
)
from detector.client.parameters import CallOptions, ClassifyParameters, DetectParameters
from detector.io.decoding import decode
from detector.options import Profile

ALL: Any = {"score_threshold": 0, "max_detections": 5}


def address(served: httpx.Client) -> str:
    return str(served.base_url)


@pytest.fixture(scope="module")
def files(image: bytes, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A picture, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "a.png").write_bytes(image)
    (folder / "b.png").write_bytes(b"no picture")
    return [folder / "a.png", folder / "b.png"]


def test_an_image_in_every_form_gives_the_same(
    client: httpx.Client, image: bytes, pixels: np.ndarray, files: list[Path]
) -> None:
    with Client(address(client), timeout=300) as asked, files[0].open("rb") as file:
        forms = [image, pixels, Image.fromarray(pixels), files[0], str(files[0]), BytesIO(image), file]
        answers = [asked.detect(form, **ALL) for form in forms]
    assert len(answers[0]) == 5
    assert all(answer.detections == answers[0].detections for answer in answers)
    assert [answer.image for answer in answers] == [None, None, None, "a.png", "a.png", None, "a.png"]
    assert {(answer.width, answer.height) for answer in answers} == {(128, 96)}


def test_both_clients_say_the_same(client: httpx.Client, files: list[Path], pixels: np.ndarray) -> None:
    async def ask() -> tuple[Any, ...]:
        async with AsyncClient(address(client), timeout=300) as asked:
            return await asyncio.gather(
                asked.detect(pixels, **ALL),
                asked.classify(pixels, top=3),
                asked.detect([*files, pixels], **ALL),
                asked.classify(files, top=2),
                asked.models(),
                asked.model("default"),
                asked.ready(),
            )

    found, classes, several, several_classes, models, model, ready = asyncio.run(ask())
    with Client(address(client), timeout=300) as asked:
        assert asked.detect(pixels, **ALL).detections == found.detections
        assert asked.classify(pixels, top=3).classes == classes.classes
        assert asked.models() == models
        assert asked.model("default") == model
        assert asked.ready() is ready is True
        again = asked.detect([*files, pixels], **ALL)
    kinds = [DetectReply, RefusedImage, DetectReply]
    assert [type(one) for one in several] == [type(one) for one in again] == kinds
    assert several[0].detections == several[2].detections == found.detections
    assert (several[1].image, several[1].error.code) == ("b.png", "unsupported_format")
    assert [one.kind for one in several_classes] == ["classes", "error"]
    assert len(several_classes[0]) == 2
    assert [one.name for one in models] == ["default"]
    assert models[0].detection_class_count == len(model.detection_classes) == 200
    assert model.default_profile is Profile.SEARCH


def test_explanations_are_typed(client: httpx.Client, pixels: np.ndarray) -> None:
    with Client(address(client), timeout=300) as asked:
        found = asked.detect(pixels, explain=2, **ALL)
    assert [one.explanation is not None for one in found] == [True, True, False, False, False]
    explanation = found.detections[0].explanation
    assert explanation is not None
    assert explanation.factors[0].name == "probability"
    assert np.prod([factor.contribution for factor in explanation.factors]) == pytest.approx(
        found.detections[0].score, abs=1e-4
    )
    assert np.shape(explanation.activation) == (7, 7)


def test_a_list_of_one_is_a_list(client: httpx.Client, files: list[Path], pixels: np.ndarray) -> None:
    with Client(address(client), timeout=300) as asked:
        [found] = asked.detect([pixels], **ALL)
        assert isinstance(found, DetectReply)
        [refused] = asked.detect([files[1]])
    assert isinstance(refused, RefusedImage)
    assert (refused.image, refused.error.code) == ("b.png", "unsupported_format")


def test_a_data_set_and_a_drawn_image(client: httpx.Client, files: list[Path], pixels: np.ndarray) -> None:
    with Client(address(client), timeout=300) as asked:
        data = asked.detect_coco(files[0], **ALL)
        png = asked.draw(pixels, **ALL)
        jpeg = asked.draw(pixels, media_type="image/jpeg", **ALL)
    coco = COCO()
    coco.dataset = data
    coco.createIndex()
    assert len(coco.getAnnIds()) == 5
    assert data["images"][0]["file_name"] == "a.png"
    assert (png[1:4], jpeg[:2]) == (b"PNG", b"\xff\xd8")
    assert decode(png).shape == decode(jpeg).shape


@pytest.mark.parametrize(
    ("image", "parameters", "status", "code"),
    [
        pytest.param(b"no picture", {}, 415, "unsupported_format", id="no picture"),
        pytest.param(b"", {}, 400, "empty", id="nothing"),
        pytest.param(bytes(300_001), {}, 413, "too_many_bytes", id="too much"),
        pytest.param(b"", {"model": "birds"}, 404, "unknown_model", id="no such model"),
        pytest.param(b"x", {"score_threshold": 2}, 422, "invalid_parameter", id="out of range"),
        pytest.param(b"x", {"timeout": 1e5}, 422, "invalid_parameter", id="more time than it gives"),
    ],
)
def test_refusals(
    client: httpx.Client, image: bytes, parameters: dict[str, Any], status: int, code: str
) -> None:
    with Client(address(client)) as asked, pytest.raises(RefusedError) as raised:
        asked.detect(image, request_id="of-this-test", **parameters)
    assert (raised.value.status, raised.value.code) == (status, code)
    assert raised.value.request_id == "of-this-test"


def test_the_service_gives_up_when_the_client_would(eager_client: httpx.Client, image: bytes) -> None:
    """The service's own 504 (or 429, if it knows beforehand) is here before the client's clock ends it."""
    with Client(address(eager_client), retries=0) as asked:
        asked.detect(image)  # so that its speed has been measured
        with pytest.raises((ServiceTimeoutError, BusyError)) as raised:
            asked.classify(image, crops=144, model="plain", timeout=1)
    assert raised.value.status in (429, 504)


def test_a_service_that_never_is_ready(unready_client: httpx.Client, image: bytes) -> None:
    with Client(address(unready_client), retries=1) as asked:
        assert asked.ready() is False
        with pytest.raises(BusyError) as raised:
            asked.detect(image)
    assert (raised.value.status, raised.value.code) == (503, "not_ready")


def test_without_a_key_models_are_refused(guarded_client: httpx.Client) -> None:
    with Client(address(guarded_client)) as asked, pytest.raises(RefusedError) as raised:
        asked.models()
    assert (raised.value.status, raised.value.code) == (401, "unauthorized")
    with (
        Client(address(guarded_client), key="the-key-of-this-service", retries=0) as asked,
        pytest.raises(BusyError, match="not_ready"),
    ):
        asked.models()


@pytest.fixture(scope="module")
def openapi(unready_client: httpx.Client) -> dict[str, Any]:
    """The document as the running service gives it."""
    document: dict[str, Any] = unready_client.get("/openapi.json").json()
    return document


def shape(schema: Mapping[str, Any], *, optional: bool = False) -> Any:
    """What a JSON schema says of types, without words, bounds and defaults; references by their last name.

    ``optional``: a field that may be left out, whose null is the same as leaving it out.
    """
    if "$ref" in schema:
        return schema["$ref"].rpartition("/")[2]
    if "const" in schema:
        return {schema["const"]}
    for key in ("anyOf", "oneOf"):
        if key in schema:
            shapes = [shape(one) for one in schema[key]]
            shapes = [one for one in shapes if not (optional and one == "null")]
            return shapes[0] if len(shapes) == 1 else sorted(map(str, shapes))
    if "prefixItems" in schema:
        return tuple(shape(one) for one in schema["prefixItems"])
    if schema.get("type") == "array":
        return [shape(schema["items"])]
    return schema["type"]


def fields(schema: Mapping[str, Any]) -> dict[str, tuple[Any, bool]]:
    """Each property's shape, and whether it must be there."""
    required = schema.get("required", [])
    return {
        name: (shape(value, optional=name not in required), name in required)
        for name, value in schema["properties"].items()
    }


# A class that others share fields by is no type of its own.
TYPES = sorted(
    name
    for name, kind in vars(replies).items()
    if isinstance(kind, type) and is_dataclass(kind) and not kind.__subclasses__()
)


@pytest.mark.parametrize("name", TYPES)
def test_types_are_those_of_the_document(openapi: dict[str, Any], name: str) -> None:
    """Field by field. Nothing but one image is asked for as COCO: no entry of several is of that kind."""
    schema = TypeAdapter(getattr(replies, name)).json_schema(ref_template="#/components/schemas/{model}")
    ours, theirs = fields(schema), fields(openapi["components"]["schemas"][name])
    if name == "ManyReply":
        [union], required = theirs["results"]
        theirs["results"] = [[one for one in union if one != "CocoReply"]], required
    assert ours == theirs


NOT_OURS = {
    *("CocoReply", "CocoImage", "CocoCategory", "CocoAnnotation"),  # given as dicts
    "Health",  # its status says the same
    *("HTTPValidationError", "ValidationError"),  # FastAPI states them, and nothing answers with them
}


def test_no_type_of_the_document_is_missing(openapi: dict[str, Any]) -> None:
    """Every object that an answer may be made of is one of the client's."""
    objects = {name for name, one in openapi["components"]["schemas"].items() if one["type"] == "object"}
    assert objects - set(TYPES) == NOT_OURS


@pytest.mark.parametrize(
    ("path", "parameters", "methods"),
    [("/detect", DetectParameters, {"format"}), ("/classify", ClassifyParameters, set())],
)
def test_parameters_are_those_of_the_document(
    openapi: dict[str, Any], path: str, parameters: type, methods: set[str]
) -> None:
    """``format`` is chosen by the method: detect, detect_coco or draw."""
    described = openapi["paths"][path]["post"]["parameters"]
    assert {one["name"] for one in described if one["in"] == "query"} == (
        parameters.__annotations__.keys() - CallOptions.__annotations__.keys() | methods
    )
    assert {one["name"] for one in described if one["in"] == "header"} == {"X-Timeout-Ms", "X-Request-Id"}


@pytest.mark.parametrize(
    ("parameters", "name", "schema"),
    [(DetectParameters, "profile", "Profile"), (ClassifyParameters, "crops", "Crops")],
)
def test_choices_are_those_of_the_document(
    openapi: dict[str, Any], parameters: type, name: str, schema: str
) -> None:
    hint = get_type_hints(parameters)[name]
    literals = {value for part in get_args(hint) for value in get_args(part)}
    assert literals == set(openapi["components"]["schemas"][schema]["enum"])


def test_there_is_a_method_for_each_format(openapi: dict[str, Any]) -> None:
    assert openapi["components"]["schemas"]["Format"]["enum"] == ["json", "coco", "image"] == list(Format)

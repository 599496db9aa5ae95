"""/docs promises what the service keeps."""

from typing import Any

import orjson
import pytest
from pydantic import BaseModel

from api.frontend.app import create_app
from api.frontend.schemas import (
    ClassifyReply,
    CocoReply,
    DetectReply,
    ErrorReply,
    Format,
    ManyClassifyReply,
    ManyReply,
)
from api.frontend.settings import Settings
from api.frontend.uploads.body import JSON_TYPE, UploadLimits
from api.frontend.uploads.json_body import parse_json
from detector.io.decoding import read
from detector.options import Profile

OPENAPI: dict[str, Any] = create_app(Settings()).openapi()
WORK = ["/detect", "/classify"]


@pytest.mark.parametrize("path", WORK)
def test_every_way_to_send_a_picture_is_documented(path: str) -> None:
    content = OPENAPI["paths"][path]["post"]["requestBody"]["content"]
    raw = {"image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif", "image/tiff"}
    raw.add("application/octet-stream")
    assert set(content) == raw | {"multipart/form-data", "application/json"}
    assert content["multipart/form-data"]["schema"]["required"] == ["file"]


@pytest.mark.parametrize("path", WORK)
def test_the_json_shown_can_be_sent_as_it_is(path: str) -> None:
    """Its pictures are pictures."""
    examples = OPENAPI["paths"][path]["post"]["requestBody"]["content"][JSON_TYPE]["examples"]
    assert set(examples) == {"image", "images", "url"}
    for key, example in examples.items():
        parsed = parse_json(orjson.dumps(example["value"]), UploadLimits(10_000, 2))
        if key == "url":
            assert parsed == example["value"]["url"]
            continue
        assert not isinstance(parsed, str)
        assert [read(upload.data).pixels.shape for upload in parsed.items] == [(43, 64, 3)] * len(
            parsed.items
        )


@pytest.mark.parametrize(
    ("path", "names"),
    [
        (
            "/detect",
            {"score_threshold", "max_detections", "profile", "tile", "explain", "classes", "model", "format"},
        ),
        ("/classify", {"top", "crops", "model"}),
    ],
)
def test_parameters_are_documented(path: str, names: set[str]) -> None:
    parameters = OPENAPI["paths"][path]["post"]["parameters"]
    assert {one["name"] for one in parameters if one["in"] == "query"} == names
    assert {one["name"] for one in parameters if one["in"] == "header"} == {"X-Timeout-Ms", "X-Request-Id"}
    assert all("description" in parameter for parameter in parameters)


def test_a_threshold_is_a_number_or_auto() -> None:
    parameters = OPENAPI["paths"]["/detect"]["post"]["parameters"]
    [schema] = [one["schema"] for one in parameters if one["name"] == "score_threshold"]
    assert schema["anyOf"] == [
        {"type": "number", "minimum": 0, "maximum": 1},
        {"type": "string", "const": "auto"},
    ]


@pytest.mark.parametrize(("name", "values"), [("profile", Profile), ("format", Format)])
def test_every_choice_is_documented(name: str, values: type[Profile | Format]) -> None:
    [parameter] = [p for p in OPENAPI["paths"]["/detect"]["post"]["parameters"] if p["name"] == name]
    assert not parameter["required"]
    assert OPENAPI["components"]["schemas"][values.__name__]["enum"] == list(values)
    for value in values:
        assert f"`{value}`" in parameter["description"]


WORK_STATUSES = {
    *("200", "400", "403", "404", "408", "413", "415", "422"),
    *("429", "500", "501", "502", "503", "504"),
}


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("post", "/detect", WORK_STATUSES),
        ("post", "/classify", WORK_STATUSES),
        ("get", "/health/live", {"200", "503"}),
        ("get", "/health/ready", {"200", "503"}),
    ],
)
def test_every_status_is_documented(method: str, path: str, statuses: set[str]) -> None:
    assert set(OPENAPI["paths"][path][method]["responses"]) == statuses


@pytest.mark.parametrize("path", WORK)
def test_every_reply_has_its_headers(path: str) -> None:
    for status, response in OPENAPI["paths"][path]["post"]["responses"].items():
        expected = {"X-Request-Id", "X-API-Version"} | (
            {"Retry-After"} if status in ("429", "503") else set()
        )
        assert set(response["headers"]) == expected


@pytest.mark.parametrize(
    ("path", "name", "schema"),
    [
        ("/detect", "detect_one", DetectReply),
        ("/detect", "detect_many", ManyReply),
        ("/detect", "detect_coco", CocoReply),
        ("/classify", "classify_one", ClassifyReply),
        ("/classify", "classify_many", ManyClassifyReply),
    ],
)
def test_examples_keep_to_their_schema(path: str, name: str, schema: type[BaseModel]) -> None:
    content = OPENAPI["paths"][path]["post"]["responses"]["200"]["content"]["application/json"]
    assert f"#/components/schemas/{schema.__name__}" in {
        choice["$ref"] for choice in content["schema"]["oneOf"]
    }
    text = orjson.dumps(content["examples"][name]["value"])
    assert orjson.loads(schema.model_validate_json(text).model_dump_json(exclude_unset=True)) == orjson.loads(
        text
    )


CODES = {
    *("empty", "missing_file", "malformed_form", "malformed_json", "bad_base64", "url_disabled"),
    *("url_forbidden", "unknown_model", "slow_body", "too_many_bytes", "too_many_pixels"),
    *("too_many_pictures", "unsupported_media_type", "unsupported_format", "invalid_parameter", "truncated"),
    *("unreadable", "overloaded", "internal_error", "not_supported", "url_failed", "not_ready", "draining"),
    *("worker_lost", "out_of_memory", "deadline_exceeded"),
}


@pytest.mark.parametrize("path", WORK)
def test_every_code_has_an_example(path: str) -> None:
    documented = set()
    responses = OPENAPI["paths"][path]["post"]["responses"]
    for status in set(responses) - {"200"}:
        content = responses[status]["content"]["application/json"]
        assert content["schema"]["$ref"].endswith("/ErrorReply")
        for code, example in content["examples"].items():
            error = ErrorReply.model_validate(example["value"]).error
            assert error.code == code
            assert error.message.endswith(".")
            documented.add(code)
    assert documented == CODES

"""/docs promises what the service keeps."""

from typing import Any

import pytest
from pydantic import BaseModel

from api.app import create_app
from api.schemas import ClassifyReply, DetectReply, ErrorReply
from api.settings import Settings
from detector.proposals import Profile

OPENAPI: dict[str, Any] = create_app(Settings()).openapi()


@pytest.mark.parametrize("path", ["/detect", "/classify"])
def test_both_ways_to_send_a_picture_are_documented(path: str) -> None:
    content = OPENAPI["paths"][path]["post"]["requestBody"]["content"]
    assert set(content) == {"multipart/form-data", "image/jpeg", "image/png", "image/webp", "image/bmp"}
    assert content["multipart/form-data"]["schema"]["required"] == ["file"]


@pytest.mark.parametrize(
    ("path", "names"),
    [("/detect", {"score_threshold", "max_detections", "profile"}), ("/classify", {"top", "crops"})],
)
def test_query_parameters_are_documented(path: str, names: set[str]) -> None:
    parameters = OPENAPI["paths"][path]["post"]["parameters"]
    assert {parameter["name"] for parameter in parameters} == names
    assert all(parameter["in"] == "query" and "description" in parameter for parameter in parameters)


def test_every_profile_is_documented() -> None:
    [profile] = [p for p in OPENAPI["paths"]["/detect"]["post"]["parameters"] if p["name"] == "profile"]
    assert not profile["required"]
    assert OPENAPI["components"]["schemas"]["Profile"]["enum"] == list(Profile)
    for name in Profile:
        assert f"`{name}`" in profile["description"]


@pytest.mark.parametrize(
    ("method", "path", "statuses"),
    [
        ("post", "/detect", {"200", "400", "413", "415", "422", "500", "501", "503"}),
        ("post", "/classify", {"200", "400", "413", "415", "422", "500", "501", "503"}),
        ("get", "/health/live", {"200"}),
        ("get", "/health/ready", {"200", "503"}),
    ],
)
def test_every_status_is_documented(method: str, path: str, statuses: set[str]) -> None:
    assert set(OPENAPI["paths"][path][method]["responses"]) == statuses


@pytest.mark.parametrize(("path", "schema"), [("/detect", DetectReply), ("/classify", ClassifyReply)])
def test_examples_keep_to_their_schema(path: str, schema: type[BaseModel]) -> None:
    responses = OPENAPI["paths"][path]["post"]["responses"]
    schema.model_validate(responses["200"]["content"]["application/json"]["example"], strict=True)
    for status in sorted(set(responses) - {"200"}):
        content = responses[status]["content"]["application/json"]
        assert content["schema"]["$ref"].endswith("/ErrorReply")
        assert content["examples"]
        for code, example in content["examples"].items():
            assert ErrorReply.model_validate(example["value"]).error.code == code

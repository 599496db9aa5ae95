"""The service keeps what its OpenAPI document promises, whatever is sent (`benchmarks/fuzz.py`, shortly).

Status, content type and body of each reply have to be ones that the document states for the operation.
"""

import fuzz_hooks  # noqa: F401 - it says which pictures are sent
import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.frontend.app import create_app
from api.frontend.settings import Settings

pytestmark = pytest.mark.exhaustive


def no_internal_error(
    context: schemathesis.CheckContext, response: schemathesis.Response, case: schemathesis.Case
) -> None:
    """501 to 504 are stated: a model that cannot, an address that fails, a deadline that was asked for."""
    assert response.status_code != 500, response.text


DOCUMENT = schemathesis.openapi.from_dict(create_app(Settings()).openapi())
CHECKS = [
    no_internal_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


RIGHT, WRONG = GenerationMode.POSITIVE, GenerationMode.NEGATIVE


@pytest.mark.parametrize(
    ("path", "method", "mode", "examples"),
    [
        pytest.param(path, method, mode, examples, id=f"{method} {path}, {mode.value}")
        for path, methods in DOCUMENT.raw_schema["paths"].items()
        for method in methods
        for mode, examples in (((RIGHT, 15), (WRONG, 15)) if method == "post" else ((RIGHT, 2),))
    ],
)
def test_replies_are_as_documented(
    fast_client: httpx.Client, path: str, method: str, mode: GenerationMode, examples: int
) -> None:
    operation = DOCUMENT[path][method]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def replies(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=str(fast_client.base_url), checks=CHECKS)

    replies()

"""What holds for every platform: off unless asked for, guarded by keys, and ready when the service is."""

import base64
from pathlib import Path

import httpx
import pytest
from fastapi.routing import iter_route_contexts

from api.frontend.app import create_app
from api.frontend.settings import Settings
from tests.api.conftest import serve
from tests.api.frontend.platforms.conftest import ALL, HEALTH, PREDICT

KEY = "the-key-of-this-service"

KEYED = {
    "/v2": "GET",
    "/v2/models/one": "GET",
    "/v2/models/one/versions/1": "GET",
    "/v2/models/one/infer": "POST",
    "/v2/models/one/versions/1/infer": "POST",
    "/invocations": "POST",
    PREDICT: "POST",
    "/setup": "POST",
    "/predict": "POST",
    "/versions": "GET",
}
OPEN = (
    "/v2/health/live",
    "/v2/health/ready",
    "/v2/models/one/ready",
    "/v2/models/one/versions/1/ready",
    "/ping",
    HEALTH,
    "/health",
)


def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, **others: object) -> Settings:
    """Settings of a service that never is ready."""
    monkeypatch.setenv("AIP_PREDICT_ROUTE", PREDICT)
    monkeypatch.setenv("AIP_HEALTH_ROUTE", HEALTH)
    return Settings(weights=tmp_path / "absent.safetensors", device="cpu", platforms=ALL, **others)


def test_none_is_served_unless_asked_for(unready_client: httpx.Client) -> None:
    for path, method in {**KEYED, **dict.fromkeys(OPEN, "GET")}.items():
        assert unready_client.request(method, path).status_code == 404, path


def test_every_route_is_known_as_keyed_or_open(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A route that a platform gets has to be put into one of both lists."""

    def paths(app_settings: Settings) -> set[str]:
        return {route.path for route in iter_route_contexts(create_app(app_settings).routes)}

    listed = {path.replace("/one", "/{name}").replace("/1", "/{number}") for path in (*KEYED, *OPEN)}
    listed -= {HEALTH.replace("/1", "/{number}"), PREDICT.replace("/1", "/{number}")}
    assert paths(settings(monkeypatch, tmp_path)) - paths(Settings()) == listed | {HEALTH, PREDICT}


def test_keys_guard_all_but_health(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    guarded = settings(monkeypatch, tmp_path, api_keys=KEY)
    with serve(create_app(guarded), guarded) as client:
        for path, method in KEYED.items():
            for headers, status in (
                ({}, 401),
                ({"X-API-Key": "another"}, 401),
                ({"X-API-Key": KEY}, 503),
                ({"Authorization": f"Bearer {KEY}"}, 503),
            ):
                expected = 200 if (path, status) == ("/v2", 503) else status  # it tells of no model
                assert client.request(method, path, headers=headers).status_code == expected, path
        for path in OPEN:
            assert client.get(path).status_code == (200 if path == "/v2/health/live" else 503), path


@pytest.mark.parametrize(
    ("path", "credentials", "status"),
    [
        ("/predict", f"detector:{KEY}", 503),
        ("/predict", "detector:another", 401),
        ("/predict", f"{KEY}:", 401),
        ("/detect", f"detector:{KEY}", 401),
    ],
    ids=["as password", "another password", "as user name", "not where a header can be set"],
)
def test_label_studio_may_send_a_key_as_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, credentials: str, status: int
) -> None:
    """It knows no other way."""
    guarded = settings(monkeypatch, tmp_path, api_keys=KEY)
    headers = {"Authorization": f"Basic {base64.b64encode(credentials.encode()).decode()}"}
    with serve(create_app(guarded), guarded) as client:
        assert client.post(path, headers=headers).status_code == status


def test_errors_come_in_each_platforms_own_shape(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    guarded = settings(monkeypatch, tmp_path, api_keys=KEY)
    with serve(create_app(guarded), guarded) as client:
        message = client.post("/detect").json()["error"]["message"]
        assert client.post("/v2/models/one/infer").json() == {"error": message}
        assert client.post("/predict").json() == {"error": message}
        assert client.post("/invocations").json() == {"error": {"code": "unauthorized", "message": message}}
        error = client.post(PREDICT).json()["error"]
        assert (error["code"], error["status"], error["message"]) == (401, "UNAUTHENTICATED", message)
        assert [detail["reason"] for detail in error["details"]] == ["UNAUTHORIZED"]


def test_work_and_polls_are_counted_as_such(platforms: httpx.Client) -> None:
    assert platforms.post("/invocations", content=b"no picture").status_code == 415
    assert platforms.post("/v2/models/eager/infer", json={}).status_code == 400
    text = platforms.get("/metrics").text
    for reason in ("unsupported_format", "malformed_tensors"):
        assert f'reason="{reason}"' in text
    assert 'endpoint="/v2/models/{name}/infer"' in text

"""Settings as the environment holds them."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.frontend.settings import Settings
from detector.io.decoding import Limits

KEY = "k3y-of-some-client"


@pytest.fixture(autouse=True)
def _no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(f"DETECTOR_{name.upper()}", raising=False)


def paths(*names: str) -> tuple[Path, ...]:
    return tuple(map(Path, names))


GOOD = [
    ("port", "0", 0, "a free port"),
    ("weights", "a.safetensors", paths("a.safetensors"), "one file"),
    ("weights", "a:runs/b", paths("a", "runs/b"), "an ensemble"),
    ("weights", "a,b", paths("a", "b"), "as a repeated option arrives"),
    ("weights", "", None, "empty is not given"),
    ("model", "a=x,b=y:z", {"a": paths("x"), "b": paths("y", "z")}, "two models, one an ensemble"),
    ("model", "a=x=y", {"a": paths("x=y")}, "a path may have the sign in it"),
    ("device", "cuda:0, cuda:1", "cuda:0,cuda:1", "two devices"),
    ("max_bytes", "64MiB", 64 * 1024 * 1024, "bytes with a unit"),
    ("timeout_seconds", "0.5", 0.5, "a fraction of a second"),
    ("log_level", "WARNING", "warning", "in capitals"),
    ("compile", "1", True, "a switch"),
    ("shutdown_delay_seconds", "0", 0, "no delay"),
    ("platforms", "", (), "no platform"),
    ("platforms", "SageMaker, vertex,sagemaker", ("sagemaker", "vertex"), "platforms, one of them twice"),
    ("label_studio_url", "http://Localhost:8080/", "http://localhost:8080", "an origin"),
]


@pytest.mark.parametrize(
    ("name", "text", "value"), [case[:3] for case in GOOD], ids=[case[3] for case in GOOD]
)
def test_a_setting(monkeypatch: pytest.MonkeyPatch, name: str, text: str, value: object) -> None:
    monkeypatch.setenv(f"DETECTOR_{name.upper()}", text)
    assert getattr(Settings(), name) == value


BAD = [
    ("port", "70000", "less than or equal to 65535", "no such port"),
    ("port", "tcp://10.0.0.1:80", "enableServiceLinks: false", "what Kubernetes sets"),
    ("weights", "a::b", "empty path", "a colon too many"),
    ("model", "a", "name=path", "no path"),
    ("model", "a=", "name=path", "an empty path"),
    ("model", "=x", "the name ''", "no name"),
    ("model", "a=x,a=y", "given twice", "one name for two"),
    ("model", "../a=x", "letters, digits", "a name that no address should hold"),
    ("device", "gpu", "'gpu' is no device", "a device by another name"),
    ("device", "cpu,", "'' is no device", "a comma too many"),
    ("device", "cuda:0,cuda:0", "different ones", "one device for two workers"),
    ("device", "auto,cpu", "named exactly", "auto may be the other one"),
    ("profile", "fst", "'fast', 'balanced'", "a misspelt choice"),
    ("batch", "0", "greater than 0", "no regions at all"),
    ("max_bytes", "lots", "byte string", "no number"),
    ("timeout_seconds", "inf", "finite", "for ever"),
    ("max_timeout_seconds", "1", "DETECTOR_TIMEOUT_SECONDS", "less than the default"),
    ("max_pending_bytes", "1MiB", "DETECTOR_MAX_BYTES", "no room for one picture"),
    ("drain_seconds", "-1", "greater than or equal to 0", "a negative time"),
    ("api_keys", f"{KEY},", "key 2 of 2 is empty", "a comma too many"),
    ("api_keys", f"{KEY},with space", "key 2 of 2 has a space", "no header carries it"),
    ("platforms", "kserve", "there is no platform 'kserve', but open-inference", "an unknown platform"),
    ("platforms", "vertex,label-studio", "both be asked at /predict", "two platforms at one path"),
    ("label_studio_url", "http://localhost/path", "is no scheme and host", "a path"),
    ("label_studio_url", "localhost:8080", "is no scheme and host", "no scheme"),
    ("api_keys_file", "absent.txt", "absent.txt cannot be read", "no such file"),
]


@pytest.mark.parametrize(
    ("name", "text", "message"), [case[:3] for case in BAD], ids=[case[3] for case in BAD]
)
def test_a_setting_that_makes_no_sense(
    monkeypatch: pytest.MonkeyPatch, name: str, text: str, message: str
) -> None:
    monkeypatch.setenv(f"DETECTOR_{name.upper()}", text)
    with pytest.raises(ValidationError) as caught:
        Settings()
    [problem] = caught.value.errors()
    assert problem["loc"][0] == name
    assert message in problem["msg"]
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("settings", "models"),
    [
        pytest.param({}, {"default": None}, id="nothing: the shipped weights"),
        pytest.param({"weights": "a:b"}, {"default": paths("a", "b")}, id="weights"),
        pytest.param({"model": "m=x,n=y"}, {"m": paths("x"), "n": paths("y")}, id="models alone"),
        pytest.param(
            {"weights": "a", "model": "m=x"},
            {"default": paths("a"), "m": paths("x")},
            id="both: weights first",
        ),
        pytest.param({"model": "default=x"}, {"default": paths("x")}, id="a model called default"),
    ],
)
def test_models_by_name(settings: dict[str, str], models: dict[str, object]) -> None:
    assert list(Settings(**settings).models.items()) == list(models.items())


def test_two_defaults_are_refused() -> None:
    with pytest.raises(ValidationError, match="'default' is the name of what DETECTOR_WEIGHTS gives"):
        Settings(weights="a", model="default=x")


def test_what_is_derived_from_settings() -> None:
    settings = Settings(device="cuda:0,cuda:1", max_bytes=10, max_pixels=20)
    assert settings.devices == ("cuda:0", "cuda:1")
    assert settings.limits == Limits(10, 20)


def test_keys_of_both_sources_and_shown_by_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_text(f"# clients\n\n  {KEY}-2  \n{KEY}-3\n")
    monkeypatch.setenv("DETECTOR_API_KEYS", f"{KEY}-1, {KEY}-2")
    settings = Settings(api_keys_file=file)
    assert settings.keys == {f"{KEY}-1", f"{KEY}-2", f"{KEY}-3"}
    for shown in (repr(settings), str(settings), settings.model_dump_json(), str(settings.model_dump())):
        assert KEY not in shown
    file.write_text(f"{KEY}-4\n")
    assert settings.keys == {f"{KEY}-1", f"{KEY}-2", f"{KEY}-4"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"# nobody yet\n", "holds no key", id="it would leave the service open"),
        pytest.param(f"{KEY}\n{KEY} anna\n".encode(), "line 2 of", id="a name beside the key"),
        pytest.param(b"\xff\xfe\x00", "it is no text", id="a foreign file"),
    ],
)
def test_a_file_of_keys_that_cannot_be_meant(content: bytes, message: str, tmp_path: Path) -> None:
    file = tmp_path / "keys.txt"
    file.write_bytes(content)
    with pytest.raises(ValidationError, match=message) as caught:
        Settings(api_keys_file=file)
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    ("variables", "port"),
    [
        ({}, 8000),
        ({"DETECTOR_PLATFORMS": "open-inference,label-studio"}, 8000),
        ({"SAGEMAKER_BIND_TO_PORT": "9000"}, 8000),
        ({"DETECTOR_PLATFORMS": "sagemaker"}, 8080),
        ({"DETECTOR_PLATFORMS": "sagemaker", "SAGEMAKER_BIND_TO_PORT": "9000"}, 9000),
        ({"DETECTOR_PLATFORMS": "vertex", "SAGEMAKER_BIND_TO_PORT": "9000"}, 8080),
        ({"DETECTOR_PLATFORMS": "vertex", "AIP_HTTP_PORT": "9001"}, 9001),
        ({"DETECTOR_PLATFORMS": "sagemaker,vertex", "AIP_HTTP_PORT": "9001"}, 9001),
        ({"DETECTOR_PLATFORMS": "sagemaker", "DETECTOR_PORT": "8000"}, 8000),
    ],
    ids=["ours", "platforms that run no containers", "a platform that is not served", "SageMaker's usual one",
         "SageMaker's variable", "another platform's variable", "Vertex AI's variable", "one of both tells",
         "ours, set"],
)  # fmt: skip
def test_the_port_that_a_platform_asks_at(
    monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], port: int
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert Settings().listening_port == port


@pytest.mark.parametrize(
    ("platform", "variable", "value", "message"),
    [
        ("sagemaker", "SAGEMAKER_BIND_TO_PORT", "tcp", "SAGEMAKER_BIND_TO_PORT holds 'tcp'"),
        ("vertex", "AIP_HTTP_PORT", "70000", "AIP_HTTP_PORT holds '70000'"),
        ("vertex", "AIP_PREDICT_ROUTE", "predict", "AIP_PREDICT_ROUTE holds 'predict', which is no path"),
        ("vertex", "AIP_PREDICT_ROUTE", "/{name}", "which is no path"),
        ("vertex", "AIP_PREDICT_ROUTE", "/detect", "a path of the service's own"),
        ("vertex", "AIP_HEALTH_ROUTE", "/", "AIP_HEALTH_ROUTE holds '/', which is no path"),
        ("vertex", "AIP_HEALTH_ROUTE", "/models", "a path of the service's own"),
    ],
    ids=["no number", "no port", "no slash", "a pattern", "our route", "the page", "a route with a key"],
)
def test_a_platforms_variable_that_makes_no_sense(
    monkeypatch: pytest.MonkeyPatch, platform: str, variable: str, value: str, message: str
) -> None:
    monkeypatch.setenv(variable, value)
    Settings()
    with pytest.raises(ValidationError, match=re.escape(message)):
        Settings(platforms=platform)


def test_every_setting_is_explained() -> None:
    for name, field in Settings.model_fields.items():
        assert field.description, name

"""Where the service looks: as the request says, else as it is set, else as its weights allow."""

from pathlib import Path

import httpx
import numpy as np
import pytest
from pydantic import ValidationError

from api.frontend.command import serve
from api.frontend.settings import Settings
from api.worker.loaded_model import load_model
from detector import Detector, load_detector
from detector.errors import ParameterError
from detector.options import Profile

PNG = {"Content-Type": "image/png"}
NEED_A_HEAD = [profile for profile in Profile if profile is not Profile.SEARCH]


@pytest.fixture(scope="module")
def detector(multibox_path: Path) -> Detector:
    return load_detector(multibox_path, device="cpu", max_proposals=7)


@pytest.mark.parametrize("profile", [*Profile, None])
def test_the_profile_is_passed_on(
    fast_client: httpx.Client, detector: Detector, pixels: np.ndarray, image: bytes, profile: Profile | None
) -> None:
    """The answer is the library's with that profile; without one, with that of the service's settings."""
    query = {"score_threshold": 0, "max_detections": 20} | ({"profile": profile.value} if profile else {})
    reply = fast_client.post("/detect", content=image, headers=PNG, params=query)
    assert reply.status_code == 200
    [expected] = detector.detect(
        [pixels], profile=profile or Profile.FAST, score_threshold=0.0, max_detections=20
    )
    assert reply.json()["detections"] == expected.as_dicts(detector.classes)


def test_profiles_differ(fast_client: httpx.Client, image: bytes) -> None:
    """Or the test above would show nothing."""
    found = {
        fast_client.post(
            "/detect", content=image, headers=PNG, params={"score_threshold": 0, "profile": name}
        ).content.split(b'"model"')[0]
        for name in Profile
    }
    assert len(found) >= 3


@pytest.mark.parametrize("profile", NEED_A_HEAD)
def test_weights_without_a_head_say_so(client: httpx.Client, image: bytes, profile: Profile) -> None:
    reply = client.post("/detect", content=image, headers=PNG, params={"profile": profile.value})
    assert reply.status_code == 501
    assert reply.json()["error"] == {
        "code": "not_supported",
        "message": "The model's weights have no MultiBox head. Leave profile out, or ask for profile=search.",
    }


def test_weights_without_a_head_can_be_searched_with(client: httpx.Client, image: bytes) -> None:
    """Asked for or not: it is what they are set to by themselves."""
    named, unnamed = (
        client.post("/detect", content=image, headers=PNG, params={"score_threshold": 0} | query).json()
        for query in ({"profile": "search"}, {})
    )
    assert named["detections"] == unnamed["detections"] != []


@pytest.mark.parametrize("profile", NEED_A_HEAD)
def test_a_service_cannot_be_set_to_what_its_weights_lack(checkpoint_path: Path, profile: Profile) -> None:
    """It does not start, instead of refusing every request."""
    settings = Settings(weights=checkpoint_path, device="cpu", profile=profile)
    with pytest.raises(ParameterError, match=f"profile {profile} needs a MultiBox head"):
        load_model("default", settings.worker_settings()[0])


@pytest.mark.parametrize(
    ("value", "profile"),
    [
        ("fast", Profile.FAST),
        ("balanced", Profile.BALANCED),
        ("search", Profile.SEARCH),
        ("", None),
        (None, None),
    ],
)
def test_the_setting(monkeypatch: pytest.MonkeyPatch, value: str | None, profile: Profile | None) -> None:
    monkeypatch.delenv("DETECTOR_PROFILE", raising=False)
    if value is not None:
        monkeypatch.setenv("DETECTOR_PROFILE", value)
    assert Settings().profile is profile


def test_an_unknown_profile_in_the_settings_ends_at_once(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DETECTOR_PROFILE", "turbo")
    with pytest.raises(ValidationError):
        Settings()
    assert serve([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("DETECTOR_PROFILE: ")
    assert all(profile in said for profile in Profile)

"""``score_threshold=auto`` in the service: weights with thresholds, and those without."""

import json
from dataclasses import replace
from pathlib import Path

import httpx
import numpy as np
import pytest

from api.frontend.schemas import DetectOptions
from api.frontend.settings import Settings
from api.protocol.errors import ApiError
from api.protocol.messages import DetectTask
from api.worker.handlers import Stopwatch, handle_task
from api.worker.loaded_model import load_model
from detector import load_detector
from detector.inference.thresholds import Thresholds
from detector.io.decoding import Limits
from detector.models.weights import change_metadata

PNG = {"Content-Type": "image/png"}
AUTO = DetectTask("auto", 100, None, None, "json", None)


def test_each_class_from_its_own_score_on(
    eager_path: Path, pixels: np.ndarray, image: bytes, tmp_path: Path
) -> None:
    """As the library does; and ``GET /models`` tells what share is right."""
    path, options = tmp_path / "measured.safetensors", {"device": "cpu", "max_proposals": 4}
    every = load_detector(eager_path, **options).detect(pixels, score_threshold=0.0)
    least = float(np.median(every.scores))
    scores = [least] * 200
    scores[int(every.labels[0])] = None  # type: ignore[call-overload]
    change_metadata(eager_path, path, thresholds=Thresholds(0.8, least, tuple(scores), "some pictures"))

    model = load_model("default", Settings(weights=path, **options).worker_settings()[0])
    assert model.info["precision_wanted"] == 0.8
    found = json.loads(handle_task(AUTO, model, image, Limits(), Stopwatch()).body)
    expected = load_detector(path, **options).detect(pixels, score_threshold="auto")
    assert found == expected.as_dicts()
    assert 0 < len(found) < len(every)
    assert every.names[0] not in {one["label"] for one in found}


def test_weights_that_were_not_measured_say_what_to_do(eager_client: httpx.Client, image: bytes) -> None:
    reply = eager_client.post("/detect?score_threshold=auto", content=image, headers=PNG)
    assert reply.status_code == 422
    error = reply.json()["error"]
    assert error["code"] == "invalid_parameter"
    assert "evaluate --thresholds-to" in error["message"]
    assert [one["precision_wanted"] for one in eager_client.get("/models").json()["models"]] == [None, None]


def test_they_are_refused_before_the_picture_is_decoded(eager_path: Path) -> None:
    model = load_model("default", Settings(weights=eager_path, device="cpu").worker_settings()[0])
    with pytest.raises(ApiError, match="no thresholds were measured"):
        handle_task(AUTO, model, b"no picture", Limits(), Stopwatch())
    with pytest.raises(ApiError, match="no thresholds were measured"):
        handle_task(replace(AUTO, tile=64), model, b"no picture", Limits(), Stopwatch())


@pytest.mark.parametrize(
    ("value", "expected"), [("auto", "auto"), ("0.5", 0.5), ("0", 0.0), ("1", 1.0), ("1e-3", 0.001)]
)
def test_scores_and_auto_are_read_from_a_query(value: str, expected: float | str) -> None:
    assert DetectOptions(score_threshold=value).score_threshold == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ("Auto", "Input should be a valid number, unable to parse string as a number, or 'auto'"),
        ("nan", "Input should be a finite number, or 'auto'"),
        ("1.5", "Input should be less than or equal to 1, or 'auto'"),
        ("-0.1", "Input should be greater than or equal to 0, or 'auto'"),
    ],
)
def test_what_is_neither_is_named(eager_client: httpx.Client, image: bytes, value: str, says: str) -> None:
    reply = eager_client.post("/detect", params={"score_threshold": value}, content=image, headers=PNG)
    assert reply.status_code == 422
    assert reply.json()["error"]["message"] == f"score_threshold: {says}. See /docs."

"""A service of several weights, and one whose weights ask for a second look."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from api.frontend.settings import Settings
from api.protocol.messages import ClassifyTask, DetectTask
from api.worker.handlers import Result, Stopwatch, handle_task
from api.worker.loaded_model import load_model
from detector import Scoring, load_classifier, load_detector
from detector.io.decoding import Limits
from detector.models.checkpoint import load_checkpoint, save_checkpoint


@pytest.mark.parametrize(
    ("value", "paths"),
    [
        ("a.safetensors", ("a.safetensors",)),
        ("a.safetensors:runs/b.safetensors", ("a.safetensors", "runs/b.safetensors")),
        ("", None),
    ],
    ids=["one", "two", "none: the shipped ones"],
)
def test_the_setting(monkeypatch: pytest.MonkeyPatch, value: str, paths: tuple[str, ...] | None) -> None:
    monkeypatch.setenv("DETECTOR_WEIGHTS", value)
    assert Settings().weights == (tuple(map(Path, paths)) if paths else None)


def _answers(weights: list[Path], image: bytes) -> tuple[Result, Result]:
    """What a worker with these weights says of a picture."""
    settings = Settings(weights=tuple(weights), device="cpu", max_proposals=6).worker_settings()[0]
    model = load_model("default", settings)
    tasks = (DetectTask(0.0, 5, None, None, "json", None), ClassifyTask(top=2, crops=1))
    detected, classified = (handle_task(task, model, image, Limits(), Stopwatch()) for task in tasks)
    return detected, classified


def test_two_weights_answer_as_one(
    checkpoint_path: Path, multibox_path: Path, pixels: np.ndarray, image: bytes
) -> None:
    both = [checkpoint_path, multibox_path]
    detected, classified = _answers(both, image)
    detector = load_detector(both, device="cpu", max_proposals=6)
    assert detected.about["model"] == classified.about["model"] == detector.name
    assert detector.name.count(" + ") == 1
    [expected] = detector.detect([pixels], score_threshold=0.0, max_detections=5)
    assert json.loads(detected.body) == expected.as_dicts(detector.classes)
    classifier = load_classifier(both, device="cpu")
    assert json.loads(classified.body) == classifier.classify([pixels], top=2)[0].as_dicts(classifier.classes)


@pytest.mark.exhaustive
def test_the_weights_scoring_is_used(
    checkpoint_path: Path, pixels: np.ndarray, image: bytes, tmp_path: Path
) -> None:
    """All of it: the service answers as the library does, and otherwise than without."""
    whole, path = load_checkpoint(checkpoint_path), tmp_path / "scoring.safetensors"
    scoring = Scoring(fit_power=0.5, context_power=0.5, vote_iou=0.5, flip=True)
    save_checkpoint(path, replace(whole, metadata=replace(whole.metadata, scoring=scoring)))
    detected, _ = _answers([path], image)
    detector = load_detector(path, device="cpu", max_proposals=6)
    assert detector.scoring == scoring
    [expected] = detector.detect([pixels], score_threshold=0.0, max_detections=5)
    assert json.loads(detected.body) == expected.as_dicts(detector.classes)
    plain, _ = _answers([checkpoint_path], image)
    assert detected.body != plain.body

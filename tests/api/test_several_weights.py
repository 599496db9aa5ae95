"""A service of several weights, and one whose weights ask for a second look."""

import asyncio
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from api.inference import Answer, SingleWorker
from api.settings import Settings
from detector import Scoring, load_classifier, load_detector
from detector.checkpoints import load_checkpoint, save_checkpoint


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


def _answers(weights: list[Path], pixels: np.ndarray) -> tuple[Answer, Answer]:
    async def ask() -> tuple[Answer, Answer]:
        await worker.load()
        return (
            await worker.detect(pixels, profile=None, score_threshold=0.0, max_detections=5),
            await worker.classify(pixels, top=2, crops=1),
        )

    worker = SingleWorker(weights, device="cpu", max_proposals=6)
    try:
        return asyncio.run(ask())
    finally:
        worker.close()


def test_two_weights_answer_as_one(checkpoint_path: Path, multibox_path: Path, pixels: np.ndarray) -> None:
    both = [checkpoint_path, multibox_path]
    detected, classified = _answers(both, pixels)
    detector = load_detector(both, device="cpu", max_proposals=6)
    assert detected.model == classified.model == detector.name
    assert detected.model.count(" + ") == 1
    [expected] = detector.detect([pixels], score_threshold=0.0, max_detections=5)
    assert detected.items == expected.as_dicts(detector.classes)
    classifier = load_classifier(both, device="cpu")
    assert classified.items == classifier.classify([pixels], top=2)[0].as_dicts(classifier.classes)


def test_the_weights_scoring_is_used(checkpoint_path: Path, pixels: np.ndarray, tmp_path: Path) -> None:
    """All of it: the service answers as the library does, and otherwise than without."""
    whole, path = load_checkpoint(checkpoint_path), tmp_path / "scoring.safetensors"
    scoring = Scoring(fit_power=0.5, context_power=0.5, refine=1, vote_iou=0.5, flip=True)
    save_checkpoint(path, replace(whole, metadata=replace(whole.metadata, scoring=scoring)))
    detected, _ = _answers([path], pixels)
    detector = load_detector(path, device="cpu", max_proposals=6)
    assert detector.scoring == scoring
    [expected] = detector.detect([pixels], score_threshold=0.0, max_detections=5)
    assert detected.items == expected.as_dicts(detector.classes)
    plain, _ = _answers([checkpoint_path], pixels)
    assert detected.items != plain.items

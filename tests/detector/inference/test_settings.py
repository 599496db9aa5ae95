"""Settings that are sent to another process, where they load the same detector."""

import copy
import pickle
from dataclasses import FrozenInstanceError, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.errors import CheckpointError, ParameterError
from detector.inference.loading import load_classifier
from detector.inference.settings import DetectorSettings
from detector.options import Engine, Profile


@pytest.fixture(scope="module")
def settings(multibox_path: Path) -> DetectorSettings:
    bare = DetectorSettings(weights=(multibox_path,))
    return replace(
        bare,
        engine=Engine.OPENVINO,
        device="cpu",
        profile=Profile.FAST,
        max_proposals=5,
        score_threshold=0.0,
        max_detections=7,
        classes=bare.class_list().names[::3],
    )


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)


def found_elsewhere(settings: DetectorSettings) -> list[dict[str, Any]]:
    """What a process finds that was given nothing but the settings."""
    return settings.finder(settings.load())(image()).as_dicts()


def test_a_spawned_process_loads_the_same(settings: DetectorSettings) -> None:
    with get_context("spawn").Pool(1) as pool:
        there = pool.apply(found_elsewhere, (settings,))
    here = found_elsewhere(settings)
    assert len(here) == 7, "max_detections"
    assert {entry["label"] for entry in here} <= set(settings.classes or ())
    assert [entry["label"] for entry in there] == [entry["label"] for entry in here]
    assert [entry["score"] for entry in there] == pytest.approx([entry["score"] for entry in here], abs=2e-4)


def test_they_are_a_value(settings: DetectorSettings) -> None:
    assert pickle.loads(pickle.dumps(settings)) == settings
    assert replace(settings, tile=128) != settings
    assert len({settings, replace(settings)}) == 1
    with pytest.raises(FrozenInstanceError):
        settings.tile = 64  # type: ignore[misc]


def test_weights_are_told_by_what_they_hold(
    settings: DetectorSettings, checkpoint_path: Path, tmp_path: Path
) -> None:
    """Another machine may have another file under the same path."""
    digests = settings.weights_digests()
    copied = tmp_path / "copied.safetensors"
    copied.write_bytes(settings.weights[0].read_bytes())
    replace(settings, weights=(copied,)).check_weights(digests)
    with pytest.raises(CheckpointError, match="put the same file there"):
        replace(settings, weights=(checkpoint_path,)).check_weights(digests)


def test_what_cannot_be_served_is_refused(settings: DetectorSettings) -> None:
    with pytest.raises(ParameterError, match="no class 'zeppelin'"):
        replace(settings, classes="zeppelin").finder(settings.load())


def test_what_is_loaded_is_not_sent_and_says_what_is(settings: DetectorSettings) -> None:
    detector, classifier = settings.load(), load_classifier(engine="openvino", device="cpu")
    for again in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(ParameterError, match=r"send a detector\.inference\.settings\.DetectorSettings"):
            again(detector)
        with pytest.raises(ParameterError, match="call load_classifier there"):
            again(classifier)

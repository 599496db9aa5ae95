"""Thresholds in weights files: written, read, exported, and dropped where scores become others."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import onnx
import pytest

from detector.errors import CheckpointError
from detector.graphs.exported import Task, exported_model
from detector.inference.thresholds import Thresholds
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.checkpoint_file import write_file
from detector.models.transfer import attach_multibox_head, transfer
from detector.models.weights import change_metadata, read_metadata, read_weights
from detector.structures.classes import ClassList
from tests.detector.models.verified import verify_checkpoint

THRESHOLDS = Thresholds(0.7, 0.4, (0.25, None, *[0.4] * 198), "200 pictures")


def test_thresholds_stand_in_a_checkpoint_and_in_what_is_exported_from_it(
    checkpoint_path: Path, tmp_path: Path
) -> None:
    """The tensors are not touched; weights without thresholds have none, as all earlier ones."""
    path, graph = tmp_path / "weights.safetensors", tmp_path / "weights.onnx"
    assert read_metadata(checkpoint_path).thresholds is None
    change_metadata(checkpoint_path, path, thresholds=THRESHOLDS)
    assert verify_checkpoint(path).thresholds == THRESHOLDS
    before, after = read_weights(checkpoint_path), read_weights(path)
    assert replace(after.metadata, thresholds=None) == before.metadata
    assert {name: value.tobytes() for name, value in after.tensors.items()} == {
        name: value.tobytes() for name, value in before.tensors.items()
    }
    onnx.save(exported_model(after, Task.DETECT, "float32"), graph)
    assert read_metadata(graph).thresholds == THRESHOLDS


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(
            lambda checkpoint: transfer(checkpoint, ClassList.of(["dog", "cat"])), id="other classes"
        ),
        pytest.param(lambda checkpoint: attach_multibox_head(checkpoint, checkpoint), id="another head"),
    ],
)
def test_thresholds_of_other_scores_are_dropped(
    multibox_path: Path, change: Callable[[Checkpoint], Checkpoint]
) -> None:
    whole = load_checkpoint(multibox_path)
    measured = replace(whole, metadata=replace(whole.metadata, thresholds=THRESHOLDS))
    assert change(measured).metadata.thresholds is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"precision": 70}, "precision wanted must lie between 0 and 1, got 70"),
        ({"common": -0.1}, r"thresholds must be scores in 0\.\.1"),
        ({"common": "high"}, r"thresholds must be scores in 0\.\.1"),
        ({"scores": [0.5]}, "a score for each of the 200 classes"),
        ({"scores": [2.0] * 200}, r"thresholds must be scores in 0\.\.1"),
        ({"measured_on": 5}, "measured_on of thresholds must be text"),
        ({"more": 1}, "thresholds must have the entries common, measured_on"),
    ],
)
def test_thresholds_that_are_none(
    multibox_path: Path, tmp_path: Path, changes: dict[str, object], says: str
) -> None:
    header = {**read_metadata(multibox_path).as_json(), "thresholds": {**asdict(THRESHOLDS), **changes}}
    path = tmp_path / "weights.safetensors"
    write_file(path, header, {})
    with pytest.raises(CheckpointError, match=says):
        read_metadata(path)

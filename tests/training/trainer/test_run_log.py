"""TensorBoard's charts of a run that was cut off."""

from pathlib import Path

import pytest

from training.trainer.run_log import open_board, show


def written(folder: Path, iterations: range, value: float) -> None:
    """The figures of a process that ran these iterations."""
    board = open_board(folder, iterations.start)
    for iteration in iterations:
        show(board, "train", iteration, {"total": value, "box": 2 * value})
    board.close()


def test_what_is_done_again_is_shown_once(tmp_path: Path) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    written(tmp_path, range(0, 5), 1.0)
    written(tmp_path, range(3, 6), 8.0)  # its last state was that of iteration 3
    events = accumulator.EventAccumulator(str(tmp_path))
    events.Reload()
    assert events.Tags()["scalars"] == ["train/total", "train/box"]
    shown = [(event.step, event.value) for event in events.Scalars("train/total")]
    assert shown == [(0, 1), (1, 1), (2, 1), (3, 8), (4, 8), (5, 8)]

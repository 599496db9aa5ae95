"""The log of a run that was cut off, and its charts in TensorBoard."""

import errno
from pathlib import Path

import pytest

from training.trainer.run_log import Lines, lines_before, log_lines, open_tensorboard, show


def written(folder: Path, iterations: range, value: float) -> None:
    """The figures of a process that ran these iterations."""
    board = open_tensorboard(folder, iterations.start)
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


LOGS = [
    pytest.param(b'{"iteration": 0}\n{"iteration": 1}\n', [0, 1], id="whole"),
    pytest.param(b'{"iteration": 0}\n{"iterat', [0], id="half a line at the end"),
    pytest.param(b'{"iteration": 0}\n{"iterat\n', [0], id="half a line with its end"),
    pytest.param(
        b'{"iterat{"iteration": 0}\n{"iteration": 1}\n', [1], id="half a line, and gone on behind it"
    ),
    pytest.param(b'{"iteration": 0}\n' + bytes(40), [0], id="zeros after a power cut"),
    pytest.param(b'\xff\xfe{}\n{"iteration": 1}\n', [1], id="no text"),
    pytest.param(b'7\n[]\n{"loss": 1}\n{"iteration": "2"}\n{"iteration": 1}\n', [1], id="other JSON"),
    pytest.param(b"", [], id="empty"),
    pytest.param(None, [], id="no log"),
]


@pytest.mark.parametrize(("content", "iterations"), LOGS)
def test_what_a_kill_left_of_a_log(tmp_path: Path, content: bytes | None, iterations: list[int]) -> None:
    path = tmp_path / "log.jsonl"
    if content is not None:
        path.write_bytes(content)
    assert [entry["iteration"] for _, entry in log_lines(path)] == iterations
    Lines(path, 1).add({"iteration": 1})
    assert len(lines_before(path, 2)) == len([one for one in iterations if one < 1]) + 1


def test_a_log_without_room(small_disk: Path) -> None:
    path = small_disk / "log.jsonl"
    lines = Lines(path, 0)
    (small_disk / "rest").write_bytes(bytes(2**20 - 8192))

    def write() -> None:
        for iteration in range(1000):
            lines.add({"iteration": iteration, "loss": 0.5})

    with pytest.raises(OSError, match=r"log\.jsonl") as raised:
        write()
    assert raised.value.errno == errno.ENOSPC
    (small_disk / "rest").unlink()
    kept = len(log_lines(path))
    Lines(path, kept).add({"iteration": kept, "loss": 0.5})
    assert len(log_lines(path)) == kept + 1

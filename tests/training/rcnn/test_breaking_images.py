"""Pictures that break while a run is under way cost themselves and nothing else."""

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest

from tests.detector.models.verified import verify_checkpoint
from tests.training.runs import KINDS, train_kind
from training.trainer.run_log import log_lines


def _started(data: Path, init_path: Path, output: Path, kind: str) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(
        target=train_kind, args=(data, init_path, output, kind)
    )
    process.start()
    return process


def _killed_midway(data: Path, init_path: Path, output: Path, kind: str) -> Path:
    """A picture of a run that was killed after its third iteration, and that is cut off since."""
    log = output / "log.jsonl"
    process = _started(data, init_path, output, kind)
    while process.is_alive() and (not log.exists() or len(log.read_text().splitlines()) < 3):
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it was killed before its end"
    broken = min((data / "JPEGImages").iterdir())
    os.truncate(broken, broken.stat().st_size // 2)
    return broken


def _ends(data: Path, init_path: Path, output: Path, kind: str) -> int | None:
    process = _started(data, init_path, output, kind)
    process.join()
    return process.exitcode


def _check_whole(output: Path, kind: str) -> None:
    verify_checkpoint(output / "detector.safetensors")
    iterations = [entry["iteration"] for _, entry in log_lines(output / "log.jsonl")]
    assert iterations == list(range(KINDS[kind].iterations))


@pytest.mark.exhaustive
def test_a_streamed_run_goes_on_without_a_picture_that_broke(
    data: Path, init_path: Path, tmp_path: Path
) -> None:
    mine, output = tmp_path / "data", tmp_path / "output"
    shutil.copytree(data, mine)
    broken = _killed_midway(mine, init_path, output, "streamed")
    assert _ends(mine, init_path, output, "streamed") == 0
    _check_whole(output, "streamed")
    assert (output / "broken.txt").read_text().split() == [broken.stem]


@pytest.mark.exhaustive
def test_a_run_on_kept_maps_goes_on_once_a_picture_that_broke_is_back(
    data: Path, init_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Without it the numbers of all regions would be others, and so every minibatch."""
    mine, output = tmp_path / "data", tmp_path / "output"
    shutil.copytree(data, mine)
    broken = _killed_midway(mine, init_path, output, "cached")
    assert _ends(mine, init_path, output, "cached") == 1
    assert "bring them back, and it goes on" in capfd.readouterr().err
    shutil.copy(data / "JPEGImages" / broken.name, broken)
    assert _ends(mine, init_path, output, "cached") == 0
    _check_whole(output, "cached")

"""Pictures that break while a run is under way cost themselves and nothing else."""

import multiprocessing
import os
import shutil
import signal
import time
from pathlib import Path

import pytest
from runs import KINDS, train_kind

from detector.checkpoints import verify_checkpoint
from training.running.run_log import log_lines


def _started(data: Path, init_path: Path, output: Path, kind: str) -> multiprocessing.process.BaseProcess:
    process = multiprocessing.get_context("spawn").Process(
        target=train_kind, args=(data, init_path, output, kind)
    )
    process.start()
    return process


@pytest.mark.parametrize("kind", list(KINDS))
def test_a_picture_breaks_between_two_parts_of_a_run(
    data: Path, init_path: Path, tmp_path: Path, kind: str
) -> None:
    """kill -9, one of the three pictures is cut off, and the same command goes on to the end.

    Where pictures are read anew, the broken one is named once; where their maps were kept, it is not needed.
    """
    mine, output = tmp_path / "data", tmp_path / "output"
    shutil.copytree(data, mine)
    log = output / "log.jsonl"
    process = _started(mine, init_path, output, kind)
    while process.is_alive() and (not log.exists() or len(log.read_text().splitlines()) < 3):
        time.sleep(0.005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, "it was killed before its end"
    broken = min((mine / "JPEGImages").iterdir())
    os.truncate(broken, broken.stat().st_size // 2)
    process = _started(mine, init_path, output, kind)
    process.join()
    assert process.exitcode == 0
    assert [entry["iteration"] for _, entry in log_lines(log)] == list(range(KINDS[kind].iterations))
    verify_checkpoint(output / "detector.safetensors")
    named = (output / "broken.txt").read_text().split() if (output / "broken.txt").exists() else []
    assert named == ([broken.stem] if kind == "streamed" else [])

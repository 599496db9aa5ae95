"""Runs that are killed and go on, alone and among several processes, end as if nothing had happened."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from runs import KINDS

ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}
RUNS = Path(__file__).parent / "runs.py"


def state(output: Path) -> dict[str, torch.Tensor]:
    """All tensors of a run's state file, by part and name."""
    from safetensors.torch import load_file

    return load_file(output / "state.safetensors")


def lines(output: Path, name: str = "log.jsonl") -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


@pytest.fixture(scope="module", params=list(KINDS))
def undisturbed(
    request: pytest.FixtureRequest, data: Path, init_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A run of each kind, in a process of its own like those that are killed."""
    output = tmp_path_factory.mktemp(request.param)
    subprocess.run(
        [sys.executable, RUNS, data, init_path, output, request.param],
        check=True, capture_output=True, env=ONE_THREAD,
    )  # fmt: skip
    return request.param, output


def test_killed_three_times_equals_undisturbed(
    undisturbed: tuple[str, Path], data: Path, init_path: Path, tmp_path: Path
) -> None:
    """kill -9 when so many lines are in the log, wherever the process is then; every bit is the same."""
    kind, expected = undisturbed
    shutil.copytree(expected / "cache", tmp_path / "cache")  # what takes time and is tested elsewhere
    command = [sys.executable, RUNS, data, init_path, tmp_path, kind]
    for until in (1, 4, 6):
        process = subprocess.Popen(
            command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL, env=ONE_THREAD
        )
        log = tmp_path / "log.jsonl"
        deadline = time.monotonic() + 120
        while (not log.exists() or len(log.read_text().splitlines()) < until) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert not (tmp_path / "detector.safetensors").exists()
    subprocess.run(command, check=True, capture_output=True, env=ONE_THREAD)
    mine, others = state(tmp_path), state(expected)
    assert mine.keys() == others.keys()
    for name, value in others.items():
        assert torch.equal(mine[name], value), name
    assert lines(tmp_path) == lines(expected)
    assert [line["iteration"] for line in lines(tmp_path)] == list(range(len(lines(expected))))
    assert lines(tmp_path, "held_out.jsonl") == lines(expected, "held_out.jsonl")
    assert (tmp_path / "detector.safetensors").read_bytes() == (
        expected / "detector.safetensors"
    ).read_bytes()


def test_two_processes_do_what_one_does_though_one_is_killed(
    undisturbed: tuple[str, Path], data: Path, init_path: Path, tmp_path: Path
) -> None:
    """torchrun starts both again. Sums of two shares are rounded otherwise, and other outputs drop out."""
    kind, expected = undisturbed
    shutil.copytree(expected / "cache", tmp_path / "cache")
    subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--max-restarts", "1",
            "--master-port", "0", "--standalone",
            RUNS, data, init_path, tmp_path, kind, "--kill",
        ],
        check=True, capture_output=True, env=ONE_THREAD,
    )  # fmt: skip
    assert (tmp_path / "killed").exists()
    assert (tmp_path / "detector.safetensors").exists()
    assert [line["iteration"] for line in lines(tmp_path)] == list(range(len(lines(expected))))
    for mine, other in zip(lines(tmp_path), lines(expected), strict=True):
        assert mine["rate"] == other["rate"]
        assert mine["total"] == pytest.approx(other["total"], rel=0.1)

"""Runs that are killed and go on, alone and among several processes, end as if nothing had happened."""

import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.training.runs import KINDS, STEADY, train_kind

pytestmark = pytest.mark.exhaustive

RUNS = Path(__file__).parents[1] / "runs.py"
Start = Callable[[str, Path], multiprocessing.process.BaseProcess]


def lines(output: Path, name: str = "log.jsonl") -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


@pytest.fixture(scope="module")
def start(data: Path, init_path: Path) -> Iterator[Start]:
    """Starts a run in a process of its own, of one thread. Modules are imported once, in their parent."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["training.rcnn.finetuning", "training.multibox.dataset"])

        def process(kind: str, output: Path) -> multiprocessing.process.BaseProcess:
            started = context.Process(target=train_kind, args=(data, init_path, output, kind))
            started.start()
            return started

        yield process


@pytest.fixture(scope="module", params=list(KINDS))
def undisturbed(
    request: pytest.FixtureRequest, start: Start, tmp_path_factory: pytest.TempPathFactory
) -> tuple[str, Path]:
    """A run of each kind."""
    output = tmp_path_factory.mktemp(request.param)
    process = start(request.param, output)
    process.join()
    assert process.exitcode == 0
    return request.param, output


def test_killed_three_times_equals_undisturbed(
    undisturbed: tuple[str, Path], start: Start, tmp_path: Path
) -> None:
    """kill -9 when so many lines are in the log, wherever the process is then; every bit is the same."""
    kind, expected = undisturbed
    if (expected / "cache").exists():  # what takes time and is tested elsewhere
        shutil.copytree(expected / "cache", tmp_path / "cache")
    log = tmp_path / "log.jsonl"
    for until in (1, 3, 4):
        process = start(kind, tmp_path)
        while process.is_alive() and (not log.exists() or len(log.read_text().splitlines()) < until):
            time.sleep(0.005)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it was killed before its end"
    process = start(kind, tmp_path)
    process.join()
    assert process.exitcode == 0
    mine, others = (load_file(output / "state.safetensors") for output in (tmp_path, expected))
    assert mine.keys() == others.keys()
    for name, value in others.items():
        assert torch.equal(mine[name], value), name
    assert lines(tmp_path) == lines(expected)
    assert [line["iteration"] for line in lines(tmp_path)] == list(range(KINDS[kind].iterations))
    assert lines(tmp_path, "held_out.jsonl") == lines(expected, "held_out.jsonl")
    assert (tmp_path / "detector.safetensors").read_bytes() == (
        expected / "detector.safetensors"
    ).read_bytes()


def run_two(data: Path, init_path: Path, output: Path, kind: str) -> None:
    """Two processes, which torchrun starts again when the second one is killed."""
    done = subprocess.run(
        [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "--max-restarts", "1", "--monitor-interval", "0.1",
            RUNS, data, init_path, output, kind,
        ],
        capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (output / "killed").exists()


def run_on_two_machines(data: Path, init_path: Path, output: Path, kind: str) -> None:
    """Two agents of torchrun that meet at an address, each with one process, as on two machines that share a
    folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1",
        "--rdzv-backend", "c10d", "--rdzv-endpoint", f"127.0.0.1:{port}", "--rdzv-id", "test",
        "--max-restarts", "1", "--monitor-interval", "0.1",
        RUNS, data, init_path, output, kind,
    ]  # fmt: skip
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    agents = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )
        for _ in range(2)
    ]
    said = [agent.communicate(timeout=300)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], said
    assert (output / "killed").exists()


@pytest.mark.parametrize("undisturbed", [STEADY], indirect=True)
@pytest.mark.parametrize(
    "run",
    [
        pytest.param(run_two, id="on one machine"),
        pytest.param(run_on_two_machines, id="on two"),
    ],
)
def test_two_processes_do_what_one_does_though_one_is_killed(
    undisturbed: tuple[str, Path],
    data: Path,
    init_path: Path,
    tmp_path: Path,
    run: Callable[[Path, Path, Path, str], None],
) -> None:
    """Sums of two shares are rounded otherwise."""
    kind, expected = undisturbed
    shutil.copytree(expected / "cache", tmp_path / "cache")
    run(data, init_path, tmp_path, kind)
    for name in ("log.jsonl", "held_out.jsonl"):
        mine, others = lines(tmp_path, name), lines(expected, name)
        assert [line["iteration"] for line in mine] == [line["iteration"] for line in others]
        for mine_line, other in zip(mine, others, strict=True):
            assert mine_line == pytest.approx(other, rel=0.01, abs=1e-3)
    mine, others = (load_file(output / "detector.safetensors") for output in (tmp_path, expected))
    assert mine.keys() == others.keys()
    for name, value in others.items():
        assert torch.allclose(mine[name].float(), value.float(), rtol=0.01, atol=1e-3), name


def test_two_that_train_jointly_do_the_same_though_one_is_killed(
    data: Path, init_path: Path, tmp_path: Path
) -> None:
    """Each draws the regions of its own images: they are compared with two that nobody disturbs."""
    killed, calm = tmp_path / "killed_once", tmp_path / "calm"
    calm.mkdir()
    (calm / "killed").touch()
    for output in (killed, calm):
        run_two(data, init_path, output, "joint_by_two")
    assert [line["iteration"] for line in lines(calm)] == list(range(6))
    for name in ("log.jsonl", "held_out.jsonl"):
        assert lines(killed, name) == lines(calm, name)
    mine, others = (load_file(output / "detector.safetensors") for output in (killed, calm))
    assert mine.keys() == others.keys()
    for name, value in others.items():
        assert torch.equal(mine[name], value), name

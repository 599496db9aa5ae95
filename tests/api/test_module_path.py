"""Which files the service imports: never those of the folder that it happens to be started in."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.api.test_lifecycle import Log, environment

DETECTOR = Path(sys.executable).with_name("detector")
AS_MODULE = [sys.executable, "-P", "-m", "api"]
SHADOWS = ("random", "queue", "types", "socket", "api", "detector", "torch", "orjson", "sitecustomize")
"""Modules of the standard library, of others and of the project, each of which the worker imports."""


def start(command: list[str], weights: Path, folder: Path, **variables: str) -> "subprocess.Popen[str]":
    settings = {"port": 0, "device": "cpu", "max_proposals": 5, "profile": "fast", "weights": weights}
    return subprocess.Popen(
        command, cwd=folder, env=environment(**settings) | variables, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "command",
    [
        pytest.param([str(DETECTOR), "serve"], id="the command"),
        pytest.param(AS_MODULE, id="as make serve starts it"),
    ],
)
def test_files_named_like_modules_in_the_current_folder(
    command: list[str], multibox_path: Path, tmp_path: Path
) -> None:
    for name in SHADOWS:
        (tmp_path / f"{name}.py").write_text("raise ImportError('mine')")
    process = start(command, multibox_path, tmp_path)
    try:
        Log(process).wait_for("Ready")
    finally:
        process.kill()
        process.wait()


@pytest.mark.exhaustive
def test_pythonpath_goes_on_working(multibox_path: Path, tmp_path: Path) -> None:
    """A broken package on it is the front's to report, by its own error and not as one of the weights."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "cv2.py").write_text("raise ImportError('libGL.so.1 is missing')")
    process = start(AS_MODULE, multibox_path, tmp_path, PYTHONPATH=str(modules))
    _, log = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "cannot start: the worker's modules cannot be imported: ImportError: libGL.so.1 is missing" in log
    assert "weights" not in log
    assert "Traceback" not in log


@pytest.mark.exhaustive
def test_a_worker_that_is_ended_before_it_is_ready_is_no_fault_of_the_weights(
    multibox_path: Path, tmp_path: Path
) -> None:
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "cv2.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)")
    process = start(AS_MODULE, multibox_path, tmp_path, PYTHONPATH=str(modules))
    _, log = process.communicate(timeout=600)
    assert process.returncode == 1
    assert "was ended from outside (Killed)" in log
    assert "weights" not in log


@pytest.mark.parametrize("folder", ["training", "benchmarks"])
def test_no_script_s_folder_shadows_a_module(folder: str) -> None:
    """``python training/finetune_det.py`` puts the script's folder before everything else."""
    root = Path(__file__).parents[2]
    names = {path.stem for path in (root / folder).iterdir() if path.suffix == ".py" or path.is_dir()}
    code = "import sys, importlib.metadata as m; print(*sys.stdlib_module_names, *m.packages_distributions())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True, cwd=os.sep
    )
    assert not names & set(done.stdout.split()) - {"__init__", "__pycache__"}

"""Conditions of a run: commands that others can type, nothing of whose machine it was."""

import platform
import subprocess
from pathlib import Path

import pytest

from detector.evaluation.run_conditions import ROOT, code, command_line, data_name, hardware, versions
from detector.evaluation.run_record import Code

SCRIPT = str(ROOT / "benchmarks/detection.py")
DATA = Path("/home/ada/sets/voc100")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        pytest.param(
            [SCRIPT, "--images", "3"], "python benchmarks/detection.py --images 3", id="a script, by its path"
        ),
        pytest.param(["/home/ada/.venv/bin/detector", "bench"], "detector bench", id="the installed command"),
        pytest.param(
            [str(ROOT / "detector/cli/entry.py"), "bench"], "detector bench", id="the same, as a module"
        ),
        pytest.param(
            [SCRIPT, "--data", str(DATA)], "python benchmarks/detection.py --data VOC", id="the data"
        ),
        pytest.param(
            [SCRIPT, f"--data={DATA}/JPEGImages"],
            "python benchmarks/detection.py --data=VOC/JPEGImages",
            id="a folder of the data",
        ),
        pytest.param(
            [SCRIPT, "--weights", "/home/ada/a.safetensors:../b.safetensors"],
            "python benchmarks/detection.py --weights a.safetensors:b.safetensors",
            id="files of elsewhere, by their names",
        ),
        pytest.param(
            [SCRIPT, "--data", str(ROOT / "examples")],
            "python benchmarks/detection.py --data examples",
            id="a folder of the project",
        ),
        pytest.param(
            [SCRIPT, "--cache", "~/detections"],
            "python benchmarks/detection.py --cache detections",
            id="somebody's home that no shell has written out",
        ),
        pytest.param(
            [SCRIPT, "--save", "/tmp/run.json", "--called", "VOC", "--save=/tmp/run.json", "--images", "3"],
            "python benchmarks/detection.py --images 3",
            id="how it was saved is left out",
        ),
        pytest.param(
            [SCRIPT, "--name", "two words"], "python benchmarks/detection.py --name 'two words'", id="quoted"
        ),
    ],
)
def test_a_command_is_one_that_others_can_type(arguments: list[str], expected: str) -> None:
    told = command_line(arguments, data=DATA, called="VOC", without=("--save", "--called"), environment={})
    assert told == expected


def test_the_number_of_threads_stands_before_it() -> None:
    """It moves every figure; other variables may be anything and are left out."""
    environment = {"OMP_NUM_THREADS": "2", "HOME": "/home/ada"}
    told = command_line([SCRIPT], environment=environment)
    assert told == "OMP_NUM_THREADS=2 python benchmarks/detection.py"


@pytest.mark.parametrize(
    ("path", "called", "expected"),
    [
        pytest.param(DATA, "VOC", "VOC", id="as wanted"),
        pytest.param(DATA, None, "voc100", id="by its last name"),
        pytest.param(Path("VOCdevkit/VOC2007"), None, "VOCdevkit/VOC2007", id="relative, as typed"),
        pytest.param(ROOT / "examples", None, "examples", id="of the project"),
    ],
)
def test_what_data_is_called(path: Path, called: str | None, expected: str) -> None:
    assert data_name(path, called) == expected


def test_the_code_is_a_commit_and_whether_files_were_changed(tmp_path: Path) -> None:
    assert code(tmp_path) == Code(None, None), "no repository"

    def git(*words: str) -> str:
        told = subprocess.run(
            ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=True,
        )
        return told.stdout.strip()

    git("init", "--quiet")
    assert code(tmp_path) == Code(None, None), "no commit"
    for name in ("module.py", "benchmarks/runs/one.json", "docs/benchmarks.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("before")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    commit = git("rev-parse", "HEAD")[:10]
    (tmp_path / "data.txt").write_text("not followed")
    (tmp_path / "benchmarks/runs/one.json").write_text("after: what runs write is no code")
    (tmp_path / "docs/benchmarks.md").write_text("after")
    assert code(tmp_path) == Code(commit, clean=True)
    (tmp_path / "module.py").write_text("after")
    assert code(tmp_path) == Code(commit, clean=False)


def test_the_machine_is_described() -> None:
    here = hardware()
    assert here.processor
    assert here.cores >= 1
    assert here.gpu is None, "no device but the CPU was asked for"
    assert platform.node() not in str(here).split()


def test_versions_are_those_installed() -> None:
    found = versions()
    assert found["python"] == platform.python_version()
    assert {"numpy", "openvino", "opencv", "numba"} <= set(found)

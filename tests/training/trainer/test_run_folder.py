"""A run folder: one run at a time, apart from what the run reads."""

import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from detector.errors import ParameterError
from training.trainer.run_folder import check_run_folder, run_folder


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data set with a folder of pictures, and the folder of an older run."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "images").mkdir(parents=True)
    (tmp_path / "data" / "images" / "a.jpg").write_text("")
    (tmp_path / "run" / "member-2").mkdir(parents=True)
    for name in ("run/detector.safetensors", "run/member-2/detector.safetensors", "run/mine.txt"):
        (tmp_path / name).write_text("")
    (tmp_path / "link.safetensors").symlink_to("run/detector.safetensors")
    return tmp_path


@pytest.mark.parametrize(
    ("output", "read", "members", "says"),
    [
        pytest.param("new", "link.safetensors", 1, None, id="a new folder"),
        pytest.param("run", "other.safetensors", 1, None, id="a run goes on"),
        pytest.param("run", "run/mine.txt", 1, None, id="a list kept beside, which no run writes"),
        pytest.param("data/run", "other.safetensors", 1, None, id="a folder of its own in the data"),
        pytest.param("run", "run/detector.safetensors", 1, "is also read", id="the weights to start from"),
        pytest.param("run", "link.safetensors", 1, "is also read", id="by a link"),
        pytest.param("run", "run/member-2/detector.safetensors", 1, None, id="those of a member"),
        pytest.param("run", "run/member-2/detector.safetensors", 2, "is also read", id="which is made anew"),
        pytest.param("data", "other.safetensors", 1, "a folder of the data", id="the data's folder"),
        pytest.param("data/../data", "other.safetensors", 1, "a folder of the data", id="spelt otherwise"),
        pytest.param("data/images", "other.safetensors", 1, "a folder of the data", id="that of pictures"),
    ],
)
def test_a_run_stays_apart(place: Path, output: str, read: str, members: int, says: str | None) -> None:
    with nullcontext() if says is None else pytest.raises(ParameterError, match=says):
        check_run_folder(Path(output), [Path(read), None], [Path("data")], members)


def test_a_folder_whose_name_is_not_utf8() -> None:
    with pytest.raises(ParameterError, match=r"^r\\xff has a name that is not UTF-8"):
        check_run_folder(Path(os.fsdecode(b"r\xff")), [], [])


HOLD = """
import sys, time
from pathlib import Path
from training.trainer.run_folder import run_folder
with run_folder(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_is_one_runs(tmp_path: Path) -> None:
    """The other one is named; a kill gives the folder free, and within a process it may be taken again."""
    process = holder(tmp_path / "run")
    with (
        pytest.raises(ParameterError, match=f"in use by process {process.pid} "),
        run_folder(tmp_path / "run"),
    ):
        pass
    process.kill()
    process.wait()
    with run_folder(tmp_path / "run"):
        with run_folder(tmp_path / "run"):
            pass
        check = "import sys; from pathlib import Path; from training.trainer.run_folder import run_folder\n"
        check += "with run_folder(Path(sys.argv[1])): pass"
        other = subprocess.run(
            [sys.executable, "-c", check, str(tmp_path / "run")], capture_output=True, text=True
        )
        assert f"in use by process {os.getpid()} " in other.stderr, "still held after the inner block"
    with run_folder(tmp_path / "run"):
        pass


def test_a_command_line_that_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its folder is locked as any other."""
    monkeypatch.setattr(sys, "argv", ["train.py", os.fsdecode(b"v\xff")])
    with run_folder(tmp_path):
        assert (tmp_path / ".lock").read_text().endswith(r"(train.py v\udcff)")


def test_what_a_kill_left_half_written_is_removed(tmp_path: Path) -> None:
    left = tmp_path / ".state.safetensors.123"
    left.write_bytes(b"half")
    (tmp_path / "state.safetensors").write_bytes(b"whole")
    with run_folder(tmp_path):
        assert not left.exists()
        assert (tmp_path / "state.safetensors").exists()

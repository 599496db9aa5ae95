"""What commands and scripts do where standard output or error takes nothing."""

import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import sys
from pathlib import Path
from tyro.conf import Positional
from detector.cli.command_line import run_script

def main(out: Positional[Path], lines: int = 3, status: int = 0) -> None:
    "What this does."
    for line in range(lines):
        print(f"line {line}", flush=line % 2 == 0)
    print("what is wrong", file=sys.stderr)
    out.write_text("whole")
    raise SystemExit(status)

run_script(main)
"""

FULL = "error: standard output cannot be written: the disk is full; what was to be printed is lost"
CLOSED = "error: standard output cannot be written: it is closed; what was to be printed is lost"
SERVE = "import sys; from detector.cli.entry import main; sys.argv[0] = 'detector'; main()"


def _run(where: str, script: str, *arguments: object) -> tuple[int, list[str]]:
    """Run a script with standard streams as a shell gives them; its status, and what it said."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    shell = f'exec "$@" {where}'
    done = subprocess.run(["bash", "-c", shell, "-", *command], stderr=subprocess.PIPE, check=False)
    return done.returncode, done.stderr.decode().splitlines()


@pytest.mark.parametrize("lines", [1, 100_000], ids=["what a buffer holds", "more than a buffer holds"])
@pytest.mark.parametrize(
    ("where", "own", "status", "told"),
    [
        pytest.param(">/dev/null", 0, 0, [], id="all is well"),
        pytest.param(">/dev/full", 0, 1, [FULL], id="a full disk"),
        pytest.param(">&-", 0, 1, [CLOSED], id="closed"),
        pytest.param("<&- >&-", 0, 1, [CLOSED], id="closed, and standard input too"),
        pytest.param(">/dev/full", 3, 3, [FULL], id="a full disk, and a failure"),
        pytest.param("> >(exec true)", 0, 1, [], id="a reader that had enough"),
    ],
)
def test_files_are_written_and_lost_output_is_told(
    tmp_path: Path, where: str, own: int, status: int, told: list[str], lines: int
) -> None:
    if "true" in where and lines == 1:
        pytest.skip("the reader may take one buffer before it goes")
    out = tmp_path / "out"
    want = status, ["what is wrong", *told]
    assert _run(where, SCRIPT, out, "--lines", lines, "--status", own) == want
    assert out.read_text() == "whole"


@pytest.mark.parametrize("where", ["2>/dev/full", "2>&-", "2>&- <&-"])
def test_errors_that_nobody_reads_do_not_become_output(tmp_path: Path, where: str) -> None:
    printed = tmp_path / "printed"
    assert _run(f">{printed} {where}", SCRIPT, tmp_path / "out")[0] == 0
    assert printed.read_text() == "line 0\nline 1\nline 2\n"


@pytest.mark.parametrize(
    ("script", "arguments"),
    [(SCRIPT, ["--help"]), (SERVE, ["serve", "--help"])],
    ids=["of a script", "of another package's command"],
)
@pytest.mark.parametrize(("where", "told"), [(">/dev/full", FULL), (">&-", CLOSED)])
def test_a_help_that_is_lost_is_told(script: str, arguments: list[str], where: str, told: str) -> None:
    assert _run(where, script, *arguments) == (1, [told])


def test_a_pipe_that_does_not_wait_gets_all(tmp_path: Path) -> None:
    """As one does that is shared with a program which made it so."""
    read, write = os.pipe()
    fcntl.fcntl(write, fcntl.F_SETFL, os.O_NONBLOCK)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path / "out"), "--lines", "50000"]
    with subprocess.Popen(command, stdout=write, stderr=subprocess.DEVNULL) as run:
        os.close(write)
        with os.fdopen(read) as pipe:
            assert len(pipe.readlines()) == 50_000
        assert run.wait(60) == 0

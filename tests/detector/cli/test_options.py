"""What every script does with text that the terminal cannot show, and with arguments that are empty."""

import subprocess
import sys

import pytest

SCRIPT = r"""
import os, sys
from detector.cli.options import run_script

def main() -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    for stream in (sys.stdout, sys.stderr):
        print(f"{name}: \u2713", file=stream)
    raise SystemExit(f"error: {name}")

run_script(main)
"""


@pytest.mark.parametrize(
    ("encoding", "said"),
    [
        pytest.param("utf-8", "caf\\udce9.jpg: \u2713", id="a name that is not UTF-8"),
        pytest.param("ascii", "caf\\udce9.jpg: \\u2713", id="and a terminal that is ASCII"),
        pytest.param("utf-8:strict", "caf\\udce9.jpg: \u2713", id="and one that is told to be strict"),
    ],
)
def test_what_cannot_be_printed_is_shown_as_escapes(encoding: str, said: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={"PYTHONIOENCODING": encoding, "PATH": ""},
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode() == f"{said}\n"
    assert done.stderr.decode() == f"{said}\nerror: caf\\udce9.jpg\n"
    assert done.returncode == 1


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--folder", ""], "an argument behind --folder is empty: is a variable not set?"),
        (["--folder="], "--folder= is empty: is a variable not set?"),
        (["", "--folder", "x"], "an argument behind -c is empty: is a variable not set?"),
    ],
)
def test_an_empty_argument_is_a_mistake_of_usage(arguments: list[str], told: str) -> None:
    """As a path it would mean the folder one is in."""
    script = (
        "from pathlib import Path\nfrom detector.cli.options import run_script\n"
        "def main(folder: Path) -> None:\n    print(folder)\nrun_script(main)"
    )
    done = subprocess.run([sys.executable, "-c", script, *arguments], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", f"error: {told}\n")

"""Commands in a process of their own that dies where a picture is read whose name says so, as a decoder that
crashes would have it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]

DYING = """
import os, signal, sys
from detector.cli.entry import main
from detector.io import decoding

read = decoding.read

def dying(data, *arguments, **options):
    if b"poison" in data[-16:]:
        os.kill(os.getpid(), signal.SIGKILL)
    return read(data, *arguments, **options)

decoding.read = dying
main()
"""


def poison(path: Path) -> None:
    """Make a picture one that kills: what stands behind its end no decoder minds."""
    path.write_bytes(path.read_bytes() + b"poison")


def run_to_death(folder: Path, *arguments: object) -> tuple[int, str]:
    """Run a command in a folder; return its exit status (negative where it was killed), and what it told."""
    done = subprocess.run(
        [sys.executable, "-c", DYING, *map(str, arguments)],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode >= 0 or done.returncode == -signal.SIGKILL, done.stderr
    return done.returncode, done.stderr

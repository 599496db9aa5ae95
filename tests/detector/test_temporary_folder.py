"""Commands start where nothing can be written: not a byte, in no temporary folder."""

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.exhaustive

ROOT = Path(__file__).resolve().parents[2]


def _write_nothing() -> None:
    """Every file of this process stays empty, as on a full disk; Python then finds no temporary folder."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["-c", "import detector, torchvision"], id="the library"),
        pytest.param(["-c", "import detector.cli.detect"], id="the command"),
        pytest.param(["-c", "import api.worker.process"], id="a worker of the service"),
        pytest.param(["-m", "api", "--help"], id="the service"),
        pytest.param(["training/finetune_det.py", "--help"], id="training"),
        pytest.param(["training/train_multibox.py", "--help"], id="training MultiBox"),
        pytest.param(["training/evaluate_det.py", "--help"], id="measuring"),
    ],
)
def test_starts_where_nothing_can_be_written(command: list[str], tmp_path: Path) -> None:
    environment = os.environ | {"TMPDIR": str(tmp_path / "not there"), "PYTHONPATH": str(ROOT)}
    environment.pop("TORCHINDUCTOR_CACHE_DIR", None)  # set by torch in this process: it would not ask again
    ended = subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        env=environment,
        preexec_fn=_write_nothing,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (ended.returncode, ended.stderr) == (0, "")

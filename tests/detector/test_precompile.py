"""What is compiled early is all that a detection compiles, and needs few packages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "detector"

FEW = ("numpy", "numba", "llvmlite", "cv2", "PIL")

# Makes all packages but a few impossible to import, as where they are not installed yet.
ALONE = f"""
import sys
class Refused:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {FEW} and top not in sys.stdlib_module_names and top != "detector":
            raise ModuleNotFoundError(f"no module named {{name}}", name=name)
sys.meta_path.insert(0, Refused())
from detector.precompile import precompile
precompile()
"""

# Prints the names of our functions that are compiled while images of several sizes are looked at.
DETECT = """
import sys
import numpy as np
from numba.core import event
from detector import load_classifier, load_detector
class Listener(event.Listener):
    def on_start(self, event):
        if event.data["dispatcher"].py_func.__module__.startswith("detector."):
            print(event.data["dispatcher"].py_func.__qualname__)
    def on_end(self, event): pass
event.register("numba:compile", Listener())
for shape in ((64, 64, 3), (120, 90, 3)):
    image = np.random.default_rng(1).integers(0, 256, shape, dtype=np.uint8)
    for profile in ("balanced", "thorough", "paper"):
        load_detector(sys.argv[1], engine="openvino", profile=profile, max_proposals=3).detect(image)
"""


@pytest.mark.exhaustive
def test_a_detection_compiles_nothing_more(multibox_path: Path, tmp_path: Path) -> None:
    """In a copy of the package, whose caches are empty: what was compiled lies beside the source."""
    pytest.importorskip("openvino")
    copy = shutil.copytree(PACKAGE, tmp_path / "detector", ignore=shutil.ignore_patterns("__pycache__"))
    environment = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment |= {"PYTHONPATH": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "user")}

    def compiled(*command: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-P", "-c", *command], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert compiled(DETECT.partition("for shape")[0] + "import detector; print(detector.__file__)", "") == [
        str(copy / "__init__.py")
    ]
    assert compiled(ALONE) == []
    assert list(copy.rglob("*.jit"))
    assert compiled(DETECT, str(multibox_path)) == []

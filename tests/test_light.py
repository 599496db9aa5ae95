"""Detecting, classifying, exporting and serving without torch: each in a process that cannot import it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

WITHOUT_TORCH = """
import sys
from importlib.abc import MetaPathFinder

LACKING = ("torch", "torchvision", "onnxruntime")

class NoTorch(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in LACKING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, NoTorch())
import importlib.util
_find_spec = importlib.util.find_spec
importlib.util.find_spec = lambda name, package=None: (
    None if name.partition(".")[0] in LACKING else _find_spec(name, package)
)
"""
"""Makes what the light installation lacks as good as not installed."""

COMMAND = """
import sys
from detector.cli.entry import main
sys.argv = ["detector", *ARGUMENTS]
main()
"""


def run(code: str, *, status: int = 0) -> subprocess.CompletedProcess[str]:
    """Run code in a process without torch; what it loaded of torch would be printed last."""
    after = (
        "\nloaded = [name for name in sys.modules if name.partition('.')[0] == 'torch']\nassert not loaded\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH + code + after],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == status, done.stderr
    return done


def test_the_library_detects_and_classifies() -> None:
    """Boxes of the shipped weights by the engine that auto finds, and the classes of the whole picture."""
    done = run(
        "from detector import load, load_classifier, load_detector\n"
        "image = load('examples/cat.jpg')\n"
        "detector = load_detector()\n"
        "(found,) = detector.detect([image], profile='fast')\n"
        "print(detector.ensemble.engine, [entry['label'] for entry in found.as_dicts(detector.classes)])\n"
        "classifier = load_classifier()\n"
        "print(classifier.classify([image], top=1)[0].as_dicts(classifier.classes)[0]['label'])\n"
    )
    assert done.stdout.splitlines() == ["openvino ['domestic cat']", "tiger cat"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["detect", "examples/cat.jpg", "--profile", "fast"], "domestic cat"),
        (["classify", "examples/cat.jpg", "--top", "1"], "tiger cat"),
        (["weights", "show"], "calibrated"),
        (["weights", "verify"], "is whole"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_commands_that_do_without(arguments: list[str], says: str) -> None:
    done = run(COMMAND.replace("ARGUMENTS", repr(arguments)))
    assert says in done.stdout


@pytest.mark.parametrize(
    ("arguments", "extra"),
    [
        pytest.param(
            ["weights", "import", "bvlc", "a.npz", "b.safetensors"], "torch", id="reads foreign weights"
        ),
        pytest.param(["weights", "add-multibox", "a", "b", "c.safetensors"], "torch", id="joins networks"),
        pytest.param(["train", "--data", "pictures"], "training", id="trains"),
        pytest.param(["train", "--help"], "training", id="says how it trains"),
    ],
)
def test_commands_that_need_it_name_the_extra(arguments: list[str], extra: str) -> None:
    done = run(COMMAND.replace("ARGUMENTS", repr(arguments)), status=1)
    [line] = done.stderr.splitlines()
    assert "needs the package 'torch'" in line
    assert f"pip install 'googlenet-detector[{extra}]'" in line


@pytest.mark.parametrize("engine", ["torch", "onnxruntime"])
def test_engines_that_are_not_here_are_refused(engine: str) -> None:
    arguments = ["detect", "examples/cat.jpg", "--engine", engine]
    done = run(COMMAND.replace("ARGUMENTS", repr(arguments)), status=1)
    assert done.stderr == (
        f"error: engine '{engine}' is not installed: pip install 'googlenet-detector[{engine}]'\n"
    )


def test_a_precision_that_the_processor_lacks_is_refused() -> None:
    """As on any processor that is a few years old."""
    older = (
        "from detector.inference import graph_engine\ngraph_engine.cpu_flags = lambda: frozenset({'avx2'})\n"
    )
    arguments = ["detect", "examples/cat.jpg", "--precision", "bfloat16"]
    done = run(older + COMMAND.replace("ARGUMENTS", repr(arguments)), status=1)
    assert done.stderr == (
        "error: this processor does not multiply bfloat16: use 'auto', 'float32' or 'int8'\n"
    )


def test_a_network_is_exported_and_runs(tmp_path: Path) -> None:
    """Verified against the float32 graph where there is no torch to verify against."""
    target = str(tmp_path / "network.onnx")
    done = run(COMMAND.replace("ARGUMENTS", repr(["export", target, "--task", "classify"])))
    assert "since torch is not installed" in done.stdout
    done = run(COMMAND.replace("ARGUMENTS", repr(["classify", "examples/cat.jpg", "--weights", target])))
    assert "tiger cat" in done.stdout


def test_front_and_worker_of_the_service_load() -> None:
    """The modules of both processes, and the model that a worker loads."""
    done = run(
        "import api.frontend.server, api.worker.process\n"
        "from api.frontend.settings import Settings\n"
        "from api.worker.loaded_model import load_model\n"
        "[settings] = Settings(device='cpu').worker_settings()\n"
        "model = load_model('default', settings, streams=2)\n"
        "print(model.info['engine'], model.info['tasks'])\n"
    )
    assert done.stdout.splitlines()[-1] == "openvino ['detect', 'classify']"

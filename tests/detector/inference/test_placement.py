"""Which engine runs networks, by what was asked for and what is here."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from detector.errors import CheckpointError, ParameterError
from detector.inference import placement
from detector.inference.placement import choose_engine, device_of, is_installed, place
from detector.inference.torch_ensemble import TorchEnsemble
from detector.models.checkpoint import Checkpoint
from detector.options import Engine, Precision

ALL = {"openvino", "onnxruntime", "torch"}


def _here(monkeypatch: pytest.MonkeyPatch, installed: set[str], *, gpu: bool) -> None:
    """Have these engines be installed, and a GPU be found or not."""
    monkeypatch.setattr(placement, "is_installed", lambda engine: engine in installed)
    monkeypatch.setattr(placement, "_finds_gpu", lambda: gpu and "torch" in installed)


# What was asked for: engine, device, precision. What is here: engines, and whether there is a GPU.
CHOICES = [
    ("nothing said, all here: OpenVINO", "auto", "auto", "auto", ALL, False, "openvino"),
    ("nothing said, a GPU: torch", "auto", "auto", "auto", ALL, True, "torch"),
    ("the CPU, though there is a GPU", "auto", "cpu", "auto", ALL, True, "openvino"),
    ("the CPU", "auto", "cpu", "auto", ALL, False, "openvino"),
    ("a GPU", "auto", "cuda", "auto", ALL, True, "torch"),
    ("a GPU that torch will miss: torch says so", "auto", "cuda:3", "auto", ALL, False, "torch"),
    ("no OpenVINO", "auto", "cpu", "auto", {"onnxruntime", "torch"}, False, "onnxruntime"),
    ("torch alone", "auto", "cpu", "auto", {"torch"}, False, "torch"),
    ("no torch", "auto", "auto", "auto", {"openvino"}, False, "openvino"),
    ("ONNX Runtime alone", "auto", "auto", "auto", {"onnxruntime"}, False, "onnxruntime"),
    ("float32", "auto", "auto", "float32", ALL, False, "openvino"),
    ("int8, which torch has not", "auto", "auto", "int8", ALL, False, "openvino"),
    ("int8 on the CPU beside a GPU", "auto", "cpu", "int8", ALL, True, "openvino"),
    ("float16, which a CPU has not", "auto", "auto", "float16", ALL, False, "torch"),
    ("float16 on a GPU", "auto", "auto", "float16", ALL, True, "torch"),
    ("torch, though it is slower", "torch", "auto", "auto", ALL, False, "torch"),
    ("torch on a GPU", "torch", "cuda:1", "bfloat16", ALL, True, "torch"),
    ("OpenVINO", "openvino", "auto", "auto", ALL, False, "openvino"),
    ("OpenVINO, though there is a GPU", "openvino", "auto", "auto", ALL, True, "openvino"),
    ("OpenVINO on the CPU", "openvino", "cpu", "int8", ALL, True, "openvino"),
    ("ONNX Runtime, though there is OpenVINO", "onnxruntime", "cpu", "auto", ALL, False, "onnxruntime"),
    (
        "a value of the commands' own type",
        Engine.ONNXRUNTIME,
        "auto",
        Precision.AUTO,
        ALL,
        False,
        "onnxruntime",
    ),
    ("auto of the commands' type", Engine.AUTO, "auto", Precision.FLOAT16, ALL, False, "torch"),
]


@pytest.mark.parametrize(
    ("engine", "device", "precision", "installed", "gpu", "chosen"),
    [choice[1:] for choice in CHOICES],
    ids=[choice[0] for choice in CHOICES],
)
def test_which_engine_runs(
    monkeypatch: pytest.MonkeyPatch,
    engine: str,
    device: str,
    precision: str,
    installed: set[str],
    gpu: bool,
    chosen: str,
) -> None:
    _here(monkeypatch, installed, gpu=gpu)
    assert choose_engine(engine, device, precision) == chosen


REFUSALS = [
    (
        "an unknown engine",
        *("tensorrt", "auto", "auto", ALL),
        "unknown engine 'tensorrt': use 'auto', 'openvino', 'onnxruntime', 'torch'",
    ),
    ("no name at all", "", "auto", "auto", ALL, "unknown engine ''"),
    (
        "OpenVINO on a GPU",
        *("openvino", "cuda", "auto", ALL),
        "engine 'openvino' runs on the CPU alone here; device 'cuda' needs 'torch'",
    ),
    (
        "ONNX Runtime on the second GPU",
        *("onnxruntime", "cuda:1", "auto", ALL),
        "device 'cuda:1' needs 'torch'",
    ),
    (
        "OpenVINO, which is not here",
        *("openvino", "auto", "auto", {"torch"}),
        "engine 'openvino' is not installed: pip install 'googlenet-detector[",
    ),
    (
        "ONNX Runtime, which is not here",
        *("onnxruntime", "cpu", "auto", {"torch"}),
        "engine 'onnxruntime' is not installed: pip install 'googlenet-detector[onnxruntime]'",
    ),
    (
        "torch, which is not here",
        *("torch", "auto", "auto", {"openvino"}),
        "engine 'torch' is not installed: pip install 'googlenet-detector[torch]'",
    ),
    ("a GPU without torch", "auto", "cuda", "auto", {"openvino"}, "engine 'torch' is not installed"),
    ("float16 without torch", "auto", "auto", "float16", {"openvino"}, "engine 'torch' is not installed"),
    ("nothing here at all", "auto", "auto", "auto", set(), "is not installed: pip install"),
]


@pytest.mark.parametrize(
    ("engine", "device", "precision", "installed", "says"),
    [refusal[1:] for refusal in REFUSALS],
    ids=[refusal[0] for refusal in REFUSALS],
)
def test_what_cannot_be_had_is_refused_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch, engine: str, device: str, precision: str, installed: set[str], says: str
) -> None:
    _here(monkeypatch, installed, gpu=False)
    with pytest.raises(ParameterError) as caught:
        choose_engine(engine, device, precision)
    assert says in str(caught.value)


@pytest.mark.parametrize("engine", sorted(ALL))
def test_what_an_error_says_to_install_is_an_extra_of_the_package(
    monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """Or a package that is always there, where installing it again brings it."""
    import tomllib

    project = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
    _here(monkeypatch, set(), gpu=False)
    with pytest.raises(ParameterError) as caught:
        choose_engine(engine)
    extra = str(caught.value).partition("[")[2].partition("]")[0]
    needed = project["dependencies"] + project["optional-dependencies"].get(extra, [])
    assert any(requirement.startswith(engine) for requirement in needed), extra


@pytest.mark.parametrize(
    ("engine", "absent", "there"),
    [
        pytest.param("torch", {"onnx", "openvino"}, True, id="torch needs no onnx"),
        pytest.param("torch", {"torch"}, False, id="no torch"),
        pytest.param("openvino", set(), True, id="OpenVINO"),
        pytest.param("openvino", {"openvino"}, False, id="no OpenVINO"),
        pytest.param("openvino", {"onnx"}, False, id="OpenVINO without what writes graphs"),
        pytest.param("onnxruntime", {"onnx"}, False, id="ONNX Runtime without what writes graphs"),
        pytest.param("onnxruntime", {"openvino", "torch"}, True, id="ONNX Runtime alone"),
    ],
)
def test_what_is_installed(
    monkeypatch: pytest.MonkeyPatch, engine: str, absent: set[str], there: bool
) -> None:
    monkeypatch.setattr(placement, "find_spec", lambda name: None if name in absent else object())
    assert is_installed(engine) is there


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_engines_of_graphs_run_on_the_cpu(engine: str) -> None:
    assert device_of(engine, "auto") == device_of(engine, "cpu") == "cpu"


def test_torch_says_its_device() -> None:
    assert device_of("torch", "cpu") == "cpu"
    if not torch.cuda.is_available():
        assert device_of("torch", "auto") == "cpu"
        with pytest.raises(ParameterError, match="no CUDA device"):
            device_of("torch", "cuda")


@pytest.fixture
def without_driver(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The place of a driver's file that shows a GPU; there is none yet."""
    place = tmp_path / "driver"
    monkeypatch.setattr(placement, "_DRIVERS", (place,))
    return place


def test_a_gpu_is_asked_for_only_where_there_is_a_driver(
    monkeypatch: pytest.MonkeyPatch, without_driver: Path
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_engine("auto") == "openvino"
    without_driver.touch()
    assert choose_engine("auto") == "torch"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert choose_engine("auto") == "openvino", "a driver, and no GPU that torch can use"


def test_choosing_for_a_cpu_loads_neither_torch_nor_an_engine() -> None:
    script = """
import sys
from detector.inference.placement import choose_engine
choose_engine("auto", "cpu")
print([name for name in ("torch", "openvino", "onnxruntime", "onnx") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_torchs_networks_run_by_torch_unless_another_engine_is_asked_for(
    classifier_checkpoint: Checkpoint,
) -> None:
    placed = place(classifier_checkpoint, device="cpu", precision="float32")
    assert isinstance(placed, TorchEnsemble)
    assert (placed.engine, placed.device, placed.precision) == ("torch", "cpu", "float32")
    assert place(placed, engine="openvino", device="cpu") is placed, "what was placed is left as it is"
    weights = classifier_checkpoint.as_weights()
    assert place(weights, engine="torch", device="cpu").engine == "torch"
    assert place([classifier_checkpoint, weights], engine="torch", device="cpu").engine == "torch"
    for network in (classifier_checkpoint, weights):
        other = place(network, engine="openvino", device="cpu", precision="float32")
        assert (other.engine, other.device, other.precision) == ("openvino", "cpu", "float32")


def test_weights_run_by_what_is_here(
    monkeypatch: pytest.MonkeyPatch, classifier_checkpoint: Checkpoint
) -> None:
    weights = classifier_checkpoint.as_weights()
    for installed in ({"torch"}, {"torch", "onnxruntime"}, ALL):
        _here(monkeypatch, installed, gpu=False)
        expected = next(name for name in ("openvino", "onnxruntime", "torch") if name in installed)
        assert place(weights).engine == place([weights]).engine == expected


@pytest.mark.parametrize("engine", [None, "auto", "torch", "openvino"])
def test_no_networks_are_refused(engine: str | None) -> None:
    with pytest.raises(CheckpointError, match="at least one"):
        place([], engine=engine)

"""From checkpoints to an ensemble that runs: which engine, on which device, in which precision.

The rule (:func:`choose_engine`) is what measurements say (docs/engines.md, `detector bench`).
"""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, Union

from detector.errors import CheckpointError, ParameterError
from detector.inference.ensemble import Ensemble
from detector.models.weights import Weights

if TYPE_CHECKING:
    from detector.models.checkpoint import Checkpoint

Networks: TypeAlias = Union["Checkpoint", Weights, Sequence["Checkpoint | Weights"]]
"""One or more checkpoints: torch networks, or weights of no framework. Several are an ensemble."""

TORCH = "torch"
GRAPH_ENGINES = ("openvino", "onnxruntime")
"""Engines that run graphs, fastest first on the processors that were measured."""

ENGINES = (*GRAPH_ENGINES, TORCH)

_EXTRAS = {"openvino": "serve-cpu", "onnxruntime": "onnxruntime", "torch": "torch"}

_DRIVERS = (Path("/proc/driver/nvidia/version"), Path("/dev/dxg"))
"""Where a driver for NVIDIA's GPUs shows: on Linux, and on Linux within Windows."""


def place(
    networks: Networks | Ensemble,
    *,
    engine: str | None = None,
    device: str = "auto",
    precision: str = "auto",
    streams: int | None = None,
) -> Ensemble:
    """Make an ensemble of checkpoints; one that was made already is returned as it is.

    ``engine`` is ``torch``, ``openvino``, ``onnxruntime`` or ``auto`` (:func:`choose_engine`); left out,
    torch networks run by torch, and weights by what ``auto`` finds. ``streams`` is how many batches will run
    beside each other on a CPU, if not as the engine does alone.

    Raises ParameterError for an engine, device or precision that is not there, CheckpointError for no
    checkpoints.
    """
    if isinstance(networks, Ensemble):
        return networks
    some = [networks] if not isinstance(networks, Sequence) else list(networks)
    if not some:
        raise CheckpointError("an ensemble needs at least one checkpoint")
    in_torch = not any(isinstance(network, Weights) for network in some)
    if engine is None:
        engine = TORCH if in_torch else "auto"
    precision = str(precision)
    chosen = choose_engine(engine, device, precision)
    if chosen == TORCH:
        from detector.inference.torch_ensemble import TorchEnsemble
        from detector.models.checkpoint import as_checkpoint

        checkpoints = [as_checkpoint(network) for network in some]
        return TorchEnsemble.place(checkpoints, device=device, precision=precision)
    from detector.inference.graph_ensemble import GraphEnsemble

    weights = [network if isinstance(network, Weights) else network.as_weights() for network in some]
    return GraphEnsemble(weights, chosen, precision=precision, streams=streams)


def choose_engine(engine: str = "auto", device: str = "auto", precision: str = "auto") -> str:
    """Return the engine that networks are to run by.

    ``auto`` is torch for a GPU, and where this machine has one and no device is named; on a CPU it is
    OpenVINO where that is installed, else ONNX Runtime, else torch. float16 is for GPUs.

    Raises ParameterError for an engine that is unknown, not installed, or not for the device.
    """
    engine, precision = str(engine), str(precision)  # not a member of an enumeration, which shows otherwise
    if engine not in ("auto", *ENGINES):
        raise ParameterError(f"unknown engine {engine!r}: use 'auto', {', '.join(map(repr, ENGINES))}")
    on_cpu = device == "cpu" or (device == "auto" and not _finds_gpu())
    if engine == "auto":
        candidates = ENGINES if on_cpu and precision != "float16" else (TORCH,)
        engine = next((name for name in candidates if is_installed(name)), candidates[-1])
    if engine != TORCH and device not in ("auto", "cpu"):
        raise ParameterError(f"engine {engine!r} runs on the CPU alone here; device {device!r} needs 'torch'")
    if not is_installed(engine):
        raise ParameterError(
            f"engine {engine!r} is not installed: pip install 'googlenet-detector[{_EXTRAS[engine]}]'"
        )
    return engine


def device_of(engine: str, device: str) -> str:
    """Return the device that an engine runs on: ``cpu`` or ``cuda:N``. Raises ParameterError for one that is
    not there."""
    if engine != TORCH:
        return "cpu"
    from detector.inference.torch_engine import choose_device

    return str(choose_device(device))


def is_installed(engine: str) -> bool:
    """Tell whether an engine's packages are here, without importing them."""
    needed = [engine] if engine == TORCH else [engine, "onnx"]
    return all(find_spec(package) is not None for package in needed)


def _finds_gpu() -> bool:
    """Tell whether torch finds a CUDA device; torch is not imported where there is no driver for one."""
    if not is_installed(TORCH) or not any(map(Path.exists, _DRIVERS)):
        return False
    import torch

    return torch.cuda.is_available()

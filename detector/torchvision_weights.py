"""Reading torchvision's ``googlenet`` weights."""

import pickle
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from detector.errors import CheckpointError
from detector.readable import unreadable
from detector.regions import Preprocessing
from detector.text import one_line, printable_path
from detector.torchvision_googlenet import TorchvisionGoogLeNet

PREPROCESSING = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
"""The published weights were trained on -1..1; torchvision's ``transform_input`` undoes its usual scaling."""


def read_torchvision(path: Path) -> TorchvisionGoogLeNet:
    """The network from a state dict of ``torchvision.models.googlenet``, ``.safetensors`` or ``.pth``.

    A ``.pth`` is read with torch's restricted loader, which makes tensors and nothing else. The auxiliary
    classifiers are left out. Raises CheckpointError for a file that is no such state dict, or one of which
    a value is not finite.
    """
    state = _read(path)
    ours = {
        name.replace("fc.", "classifier.") if name.startswith("fc.") else f"features.{name}": value
        for name, value in state.items()
        if not name.startswith(("aux1.", "aux2."))
    }
    if "classifier.weight" not in ours:
        raise CheckpointError(
            f"{path}: 'fc.weight' is missing; this is no state dict of torchvision's googlenet"
        )
    _check_values(ours, path)
    name = printable_path(path)
    if ours["classifier.weight"].ndim != 2 or not len(ours["classifier.weight"]):
        raise CheckpointError(
            f"{name}: 'fc.weight' is no matrix; this is no state dict of torchvision's googlenet"
        )
    network = TorchvisionGoogLeNet(len(ours["classifier.weight"]))
    try:
        network.load_state_dict(ours)
    except RuntimeError as error:
        raise CheckpointError(f"{name} does not fit torchvision's googlenet: {one_line(error)}") from error
    return network


def _check_values(state: dict[str, Tensor], path: Path) -> None:
    for key, value in state.items():
        if value.is_complex() or value.is_quantized or value.layout is not torch.strided:
            raise CheckpointError(f"{printable_path(path)}: {key!r} is no plain tensor of real numbers")
        if not torch.isfinite(value.float()).all():
            raise CheckpointError(f"{printable_path(path)}: {key!r} holds values that are not finite")


def _read(path: Path) -> dict[str, Tensor]:
    if (reason := unreadable(path)) is not None:
        raise CheckpointError(reason)
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of a damaged pickle the loader raises whatever its bytes lead to
        raise CheckpointError(
            f"{printable_path(path)}: not a readable state dict of tensors and nothing else: {_reason(error)}"
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise CheckpointError(
            f"{printable_path(path)} holds something else than a state dict, of names and tensors alone"
        )
    return state


def _reason(error: Exception) -> str:
    """What is wrong, without torch's advice to load the file unsafely."""
    if isinstance(error, pickle.UnpicklingError):
        return "it is no pickle of tensors, or would run code"
    return one_line(error, 200) or type(error).__name__

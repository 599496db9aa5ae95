"""Reading torchvision's ``googlenet`` weights."""

import pickle
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from detector.errors import CheckpointError
from detector.regions import Preprocessing
from detector.torchvision_googlenet import TorchvisionGoogLeNet

PREPROCESSING = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
"""The published weights were trained on -1..1; torchvision's ``transform_input`` undoes its usual scaling."""


def read_torchvision(path: Path) -> TorchvisionGoogLeNet:
    """The network from a state dict of ``torchvision.models.googlenet``, ``.safetensors`` or ``.pth``.

    A ``.pth`` is read with torch's restricted loader, which makes tensors and nothing else. The auxiliary
    classifiers are left out. Raises CheckpointError for a file that is no such state dict.
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
    network = TorchvisionGoogLeNet(len(ours["classifier.weight"]))
    try:
        network.load_state_dict(ours)
    except RuntimeError as error:
        raise CheckpointError(f"{path} does not fit torchvision's googlenet: {error}") from error
    return network


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, SafetensorError, RuntimeError, pickle.UnpicklingError, EOFError) as error:
        raise CheckpointError(f"{path}: not a readable state dict ({error})") from error

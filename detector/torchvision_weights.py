"""Reading torchvision's ``googlenet`` weights."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from detector.errors import CheckpointError
from detector.regions import Preprocessing
from detector.text import one_line
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
    if "classifier.weight" not in ours or ours["classifier.weight"].ndim != 2:
        raise CheckpointError(
            f"{path} has no matrix 'fc.weight'; this is no state dict of torchvision's googlenet"
        )
    network = TorchvisionGoogLeNet(len(ours["classifier.weight"]))
    try:
        network.load_state_dict(ours)
    except RuntimeError as error:
        reason = one_line(str(error).partition("\n")[2])
        raise CheckpointError(f"{path} does not fit torchvision's googlenet: {reason}") from error
    odd = [name for name, value in ours.items() if value.is_floating_point() and not value.isfinite().all()]
    if odd:
        raise CheckpointError(f"{path}: {odd[0].removeprefix('features.')} holds values that are not finite")
    return network


def _read(path: Path) -> dict[str, Tensor]:
    try:
        with path.open("rb") as file:
            if path.suffix == ".safetensors":
                return load_file(path)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path} is no whole safetensors file; download it again") from error
    except Exception as error:  # whatever an unpickler makes of bytes: IndexError, KeyError, struct.error
        raise CheckpointError(
            f"{path} is no whole file of tensors as torch.save writes them of a state_dict(); code that it "
            "holds is not run"
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointError(
            f"{path} holds no state dict: tensors by their names, as state_dict() gives them"
        )
    return dict(state)

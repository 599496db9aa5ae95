"""torchvision's ``googlenet`` as a second architecture, and the reading of its weights.

It differs from the paper: batch normalisation, no response normalisation, and 3x3 where the paper has 5x5.
It has its own weights and is never mixed with the paper's network.
"""

from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models import GoogLeNet as TorchvisionNetwork

from detector.errors import CheckpointError
from detector.inference.preprocessing import Preprocessing
from detector.io.readable_files import unreadable
from detector.io.terminal_text import one_line, printable_path
from detector.models.backbone import Backbone

STAGES = (
    "conv1", "maxpool1", "conv2", "conv3", "maxpool2",
    "inception3a", "inception3b", "maxpool3",
    "inception4a", "inception4b", "inception4c", "inception4d", "inception4e", "maxpool4",
    "inception5a", "inception5b",
)  # fmt: skip


class TorchvisionGoogLeNet(Backbone):
    """The trunk of torchvision's network, with torchvision's names of the stages.

    Its published weights were trained on inputs scaled to -1..1: mean and deviation 127.5.
    """

    def __init__(self, num_classes: int = 1000) -> None:
        network = TorchvisionNetwork(aux_logits=False, transform_input=False, init_weights=True)
        stages = OrderedDict((name, getattr(network, name)) for name in STAGES)
        super().__init__(nn.Sequential(stages), num_classes, dropout=0.2)


PREPROCESSING = Preprocessing(mean=(127.5, 127.5, 127.5), std=(127.5, 127.5, 127.5))
"""The published weights were trained on -1..1; torchvision's ``transform_input`` undoes its usual scaling."""


def read_torchvision(path: Path) -> TorchvisionGoogLeNet:
    """Read the network from a state dict of ``torchvision.models.googlenet``, ``.safetensors`` or ``.pth``.

    A ``.pth`` is read with torch's restricted loader, which makes only tensors. The auxiliary classifiers are
    left out. Raises CheckpointError for a file that is no such state dict, or one with values that are not
    finite.
    """
    state = _read(path)
    renamed = {
        name.replace("fc.", "classifier.") if name.startswith("fc.") else f"features.{name}": value
        for name, value in state.items()
        if not name.startswith(("aux1.", "aux2."))
    }
    shown = printable_path(path)
    if "classifier.weight" not in renamed or not _is_matrix(renamed["classifier.weight"]):
        raise CheckpointError(
            f"{shown} has no matrix 'fc.weight'; this is no state dict of torchvision's googlenet"
        )
    for name, value in renamed.items():
        if value.is_complex() or value.is_quantized or value.layout is not torch.strided:
            raise CheckpointError(f"{shown}: {name} is no plain tensor of real numbers")
    network = TorchvisionGoogLeNet(len(renamed["classifier.weight"]))
    try:
        network.load_state_dict(renamed)
    except RuntimeError as error:
        reason = one_line(str(error).partition("\n")[2])
        raise CheckpointError(f"{shown} does not fit torchvision's googlenet: {reason}") from error
    for name, value in network.state_dict().items():
        if not value.float().isfinite().all():
            raise CheckpointError(f"{shown}: {name} holds values that are not finite")
    return network


def _is_matrix(value: Tensor) -> bool:
    return value.ndim == 2 and value.numel() > 0


def _read(path: Path) -> dict[str, Tensor]:
    if (reason := unreadable(path)) is not None:
        raise CheckpointError(reason)
    shown = printable_path(path)
    try:
        with path.open("rb") as file:
            if path.suffix == ".safetensors":
                return load_file(path)
            state = torch.load(file, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"{shown} cannot be read: {error.strerror or error}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{shown} is no whole safetensors file; download it again") from error
    except Exception as error:  # an unpickler raises nearly anything: IndexError, KeyError, struct.error
        raise CheckpointError(
            f"{shown} is no whole file of tensors as torch.save writes them of a state_dict(); code that it "
            "holds is not run"
        ) from error
    if not isinstance(state, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in state.items()
    ):
        raise CheckpointError(
            f"{shown} holds no state dict: tensors by their names, as state_dict() gives them"
        )
    return dict(state)

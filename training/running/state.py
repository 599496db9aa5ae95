"""A training run's state on disk: written whole or not at all, read back after a kill. No pickle."""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from detector.errors import CheckpointError
from detector.files import write_whole


def save_state(path: Path, iteration: int, run: str, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    """Write tensors by part and name. ``run`` names the run's settings: another run cannot go on from it."""
    tensors = {
        f"{part}/{name}": value.detach().contiguous().cpu()
        for part, values in parts.items()
        for name, value in values.items()
    }
    header = json.dumps({"iteration": iteration, "run": run})
    write_whole(path, save(tensors, metadata={"state": header}))


def load_state(path: Path, run: str) -> tuple[int, dict[str, dict[str, Tensor]]]:
    """The iteration reached and the tensors by part and name.

    Raises CheckpointError if the file is no training state, or another run's.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["state"])
            parts: dict[str, dict[str, Tensor]] = {}
            for key in file.keys():  # noqa: SIM118 (no mapping)
                part, name = key.split("/", 1)
                parts.setdefault(part, {})[name] = file.get_tensor(key)
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise CheckpointError(f"{path} is no training state ({error}); delete it to start anew") from error
    if header["run"] != run:
        raise CheckpointError(
            f"{path} belongs to a run with other data or settings; "
            "give another --output, or delete it to start anew"
        )
    return header["iteration"], parts


def momenta(optimizer: torch.optim.SGD, named: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """SGD's momentum buffers by parameter name; those not yet there are left out."""
    found = {name: optimizer.state[parameter].get("momentum_buffer") for name, parameter in named.items()}
    return {name: buffer for name, buffer in found.items() if buffer is not None}


def restore_momenta(
    optimizer: torch.optim.SGD, named: Mapping[str, nn.Parameter], buffers: Mapping[str, Tensor]
) -> None:
    """The inverse of :func:`momenta`."""
    for name, buffer in buffers.items():
        optimizer.state[named[name]]["momentum_buffer"] = buffer.to(named[name].device)

"""Checkpoints: safetensors with metadata. Nothing is ever unpickled.

The file's header carries one JSON object, the metadata. The tensors' SHA-256 is part of it, so that a damaged
file is told from a good one.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from detector.backbone import Backbone
from detector.errors import CheckpointError, ParameterError
from detector.files import write_whole
from detector.googlenet import GoogLeNet
from detector.metadata import Metadata
from detector.proposals.multibox_head import MultiBoxHead, stages_read
from detector.region_network import RegionNetwork
from detector.torchvision_googlenet import TorchvisionGoogLeNet

FORMAT = "googlenet-detector/1"
ARCHITECTURES: dict[str, Callable[[int], Backbone]] = {
    "googlenet": GoogLeNet,
    "torchvision-googlenet": TorchvisionGoogLeNet,
}
"""What makes a backbone of so many classifier rows."""

_MULTIBOX = "multibox."


@dataclass(frozen=True)
class Checkpoint:
    """A network and what is known of it: a RegionNetwork if it detects, else a mere Backbone.

    ``multibox`` is the MultiBox head that reads the same trunk, where there is one.
    """

    network: RegionNetwork | Backbone
    metadata: Metadata
    multibox: MultiBoxHead | None = None

    @property
    def backbone(self) -> Backbone:
        """The part that classifies whole pictures."""
        return self.network.backbone if isinstance(self.network, RegionNetwork) else self.network


def save_checkpoint(path: Path, checkpoint: Checkpoint, dtype: torch.dtype = torch.float16) -> None:
    """Write a checkpoint, its floating-point weights as ``dtype``, in one piece.

    Auxiliary classifiers are left out: they serve training alone.
    """
    tensors = {
        name: (value.to(dtype) if value.is_floating_point() else value).detach().cpu().contiguous()
        for name, value in _state(checkpoint.network, checkpoint.multibox).items()
    }
    spec = checkpoint.multibox.spec if checkpoint.multibox is not None else None
    metadata = replace(checkpoint.metadata, multibox=spec)
    header = {"format": FORMAT, "sha256": _digest(tensors), **metadata.as_json()}
    write_whole(path, save(tensors, metadata={"googlenet-detector": json.dumps(header)}))


def load_checkpoint(path: Path) -> Checkpoint:
    """The network in float32, in evaluation mode, and its metadata.

    Raises CheckpointError if the file is missing, truncated, foreign, or does not fit the network it names.
    """
    header, tensors = _read(path)
    metadata = _metadata(header, path)
    network = _build(metadata, tensors, path)
    multibox = MultiBoxHead(metadata.multibox) if metadata.multibox is not None else None
    expected = _state(network, multibox).keys()
    for what, names in (("lacks", expected - tensors.keys()), ("has unknown", tensors.keys() - expected)):
        if names:
            raise CheckpointError(
                f"{path} does not fit {metadata.architecture}: it {what} tensors {_some(names)}"
            )
    try:
        for part, prefix in ((network, ""), (multibox, _MULTIBOX)):
            if part is not None:
                part.load_state_dict(_part(tensors, prefix))
        checkpoint = Checkpoint(network.eval(), metadata, multibox.eval() if multibox is not None else None)
        if metadata.multibox is not None:
            stages_read(checkpoint.backbone.features, metadata.multibox.stages)
    except (RuntimeError, ParameterError) as error:
        raise CheckpointError(f"{path} does not fit {metadata.architecture}: {error}") from error
    return checkpoint


def read_metadata(path: Path) -> Metadata:
    """The metadata alone, without reading the tensors. Raises CheckpointError as load_checkpoint does."""
    with _open(path) as file:
        return _metadata(_header(file, path), path)


def verify_checkpoint(path: Path) -> Metadata:
    """Check the tensors' SHA-256, that all values are finite, and that the network takes them.

    Raises CheckpointError, saying what is wrong.
    """
    header, tensors = _read(path)
    if header.get("sha256") != _digest(tensors):
        raise CheckpointError(f"{path} is damaged: its tensors do not have the SHA-256 its header states")
    for name, value in tensors.items():
        if not torch.isfinite(value).all():
            raise CheckpointError(f"{path}: tensor {name!r} holds values that are not finite")
    return load_checkpoint(path).metadata


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    with _open(path) as file:
        header = _header(file, path)
        return header, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)


def _open(path: Path) -> Any:
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path} is no whole safetensors file ({error}); a truncated download, or a foreign format? "
            "Weights of other kinds come in through `detector weights import`"
        ) from error


def _header(file: Any, path: Path) -> dict[str, Any]:
    text = (file.metadata() or {}).get("googlenet-detector")
    if text is None:
        raise CheckpointError(
            f"{path} is a safetensors file, but not a checkpoint of this project: its header has no "
            "'googlenet-detector' entry"
        )
    header = json.loads(text)
    if header.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {header.get('format')!r}; this version reads {FORMAT!r}")
    return header


def _metadata(header: Mapping[str, Any], path: Path) -> Metadata:
    try:
        return Metadata.from_json(header)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata lacks or garbles {error}") from error


def _state(network: nn.Module, multibox: MultiBoxHead | None) -> dict[str, Tensor]:
    """The tensors that a checkpoint of these holds, by name."""
    state = {name: value for name, value in network.state_dict().items() if not _is_auxiliary(name)}
    if multibox is not None:
        state |= {_MULTIBOX + name: value for name, value in multibox.state_dict().items()}
    return state


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors of the head (its prefix taken off), or with no prefix those of the network."""
    return {
        name.removeprefix(prefix): value.float()
        for name, value in tensors.items()
        if name.startswith(_MULTIBOX) == bool(prefix)
    }


def _build(metadata: Metadata, tensors: Mapping[str, Tensor], path: Path) -> RegionNetwork | Backbone:
    architecture = ARCHITECTURES.get(metadata.architecture)
    if architecture is None:
        raise CheckpointError(
            f"{path} is of architecture {metadata.architecture!r}; "
            f"this version knows {', '.join(ARCHITECTURES)}"
        )
    if metadata.detection is None:
        if metadata.classification is None:
            raise CheckpointError(f"{path} names neither classification nor detection classes")
        return architecture(len(metadata.classification))
    if "pooling.labels" not in tensors:
        raise CheckpointError(f"{path} names detection classes but lacks 'pooling.labels'")
    labels = tensors["pooling.labels"]
    return RegionNetwork(
        architecture(len(labels)),
        labels,
        len(metadata.detection),
        box_regression=any(name.startswith("box_head.") for name in tensors),
        fit_prediction=any(name.startswith("fit_head.") for name in tensors),
    )


def _is_auxiliary(name: str) -> bool:
    return "aux_4a." in name or "aux_4d." in name


def _digest(tensors: Mapping[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name]
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def _some(names: set[str]) -> str:
    shown = ", ".join(sorted(names)[:4])
    return shown if len(names) <= 4 else f"{shown}, ..."

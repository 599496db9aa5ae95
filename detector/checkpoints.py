"""Checkpoints: a network out of a file, and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.backbone import Backbone
from detector.checkpoint_file import Cover, read_file, write_file
from detector.errors import CheckpointError, ParameterError
from detector.googlenet import GoogLeNet
from detector.metadata import Metadata
from detector.proposals.multibox_head import MultiBoxHead, MultiBoxNetwork
from detector.region_network import RegionNetwork
from detector.text import one_line, printable, printable_path
from detector.torchvision_googlenet import TorchvisionGoogLeNet

ARCHITECTURES: dict[str, Callable[[int], Backbone]] = {
    "googlenet": GoogLeNet,
    "torchvision-googlenet": TorchvisionGoogLeNet,
}
"""What makes a backbone of so many classifier rows."""

_MULTIBOX = "multibox."

_FLOATING = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


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
    write_file(path, metadata.as_json(), tensors)


@torch.inference_mode(False)
def load_checkpoint(path: Path) -> Checkpoint:
    """The network in float32, in evaluation mode, and its metadata.

    Raises CheckpointError if the file is missing, truncated, foreign, damaged (it does not have the SHA-256
    that it states), holds values that are not finite or make no sense, or does not fit the network it names.
    """
    name = printable_path(path)
    file = read_file(path)
    metadata, tensors = _metadata(file.metadata, name), file.tensors
    _check_labels(metadata, tensors, name)
    try:
        with torch.device("meta"):  # takes no memory, whatever sizes the file speaks of
            built = _build(metadata, tensors, name)
            _check_tensors(metadata, tensors, _state(*built), name)
            _check_run(metadata, *built)
        _check_values(tensors, name)
        # The caller's defaults, and the state of his random numbers, are neither used nor changed.
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            network, multibox = _build(metadata, tensors, name)
            for part, prefix in ((network, ""), (multibox, _MULTIBOX)):
                if part is not None:
                    part.float().load_state_dict(_part(tensors, prefix))
    except (RuntimeError, ParameterError) as error:
        message = f"{name} does not fit {metadata.architecture}: {one_line(error)}"
        raise CheckpointError(message) from error
    return Checkpoint(network.eval(), metadata, multibox.eval() if multibox is not None else None)


def read_metadata(path: Path) -> Metadata:
    """The metadata alone; the tensors are read for the SHA-256, and no network is made of them.

    Raises CheckpointError as load_checkpoint does.
    """
    return _metadata(read_file(path).metadata, printable_path(path))


def verify_checkpoint(path: Path) -> Metadata:
    """As :func:`load_checkpoint`, and the file must state a SHA-256 to be checked by (:func:`covered`).

    Raises CheckpointError, saying what is wrong.
    """
    metadata = load_checkpoint(path).metadata
    if covered(path) is Cover.NOTHING:
        raise CheckpointError(
            f"{printable_path(path)} states no SHA-256: whether it is damaged cannot be told"
        )
    return metadata


def covered(path: Path) -> Cover:
    """What the SHA-256 of a file was found to be of. Raises CheckpointError as load_checkpoint does."""
    return read_file(path).cover


def _metadata(entry: Mapping[str, Any], name: str) -> Metadata:
    try:
        return Metadata.from_json(entry)
    except ParameterError as error:
        raise CheckpointError(f"{name}: its metadata is wrong: {one_line(error)}") from error
    except RecursionError as error:
        raise CheckpointError(f"{name}: its metadata is wrong: it is nested too deeply") from error


def _check_labels(metadata: Metadata, tensors: Mapping[str, Tensor], name: str) -> None:
    """Raises CheckpointError for labels of a detector's rows that are none, or point beyond its classes."""
    if metadata.detection is None:
        return
    if "pooling.labels" not in tensors:
        raise CheckpointError(f"{name} names detection classes but lacks 'pooling.labels'")
    labels, count = tensors["pooling.labels"], len(metadata.detection)
    if labels.dtype not in _WHOLE or labels.ndim != 1 or not len(labels):
        raise CheckpointError(f"{name}: 'pooling.labels' must be a list of whole numbers")
    if int(labels.min()) < -1 or int(labels.max()) > count:  # as numbers: a byte is never below -1
        raise CheckpointError(f"{name}: 'pooling.labels' must lie in -1..{count}, as it has {count} classes")
    if metadata.classification is not None and len(metadata.classification) > len(labels):
        raise CheckpointError(f"{name} names more classification classes than its classifier has rows")


def _check_tensors(
    metadata: Metadata, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], name: str
) -> None:
    """Raises CheckpointError unless the file holds just the network's tensors, of types that they have."""
    for what, names in (
        ("lacks", expected.keys() - tensors.keys()),
        ("has unknown", tensors.keys() - expected.keys()),
    ):
        if names:
            raise CheckpointError(
                f"{name} does not fit {metadata.architecture}: it {what} tensors {_some(names)}"
            )
    for key, value in expected.items():
        if value.shape != tensors[key].shape:
            raise CheckpointError(
                f"{name} does not fit {metadata.architecture}: tensor {key} has the shape "
                f"{list(tensors[key].shape)} where {list(value.shape)} is needed"
            )
        types = _FLOATING if value.is_floating_point() else _WHOLE
        if tensors[key].dtype not in types:
            raise CheckpointError(
                f"{name} does not fit {metadata.architecture}: tensor {key} is of type "
                f"{_type(tensors[key].dtype)}, and may be {', '.join(map(_type, types))}"
            )


def _check_run(metadata: Metadata, network: RegionNetwork | Backbone, multibox: MultiBoxHead | None) -> None:
    """Raises ParameterError for sizes and grids that the network cannot run with.

    It runs without memory, on the device ``meta``, where shapes alone are computed.
    """
    if isinstance(network, RegionNetwork):
        size = metadata.preprocessing.size
        _run_shapes(network, size, f"its heads cannot look at crops of {size} pixels, the size it states")
    if multibox is not None:
        backbone = network.backbone if isinstance(network, RegionNetwork) else network
        spec = multibox.spec
        _run_shapes(
            MultiBoxNetwork(backbone.features, multibox),
            spec.size,
            f"its MultiBox head for {spec.channels[0]} and {spec.channels[1]} channels cannot read "
            f"{spec.stages[0]} and {spec.stages[1]} of a picture of {spec.size} pixels",
        )


def _run_shapes(network: nn.Module, size: int, otherwise: str) -> None:
    try:
        with torch.inference_mode():
            network.eval().to("meta")(torch.zeros(1, 3, size, size, device="meta"))
    except RuntimeError as error:
        raise ParameterError(otherwise) from error


def _check_values(tensors: Mapping[str, Tensor], name: str) -> None:
    """Raises CheckpointError for tensors that are not finite."""
    for key, value in tensors.items():
        if not torch.isfinite(value.float()).all():
            raise CheckpointError(f"{name}: tensor {key!r} holds values that are not finite")


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


def _build(
    metadata: Metadata, tensors: Mapping[str, Tensor], name: str
) -> tuple[RegionNetwork | Backbone, MultiBoxHead | None]:
    """The network and the MultiBox head that the file is of, their weights still to be loaded."""
    architecture = ARCHITECTURES.get(metadata.architecture)
    if architecture is None:
        raise CheckpointError(
            f"{name} is of architecture {metadata.architecture!r}; "
            f"this version knows {', '.join(ARCHITECTURES)}"
        )
    multibox = MultiBoxHead(metadata.multibox) if metadata.multibox is not None else None
    if metadata.detection is None:
        if metadata.classification is None:
            raise CheckpointError(f"{name} names neither classification nor detection classes")
        return architecture(len(metadata.classification)), multibox
    labels = tensors["pooling.labels"]
    network = RegionNetwork(
        architecture(len(labels)),
        labels,
        len(metadata.detection),
        box_regression=any(name.startswith("box_head.") for name in tensors),
        fit_prediction=any(name.startswith("fit_head.") for name in tensors),
    )
    return network, multibox


def _is_auxiliary(name: str) -> bool:
    return "aux_4a." in name or "aux_4d." in name


def _some(names: set[str]) -> str:
    shown = printable(", ".join(sorted(names)[:4]))
    return shown if len(names) <= 4 else f"{shown}, ..."


def _type(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")

"""Checkpoints: a network out of a file, and back."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.errors import CheckpointError, ParameterError
from detector.inference.shared_maps import STRIDE, SharedMaps, stages_through
from detector.io.terminal_text import one_line, printable
from detector.models.backbone import Backbone
from detector.models.checkpoint_file import read_file, read_header, write_file
from detector.models.googlenet import GoogLeNet
from detector.models.metadata import Metadata
from detector.models.multibox_head import MultiBoxHead, MultiBoxNetwork
from detector.models.region_network import RegionNetwork
from detector.models.torchvision_googlenet import TorchvisionGoogLeNet

ARCHITECTURES: dict[str, Callable[[int], Backbone]] = {
    "googlenet": GoogLeNet,
    "torchvision-googlenet": TorchvisionGoogLeNet,
}
"""Make a backbone of a name, with a linear classifier of so many outputs."""

_MULTIBOX = "multibox."

_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

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
def add_metrics(path: Path, metrics: Mapping[str, float]) -> None:
    """Write figures, rounded to four decimals, beside those that a checkpoint's metadata already states."""
    checkpoint = load_checkpoint(path)
    rounded = {name: round(value, 4) for name, value in metrics.items()}
    metadata = replace(checkpoint.metadata, metrics={**checkpoint.metadata.metrics, **rounded})
    save_checkpoint(path, replace(checkpoint, metadata=metadata))


def load_checkpoint(path: Path) -> Checkpoint:
    """The network in float32, in evaluation mode, and its metadata.

    Raises CheckpointError if the file is missing, truncated, foreign, damaged (its header or its tensors do
    not have the SHA-256 that it states), holds values that are not finite or that nothing can be done with,
    or does not fit the network it names.
    """
    header, tensors = read_file(path)
    metadata = _metadata(header, path)
    _check_labels(metadata, tensors, path)
    try:
        with torch.device("meta"):  # takes no memory, whatever sizes the file speaks of
            shapes = _build(metadata, tensors, path)
            _check_shapes(metadata, tensors, _state(*shapes), path)
            _check_forward(*shapes, metadata)
        _check_finite(tensors, path)
        # The caller's defaults, and the state of his random numbers, are neither used nor changed.
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            network, multibox = _build(metadata, tensors, path)
            for part, prefix in ((network, ""), (multibox, _MULTIBOX)):
                if part is not None:
                    part.float().load_state_dict(_part(tensors, prefix))
        return Checkpoint(network.eval(), metadata, multibox.eval() if multibox is not None else None)
    except (RuntimeError, ParameterError) as error:
        message = f"{path} does not fit {metadata.architecture}: {one_line(error)}"
        raise CheckpointError(message) from error


def read_metadata(path: Path) -> Metadata:
    """The metadata alone, without reading the tensors. Raises CheckpointError as load_checkpoint does."""
    return _metadata(read_header(path), path)


def verify_checkpoint(path: Path) -> Metadata:
    """As :func:`load_checkpoint`, and the file must state the SHA-256 that it is verified by.

    Raises CheckpointError, saying what is wrong.
    """
    metadata = load_checkpoint(path).metadata
    if "sha256" not in read_header(path):
        raise CheckpointError(f"{path} states no SHA-256: whether it is damaged cannot be told")
    return metadata


def _metadata(header: Mapping[str, Any], path: Path) -> Metadata:
    try:
        return Metadata.from_json(header)
    except KeyError as error:
        raise CheckpointError(f"{path}: its metadata lacks {one_line(error)}") from error
    except (ParameterError, ValueError) as error:
        raise CheckpointError(f"{path}: its metadata garbles {one_line(error)}") from error
    except (TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{path}: its metadata garbles an entry: it is of another kind") from error


def _check_labels(metadata: Metadata, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises CheckpointError for labels of a detector's rows that are none, or point beyond its classes."""
    if metadata.detection is None:
        return
    if "pooling.labels" not in tensors:
        raise CheckpointError(f"{path} names detection classes but lacks 'pooling.labels'")
    labels, count = tensors["pooling.labels"], len(metadata.detection)
    if labels.dtype not in _WHOLE or labels.ndim != 1 or not len(labels):
        raise CheckpointError(f"{path}: 'pooling.labels' must be a list of whole numbers")
    if int(labels.min()) < -1 or int(labels.max()) > count:  # as numbers: a byte is never below -1
        raise CheckpointError(f"{path}: 'pooling.labels' must lie in -1..{count}, as it has {count} classes")
    if metadata.classification is not None and len(metadata.classification) > len(labels):
        raise CheckpointError(f"{path} names more classification classes than its classifier has rows")


def _check_shapes(
    metadata: Metadata, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path
) -> None:
    """Raises CheckpointError unless the file holds just the network's tensors, of its shapes and kinds."""
    for what, names in (
        ("lacks", expected.keys() - tensors.keys()),
        ("has unknown", tensors.keys() - expected.keys()),
    ):
        if names:
            raise CheckpointError(
                f"{path} does not fit {metadata.architecture}: it {what} tensors {_some(names)}"
            )
    for name, value in expected.items():
        if value.shape != tensors[name].shape:
            raise CheckpointError(
                f"{path} does not fit {metadata.architecture}: tensor {name} has the shape "
                f"{list(tensors[name].shape)} where {list(value.shape)} is needed"
            )
        real = value.is_floating_point()
        kinds, words = (_REAL, "numbers with a fraction") if real else (_WHOLE, "whole numbers")
        if tensors[name].dtype not in kinds:
            kind = str(tensors[name].dtype).removeprefix("torch.")
            raise CheckpointError(f"{path}: tensor {name!r} is of type {kind}, where {words} are needed")


def _check_forward(
    network: RegionNetwork | Backbone, multibox: MultiBoxHead | None, metadata: Metadata
) -> None:
    """Run a network without memory (device ``meta``) on one picture of each size that it is fed.

    Raises ParameterError or RuntimeError where a size does not fit it: a grid of other cells than its maps.
    """
    size = metadata.preprocessing.size
    with torch.no_grad():
        if isinstance(network, RegionNetwork):
            network.eval()(torch.empty(1, 3, size, size))
            if metadata.shared_maps is not None:
                _check_shared(network, metadata.shared_maps)
        else:
            network.eval().logits(torch.empty(1, 3, size, size))
        if multibox is not None:
            backbone = network.backbone if isinstance(network, RegionNetwork) else network
            size = multibox.spec.size
            MultiBoxNetwork(backbone.features, multibox)(torch.empty(1, 3, size, size))


def _check_shared(network: RegionNetwork, settings: SharedMaps) -> None:
    """Run the stages over an image, and those that follow over a region of its maps."""
    features = network.backbone.features
    cut = stages_through([name for name, _ in features.named_children()], settings.stage)
    maps = features[:cut](torch.empty(1, 3, 8 * STRIDE, 8 * STRIDE))
    if maps.shape[2] != 8:
        raise ParameterError(f"the stages through {settings.stage} have no stride of {STRIDE} pixels")
    network.heads(features[cut:](maps.new_empty(1, maps.shape[1], settings.size, settings.size)))


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raises CheckpointError for tensors with values that are not finite."""
    for name, value in tensors.items():
        if not torch.isfinite(value.float()).all():
            raise CheckpointError(f"{path}: tensor {name!r} holds values that are not finite")


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
    metadata: Metadata, tensors: Mapping[str, Tensor], path: Path
) -> tuple[RegionNetwork | Backbone, MultiBoxHead | None]:
    """The network and the MultiBox head that the file is of, their weights still to be loaded."""
    architecture = ARCHITECTURES.get(metadata.architecture)
    if architecture is None:
        raise CheckpointError(
            f"{path} is of architecture {metadata.architecture!r}; "
            f"this version knows {', '.join(ARCHITECTURES)}"
        )
    multibox = MultiBoxHead(metadata.multibox) if metadata.multibox is not None else None
    if metadata.detection is None:
        if metadata.classification is None:
            raise CheckpointError(f"{path} names neither classification nor detection classes")
        return architecture(len(metadata.classification)), multibox
    labels = tensors["pooling.labels"]
    network = RegionNetwork(
        architecture(len(labels)),
        labels,
        len(metadata.detection),
        box_regression=any(name.startswith("box_head.") for name in tensors),
        iou_prediction=any(name.startswith("fit_head.") for name in tensors),
    )
    return network, multibox


def _is_auxiliary(name: str) -> bool:
    return "aux_4a." in name or "aux_4d." in name


def _some(names: set[str]) -> str:
    shown = printable(", ".join(sorted(names)[:4]))
    return shown if len(names) <= 4 else f"{shown}, ..."

"""Checkpoints: saving a network to a file, loading and verifying it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.errors import CheckpointError, ParameterError
from detector.inference.image_maps import ImageTrunk
from detector.inference.image_scales import STRIDE, Square
from detector.inference.shared_maps import SharedMaps, stages_through
from detector.io.terminal_text import one_line, printable
from detector.models.backbone import CHANNELS, Backbone
from detector.models.checkpoint_file import read_file, read_header, write_file
from detector.models.googlenet import GoogLeNet
from detector.models.metadata import Metadata
from detector.models.multibox_head import MultiBoxHead
from detector.models.region_network import RegionNetwork
from detector.models.torchvision_googlenet import TorchvisionGoogLeNet

ARCHITECTURES: dict[str, Callable[[int], Backbone]] = {
    "googlenet": GoogLeNet,
    "torchvision-googlenet": TorchvisionGoogLeNet,
}
"""Functions that make a backbone whose classifier has the given number of outputs, by architecture."""

_MULTIBOX = "multibox."

_REAL = (torch.float16, torch.bfloat16, torch.float32, torch.float64)

_WHOLE = (torch.int8, torch.int16, torch.int32, torch.int64, torch.uint8)


@dataclass(frozen=True)
class Checkpoint:
    """A network and its metadata: a RegionNetwork for a detector, a Backbone for a classifier.

    ``multibox`` is the MultiBox head that reads the same trunk, if there is one.
    """

    network: RegionNetwork | Backbone
    metadata: Metadata
    multibox: MultiBoxHead | None = None

    @property
    def backbone(self) -> Backbone:
        """Return the part of the network that classifies whole images."""
        return self.network.backbone if isinstance(self.network, RegionNetwork) else self.network


def save_checkpoint(path: Path, checkpoint: Checkpoint, dtype: torch.dtype = torch.float16) -> None:
    """Write a checkpoint atomically, its floating-point weights as ``dtype``.

    Auxiliary classifiers are left out: they serve training alone. Raises WriteError.
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
    """Add metrics, rounded to four decimals, to the metadata of the checkpoint at ``path``.

    Raises CheckpointError and WriteError.
    """
    checkpoint = load_checkpoint(path)
    rounded = {name: round(value, 4) for name, value in metrics.items()}
    metadata = replace(checkpoint.metadata, metrics={**checkpoint.metadata.metrics, **rounded})
    save_checkpoint(path, replace(checkpoint, metadata=metadata))


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a network in float32, in evaluation mode, and its metadata.

    Raises CheckpointError if the file is missing, truncated, foreign, damaged (its header or its tensors do
    not have the SHA-256 that it states), holds values that are not finite or that nothing can be done with,
    or does not fit the network it names.
    """
    header, tensors = read_file(path)
    metadata = _metadata(header, path)
    _check_labels(metadata, tensors, path)
    try:
        with torch.device("meta"):  # takes no memory, whatever sizes the file states
            meta_networks = _build(metadata, tensors, path)
            _check_shapes(metadata, tensors, _state(*meta_networks), path)
            _check_forward(*meta_networks, metadata)
        _check_finite(tensors, path)
        # The caller's default device and random state are neither used nor changed.
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
    """Read the metadata without the tensors. Raises CheckpointError as :func:`load_checkpoint` does."""
    return _metadata(read_header(path), path)


def verify_checkpoint(path: Path) -> Metadata:
    """Load a checkpoint as :func:`load_checkpoint` does, and return its metadata.

    Raises CheckpointError also for a file that states no SHA-256.
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
    """Raise CheckpointError for sub-class labels of a detector that are missing or out of range."""
    if metadata.detection is None:
        return
    if "pooling.labels" not in tensors:
        raise CheckpointError(f"{path} names detection classes but lacks 'pooling.labels'")
    labels, count = tensors["pooling.labels"], len(metadata.detection)
    if labels.dtype not in _WHOLE or labels.ndim != 1 or not len(labels):
        raise CheckpointError(f"{path}: 'pooling.labels' must be a list of whole numbers")
    if int(labels.min()) < -1 or int(labels.max()) > count:  # as Python's integers: uint8 has no -1
        raise CheckpointError(f"{path}: 'pooling.labels' must lie in -1..{count}, as it has {count} classes")
    if metadata.classification is not None and len(metadata.classification) > len(labels):
        raise CheckpointError(f"{path} names more classification classes than its classifier has rows")


def _check_shapes(
    metadata: Metadata, tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path
) -> None:
    """Raise CheckpointError unless the tensors have the network's names, shapes and kinds of numbers."""
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
    """Run a network on device ``meta``, without memory, on one image of each size that it is used with.

    Raises ParameterError or RuntimeError for a size that does not fit, such as a grid of other cells than the
    maps.
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
            _check_multibox(backbone, multibox)


def _check_shared(network: RegionNetwork, settings: SharedMaps) -> None:
    """Run the stages over an image, and the stages that follow over a region of its maps.

    Raises ParameterError for stages of another stride than STRIDE, RuntimeError for sizes that do not fit.
    """
    features = network.backbone.features
    cut = stages_through([name for name, _ in features.named_children()], settings.stage)
    maps = features[:cut](torch.empty(1, 3, 8 * STRIDE, 8 * STRIDE))
    if maps.shape[2] != 8:
        raise ParameterError(f"the stages through {settings.stage} have no stride of {STRIDE} pixels")
    network.heads(features[cut:](maps.new_empty(1, maps.shape[1], settings.size, settings.size)))


def _check_multibox(backbone: Backbone, head: MultiBoxHead) -> None:
    """Run a head on the maps of an image. Raises ParameterError for outputs of other cells than its grids
    have, RuntimeError for sizes that do not fit."""
    image = head.spec.image
    side = image.size if isinstance(image, Square) else 8 * STRIDE
    outputs = ImageTrunk(backbone.features, None, head)(torch.empty(1, 3, side, side))["multibox"]
    anchors = head.spec.anchors((side // 8, side // 8), (side // STRIDE, side // STRIDE))
    if outputs.shape[1] != len(anchors):
        raise ParameterError(f"a MultiBox head of {outputs.shape[1]} outputs has {len(anchors)} anchors")


def _check_finite(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError for tensors with values that are not finite."""
    for name, value in tensors.items():
        if not torch.isfinite(value.float()).all():
            raise CheckpointError(f"{path}: tensor {name!r} holds values that are not finite")


def _state(network: nn.Module, multibox: MultiBoxHead | None) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name: those of the network and, prefixed, of the MultiBox head."""
    state = {name: value for name, value in network.state_dict().items() if not _is_auxiliary(name)}
    if multibox is not None:
        state |= {_MULTIBOX + name: value for name, value in multibox.state_dict().items()}
    return state


def _part(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return in float32 the MultiBox head's tensors less their ``prefix``, or for "" the network's."""
    return {
        name.removeprefix(prefix): value.float()
        for name, value in tensors.items()
        if name.startswith(_MULTIBOX) == bool(prefix)
    }


def _build(
    metadata: Metadata, tensors: Mapping[str, Tensor], path: Path
) -> tuple[RegionNetwork | Backbone, MultiBoxHead | None]:
    """Build the network and the MultiBox head that the metadata describes, without loading weights.

    Raises CheckpointError for an unknown architecture, or metadata without classes.
    """
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
    backbone = architecture(len(labels))
    if any(name.startswith("backbone.whole.") for name in tensors):
        if metadata.classification is None:
            raise CheckpointError(f"{path} has a classifier of whole images, and names no classes of them")
        backbone.whole = nn.Linear(CHANNELS, len(metadata.classification))
    network = RegionNetwork(
        backbone,
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

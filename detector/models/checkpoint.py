"""Checkpoints: saving a network to a file, loading and verifying it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detector.errors import CheckpointError, ParameterError
from detector.inference.image_scales import STRIDE, Square
from detector.inference.shared_maps import SharedMaps, stages_through
from detector.io.terminal_text import one_line
from detector.models.backbone import CHANNELS, LAST_STAGES, Backbone
from detector.models.checkpoint_file import write_file
from detector.models.googlenet import GoogLeNet
from detector.models.image_trunk import ImageTrunk
from detector.models.metadata import Metadata
from detector.models.multibox_head import MultiBoxHead
from detector.models.region_network import RegionNetwork
from detector.models.torchvision_googlenet import TorchvisionGoogLeNet
from detector.models.weights import Weights, check_shapes, read_weights

ARCHITECTURES: dict[str, Callable[[int], Backbone]] = {
    "googlenet": GoogLeNet,
    "torchvision-googlenet": TorchvisionGoogLeNet,
}
"""Functions that make a backbone whose classifier has the given number of outputs, by architecture."""

_MULTIBOX = "multibox."


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

    def as_weights(self, dtype: torch.dtype = torch.float32) -> Weights:
        """Return the weights of no framework, those with a fraction as ``dtype``; without auxiliary
        classifiers, which serve training alone."""
        tensors = {
            name: _as_array((value.to(dtype) if value.is_floating_point() else value).detach().cpu())
            for name, value in _state(self.network, self.multibox).items()
        }
        spec = self.multibox.spec if self.multibox is not None else None
        return Weights(replace(self.metadata, multibox=spec), tensors)


def save_checkpoint(path: Path, checkpoint: Checkpoint, dtype: torch.dtype = torch.float16) -> None:
    """Write a checkpoint atomically, its floating-point weights as ``dtype``.

    Auxiliary classifiers are left out: they serve training alone. Raises WriteError.
    """
    weights = checkpoint.as_weights(dtype)
    write_file(path, weights.metadata.as_json(), weights.tensors)


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
    return as_checkpoint(read_weights(path))


def as_checkpoint(network: Checkpoint | Weights) -> Checkpoint:
    """Build the network of weights in float32, in evaluation mode; a checkpoint is returned as it is.

    Raises CheckpointError for weights that do not fit the network that they name, or are not finite.
    """
    if isinstance(network, Checkpoint):
        return network
    weights, metadata, source = network, network.metadata, network.source
    tensors = {name: _as_tensor(value) for name, value in weights.tensors.items()}
    try:
        with torch.device("meta"):  # takes no memory, whatever sizes the file states
            meta_networks = _build(metadata, tensors, source)
            state = _state(*meta_networks)
            expected = {name: tuple(value.shape) for name, value in state.items()}
            whole = {name for name, value in state.items() if not value.is_floating_point()}
            check_shapes(metadata.architecture, weights.tensors, expected, whole, source)
            _check_forward(*meta_networks, metadata)
        weights.check_finite()
        # The caller's default device and random state are neither used nor changed.
        with torch.device("cpu"), torch.random.fork_rng(devices=[]):
            built, multibox = _build(metadata, tensors, source)
            for part, prefix in ((built, ""), (multibox, _MULTIBOX)):
                if part is not None:
                    part.float().load_state_dict(_part(tensors, prefix))
        return Checkpoint(built.eval(), metadata, multibox.eval() if multibox is not None else None)
    except (RuntimeError, ParameterError) as error:
        message = f"{source} does not fit {metadata.architecture}: {one_line(error)}"
        raise CheckpointError(message) from error


def _as_array(value: Tensor) -> NDArray[Any]:
    """Return a tensor as an array; bfloat16, which torch does not give to NumPy, by its bits."""
    if value.dtype is torch.bfloat16:
        return value.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return value.contiguous().numpy()


def _as_tensor(value: NDArray[Any]) -> Tensor:
    """Return an array as a tensor; NumPy's bfloat16, which torch does not take, in float32."""
    if value.dtype.name == "bfloat16":
        value = value.astype(np.float32)
    return torch.from_numpy(np.array(value) if not value.flags.writeable else value)


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
    network.outputs_of(
        features[cut:-LAST_STAGES](maps.new_empty(1, maps.shape[1], settings.size, settings.size))
    )


def _check_multibox(backbone: Backbone, head: MultiBoxHead) -> None:
    """Run a head on the maps of an image. Raises ParameterError for outputs of other cells than its grids
    have, RuntimeError for sizes that do not fit."""
    image = head.spec.image
    side = image.size if isinstance(image, Square) else 8 * STRIDE
    outputs = ImageTrunk(backbone.features, None, head)(torch.empty(1, 3, side, side))["multibox"]
    anchors = head.spec.anchors((side // 8, side // 8), (side // STRIDE, side // STRIDE))
    if outputs.shape[1] != len(anchors):
        raise ParameterError(f"a MultiBox head of {outputs.shape[1]} outputs has {len(anchors)} anchors")


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
    metadata: Metadata, tensors: Mapping[str, Tensor], path: str
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
        location=any(name.startswith("location_head.") for name in tensors),
    )
    return network, multibox


def _is_auxiliary(name: str) -> bool:
    return "aux_4a." in name or "aux_4d." in name

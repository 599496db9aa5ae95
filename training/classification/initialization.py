"""What the training of a classifier begins with: fresh weights, or those of a checkpoint."""

from dataclasses import dataclass

import torch

from detector.errors import CheckpointError
from detector.inference.region_crops import Preprocessing
from detector.models.checkpoint import Checkpoint
from detector.models.googlenet import GoogLeNet
from detector.structures.classes import ClassList

PREPROCESSING = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""ImageNet's mean and deviation of each channel: inputs of about one, as the first weights need them."""


@dataclass(frozen=True)
class Start:
    """A network with its side classifiers, how pictures are made for it, and in words where it is from."""

    network: GoogLeNet
    preprocessing: Preprocessing
    how: str


def fresh(classes: ClassList, seed: int) -> Start:
    """Random weights, a function of the seed."""
    torch.manual_seed(seed)
    return Start(GoogLeNet(len(classes), aux=True), PREPROCESSING, "from scratch")


def from_checkpoint(init: Checkpoint, classes: ClassList, seed: int) -> Start:
    """A checkpoint's trunk, and its classifier if it is of the same classes.

    Checkpoints hold no side classifiers, so those begin anew. Raises CheckpointError for another
    architecture.
    """
    metadata = init.metadata
    if metadata.architecture != "googlenet":
        raise CheckpointError(
            f"{metadata.name} is of architecture {metadata.architecture!r}; only 'googlenet' trains here"
        )
    network = fresh(classes, seed).network
    network.features.load_state_dict(init.backbone.features.state_dict())
    same = metadata.classification is not None and metadata.classification.ids == classes.ids
    if same:
        # A detector's classifier has further rows for detection; those of whole pictures stand first.
        with torch.no_grad():
            network.classifier.weight.copy_(init.backbone.classifier.weight[: len(classes)])
            network.classifier.bias.copy_(init.backbone.classifier.bias[: len(classes)])
    anew = "the side classifiers begin anew" if same else "all classifiers begin anew: its classes are others"
    return Start(network, metadata.preprocessing, f"from {metadata.name} ({anew})")

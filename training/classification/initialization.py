"""Initial weights of a classifier: random ones with LSUV initialisation, or those of a checkpoint.

Without batch normalisation a deep network starts badly: pooling and ReLU add up. With weights made for their
fan-in alone (arXiv 1502.01852), the last maps of ImageNet's images are some ten times the input, and a fifth
of that tells images apart; the rest is the same for all, and a usual learning rate makes the loss swing. So
every channel is brought to mean 0 and deviation 1 over some images, once, before training (Krähenbühl et al.,
arXiv 1511.06856, section 3.1; by channel what LSUV does by layer: Mishkin and Matas, arXiv 1511.06422).
"""

from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from detector.errors import CheckpointError, ParameterError
from detector.inference.preprocessing import Preprocessing
from detector.models.checkpoint import Checkpoint
from detector.models.googlenet import GoogLeNet
from detector.structures.classes import ClassList

_LEAST = 1e-3
"""Smallest deviation that a channel is divided by."""


@torch.no_grad()
def lsuv_initialise(network: nn.Module, images: Tensor) -> None:
    """Give the outputs of each convolution mean 0 and deviation 1, by channel, over images [N,3,S,S].

    One forward pass corrects each convolution, in place, before the next one runs on its output.
    """
    with ExitStack() as hooks:
        for part in network.modules():
            if isinstance(part, nn.Conv2d):
                hooks.callback(part.register_forward_hook(_correct).remove)
        network(images)


def _correct(convolution: nn.Module, _: Any, output: Tensor) -> Tensor:
    assert isinstance(convolution, nn.Conv2d)
    assert convolution.bias is not None
    mean = output.mean(dim=(0, 2, 3))  # [K]
    deviation = output.std(dim=(0, 2, 3)).clamp_min(_LEAST)  # [K]
    convolution.weight /= deviation[:, None, None, None]
    convolution.bias.copy_((convolution.bias - mean) / deviation)
    return (output - mean[:, None, None]) / deviation[:, None, None]


PREPROCESSING = Preprocessing(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))
"""ImageNet's mean and deviation of each channel: the inputs of random weights should be about one."""


@dataclass(frozen=True)
class Start:
    """A network with its side classifiers, its preprocessing, and in words where it is from."""

    network: GoogLeNet
    preprocessing: Preprocessing
    how: str


def fresh(classes: ClassList, seed: int) -> Start:
    """Make random weights, a function of the seed."""
    torch.manual_seed(seed)
    return Start(GoogLeNet(len(classes), aux=True), PREPROCESSING, "from scratch")


def from_checkpoint(init: Checkpoint, classes: ClassList, seed: int) -> Start:
    """Take a checkpoint's trunk, and its classifier if it is of the same classes.

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
        # A detector's classifier has further rows for detection; those of whole images stand first.
        with torch.no_grad():
            head = init.backbone.whole or init.backbone.classifier
            network.classifier.weight.copy_(head.weight[: len(classes)])
            network.classifier.bias.copy_(head.bias[: len(classes)])
    anew = "the side classifiers begin anew" if same else "all classifiers begin anew: its classes are others"
    return Start(network, metadata.preprocessing, f"from {metadata.name} ({anew})")


def freeze(network: GoogLeNet, stage: str) -> None:
    """Have the trunk keep its weights up to a stage; ``none`` leaves all to be trained.

    Classifiers that are trained from one checkpoint in this way have these stages in common, bit by bit: an
    ensemble of them runs those once. Raises ParameterError if there is no such stage.
    """
    if stage == "none":
        return
    names = [name for name, _ in network.features.named_children()]
    if stage not in names:
        raise ParameterError(
            f"--frozen-through {stage!r} is no stage; use 'none' or one of {', '.join(names)}"
        )
    network.features[: names.index(stage) + 1].requires_grad_(False)

"""A region network of two classes and background whose logits a test chooses, and minibatches for it."""

import torch
from torch import Tensor

from detector.models.googlenet import GoogLeNet
from detector.models.region_network import RegionNetwork
from training.rcnn.dataloader import Minibatch
from training.rcnn.losses import Targets

CLASSES = 2
BACKGROUND = CLASSES
NAN = float("nan")


def heads_that_tell(*, dropout: float = 0.0) -> RegionNetwork:
    """Its logits are the means of the first three of the trunk's last maps, where nothing drops out."""
    torch.manual_seed(0)
    network = RegionNetwork(GoogLeNet(CLASSES + 1), torch.arange(CLASSES + 1), CLASSES, iou_prediction=True)
    network.backbone.dropout.p = dropout
    with torch.no_grad():
        network.backbone.classifier.weight.copy_(torch.eye(CLASSES + 1, 1024))
        network.backbone.classifier.bias.zero_()
    return network


def maps_of(logits: Tensor) -> Tensor:
    """Last maps [B,1024,7,7] from which that network tells logits [B,3]."""
    maps = torch.zeros(len(logits), 1024, 7, 7)
    maps[:, : logits.shape[1]] = logits[:, :, None, None]
    return maps


def targets_of(
    labels: list[int], *, overlaps: list[float] | None = None, sure: list[bool] | None = None
) -> Targets:
    """What is asked of regions with these labels: no offsets, nothing to be remembered."""
    count = len(labels)
    return Targets(
        torch.tensor(labels),
        torch.tensor([1.0] * count if overlaps is None else overlaps),
        torch.full((count, 4), NAN),
        torch.tensor([True] * count if sure is None else sure),
        torch.zeros(count, 0),
    )


def mixed_minibatch(channels: int, side: int) -> Minibatch:
    """Ten regions of every kind, with random maps [10,channels,side,side]; none is mined."""
    random = torch.Generator().manual_seed(0)
    labels = [0, 1, 0, 1, BACKGROUND, BACKGROUND, BACKGROUND, -1, -1, -2]  # whole pictures, unknown object
    overlaps = [1.0, 0.6, 0.7, 0.9, 0.3, 0.0, 0.1, 0.0, 0.0, 0.8]
    targets = targets_of(labels, overlaps=overlaps, sure=[True] * 5 + [False] + [True] * 4)
    targets.deltas[:3] = torch.randn(3, 4, generator=random) / 10
    teacher = torch.randn(10, CLASSES + 1, generator=random)
    maps = torch.rand(10, channels, side, side, generator=random)
    return Minibatch(maps, targets._replace(teacher=teacher), torch.full((10,), -1))

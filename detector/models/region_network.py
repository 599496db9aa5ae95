"""The network that classifies regions: a backbone, a classifier of pooled rows, a box head, a fit head.

Letters for shapes: R regions, S rows of the classifier, C classes (background is the last of the C+1 logits).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.models.backbone import CHANNELS, Backbone


class RegionOutput(NamedTuple):
    """logits [R,C+1], deltas [R,4] (:func:`detector.structures.boxes.encode`), rows [R,S] before pooling.

    fit [R] is the logit of the IoU of the region and the object it shows, None without a fit head.
    """

    logits: Tensor
    deltas: Tensor
    rows: Tensor
    fit: Tensor | None = None


class RegionNetwork(nn.Module):
    """Backbone, classifier, and the heads for boxes and fit, each of which a network may lack.

    A detection class may be many things the backbone can already tell apart: 118 of the 1000 ImageNet synsets
    are dogs. So the classifier keeps one row for each of them, and a class's logit is the log-sum-exp of its
    rows: its posterior is the sum of theirs. With the rows of an ImageNet classifier this is that
    classifier's posterior folded onto the detection classes, before any training.
    """

    def __init__(
        self,
        backbone: Backbone,
        row_labels: Tensor,
        num_classes: int,
        *,
        box_regression: bool = True,
        fit_prediction: bool = False,
    ) -> None:
        """``row_labels`` [S] int64: each row's label, 0..C-1, C for background, -1 to take no part."""
        super().__init__()
        self.backbone = backbone
        self.pooling = RowPooling(row_labels, num_classes)
        self.box_head = BoxHead() if box_regression else None
        self.fit_head = FitHead() if fit_prediction else None

    def forward(self, crops: Tensor) -> RegionOutput:
        """Crops [R,3,224,224] -> logits, box offsets, fit."""
        return self.heads(self.backbone.features(crops))

    def heads(self, maps: Tensor) -> RegionOutput:
        """The trunk's maps [R,1024,7,7] -> logits, box offsets, fit."""
        rows = self.backbone.pool(maps)  # R x S
        deltas = self.box_head(maps) if self.box_head is not None else maps.new_zeros(len(maps), 4)
        fit = self.fit_head(maps) if self.fit_head is not None else None
        return RegionOutput(self.pooling(rows), deltas, rows, fit)


class RowPooling(nn.Module):
    """Log-sum-exp of the rows that share a label: [R,S] -> [R,C+1]. Rows of label -1 take no part."""

    labels: Tensor

    def __init__(self, row_labels: Tensor, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("labels", row_labels.to(torch.int64))

    def forward(self, rows: Tensor) -> Tensor:
        rows = rows.float()
        aside = self.num_classes + 1  # one more sum, for the rows that take no part; it is dropped
        labels = torch.where(self.labels < 0, aside, self.labels).expand_as(rows)
        # Each class's own maximum is taken out first: a class far below the best would underflow to log(0).
        peak = rows.new_full((len(rows), aside + 1), -torch.inf)
        peak = peak.scatter_reduce(1, labels, rows.detach(), "amax")
        peak = peak.clamp_min(-1e4)  # a class without rows: never seen, but its logit stays finite
        shifted = (rows - peak.gather(1, labels)).exp()
        total = torch.zeros_like(peak).scatter_add(1, labels, shifted)
        return (total.clamp_min(1e-30).log() + peak)[:, :-1]


class BoxHead(nn.Module):
    """Class-agnostic box regression from the trunk's last maps: [R,1024,7,7] -> offsets [R,4].

    R-CNN (arXiv 1311.2524, appendix C) regresses from the last pooled maps, not from a vector: where the
    object ends is in their layout. A 1x1 convolution first keeps the head at 80 thousand weights. The outputs
    are whitened (divided by ``scale``), as R-CNN's targets are.
    """

    scale: Tensor

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(CHANNELS, width, 1)  # R x width x 7 x 7
        self.regress = nn.Linear(width * 7 * 7, 4)
        self.register_buffer("scale", torch.tensor([0.1, 0.1, 0.2, 0.2]))
        nn.init.kaiming_normal_(self.reduce.weight, nonlinearity="relu")
        nn.init.zeros_(self.reduce.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.regress.weight, std=0.001)
        nn.init.zeros_(self.regress.bias)

    def forward(self, maps: Tensor) -> Tensor:
        return self.regress(torch.relu(self.reduce(maps)).flatten(1)) * self.scale


class FitHead(nn.Module):
    """How well a region fits the object it shows, whatever that is: [R,1024,7,7] -> logit of the IoU [R].

    A classifier's probability says what a region shows and little of how tightly; suppression needs both
    (IoU-Net, arXiv 1807.11590, section 3). What is there stands in the mean of the maps, how it lies in the
    region in their layout, which a 1x1 convolution makes small first.
    """

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(CHANNELS, width, 1)  # R x width x 7 x 7
        self.predict = nn.Linear(CHANNELS + width * 7 * 7, 1)
        nn.init.kaiming_normal_(self.reduce.weight, nonlinearity="relu")
        nn.init.zeros_(self.reduce.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.predict.weight, std=0.001)
        nn.init.zeros_(self.predict.bias)

    def forward(self, maps: Tensor) -> Tensor:
        layout = torch.relu(self.reduce(maps)).flatten(1)  # R x width*49
        return self.predict(torch.cat([maps.mean(dim=(2, 3)), layout], dim=1))[:, 0]

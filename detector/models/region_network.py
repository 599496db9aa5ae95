"""The network that classifies regions: a backbone, class pooling, and heads for boxes and the IoU.

Letters for shapes: R regions, S sub-classes (outputs of the linear classifier), C classes (background is the
last of the C+1 logits).
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.models.backbone import CHANNELS, LAST_STAGES, Backbone
from detector.models.location_head import LocationHead


class RegionOutput(NamedTuple):
    """The outputs of a RegionNetwork.

    logits [R,C+1]; deltas [R,4], box offsets (:func:`detector.structures.boxes.encode`); sub_classes [R,S],
    the logits before class pooling; predicted_iou [R], the logit of the IoU of the region and the object it
    shows, None without a head for it: a :class:`LocationHead` predicts that of the moved box, an
    :class:`IoUHead` that of the region as it was proposed.
    """

    logits: Tensor
    deltas: Tensor
    sub_classes: Tensor
    predicted_iou: Tensor | None = None


class RegionNetwork(nn.Module):
    """A backbone with its classifier, class pooling, and optional heads for boxes and the IoU.

    A detection class may cover many things that the backbone already tells apart: 118 of the 1000 ImageNet
    synsets are dogs. So the classifier keeps one output for each of these sub-classes, and a class's logit is
    the log-sum-exp of its sub-classes: its posterior is the sum of theirs. With the outputs of an ImageNet
    classifier this is that classifier's posterior folded onto the detection classes, before any training.

    Where the object lies, a location head says. Networks of earlier versions have a box head and an IoU
    head instead, which read the last maps. In checkpoints the tensors of the IoU head are called
    ``fit_head.*``.
    """

    def __init__(
        self,
        backbone: Backbone,
        sub_class_labels: Tensor,
        num_classes: int,
        *,
        box_regression: bool = True,
        iou_prediction: bool = False,
        location: bool = False,
    ) -> None:
        """Join a backbone and new heads; with ``location`` neither a box head nor an IoU head is needed.

        ``sub_class_labels`` [S] int64 is the class of each sub-class: 0..C-1, C for background, -1 to take no
        part.
        """
        super().__init__()
        self.backbone = backbone
        self.pooling = ClassPooling(sub_class_labels, num_classes)
        self.box_head = BoxHead() if box_regression else None
        self.fit_head = IoUHead() if iou_prediction else None
        self.location_head = LocationHead() if location else None

    @property
    def moves_boxes(self) -> bool:
        """Whether the network learned to move boxes."""
        return self.box_head is not None or self.location_head is not None

    @property
    def predicts_iou(self) -> bool:
        """Whether the network predicts how well boxes fit."""
        return self.fit_head is not None or self.location_head is not None

    @property
    def offset_scale(self) -> Tensor | None:
        """What offsets are divided by in training [4]; None if boxes are not moved."""
        head = self.location_head or self.box_head
        return head.scale if head is not None else None

    def forward(self, crops: Tensor) -> RegionOutput:
        """Compute the outputs for crops [R,3,224,224]."""
        return self.outputs_of(self.backbone.features[:-LAST_STAGES](crops))

    def outputs_of(self, cells: Tensor) -> RegionOutput:
        """Compute the outputs from the maps [R,832,7,7] that the last two stages read."""
        return self.heads(self.backbone.features[-LAST_STAGES:](cells), cells)

    def heads(self, maps: Tensor, cells: Tensor | None = None) -> RegionOutput:
        """Compute the outputs from the trunk's last maps [R,1024,7,7]; a location head also needs the
        ``cells`` [R,832,7,7] that the last two stages read."""
        sub_classes = self.backbone.pool(maps)  # R x S
        if self.location_head is not None:
            assert cells is not None
            deltas, iou = self.location_head(cells)
            return RegionOutput(self.pooling(sub_classes), deltas, sub_classes, iou)
        deltas = self.box_head(maps) if self.box_head is not None else maps.new_zeros(maps.shape[0], 4)
        predicted_iou = self.fit_head(maps) if self.fit_head is not None else None
        return RegionOutput(self.pooling(sub_classes), deltas, sub_classes, predicted_iou)


class ClassPooling(nn.Module):
    """Log-sum-exp of the sub-classes of each class: [R,S] -> [R,C+1]. Those of label -1 take no part."""

    labels: Tensor

    def __init__(self, sub_class_labels: Tensor, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("labels", sub_class_labels.to(torch.int64))

    def forward(self, logits: Tensor) -> Tensor:
        logits = logits.float()
        unused = self.num_classes + 1  # the column of those that take no part; it is dropped
        labels = torch.where(self.labels < 0, unused, self.labels).expand_as(logits)
        # Each class's own maximum is subtracted first: a class far below the best would underflow to log(0).
        peak = logits.new_full((logits.shape[0], unused + 1), -torch.inf)
        peak = peak.scatter_reduce(1, labels, logits.detach(), "amax")
        peak = peak.clamp_min(-1e4)  # keeps the logit of a class without sub-classes finite
        shifted = (logits - peak.gather(1, labels)).exp()
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


class IoUHead(nn.Module):
    """A head that predicts a region's IoU with the object it shows, of any class: [R,1024,7,7] -> logit [R].

    A classifier's probability says what a region shows and little of how tightly; suppression needs both
    (IoU-Net, arXiv 1807.11590, section 3). The mean of the maps tells what the object is, their layout how it
    lies in the region; a 1x1 convolution first makes the layout small.
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

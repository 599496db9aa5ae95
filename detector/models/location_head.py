"""Where in a region its object lies: a head that moves the region onto it.

Letters for shapes: R regions.
"""

import torch
from torch import Tensor, nn

CELL_CHANNELS = 832
"""Channels of the maps that the last two inception stages read, for every architecture."""

LOCATION_WIDTH, LOCATION_HIDDEN = 128, 256
"""Channels that a region's maps are reduced to, and units of the hidden layer."""

OFFSET_SCALE = (0.1, 0.1, 0.2, 0.2)
"""Offsets are divided by these in training (R-CNN whitens its targets, arXiv 1311.2524, appendix C)."""


class LocationHead(nn.Module):
    """Class-agnostic box regression, and the IoU that the moved box has with its object.

    Maps [R,832,7,7] before the last two inception stages -> offsets [R,4]
    (:func:`detector.structures.boxes.encode`) and the logit [R] of the IoU. It reads these maps, as R-CNN
    reads the last pooled ones (arXiv 1311.2524, appendix C), for the stages that follow say what an object is
    by forgetting where its edges are. A linear layer does not find edges; one hidden layer does. Both answers
    come from the same units: how well a box is known is part of knowing it (IoU-Net, arXiv 1807.11590).
    """

    scale: Tensor

    def __init__(self, dropout: float = 0.5) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(CELL_CHANNELS, LOCATION_WIDTH, 1)  # R x width x 7 x 7
        self.hidden = nn.Linear(LOCATION_WIDTH * 7 * 7, LOCATION_HIDDEN)
        self.dropout = nn.Dropout(dropout)
        self.locate = nn.Linear(LOCATION_HIDDEN, 5)  # four offsets, and the IoU
        self.register_buffer("scale", torch.tensor(OFFSET_SCALE))
        for layer in (self.reduce, self.hidden):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.normal_(self.locate.weight, std=0.001)
        nn.init.zeros_(self.locate.bias)

    def forward(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        layout = torch.relu(self.reduce(cells)).flatten(1)  # R x width*49
        located = self.locate(self.dropout(torch.relu(self.hidden(layout))))  # R x 5
        return located[:, :4] * self.scale, located[:, 4]

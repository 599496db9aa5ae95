"""The part of a region network that learns, as one module: from maps of the frozen stages to losses.

Letters for shapes: B regions, C classes.
"""

import torch
from torch import Tensor, nn

from detector.models.googlenet import AuxiliaryClassifier, initialise
from detector.models.region_network import RegionNetwork, RegionOutput
from training.rcnn.losses import Asked, Losses, LossWeights, Targets, losses

SIDE_STAGES = {"inception_4a": 512, "inception_4d": 528}
"""Stages that side classifiers read, and their channels (GoogLeNet, arXiv 1409.4842, section 5)."""


class RegionLearner(nn.Module):
    """The trained stages, the heads and, for the time of training, the side classifiers.

    These are made where their loss counts and the stages they read are trained; they say which of the C+1
    classes a region is, and no checkpoint holds them.
    """

    def __init__(self, network: RegionNetwork, frozen: int, weights: LossWeights) -> None:
        """``frozen`` stages of the trunk keep their weights, and no gradient reaches them."""
        super().__init__()
        network.backbone.features[:frozen].requires_grad_(False)
        self.network, self._weights = network, weights
        tail = network.backbone.features[frozen:].to(memory_format=torch.channels_last)
        self._stages = list(tail.named_children())  # a plain list: they are modules of the network already
        self.side = nn.ModuleDict()
        if weights.auxiliary > 0:
            for name, channels in SIDE_STAGES.items():
                if name in dict(self._stages):
                    self.side[name] = AuxiliaryClassifier(channels, network.pooling.num_classes + 1)
            initialise(self.side)

    def train(self, mode: bool = True) -> "RegionLearner":
        """As for any module, but batch normalisation keeps what it normalises by: a minibatch of regions of
        few pictures would tell it other means than the pictures have."""
        super().train(mode)
        for part in self.modules():
            if isinstance(part, nn.modules.batchnorm._BatchNorm):
                part.eval()
        return self

    def forward(
        self, maps: Tensor, targets: Targets, counts: Asked | None, precision: torch.dtype
    ) -> tuple[Losses, Tensor]:
        """Maps [B,K,h,w] of the frozen stages -> the losses, and the logits [B,C+1] without a gradient.

        The trunk runs in ``precision``, the heads in float32.
        """
        side: list[Tensor] = []
        with torch.autocast(maps.device.type, precision, enabled=precision != torch.float32):
            x = maps.to(precision)
            for name, stage in self._stages:
                x = stage(x)
                if self.training and name in self.side:
                    side.append(self.side[name](x))
        output: RegionOutput = self.network.heads(x.float())
        part = losses(self.network, output, targets, self._weights, auxiliary=side, counts=counts)
        return part, output.logits.detach()

    def rates(self, rate: float, head_rate: float, stage_decay: float) -> list[dict[str, object]]:
        """Groups of weights for the optimiser, each with its ``rate``: a stage's is ``stage_decay`` times
        that of the next one with weights, the heads' is ``head_rate``."""
        groups: list[dict[str, object]] = []
        for _, stage in reversed(self._stages):
            weights = [weight for weight in stage.parameters() if weight.requires_grad]
            if weights:
                groups.append({"params": weights, "rate": rate * stage_decay ** len(groups)})
        trunk = {id(weight) for _, stage in self._stages for weight in stage.parameters()}
        heads = [weight for weight in self.parameters() if weight.requires_grad and id(weight) not in trunk]
        return [*groups, {"params": heads, "rate": head_rate}]

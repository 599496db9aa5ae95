"""The part of a region network that is trained, as one module: from maps of the frozen stages to losses.

Letters for shapes: B regions, C classes.
"""

import torch
from torch import Tensor, nn

from detector.errors import ParameterError
from detector.models.backbone import LAST_STAGES
from detector.models.googlenet import AuxiliaryClassifier, initialise
from detector.models.region_network import RegionNetwork, RegionOutput
from training.rcnn.dataloader import RegionBatch
from training.rcnn.losses import LossWeights, RegionLosses, RegionWeights, Targets, region_losses
from training.trainer.distributed import ProcessGroup

AUXILIARY_STAGES = {"inception_4a": 512, "inception_4d": 528, "inception4a": 512, "inception4d": 528}
"""Stages that auxiliary classifiers read, as each architecture calls them, and their channels (arXiv
1409.4842, section 5)."""


def check_frozen(network: RegionNetwork, frozen: int) -> None:
    """Raise ParameterError if the maps that a location head reads are not among what is run, where the first
    ``frozen`` stages are not."""
    if network.location_head is not None and frozen > len(network.backbone.features) - LAST_STAGES:
        raise ParameterError(
            "the head that says where objects lie reads the maps before the last two inception stages: "
            "freeze at most the stages before these (--frozen-through pool4)"
        )


def keep_statistics(module: nn.Module) -> None:
    """Set batch normalisation to evaluation mode: the regions of a minibatch come from few images, and have
    other means than the images have."""
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            part.eval()


class RegionTrainingModule(nn.Module):
    """The trained stages, the heads and, during training, the side classifiers.

    Side classifiers are made where their loss counts and the stages they read are trained; they classify a
    region into the C+1 classes, and no checkpoint holds them.
    """

    def __init__(self, network: RegionNetwork, frozen: int, weights: LossWeights) -> None:
        """Take ``network``, whose first ``frozen`` stages keep their weights and are not run.

        Raises ParameterError as :func:`check_frozen` does.
        """
        super().__init__()
        check_frozen(network, frozen)
        network.backbone.features[:frozen].requires_grad_(False)
        self.network, self._weights = network, weights
        tail = network.backbone.features[frozen:].to(memory_format=torch.channels_last)
        self._stages = list(tail.named_children())  # a plain list: they are modules of the network already
        self._before_last = len(self._stages) - LAST_STAGES
        self.side = nn.ModuleDict()
        if weights.auxiliary > 0:
            for name, channels in AUXILIARY_STAGES.items():
                if name in dict(self._stages):
                    self.side[name] = AuxiliaryClassifier(channels, network.pooling.num_classes + 1)
            initialise(self.side)

    def train(self, mode: bool = True) -> "RegionTrainingModule":
        """Set the mode of all parts but batch normalisation, which keeps its statistics."""
        super().train(mode)
        keep_statistics(self)
        return self

    def forward(
        self, maps: Tensor, targets: Targets, sums: RegionWeights | None, precision: torch.dtype
    ) -> tuple[RegionLosses, Tensor]:
        """Compute from maps [B,K,h,w] of the frozen stages the losses, and the logits [B,C+1] without a
        gradient.

        ``sums`` are the summed weights of the whole minibatch [those of these regions]. The trunk runs in
        ``precision``, the heads in float32.
        """
        side: list[Tensor] = []
        with torch.autocast(maps.device.type, precision, enabled=precision != torch.float32):
            x = cells = maps.to(precision)
            for number, (name, stage) in enumerate(self._stages, start=1):
                x = stage(x)
                if number == self._before_last:
                    cells = x
                if self.training and name in self.side:
                    side.append(self.side[name](x))
        output: RegionOutput = self.network.heads(x.float(), cells.float())
        losses = region_losses(self.network, output, targets, self._weights, auxiliary=side, sums=sums)
        return losses, output.logits.detach()

    def parameter_groups(self, rate: float, head_rate: float, stage_decay: float) -> list[dict[str, object]]:
        """Group the parameters for the optimizer, each group with its ``lr``.

        A stage's rate is ``stage_decay`` times that of the next one with weights, the heads' is
        ``head_rate``.
        """
        groups: list[dict[str, object]] = []
        for _, stage in reversed(self._stages):
            weights = [weight for weight in stage.parameters() if weight.requires_grad]
            if weights:
                groups.append({"params": weights, "lr": rate * stage_decay ** len(groups)})
        trunk = {id(weight) for _, stage in self._stages for weight in stage.parameters()}
        heads = [weight for weight in self.parameters() if weight.requires_grad and id(weight) not in trunk]
        return [*groups, {"params": heads, "lr": head_rate}]


@torch.no_grad()
def keep_hardest(
    batch: RegionBatch,
    module: RegionTrainingModule,
    pool: int,
    keep: int,
    world: ProcessGroup,
    precision: torch.dtype,
) -> RegionBatch:
    """Drop the easier part of a minibatch's pool of backgrounds.

    Of the ``pool`` slots, shared by all processes, those ``keep`` stay whose regions have the lowest
    probability of background, in one forward pass without dropout (Shrivastava et al., arXiv 1604.03540).
    """
    pooled = torch.nonzero(batch.slots >= 0)[:, 0]
    hardness = torch.full((pool,), 0.0, device=batch.maps.device)
    if len(pooled):
        module.eval()
        targets = Targets(*(part[pooled] for part in batch.targets))
        _, logits = module(batch.maps[pooled], targets, None, precision)
        module.train()
        # Above 0 for every region, so that an empty slot is never chosen before a region.
        hardness[batch.slots[pooled]] = -logits.log_softmax(dim=1)[:, -1] + torch.finfo(torch.float32).eps
    hardness = world.total(hardness)
    hardest = torch.zeros_like(hardness, dtype=torch.bool)
    hardest[hardness.topk(keep).indices] = True
    stays = torch.nonzero((batch.slots < 0) | hardest[batch.slots.clamp_min(0)])[:, 0]
    return RegionBatch(
        batch.maps[stays], Targets(*(part[stays] for part in batch.targets)), batch.slots[stays]
    )

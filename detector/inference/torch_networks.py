"""What torch engines run: trunks of one or several checkpoints, and what is made of their maps.

Letters for shapes: N images, M members of an ensemble, R regions, K crops, C classes, A anchors.
"""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from detector.inference.torch_engine import InferenceNetwork, TensorOutputs
from detector.models.backbone import Backbone
from detector.models.image_trunk import MULTIBOX, ImageTrunk
from detector.models.multibox_head import MultiBoxHead, objectness_and_offsets
from detector.models.region_network import RegionNetwork


class ImageNetwork(InferenceNetwork):
    """Images [N,3,H,W] -> ``maps`` as of :class:`ImageTrunk`, and ``objectness`` [N,A] in 0..1 and
    ``offsets`` [N,A,4] of the head's anchors."""

    def __init__(
        self, features: nn.Sequential, *, stage: str | None = None, head: MultiBoxHead | None = None
    ) -> None:
        """Raises ParameterError if the trunk lacks a stage that is read."""
        super().__init__(ImageTrunk(features, stage, head), _outputs)


def _outputs(maps: Mapping[str, Tensor]) -> TensorOutputs:
    outputs = dict(maps)
    if MULTIBOX in outputs:
        outputs["objectness"], outputs["offsets"] = objectness_and_offsets(outputs.pop(MULTIBOX))
    return outputs


class RegionHeads(nn.Module):
    """The heads of M region networks.

    Maps [M*R,1024,7,7], member after member, or as of
    :class:`detector.models.shared_trunk.SharedTrunk` these and what the last two stages read -> of member m
    ``m.probabilities`` [R,C+1] and, where it has such a head, ``m.deltas`` [R,4] and ``m.predicted_iou`` [R].
    """

    def __init__(self, networks: Sequence[RegionNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, maps: Tensor | Mapping[str, Tensor]) -> TensorOutputs:
        members, outputs = len(self.networks), {}
        last = maps if isinstance(maps, Tensor) else maps["maps"]
        cells = [None] * members if isinstance(maps, Tensor) else maps["cells"].chunk(members)
        parts = zip(self.networks, last.chunk(members), cells, strict=True)
        for index, (network, part, read) in enumerate(parts):
            assert isinstance(network, RegionNetwork)
            output = network.heads(part, read)
            outputs[f"{index}.probabilities"] = output.logits.softmax(dim=1)
            if network.moves_boxes:
                outputs[f"{index}.deltas"] = output.deltas
            if output.predicted_iou is not None:
                outputs[f"{index}.predicted_iou"] = output.predicted_iou.sigmoid()
        return outputs


def last_maps(maps: Tensor, *, members: int) -> TensorOutputs:
    """Take the maps [M*R,1024,7,7] of M members apart: ``m.last_maps`` [R,1024,7,7]."""
    return {f"{index}.last_maps": part for index, part in enumerate(maps.chunk(members))}


class ClassifierHeads(nn.Module):
    """The classifiers of M backbones.

    Maps [M*K,1024,7,7], member after member -> of member m ``m.probabilities`` [K,C], the softmax over its
    first C outputs.
    """

    def __init__(self, backbones: Sequence[Backbone], num_classes: int) -> None:
        super().__init__()
        self.backbones = nn.ModuleList(backbones)
        self.num_classes = num_classes

    def forward(self, maps: Tensor) -> TensorOutputs:
        parts = zip(self.backbones, maps.chunk(len(self.backbones)), strict=True)
        return {
            f"{index}.probabilities": backbone.classify_whole(part)[:, : self.num_classes].softmax(dim=1)  # type: ignore[operator]
            for index, (backbone, part) in enumerate(parts)
        }

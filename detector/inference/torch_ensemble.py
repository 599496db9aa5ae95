"""Checkpoints placed on a device, run by torch."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from detector.errors import CheckpointError
from detector.inference.class_activation import ClassLayer
from detector.inference.ensemble import Ensemble, Member
from detector.inference.shared_maps import stages_through
from detector.inference.torch_engine import (
    InferenceNetwork,
    TorchEngine,
    choose_device,
    choose_precision,
    to_precision,
)
from detector.inference.torch_networks import ClassifierHeads, ImageNetwork, RegionHeads, last_maps
from detector.models.checkpoint import Checkpoint
from detector.models.region_network import RegionNetwork
from detector.models.shared_trunk import SharedTrunk, count_shared_stages


class TorchEnsemble(Ensemble):
    """Networks of checkpoints, copied to a device once."""

    engine = "torch"

    def __init__(self, checkpoints: Sequence[Checkpoint], precision: str) -> None:
        """Take checkpoints whose networks are on a device, their trunks in a precision: :meth:`place` makes
        them."""
        self.checkpoints = tuple(checkpoints)
        self.members = tuple(_member(checkpoint) for checkpoint in checkpoints)
        self.precision = precision
        self.device = str(next(checkpoints[0].backbone.parameters()).device)

    @classmethod
    def place(
        cls,
        checkpoints: Checkpoint | Sequence[Checkpoint],
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> "TorchEnsemble":
        """Copy the networks to a device, their trunks and MultiBox heads in a precision.

        The checkpoints stay as they are. The copies take the memory of one more set of weights (7.0 million
        a GoogLeNet: 28 MB in float32, half of it in 16 bits), less the stages that members have in common,
        which are one module in all of them. Raises ParameterError for a device or precision that is not
        there, CheckpointError for no checkpoints.
        """
        checkpoints = [checkpoints] if isinstance(checkpoints, Checkpoint) else list(checkpoints)
        if not checkpoints:
            raise CheckpointError("an ensemble needs at least one checkpoint")
        target = choose_device(device)
        dtype = choose_precision(precision, target)
        shared = count_shared_stages([checkpoint.backbone.features for checkpoint in checkpoints])
        # In one copy: a head that two checkpoints have in common stays one.
        parts = copy.deepcopy([(checkpoint.network, checkpoint.multibox) for checkpoint in checkpoints])
        members = [
            replace(checkpoint, network=network, multibox=multibox)
            for checkpoint, (network, multibox) in zip(checkpoints, parts, strict=True)
        ]
        trunks = [member.backbone.features for member in members]
        for trunk in trunks[1:]:
            for index in range(shared):
                trunk[index] = trunks[0][index]
        for member in members:
            member.network.to(target).eval()
            to_precision(member.backbone.features, dtype)
            if member.multibox is not None:
                to_precision(member.multibox.to(target).eval(), dtype)
        return cls(members, str(dtype).removeprefix("torch."))

    def first(self, count: int) -> "TorchEnsemble":
        return TorchEnsemble(self.checkpoints[:count], self.precision)

    def with_streams(self, count: int) -> "TorchEnsemble":
        return self  # a batch takes what the thread that starts it may

    def alike_through(self, stage: str) -> list[list[int]]:
        cut = self._stages_through(stage)
        trunks = [checkpoint.backbone.features for checkpoint in self.checkpoints]
        groups: list[list[int]] = []
        for index, trunk in enumerate(trunks):
            for group in groups:
                if count_shared_stages([trunks[group[0]], trunk]) >= cut:
                    group.append(index)
                    break
            else:
                groups.append([index])
        return groups

    def image_engine(self, member: int, stage: str | None, *, multibox: bool) -> TorchEngine:
        checkpoint = self.checkpoints[member]
        head = checkpoint.multibox if multibox else None
        network = ImageNetwork(checkpoint.backbone.features, stage=stage, head=head)
        # Each scale of an image has a size of its own: a batch of one, and never filled up.
        return TorchEngine(network, batch=1, buckets=())

    def region_engine(
        self,
        members: Sequence[int],
        *,
        after: str | None = None,
        batch: int | None = None,
        compile: bool = False,
    ) -> TorchEngine:
        regions = self._region_networks(members)
        located = any(network.location_head is not None for network in regions)
        network = InferenceNetwork(self._trunk_after(after, regions, cells=located), RegionHeads(regions))
        return TorchEngine(network, batch=batch, compile=compile)

    def last_maps_engine(
        self, members: Sequence[int], *, after: str | None = None, batch: int | None = None
    ) -> TorchEngine:
        regions = self._region_networks(members)
        network = InferenceNetwork(
            self._trunk_after(after, regions), partial(last_maps, members=len(regions))
        )
        return TorchEngine(network, batch=batch)

    def class_layer(self, member: int) -> ClassLayer:
        [network] = self._region_networks([member])
        classifier = network.backbone.classifier
        tensors = (classifier.weight, classifier.bias, network.pooling.labels)
        return ClassLayer(*(tensor.detach().cpu().numpy() for tensor in tensors))

    def classifier_engine(self, *, batch: int | None = None) -> TorchEngine:
        classes = self.members[0].metadata.classification
        assert classes is not None
        backbones = [checkpoint.backbone for checkpoint in self.checkpoints]
        trunk = SharedTrunk([backbone.features for backbone in backbones])
        return TorchEngine(InferenceNetwork(trunk, ClassifierHeads(backbones, len(classes))), batch=batch)

    def release_memory(self) -> None:
        """Do nothing: torch keeps what it will need again."""

    def _region_networks(self, members: Sequence[int]) -> list[RegionNetwork]:
        networks = [self.checkpoints[index].network for index in members]
        return [network for network in networks if isinstance(network, RegionNetwork)]

    def _trunk_after(
        self, stage: str | None, networks: Sequence[RegionNetwork], *, cells: bool = False
    ) -> SharedTrunk:
        """Return the trunks of networks from the stage that follows ``stage`` on, or all of them for None."""
        first = self._stages_through(stage) if stage is not None else 0
        return SharedTrunk([network.backbone.features[first:] for network in networks], cells=cells)

    def _stages_through(self, stage: str) -> int:
        """Return how many stages end with one of a name. Raises ParameterError if there is none."""
        trunk = self.checkpoints[0].backbone.features
        return stages_through([name for name, _ in trunk.named_children()], stage)


def _member(checkpoint: Checkpoint) -> Member:
    network = checkpoint.network
    spec = checkpoint.multibox.spec if checkpoint.multibox is not None else None
    metadata = replace(checkpoint.metadata, multibox=spec)
    if not isinstance(network, RegionNetwork):
        return Member(replace(metadata, detection=None))
    return Member(metadata, network.moves_boxes, network.predicts_iou)

"""Several networks as one: the same crops through each, their outputs averaged.

GoogLeNet's detector was an ensemble of six, its classifier one of seven (arXiv 1409.4842, sections 7 and 8).
Members that were fine-tuned from the same weights with their first stages frozen have those in common: they
run once. Letters for shapes: M members, R regions, C classes.
"""

import copy
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.errors import CheckpointError
from detector.inference.engine import (
    Engine,
    InferenceNetwork,
    Outputs,
    choose_device,
    choose_precision,
    to_precision,
)
from detector.inference.executor import Executor, ForwardRequest, MakeCrops, run_directly, with_mirrored
from detector.models.checkpoint import Checkpoint
from detector.models.region_network import RegionNetwork
from detector.options import CROP_COST


@dataclass(frozen=True, eq=False)
class Ensemble:
    """Checkpoints placed on a device, ready to run: what detectors and classifiers share.

    ``members`` hold networks of their own (:meth:`place`), which no Detector or Classifier made of them
    copies again: a service that detects and classifies with one file has its weights in memory once.
    ``Ensemble(ensemble.members[:2])`` is the first two, in the same memory.
    """

    members: tuple[Checkpoint, ...]

    @classmethod
    def place(
        cls,
        checkpoints: Checkpoint | Sequence[Checkpoint],
        *,
        device: str = "auto",
        precision: str = "auto",
    ) -> "Ensemble":
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
        return cls(tuple(members))

    @property
    def name(self) -> str:
        """The members' names as one, as replies state it."""
        return " + ".join(member.metadata.name for member in self.members)

    def check_alike(self, task: str) -> None:
        """Raise CheckpointError unless all members are for the same classes and the same kind of crop.

        ``task`` is ``detection`` or ``classification``.
        """
        first = self.members[0].metadata
        for metadata in (member.metadata for member in self.members[1:]):
            if getattr(first, task) != getattr(metadata, task):
                raise CheckpointError(
                    f"{metadata.name} cannot be averaged with {first.name}: they have other classes of "
                    f"{task}; the members of an ensemble are trained on one class list"
                )
            if (first.preprocessing, first.shared_maps) != (metadata.preprocessing, metadata.shared_maps):
                raise CheckpointError(
                    f"{metadata.name} cannot be averaged with {first.name}: they see pictures prepared "
                    f"otherwise ({metadata.preprocessing}, {first.preprocessing}); give the members of an "
                    "ensemble one recipe"
                )


class RegionPrediction(NamedTuple):
    """Raw outputs for R regions: what is known of them before any scoring.

    probabilities [R,C+1], background last; deltas [R,4], None without a box head; predicted_iou [R] in 0..1,
    None without a head for it.
    """

    probabilities: Tensor
    deltas: Tensor | None
    predicted_iou: Tensor | None

    def rows(self, chosen: Tensor) -> "RegionPrediction":
        """Return the outputs of some of the regions, by their numbers [R'] int64."""
        return RegionPrediction(
            self.probabilities[chosen],
            self.deltas[chosen] if self.deltas is not None else None,
            self.predicted_iou[chosen] if self.predicted_iou is not None else None,
        )


def average(predictions: Sequence[RegionPrediction]) -> RegionPrediction:
    """Return the mean of several predictions of the same regions in the same order.

    Offsets are the mean of the members that give some; there is a predicted IoU only if all give one.
    """
    deltas = [prediction.deltas for prediction in predictions if prediction.deltas is not None]
    ious = [prediction.predicted_iou for prediction in predictions if prediction.predicted_iou is not None]
    return RegionPrediction(
        _mean([prediction.probabilities for prediction in predictions]),
        _mean(deltas) if deltas else None,
        _mean(ious) if len(ious) == len(predictions) else None,
    )


class RegionEnsemble:
    """Predicts regions with one or more region networks, which stay where and as they are."""

    def __init__(
        self,
        networks: Sequence[RegionNetwork],
        *,
        first_stage: int = 0,
        batch: int | None = None,
        compile: bool = False,
    ) -> None:
        """``batch`` and ``compile`` are those of :class:`detector.inference.engine.Engine`.

        With a ``first_stage`` rows are not crops but maps of the stages before it.
        """
        self._networks = list(networks)
        trunk = SharedTrunk([network.backbone.features[first_stage:] for network in networks])
        network = InferenceNetwork(trunk, _RegionHeads(networks))
        self._engine = Engine(network, batch=batch, compile=compile)
        self.device = self._engine.device
        self.region_cost = 1 if first_stage else CROP_COST  # as of a ForwardRequest
        self.predicts_iou = all(network.fit_head is not None for network in networks)
        self.moves_boxes = any(network.box_head is not None for network in networks)

    def predict(
        self,
        rows: int,
        make_crops: MakeCrops,
        *,
        flip: bool = False,
        make_mirrored: MakeCrops | None = None,
        executor: Executor = run_directly,
    ) -> list[RegionPrediction]:
        """Return each member's prediction of R rows of crops [R,3,224,224], or of maps.

        With ``flip`` every row is also seen mirrored, and both are averaged. ``make_mirrored`` makes the
        mirrored rows [crops turned].
        """
        cost = self.region_cost
        if not flip:
            return self._predictions(executor(ForwardRequest(self._engine, rows, make_crops, cost=cost)))
        both = with_mirrored(make_crops, rows, make_mirrored)
        outputs = executor(ForwardRequest(self._engine, 2 * rows, both, cost=cost))
        plain = self._predictions({name: column[:rows] for name, column in outputs.items()})
        mirrored = self._predictions({name: column[rows:] for name, column in outputs.items()})
        return [average([a, _turned_back(b)]) for a, b in zip(plain, mirrored, strict=True)]

    def _predictions(self, outputs: Outputs) -> list[RegionPrediction]:
        """Take outputs of R rows apart, member by member."""
        return [
            RegionPrediction(
                outputs[f"{index}.probabilities"],
                outputs.get(f"{index}.deltas"),
                outputs.get(f"{index}.predicted_iou"),
            )
            for index in range(len(self._networks))
        ]


class _RegionHeads(nn.Module):
    """The heads of M region networks.

    Maps [M*R,1024,7,7], member after member -> of member m ``m.probabilities`` [R,C+1] and, where it has such
    a head, ``m.deltas`` [R,4] and ``m.predicted_iou`` [R].
    """

    def __init__(self, networks: Sequence[RegionNetwork]) -> None:
        super().__init__()
        self.networks = nn.ModuleList(networks)

    def forward(self, maps: Tensor) -> Outputs:
        outputs = {}
        for index, (network, part) in enumerate(
            zip(self.networks, maps.chunk(len(self.networks)), strict=True)
        ):
            assert isinstance(network, RegionNetwork)
            output = network.heads(part)
            outputs[f"{index}.probabilities"] = output.logits.softmax(dim=1)
            if network.box_head is not None:
                outputs[f"{index}.deltas"] = output.deltas
            if output.predicted_iou is not None:
                outputs[f"{index}.predicted_iou"] = output.predicted_iou.sigmoid()
        return outputs


class SharedTrunk(nn.Module):
    """The trunks of several networks; the first stages that are the same in all of them run once.

    Crops [R,3,224,224] -> the members' maps one after the other, [M*R,1024,7,7].
    """

    def __init__(self, trunks: Sequence[nn.Sequential]) -> None:
        super().__init__()
        count = count_shared_stages(trunks)
        self.shared = trunks[0][:count]
        self.tails = nn.ModuleList(trunk[count:] for trunk in trunks)

    def forward(self, crops: Tensor) -> Tensor:
        maps = self.shared(crops)
        if len(self.tails) == 1:
            return self.tails[0](maps)
        return torch.cat([tail(maps) for tail in self.tails])


def count_shared_stages(trunks: Sequence[nn.Sequential]) -> int:
    """Return how many of the first stages are the same in all trunks, weight by weight."""
    count = 0
    for stages in zip(*(trunk.named_children() for trunk in trunks), strict=False):
        if not all(_same(stages[0], stage) for stage in stages[1:]):
            break
        count += 1
    return count


def _same(a: tuple[str, nn.Module], b: tuple[str, nn.Module]) -> bool:
    (name_a, stage_a), (name_b, stage_b) = a, b
    if stage_a is stage_b:
        return True
    state_a, state_b = stage_a.state_dict(), stage_b.state_dict()
    return (
        name_a == name_b
        and type(stage_a) is type(stage_b)
        and state_a.keys() == state_b.keys()
        and all(torch.equal(state_a[key], state_b[key]) for key in state_a)
    )


def _turned_back(mirrored: RegionPrediction) -> RegionPrediction:
    """Return a prediction of mirrored crops as one of the crops: mirroring turns the sign of dx alone."""
    if mirrored.deltas is None:
        return mirrored
    return mirrored._replace(deltas=mirrored.deltas * mirrored.deltas.new_tensor([-1.0, 1.0, 1.0, 1.0]))


def _mean(values: Sequence[Tensor]) -> Tensor:
    return sum(values[1:], start=values[0]) / len(values) if len(values) > 1 else values[0]

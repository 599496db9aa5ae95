"""Several networks as one: the same regions through each, what they say averaged.

GoogLeNet's detector was an ensemble of six, its classifier one of seven (arXiv 1409.4842, sections 7 and 8).
Members that were fine-tuned from the same weights with their first stages frozen have those in common: they
run once. Letters for shapes: M members, R regions, C classes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from detector.checkpoints import Checkpoint
from detector.engine import Engine
from detector.errors import CheckpointError
from detector.region_network import RegionNetwork


class RegionPrediction(NamedTuple):
    """probabilities [R,C+1], deltas [R,4], fit [R] in 0..1 (None where a member has no fit head)."""

    probabilities: Tensor
    deltas: Tensor
    fit: Tensor | None


class RegionEnsemble:
    """One or more region networks on one device."""

    def __init__(
        self, networks: Sequence[RegionNetwork], *, device: str, precision: str, compile: bool = False
    ) -> None:
        """The networks are moved and converted in place, and made to share the stages they have in common."""
        self._networks = list(networks)
        self.predicts_fit = all(network.fit_head is not None for network in networks)
        self.moves_boxes = any(network.box_head is not None for network in networks)
        self._engine = Engine(
            SharedTrunk([network.backbone.features for network in networks]),
            nn.ModuleList(networks),
            self._heads,
            device=device,
            precision=precision,
            compile=compile,
        )
        self.device = self._engine.device

    def run(self, crops: Tensor, *, flip: bool = False) -> RegionPrediction:
        """Crops [R,3,224,224] on the device -> what the members say on average, on the CPU.

        With ``flip`` every crop is also seen mirrored, and both are averaged.
        """
        prediction = self._predict(crops)
        if not flip:
            return prediction
        mirrored = self._predict(crops, mirrored=True)
        fit = None
        if prediction.fit is not None and mirrored.fit is not None:
            fit = (prediction.fit + mirrored.fit) / 2
        back = torch.tensor([-1.0, 1.0, 1.0, 1.0])  # only dx has a sign that mirroring turns
        return RegionPrediction(
            (prediction.probabilities + mirrored.probabilities) / 2,
            (prediction.deltas + mirrored.deltas * back) / 2,
            fit,
        )

    def _predict(self, crops: Tensor, *, mirrored: bool = False) -> RegionPrediction:
        probabilities, deltas, *fit = self._engine.run(crops, mirrored=mirrored)
        return RegionPrediction(probabilities, deltas, fit[0] if fit else None)

    def _heads(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Maps [R,M*1024,7,7] of all members -> probabilities, deltas and, if all predict it, fit."""
        parts = maps.chunk(len(self._networks), dim=1)
        outputs = [network.heads(part) for network, part in zip(self._networks, parts, strict=True)]
        moving = [
            output.deltas
            for network, output in zip(self._networks, outputs, strict=True)
            if network.box_head is not None or not self.moves_boxes
        ]
        means = [_mean([output.logits.softmax(dim=1) for output in outputs]), _mean(moving)]
        fits = [output.fit.sigmoid() for output in outputs if output.fit is not None]
        if self.predicts_fit:
            means.append(_mean(fits))
        return tuple(means)


class SharedTrunk(nn.Module):
    """The trunks of several networks, the stages they have in common run once.

    Crops [R,3,224,224] -> the members' maps one after the other, [R,M*1024,7,7].
    """

    def __init__(self, trunks: Sequence[nn.Sequential]) -> None:
        """A stage in common is one module in all trunks afterwards, so that it stands in memory once."""
        super().__init__()
        self.shared_stages = count_shared_stages(trunks)
        first = trunks[0]
        for trunk in trunks[1:]:
            for index in range(self.shared_stages):
                trunk[index] = first[index]
        self.shared = first[: self.shared_stages]
        self.tails = nn.ModuleList(trunk[self.shared_stages :] for trunk in trunks)

    def forward(self, crops: Tensor) -> Tensor:
        maps = self.shared(crops)
        if len(self.tails) == 1:
            return self.tails[0](maps)
        return torch.cat([tail(maps) for tail in self.tails], dim=1)


def count_shared_stages(trunks: Sequence[nn.Sequential]) -> int:
    """How many of the first stages are the same in all trunks, weight by weight."""
    count = 0
    for stages in zip(*(trunk.named_children() for trunk in trunks), strict=False):
        if not all(_same(stages[0], stage) for stage in stages[1:]):
            break
        count += 1
    return count


def check_members(checkpoints: Sequence[Checkpoint], task: str) -> None:
    """Raises CheckpointError unless all are for the same classes and the same kind of crop.

    ``task`` is ``detection`` or ``classification``.
    """
    if not checkpoints:
        raise CheckpointError("an ensemble needs at least one checkpoint")
    first = checkpoints[0].metadata
    for other in (checkpoint.metadata for checkpoint in checkpoints[1:]):
        if getattr(first, task) != getattr(other, task):
            raise CheckpointError(
                f"{other.name} cannot be averaged with {first.name}: they have other classes of {task}; "
                "the members of an ensemble are trained on one class list"
            )
        if first.preprocessing != other.preprocessing:
            raise CheckpointError(
                f"{other.name} cannot be averaged with {first.name}: they see pictures prepared otherwise "
                f"({other.preprocessing}, {first.preprocessing}); give the members of an ensemble one recipe"
            )


def ensemble_name(checkpoints: Sequence[Checkpoint]) -> str:
    """The members' names, as replies state them."""
    return " + ".join(checkpoint.metadata.name for checkpoint in checkpoints)


def _same(a: tuple[str, nn.Module], b: tuple[str, nn.Module]) -> bool:
    (name, stage), (other_name, other) = a, b
    if stage is other:
        return True
    mine, theirs = stage.state_dict(), other.state_dict()
    return (
        name == other_name
        and type(stage) is type(other)
        and mine.keys() == theirs.keys()
        and all(torch.equal(mine[key], theirs[key]) for key in mine)
    )


def _mean(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).mean(dim=0)

"""Several networks as one: the same regions through each, what they say averaged.

GoogLeNet's detector was an ensemble of six, its classifier one of seven (arXiv 1409.4842, sections 7 and 8).
Members that were fine-tuned from the same weights with their first stages frozen have those in common: they
run once. Letters for shapes: M members, R regions, C classes.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from detector.errors import CheckpointError
from detector.inference.engine import Engine
from detector.inference.looks import Crops, Look, Steps, complete, with_mirrored
from detector.models.checkpoint import Checkpoint
from detector.models.region_network import RegionNetwork


class RegionPrediction(NamedTuple):
    """probabilities [R,C+1], deltas [R,4] (None without a box head), fit [R] in 0..1 (None without a fit
    head)."""

    probabilities: Tensor
    deltas: Tensor | None
    fit: Tensor | None


def averaged(predictions: Sequence[RegionPrediction]) -> RegionPrediction:
    """What several predictions say on average, of the same regions in the same order.

    Boxes are moved by those who can, and there is a fit only if all predict it.
    """
    deltas = [one.deltas for one in predictions if one.deltas is not None]
    fits = [one.fit for one in predictions if one.fit is not None]
    return RegionPrediction(
        _mean([one.probabilities for one in predictions]),
        _mean(deltas) if deltas else None,
        _mean(fits) if len(fits) == len(predictions) else None,
    )


class RegionEnsemble:
    """One or more region networks on one device."""

    def __init__(
        self,
        networks: Sequence[RegionNetwork],
        *,
        device: str,
        precision: str,
        batch: int | None = None,
        compile: bool = False,
    ) -> None:
        """The networks are moved and converted in place, and made to share the stages they have in common."""
        self._networks = list(networks)
        self._trunk = SharedTrunk([network.backbone.features for network in networks])
        self._how: dict[str, Any] = {
            "device": device,
            "precision": precision,
            "batch": batch,
            "compile": compile,
        }
        self.predicts_fit = all(network.fit_head is not None for network in networks)
        self.moves_boxes = any(network.box_head is not None for network in networks)
        self._engine = Engine(
            self._trunk,
            nn.ModuleList(networks),
            self._heads,
            device=device,
            precision=precision,
            batch=batch,
            compile=compile,
        )
        self.device = self._engine.device

    def __len__(self) -> int:
        return len(self._networks)

    @property
    def tails(self) -> list[nn.Module]:
        """The stages that each member has for itself, which run once for each batch of crops."""
        return list(self._trunk.tails)

    def first(self, count: int) -> "RegionEnsemble":
        """The first so many members as an ensemble, their weights in memory once."""
        return RegionEnsemble(self._networks[:count], **self._how)

    def run(self, crops: Tensor, *, flip: bool = False) -> RegionPrediction:
        """Crops [R,3,224,224] on the device -> what the members say on average, on the CPU.

        With ``flip`` every crop is also seen mirrored, and both are averaged.
        """
        return averaged(complete(self.looking(len(crops), lambda a, b: crops[a:b], flip=flip)))

    def looking(self, rows: int, crops: Crops, *, flip: bool = False) -> Steps[list[RegionPrediction]]:
        """Steps to what each member says of some rows of crops, in their order; ``flip`` as above."""
        if not flip:
            return self._predictions((yield Look(self._engine, rows, crops)))
        said = yield Look(self._engine, 2 * rows, with_mirrored(crops, rows))
        plain = self._predictions([column[:rows] for column in said])
        mirrored = self._predictions([column[rows:] for column in said])
        return [averaged([one, _turned_back(other)]) for one, other in zip(plain, mirrored, strict=True)]

    def _predictions(self, said: Sequence[Tensor]) -> list[RegionPrediction]:
        """What the heads gave of R rows, member by member."""
        columns = iter(said)
        return [
            RegionPrediction(
                next(columns),
                next(columns) if network.box_head is not None else None,
                next(columns) if network.fit_head is not None else None,
            )
            for network in self._networks
        ]

    def _heads(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Maps [M*R,1024,7,7] of all members -> of each in turn the probabilities, deltas and fit it has."""
        columns = []
        for network, part in zip(self._networks, maps.chunk(len(self._networks)), strict=True):
            output = network.heads(part)
            columns.append(output.logits.softmax(dim=1))
            if network.box_head is not None:
                columns.append(output.deltas)
            if output.fit is not None:
                columns.append(output.fit.sigmoid())
        return tuple(columns)


class SharedTrunk(nn.Module):
    """The trunks of several networks, the stages they have in common run once.

    Crops [R,3,224,224] -> the members' maps one after the other, [M*R,1024,7,7].
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
        return torch.cat([tail(maps) for tail in self.tails])


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


def ensemble_name(members: Sequence[str]) -> str:
    """The members' names as one, as replies state it."""
    return " + ".join(members)


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


def _turned_back(mirrored: RegionPrediction) -> RegionPrediction:
    """What was said of mirrored crops, as said of the crops: only dx has a sign that mirroring turns."""
    if mirrored.deltas is None:
        return mirrored
    return mirrored._replace(deltas=mirrored.deltas * mirrored.deltas.new_tensor([-1.0, 1.0, 1.0, 1.0]))


def _mean(values: Sequence[Tensor]) -> Tensor:
    return sum(values[1:], start=values[0]) / len(values) if len(values) > 1 else values[0]

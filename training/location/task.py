"""The trainer's task of the location head: regions' maps before the last stages, and where the objects lie.

Letters for shapes: B regions of a minibatch.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from tyro.conf import Suppress

from detector.cli.command_line import at_least
from detector.models.location_head import LocationHead
from training.rcnn.dataloader import BatchSettings, RegionBatch, RegionDataLoader, cached_targets
from training.rcnn.feature_cache import FeatureCache
from training.rcnn.losses import Targets, box_errors, moved_overlaps, region_weights
from training.rcnn.sampling import POSITIVE_IOU, SamplingSettings
from training.trainer.distributed import ProcessGroup
from training.trainer.early_stop import Validation
from training.trainer.optimization import ANY, RateSchedule, TrainingSettings, check_ranges
from training.trainer.run_log import Lines
from training.trainer.run_state import digest_with_weights


@dataclass(frozen=True)
class LocationRecipe(TrainingSettings):
    """Settings of a run."""

    iterations: Annotated[int, at_least(1)] = 6000
    """Minibatches."""
    rate: float = 0.005
    warmup: Annotated[int, at_least(0)] = 100
    weight_decay: float = 0.01
    """Weight decay: twenty times that of other trainings, for a hidden layer learns boxes by heart."""
    iou_weight: float = 1.0
    """Weight of the predicted IoU beside the offsets."""
    validate_every: Annotated[int, at_least(1)] = 500
    """Iterations between validations."""
    save_every: Annotated[int, at_least(1)] = 500
    batch: BatchSettings = field(
        default_factory=lambda: BatchSettings(
            positives=144, background=64, whole=0, unknown=48, near=0.75, balance=0.0
        )
    )
    """Regions of each kind in a minibatch."""
    sampling: SamplingSettings = field(default_factory=lambda: SamplingSettings(positives=18, background=18))
    """Regions that are kept of each image."""
    zoom: Annotated[float, Suppress] = 1.0
    color_jitter: Annotated[bool, Suppress] = False

    def __post_init__(self) -> None:
        """Raises ParameterError for a setting outside its range."""
        super().__post_init__()
        check_ranges(self, iou_weight=ANY)


class LocationLosses(NamedTuple):
    """The parts of the loss, each a scalar, and their weighted sum."""

    total: Tensor
    box: Tensor
    iou: Tensor


class LocationModule(nn.Module):
    """A location head and its losses."""

    def __init__(self, head: LocationHead, iou_weight: float) -> None:
        super().__init__()
        self.head, self._iou_weight = head, iou_weight

    def forward(self, cells: Tensor, targets: Targets, sums: tuple[Tensor, Tensor]) -> LocationLosses:
        """Compute the losses of cells [B,832,7,7]; ``sums`` are the weights of the whole minibatch, for
        offsets and for the IoU."""
        deltas, logit = self.head(cells.float())
        weights = _weights(targets)
        wanted = moved_overlaps(deltas, targets)
        errors = (
            box_errors(deltas, targets, self.head.scale),
            F.binary_cross_entropy_with_logits(logit, wanted, reduction="none"),
        )
        box, iou = (
            torch.where(weight > 0, error * weight, 0).sum() / total.clamp_min(1)
            for error, weight, total in zip(errors, weights, sums, strict=True)
        )
        return LocationLosses(box + self._iou_weight * iou, box, iou)


def _weights(targets: Targets) -> tuple[Tensor, Tensor]:
    """Return how much each region counts for offsets and for the IoU, [B] each."""
    weights = region_weights(targets, background=-1, uncertain=0.0)
    return weights.box, weights.fit


Piece = tuple[RegionBatch, tuple[Tensor, Tensor]]
"""A minibatch, and its summed weights over all processes."""


class LocationTask:
    """Training of a location head on a network that keeps its weights (a
    :class:`training.trainer.trainer.Task`)."""

    def __init__(
        self,
        head: LocationHead,
        dataloader: RegionDataLoader,
        recipe: LocationRecipe,
        *,
        device: torch.device,
        world: ProcessGroup,
        validation: "ValidationLocations | None" = None,
    ) -> None:
        """Train ``head`` on minibatches of ``dataloader``; ``validation`` measures it on the way."""
        self.module = LocationModule(head, recipe.iou_weight)
        self._dataloader, self._device, self._world = dataloader, device, world
        self._validation = validation
        self.schedule = RateSchedule(recipe.iterations, recipe.warmup, recipe.decay, dataloader.epoch_length)
        self.validation_interval = recipe.validate_every
        self._rate = recipe.rate

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters()), "lr": self._rate}]

    def digest(self) -> bytes:
        return digest_with_weights(self._dataloader.digest(), self.module)

    def minibatches(self, first: int, last: int) -> Iterator[RegionBatch]:
        return self._dataloader.minibatches(first, last)

    def pieces(self, minibatch: RegionBatch) -> Sequence[Piece]:
        sums = torch.stack([weight.sum() for weight in _weights(minibatch.targets)])
        box, iou = self._world.total(sums)
        return [(minibatch, (box, iou))]

    def losses(self, module: nn.Module, piece: Piece) -> LocationLosses:
        batch, sums = piece
        return module(batch.maps, batch.targets, sums)

    def validate(self, done: int, averaged: nn.Module) -> Validation | None:
        return self._validation.validate(done, averaged) if self._validation is not None else None


class ValidationLocations:
    """Regions of images that are not learnt from; each process measures its share."""

    def __init__(
        self, cache: FeatureCache, output: Path, *, device: torch.device, world: ProcessGroup
    ) -> None:
        """Take the regions of ``cache``. The first process adds a line a validation to ``held_out.jsonl`` in
        ``output``."""
        self._cache, self._log, self._device, self._world = cache, output / "held_out.jsonl", device, world
        self._share = torch.arange(len(cache.labels))[world.rank :: world.size]

    @torch.no_grad()
    def validate(self, done: int, module: nn.Module) -> Validation:
        """Measure a module: its loss, and of regions that offsets are learnt from the mean IoU and the share
        that reaches 0.5, as they were proposed and moved."""
        assert isinstance(module, LocationModule)
        totals = torch.zeros(8, device=self._device)
        for rows in self._share.split(256):
            cells = self._cache.maps[rows].to(self._device).float()
            targets = cached_targets(self._cache, rows, 0).to(self._device)
            weights = _weights(targets)
            one = torch.ones((), device=self._device)
            losses = module(cells, targets, (one, one))
            known = weights[0] > 0
            before, after = targets.overlaps[known], moved_overlaps(module.head(cells)[0], targets)[known]
            totals += torch.stack(
                [
                    losses.box,
                    losses.iou,
                    weights[0].sum(),
                    weights[1].sum(),
                    before.sum(),
                    after.sum(),
                    (before >= POSITIVE_IOU).float().sum(),
                    (after >= POSITIVE_IOU).float().sum(),
                ]
            )
        totals = self._world.total(totals)
        moved, asked = totals[2].clamp_min(1), totals[3].clamp_min(1)
        parts = torch.stack([totals[0] / moved, totals[1] / asked, *(totals[4:] / moved)]).tolist()
        names = ("box", "iou", "IoU proposed", "IoU moved", "0.5 proposed", "0.5 moved")
        figures = dict(zip(names, parts, strict=True))
        figures = {"loss": figures["box"] + figures["iou"], **figures}
        if self._world.first:
            rounded = {name: round(value, 5) for name, value in figures.items()}
            Lines(self._log, done - 1).add({"iteration": done - 1, **rounded})
        return Validation(figures, figures["loss"])

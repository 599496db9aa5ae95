"""The trainer's task of regions: minibatches of maps, losses in pieces, and validation on regions."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detector.inference.torch_engine import choose_precision
from training.rcnn.dataloader import RegionBatch, RegionDataLoader, cached_targets
from training.rcnn.feature_cache import FeatureCache
from training.rcnn.losses import RegionLosses, RegionWeights, Targets, region_weights
from training.rcnn.recipe import Recipe
from training.rcnn.training_module import RegionTrainingModule, keep_hardest
from training.trainer.distributed import ProcessGroup
from training.trainer.early_stop import Validation
from training.trainer.optimization import RateSchedule
from training.trainer.run_log import Lines
from training.trainer.run_state import digest_with_weights

Piece = tuple[RegionBatch, RegionWeights]
"""A piece of a minibatch, and the summed weights of the whole minibatch."""


class RegionTask:
    """Fine-tuning of a region network (a :class:`training.trainer.trainer.Task`)."""

    def __init__(
        self,
        module: RegionTrainingModule,
        dataloader: RegionDataLoader,
        recipe: Recipe,
        *,
        device: torch.device,
        world: ProcessGroup,
        validation: "ValidationRegions | None" = None,
    ) -> None:
        """Train ``module`` on minibatches of ``dataloader``; ``validation`` measures it on the way."""
        self.module, self._dataloader, self._recipe = module, dataloader, recipe
        self.schedule = RateSchedule(recipe.iterations, recipe.warmup, recipe.decay, dataloader.epoch_length)
        self.validation_interval = recipe.validate_every
        self._background = module.network.pooling.num_classes
        self._precision = choose_precision("auto", device)
        self._world, self._validation = world, validation

    def parameter_groups(self) -> list[dict[str, Any]]:
        recipe = self._recipe
        return self.module.parameter_groups(recipe.rate, recipe.head_rate, recipe.stage_decay)

    def digest(self) -> bytes:
        return digest_with_weights(self._dataloader.digest(), self.module)

    def minibatches(self, first: int, last: int) -> Iterator[RegionBatch]:
        return self._dataloader.minibatches(first, last)

    def pieces(self, minibatch: RegionBatch) -> Sequence[Piece]:
        settings = self._recipe.batch
        if settings.pool_size:
            minibatch = keep_hardest(
                minibatch, self.module, settings.pool_size, settings.hardest, self._world, self._precision
            )
        weights = region_weights(minibatch.targets, self._background, self._recipe.loss.uncertain)
        sums = RegionWeights(*self._world.total(torch.stack(weights.sums())))
        return [(piece, sums) for piece in minibatch.pieces(self._recipe.accumulate)]

    def losses(self, module: nn.Module, piece: Piece) -> RegionLosses:
        batch, sums = piece
        losses, _ = module(batch.maps, batch.targets, sums, self._precision)
        return losses

    def validate(self, done: int, averaged: nn.Module) -> Validation | None:
        return self._validation.validate(done, averaged) if self._validation is not None else None


class ValidationRegions:
    """Regions of images that are not learnt from, in a cache of maps; each process measures its share."""

    def __init__(
        self,
        cache: FeatureCache,
        distilled_classes: int,
        background_label: int,
        uncertain: float,
        output: Path,
        *,
        device: torch.device,
        world: ProcessGroup,
    ) -> None:
        """Take the regions of ``cache``; ``uncertain`` is that of the loss. The first process adds a line a
        validation to ``held_out.jsonl`` in ``output``."""
        self._cache, self._distilled_classes = cache, distilled_classes
        self._log, self._device, self._world = output / "held_out.jsonl", device, world
        self._precision = choose_precision("auto", device)
        self._background, self._uncertain = background_label, uncertain
        every = torch.arange(len(cache.labels))
        self._share = every[world.rank :: world.size]
        targets = cached_targets(cache, every, distilled_classes)
        self._sums = region_weights(targets, background_label, uncertain).sums()
        self._labelled = float(self._label_weights(targets).sum())

    @torch.no_grad()
    def validate(self, done: int, module: nn.Module) -> Validation:
        """Measure a training module: its loss as in training, the part of classification, and the accuracy,
        which is the share of labelled regions whose class is right, each counted as much as its loss."""
        sums = RegionWeights(*(value.to(self._device) for value in self._sums))
        totals = torch.zeros(3, device=self._device)
        for rows in self._share.split(64):
            maps = self._cache.maps[rows].to(self._device, memory_format=torch.channels_last)
            targets = cached_targets(self._cache, rows, self._distilled_classes).to(self._device)
            losses, logits = module(maps, targets, sums, self._precision)
            right = self._label_weights(targets)[logits.argmax(dim=1) == targets.labels].sum()
            totals += torch.stack([losses.total, losses.classification, right / max(self._labelled, 1)])
        values = self._world.total(totals).tolist()
        figures = dict(zip(("loss", "classification", "accuracy"), values, strict=True))
        if self._world.first:
            rounded = {name: round(value, 5) for name, value in figures.items()}
            Lines(self._log, done - 1).add({"iteration": done - 1, **rounded})
        return Validation(figures, figures["loss"])

    def _label_weights(self, targets: Targets) -> Tensor:
        """Return how much the label of each region counts [B]: nothing where there is none."""
        weights = region_weights(targets, self._background, self._uncertain)
        return weights.classification * (targets.labels >= 0)

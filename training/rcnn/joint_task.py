"""The trainer's task of joint training: minibatches of images, and validation on images held out."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detector.inference.torch_engine import choose_precision
from training.rcnn.joint_training import JointLosses, JointTrainingModule
from training.rcnn.recipe import Recipe
from training.scaled_images import ImageBatch, ImageBatches
from training.trainer.distributed import ProcessGroup
from training.trainer.early_stop import Validation
from training.trainer.excluded_images import BrokenImages
from training.trainer.optimization import RateSchedule
from training.trainer.run_log import Lines
from training.trainer.run_state import digest_with_weights


class JointTask:
    """Fine-tuning of trunk, MultiBox and region heads together (a
    :class:`training.trainer.trainer.Task`)."""

    def __init__(
        self,
        module: JointTrainingModule,
        images: ImageBatches,
        recipe: Recipe,
        *,
        broken: BrokenImages,
        device: torch.device,
        world: ProcessGroup,
        workers: int,
        validation: ImageBatches | None = None,
        log: Path | None = None,
    ) -> None:
        """Train ``module`` on minibatches of ``images``; those of ``validation`` measure it on the way, a
        line each time in ``log``."""
        self.module, self._images, self._recipe = module, images, recipe
        self.schedule = RateSchedule(recipe.iterations, recipe.warmup, recipe.decay, images.epoch_length)
        self.validation_interval = recipe.validate_every
        self._precision = choose_precision("auto", device)
        self._broken, self._device, self._world, self._workers = broken, device, world, workers
        self._validation, self._log = validation, log

    def parameter_groups(self) -> list[dict[str, Any]]:
        recipe = self._recipe
        return self.module.parameter_groups(recipe.rate, recipe.head_rate, recipe.stage_decay)

    def digest(self) -> bytes:
        return digest_with_weights(self._images.digest(), self.module)

    def minibatches(self, first: int, last: int) -> Iterator[ImageBatch]:
        for batch in self._images.minibatches(first, last, self._device, self._workers, self._world):
            self._broken.report(batch.broken)
            yield batch

    def pieces(self, minibatch: ImageBatch) -> Sequence[ImageBatch]:
        return minibatch.pieces(self._pieces)

    def losses(self, module: nn.Module, piece: ImageBatch) -> JointLosses:
        losses = module(piece, self._precision)
        return JointLosses(*(part / self._pieces for part in losses))  # each piece has a mean of its own

    @property
    def _pieces(self) -> int:
        """In how many pieces every process runs its share."""
        return max(min(self._recipe.accumulate, self._images.batch // self._world.size), 1)

    @torch.no_grad()
    def validate(self, done: int, averaged: nn.Module) -> Validation | None:
        """Measure the loss on the images held out; the first process adds a line to the log."""
        if self._validation is None:
            return None
        totals: torch.Tensor | None = None
        count = self._validation.epoch_length
        for batch in self._validation.minibatches(0, count, self._device, self._workers, self._world):
            losses = torch.stack([part.detach() for part in averaged(batch, self._precision)])
            totals = losses if totals is None else totals + losses
        assert totals is not None
        values = (self._world.total(totals) / count).tolist()
        figures = dict(zip(JointLosses._fields, values, strict=True))
        figures = {"loss": figures.pop("total"), **figures}
        if self._world.first and self._log is not None:
            rounded = {name: round(value, 5) for name, value in figures.items()}
            Lines(self._log, done - 1).add({"iteration": done - 1, **rounded})
        return Validation(figures, figures["loss"])


def validation_batches(images: ImageBatches) -> ImageBatches:
    """Return minibatches of images as a detector sees them: neither mirrored nor changed."""
    return replace(images, zoom=1.0, color_jitter=False, mirror=False, seed=images.seed + 1)

"""The trainer's task of MultiBox: windows of images, the losses of a head on a frozen trunk, and recall."""

import copy
import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import nn
from tqdm import tqdm
from tyro.conf import Suppress

from detector.cli.command_line import at_least
from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image
from detector.evaluation.proposal_recall import proposal_recall
from detector.inference.engine import choose_precision, place
from detector.models.checkpoint import Checkpoint
from detector.models.multibox_head import MultiBoxHead, MultiBoxNetwork
from detector.proposals.multibox import MultiBox, MultiBoxInference
from training.multibox.dataloader import WindowBatch, WindowBatches, WindowSettings
from training.multibox.losses import MultiBoxLosses, MultiBoxLossWeights, multibox_losses
from training.trainer.dataloader import workers_for
from training.trainer.distributed import ProcessGroup
from training.trainer.early_stop import Validation
from training.trainer.excluded_images import BrokenImages
from training.trainer.optimization import RateSchedule, TrainingSettings
from training.trainer.run_log import Lines

BUDGETS = (10, 50, 200)
"""Numbers of boxes that recall is measured with."""

_IOUS = (0.5, 0.7)


@dataclass(frozen=True)
class MultiBoxRecipe(TrainingSettings):
    """Settings of a run."""

    iterations: Annotated[int, at_least(1)] = 4000
    """Minibatches."""
    batch: Annotated[int, at_least(1)] = 32
    """Images a minibatch."""
    rate: float = 0.02
    warmup: Annotated[int, at_least(0)] = 200
    weight_decay: float = 1e-4
    shapes: Annotated[int, at_least(1)] = 28
    """Shapes of priors, by k-means of the objects' sides."""
    size: Annotated[int, at_least(1)] = 224
    """Sides of the network's input in pixels."""
    save_every: Annotated[int, at_least(1)] = 200
    windows: Annotated[WindowSettings, Suppress] = field(default_factory=WindowSettings)
    """How windows are drawn."""
    loss: Annotated[MultiBoxLossWeights, Suppress] = field(default_factory=MultiBoxLossWeights)
    """Weights of the loss, and thresholds of the matching."""


class MultiBoxTask:
    """Training of a head on a trunk that keeps its weights (a :class:`training.trainer.trainer.Task`)."""

    def __init__(
        self,
        init: Checkpoint,
        head: MultiBoxHead,
        batches: WindowBatches,
        recipe: MultiBoxRecipe,
        output: Path,
        *,
        val: Sequence[AnnotatedImage],
        broken: BrokenImages,
        device: torch.device,
        world: ProcessGroup,
    ) -> None:
        """Train ``head`` on the trunk of ``init``, and measure it on ``val`` whenever every image was seen
        once more; ``broken`` is told of images that cannot be read. ``recall`` is the last figures."""
        self.module: nn.Module = head
        self.schedule = RateSchedule(recipe.iterations, recipe.warmup, recipe.decay, batches.epoch_length)
        self.validation_interval = batches.epoch_length
        self._init, self._batches, self._recipe, self._val = init, batches, recipe, val
        self._log, self._broken, self._device, self._world = output / "recall.jsonl", broken, device, world
        self._precision = choose_precision("auto", device)
        self._priors = head.spec.anchors()
        self.recall: dict[str, float] = {}
        self._network = MultiBoxNetwork(copy.deepcopy(init.backbone.features), head)
        self._network.trunk.to(device).eval().requires_grad_(False).to(self._precision)
        self._network.trunk.to(memory_format=torch.channels_last)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters()), "lr": self._recipe.rate}]

    def digest(self) -> bytes:
        digest = hashlib.sha256(self._batches.digest())
        for value in self._init.backbone.features.state_dict().values():
            digest.update(value.cpu().float().contiguous().numpy().tobytes())
        return digest.digest()

    def minibatches(self, first: int, last: int) -> Iterator[WindowBatch]:
        workers = workers_for(self._device, self._world)
        for minibatch in self._batches.minibatches(first, last, self._device, workers):
            self._broken.report(minibatch.broken)
            yield minibatch

    def pieces(self, minibatch: WindowBatch) -> Sequence[WindowBatch]:
        return [minibatch]

    def losses(self, module: nn.Module, piece: WindowBatch) -> MultiBoxLosses:
        images = piece.images.to(self._device, self._precision, memory_format=torch.channels_last)
        with torch.no_grad():
            fine, coarse = self._network.maps(images)
        mixed = self._precision != torch.float32
        with torch.autocast(self._device.type, self._precision, enabled=mixed):
            output = module(fine, coarse)
        return multibox_losses(
            output, self._priors, piece.objects, piece.partial, self._recipe.loss, self._world
        )

    def validate(self, done: int, averaged: nn.Module) -> Validation | None:
        """Measure recall on ``val``; the first process adds it to ``recall.jsonl``."""
        if not self._val:
            return None
        self.recall = recall = self.measure(averaged)
        if self._world.first:
            Lines(self._log, done).add({"iteration": done, **recall})
            tqdm.write(f"{done}: " + ", ".join(f"{name} {value:.1%}" for name, value in recall.items()))
        return Validation(recall, loss=1 - recall[f"recall@0.5 of {BUDGETS[1]}"])

    def measure(self, trained: nn.Module) -> dict[str, float]:
        """Measure recall on ``val`` at IoU 0.5 and 0.7 with each budget of boxes, by name.

        The first process measures, and tells the others.
        """
        names = [f"recall@{iou} of {budget}" for iou in _IOUS for budget in BUDGETS]
        recall = torch.zeros(len(names), dtype=torch.float64)
        with self._world.first_alone():
            if self._world.first:
                recall = torch.tensor(self._recall(trained), dtype=torch.float64)
        return dict(zip(names, self._world.total(recall.to(self._device)).tolist(), strict=True))

    def _recall(self, trained: nn.Module) -> list[float]:
        assert isinstance(trained, MultiBoxHead)
        network = place(MultiBoxInference(self._init.backbone.features, trained), device=str(self._device))
        multibox = MultiBox(network, self._init.metadata.preprocessing)
        proposed = [multibox.propose(load_image(record), max(BUDGETS)).boxes for record in self._val]
        truth = [record.boxes for record in self._val]
        recalls = [proposal_recall(truth, proposed, iou, BUDGETS).recall for iou in _IOUS]
        return [float(value) for recall in recalls for value in recall]

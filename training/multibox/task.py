"""The trainer's task of MultiBox: maps of images at several scales, losses of the head, recall."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from torch import Tensor, nn
from tqdm import tqdm
from tyro.conf import Suppress

from detector.cli.command_line import at_least
from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image
from detector.evaluation.proposal_recall import proposal_recall
from detector.inference.image_maps import ImageMaps
from detector.inference.image_scales import ImageScales
from detector.inference.torch_engine import TorchEngine, choose_precision, place
from detector.inference.torch_networks import ImageNetwork
from detector.models.checkpoint import Checkpoint
from detector.models.multibox_head import MultiBoxHead
from detector.proposals.multibox import MultiBox
from training.multibox.anchors import anchors_of
from training.multibox.losses import MultiBoxLosses, MultiBoxLossWeights, ObjectsAtScales, multibox_losses
from training.multibox.mapped_images import MappedImages, MapsLoader
from training.trainer.distributed import ProcessGroup
from training.trainer.early_stop import Validation
from training.trainer.optimization import RateSchedule, TrainingSettings, check_ranges
from training.trainer.run_log import Lines
from training.trainer.run_state import digest_with_weights

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
    shapes: Annotated[int | None, at_least(1)] = None
    """Shapes of priors of a new head, by k-means of the objects' sides [the head of --init is trained on, if
    it has one for these scales, else 20]."""
    scales: tuple[int, ...] = (227, 454)
    """Shorter sides in pixels at which an image is seen."""
    zoom: float = 1.4
    """See each minibatch larger or smaller by up to this factor; with 1 the maps of each picture are made
    once and kept (--cache-gib)."""
    save_every: Annotated[int, at_least(1)] = 200
    loss: Annotated[MultiBoxLossWeights, Suppress] = field(default_factory=MultiBoxLossWeights)
    """Weights of the loss, and thresholds of the matching."""

    def __post_init__(self) -> None:
        """Raises ParameterError for a setting outside its range."""
        super().__post_init__()
        check_ranges(self, zoom=(1.0, 4.0))
        _ = self.image

    @property
    def image(self) -> ImageScales:
        """How an image is seen. Raises ParameterError for impossible scales."""
        return ImageScales(self.scales)


class HeadAtScales(nn.Module):
    """A head that is run on the maps of each scale in one forward pass, as several devices need it."""

    def __init__(self, head: MultiBoxHead) -> None:
        super().__init__()
        self.head = head

    def forward(self, maps: Sequence[tuple[Tensor, Tensor]]) -> list[Tensor]:
        """Compute the outputs [N,k,5] of each scale from its fine and coarse maps."""
        return [self.head(fine, coarse) for fine, coarse in maps]


class MultiBoxTask:
    """Training of a MultiBox head on a trunk that keeps its weights (a
    :class:`training.trainer.trainer.Task`)."""

    def __init__(
        self,
        init: Checkpoint,
        head: MultiBoxHead,
        loader: MapsLoader,
        recipe: MultiBoxRecipe,
        output: Path,
        *,
        val: Sequence[AnnotatedImage],
        device: torch.device,
        world: ProcessGroup,
    ) -> None:
        """Train ``head`` on minibatches of ``loader``; recall on ``val`` goes to ``recall.jsonl``."""
        self.module = HeadAtScales(head)
        self._init, self._loader, self._recipe = init, loader, recipe
        self._val, self._log = val, output / "recall.jsonl"
        self._device, self._world = device, world
        self.recall: dict[str, float] = {}
        self.schedule = RateSchedule(recipe.iterations, recipe.warmup, recipe.decay, loader.epoch_length)
        self.validation_interval = loader.epoch_length
        self._precision = choose_precision("auto", device)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters()), "lr": self._recipe.rate}]

    def digest(self) -> bytes:
        return digest_with_weights(self._loader.digest(), self.module)

    def minibatches(self, first: int, last: int) -> Iterator[Sequence[MappedImages]]:
        return self._loader.minibatches(first, last)

    def pieces(self, minibatch: Sequence[MappedImages]) -> Sequence[MappedImages]:
        return minibatch

    def losses(self, module: nn.Module, piece: MappedImages) -> MultiBoxLosses:
        spec, device = self.module.head.spec, self._device
        mixed = self._precision != torch.float32
        maps = [(fine.to(device), coarse.to(device)) for fine, coarse in piece.maps]
        with torch.autocast(device.type, self._precision, enabled=mixed):
            outputs = module(maps)
        objects = ObjectsAtScales.of(piece.records, piece.factors, spec.image.padding, device)
        anchors = anchors_of(spec, piece.sizes, device)
        if piece.share is None:
            return multibox_losses(outputs, anchors, objects, self._recipe.loss, self._world)
        losses = multibox_losses(outputs, anchors, objects, self._recipe.loss)
        return MultiBoxLosses(*(part * piece.share for part in losses))

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
        assert isinstance(trained, HeadAtScales)
        head, preprocessing = trained.head, self._init.metadata.preprocessing
        network = place(ImageNetwork(self._init.backbone.features, head=head), device=str(self._device))
        engine = TorchEngine(network, batch=1, buckets=())
        multibox = MultiBox(head.spec, ImageMaps(engine, head.spec.image, preprocessing), preprocessing)
        proposed = [multibox.propose(load_image(record), max(BUDGETS)).boxes for record in self._val]
        truth = [record.boxes for record in self._val]
        recalls = [proposal_recall(truth, proposed, iou, BUDGETS).recall for iou in _IOUS]
        return [float(value) for recall in recalls for value in recall]

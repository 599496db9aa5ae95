"""The trainer's task of MultiBox: images at several scales, losses of a head on a frozen trunk, recall."""

import copy
import hashlib
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
from detector.models.image_trunk import MappedStages
from detector.models.multibox_head import MultiBoxHead
from detector.proposals.multibox import MultiBox
from training.multibox.anchors import anchors_of
from training.multibox.losses import MultiBoxLosses, MultiBoxLossWeights, ObjectsAtScales, multibox_losses
from training.scaled_images import ImageBatch, ImageBatches
from training.trainer.dataloader import workers_for
from training.trainer.distributed import ProcessGroup
from training.trainer.early_stop import Validation
from training.trainer.excluded_images import BrokenImages
from training.trainer.optimization import RateSchedule, TrainingSettings, check_ranges
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
    shapes: Annotated[int, at_least(1)] = 20
    """Shapes of priors, by k-means of the objects' sides."""
    scales: tuple[int, ...] = (227, 454)
    """Shorter sides in pixels at which an image is seen."""
    zoom: float = 1.4
    """See each minibatch larger or smaller by up to this factor."""
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
        images: ImageBatches,
        recipe: MultiBoxRecipe,
        output: Path,
        *,
        val: Sequence[AnnotatedImage],
        broken: BrokenImages,
        device: torch.device,
        world: ProcessGroup,
    ) -> None:
        """Train ``head`` on minibatches of ``images``; recall on ``val`` goes to ``recall.jsonl``."""
        self.module = HeadAtScales(head)
        self._init, self._images, self._recipe = init, images, recipe
        self._val, self._log = val, output / "recall.jsonl"
        self._broken, self._device, self._world = broken, device, world
        self.recall: dict[str, float] = {}
        self.schedule = RateSchedule(recipe.iterations, recipe.warmup, recipe.decay, images.epoch_length)
        self.validation_interval = images.epoch_length
        self._precision = choose_precision("auto", device)
        mapped = MappedStages(copy.deepcopy(init.backbone.features), head.spec.stages)
        self._mapped = mapped.to(device, self._precision).eval()
        self._mapped.to(memory_format=torch.channels_last)

    def parameter_groups(self) -> list[dict[str, Any]]:
        return [{"params": list(self.module.parameters()), "lr": self._recipe.rate}]

    def digest(self) -> bytes:
        digest = hashlib.sha256(self._images.digest())
        for value in self._init.backbone.features.state_dict().values():
            digest.update(value.cpu().float().contiguous().numpy().tobytes())
        return digest.digest()

    def minibatches(self, first: int, last: int) -> Iterator[ImageBatch]:
        workers = workers_for(self._device, self._world)
        for batch in self._images.minibatches(first, last, self._device, workers, self._world):
            self._broken.report(batch.broken)
            yield batch

    def pieces(self, minibatch: ImageBatch) -> Sequence[ImageBatch]:
        return [minibatch]

    def losses(self, module: nn.Module, piece: ImageBatch) -> MultiBoxLosses:
        head = self.module.head
        settings = self._images
        fine, coarse = head.spec.stages
        with torch.no_grad():
            pixels = [
                scale.normalised(settings.scales, settings.preprocessing, self._device).to(self._precision)
                for scale in piece.scales
            ]
            maps = [self._mapped(x) for x in pixels]
        mixed = self._precision != torch.float32
        with torch.autocast(self._device.type, self._precision, enabled=mixed):
            outputs = module([(part[fine], part[coarse]) for part in maps])
        factors = [scale.factors for scale in piece.scales]
        objects = ObjectsAtScales.of(piece.records, factors, settings.scales.padding, self._device)
        return multibox_losses(
            outputs, anchors_of(head.spec, pixels), objects, self._recipe.loss, self._world
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
        assert isinstance(trained, HeadAtScales)
        head, preprocessing = trained.head, self._images.preprocessing
        network = place(ImageNetwork(self._init.backbone.features, head=head), device=str(self._device))
        engine = TorchEngine(network, batch=1, buckets=())
        multibox = MultiBox(head.spec, ImageMaps(engine, head.spec.image, preprocessing), preprocessing)
        proposed = [multibox.propose(load_image(record), max(BUDGETS)).boxes for record in self._val]
        truth = [record.boxes for record in self._val]
        recalls = [proposal_recall(truth, proposed, iou, BUDGETS).recall for iou in _IOUS]
        return [float(value) for recall in recalls for value in recall]

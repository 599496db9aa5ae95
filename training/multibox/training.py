"""Training of a MultiBox head on a frozen trunk: the trainer's task, and the run that adds a head to a
checkpoint."""

import copy
import dataclasses
import hashlib
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from detector.datasets.pixels import load_record, tolerated
from detector.datasets.record import OnProblem, Record
from detector.errors import ParameterError
from detector.evaluation.proposal_recall import proposal_recall
from detector.inference.engine import choose_precision
from detector.models.checkpoint import Checkpoint, save_checkpoint
from detector.models.multibox_head import MultiBoxHead, MultiBoxNetwork, MultiBoxSpec, stages_read
from detector.proposals.anchors import cluster_sides, place_on_grids
from detector.proposals.multibox import MultiBox
from training.multibox.dataloader import WindowBatch, WindowBatches, WindowSettings
from training.multibox.losses import MultiBoxLosses, MultiBoxLossWeights, multibox_losses
from training.trainer.dataloader import workers_for
from training.trainer.distributed import World, join_world
from training.trainer.left_out import BrokenImages
from training.trainer.optimization import RateSchedule, TrainingSettings
from training.trainer.run_log import Lines
from training.trainer.trainer import Trainer, Validation

STAGES = {
    "googlenet": ("inception_3b", "inception_4e"),
    "torchvision-googlenet": ("inception3b", "inception4e"),
}
"""Stages of each architecture that the head reads: the last before the third and the fourth pooling."""

BUDGETS = (10, 50, 200)
"""Numbers of boxes that recall is measured with."""

_IOUS = (0.5, 0.7)

_MEASURED = "MultiBox "
"""What the names of a head's metrics begin with; they are dropped where the head is replaced."""

_AND_HEAD = "; MultiBox head trained on "


@dataclass(frozen=True)
class MultiBoxRecipe(TrainingSettings):
    """Settings of a run: ``iterations`` minibatches of ``batch`` images, of ``size`` x ``size`` pixels.

    ``shapes`` is how many shapes of priors k-means makes of the objects.
    """

    iterations: int = 4000
    batch: int = 32
    rate: float = 0.02
    warmup: int = 200
    weight_decay: float = 1e-4
    shapes: int = 28
    size: int = 224
    save_every: int = 200
    windows: WindowSettings = field(default_factory=WindowSettings)
    loss: MultiBoxLossWeights = field(default_factory=MultiBoxLossWeights)


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
        val: Sequence[Record],
        broken: BrokenImages,
        device: torch.device,
        world: World,
    ) -> None:
        """Train ``head`` on the trunk of ``init``, and measure it on ``val`` whenever every image was seen
        once more; ``broken`` is told of images that cannot be read. ``recall`` is the last figures."""
        self.module: nn.Module = head
        self.schedule = RateSchedule(recipe.iterations, recipe.warmup, recipe.decay, batches.epoch_length)
        self.validation_interval = batches.epoch_length
        self._init, self._batches, self._recipe, self._val = init, batches, recipe, val
        self._log, self._broken, self._device, self._world = output / "recall.jsonl", broken, device, world
        self._precision = choose_precision("auto", device)
        self._priors = head.spec.priors()
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
        head = copy.deepcopy(trained).cpu().eval()
        assert isinstance(head, MultiBoxHead)
        features, preprocessing = (
            copy.deepcopy(self._init.backbone.features),
            self._init.metadata.preprocessing,
        )
        multibox = MultiBox(features, head, preprocessing, device=str(self._device))
        proposed = [multibox.propose(load_record(record), max(BUDGETS)).boxes for record in self._val]
        truth = [record.boxes for record in self._val]
        recalls = [proposal_recall(truth, proposed, iou, BUDGETS).recall for iou in _IOUS]
        return [float(value) for recall in recalls for value in recall]


def add_multibox(
    init: Checkpoint,
    records: Sequence[Record],
    val: Sequence[Record],
    output: Path,
    recipe: MultiBoxRecipe,
    *,
    data: Sequence[str] = (),
    device: str = "auto",
    on_problem: OnProblem = OnProblem.REPORT,
) -> Path:
    """Train a head on ``records``, measure it on ``val``, and return the path of the checkpoint with it.

    ``data`` names the sets that the records are from, for the checkpoint's metadata. An image that cannot be
    read is listed in ``broken.txt``, and another one comes in its place, or the run stops at it, as
    ``on_problem`` says. Called again after a kill, it resumes; under torchrun the processes share the work,
    and the first one writes. Raises DetectorError for data, a checkpoint or settings that cannot be used.
    """
    if not records:
        raise ParameterError("no picture has an object to learn from")
    started = time.monotonic()
    world, chosen = join_world(device)
    if min(recipe.batch, len(records)) < world.size:
        raise ParameterError(f"{recipe.batch} pictures a minibatch are too few for {world.size} processes")
    output.mkdir(parents=True, exist_ok=True)
    preprocessing = dataclasses.replace(init.metadata.preprocessing, size=recipe.size)
    batches = WindowBatches(
        records, preprocessing, recipe.windows, batch=recipe.batch, seed=recipe.seed, world=world
    )
    torch.manual_seed(recipe.seed)  # initial weights of the head
    head = MultiBoxHead(_spec(init, batches, recipe))
    boxes = sum(len(record.boxes) for record in records)
    if world.first:
        print(f"{len(records)} pictures, {boxes} objects, {len(head.spec.priors())} priors")
    stops = on_problem is OnProblem.STOP
    broken = BrokenImages(
        output / "broken.txt",
        0 if stops else tolerated(len(records)),
        "go on without them by --on-problem report" if stops else "",
    )
    task = MultiBoxTask(
        init, head, batches, recipe, output, val=val, broken=broken, device=chosen, world=world
    )
    head.load_state_dict(Trainer(task, recipe, output, device=chosen, world=world).run())
    head.cpu().eval().requires_grad_(False)
    path = output / "detector.safetensors"
    recall = task.recall
    if val and (recipe.patience or not recall):  # the best head is not the last one; or the run had ended
        recall = task.measure(head)
    with world.first_alone():
        if world.first:
            how = {"data": list(data), "pictures": len(records), "boxes": boxes, **dataclasses.asdict(recipe)}
            save_checkpoint(path, _with_head(init, head, how, recall))
            lost = (
                f"left out    {len(broken)} unreadable pictures: {output / 'broken.txt'}\n" if broken else ""
            )
            print(
                f"\n{lost}{recipe.iterations} iterations in {(time.monotonic() - started) / 60:.1f} minutes\n"
                f"log         {output / 'log.jsonl'}\n"
                f"checkpoint  {path} ({path.stat().st_size / 2**20:.1f} MiB)\n"
                f"next        python training/evaluate_proposals.py --data DATA --weights {path}"
            )
    return path


def _with_head(
    init: Checkpoint, head: MultiBoxHead, how: Mapping[str, object], recall: Mapping[str, float]
) -> Checkpoint:
    """Put a head into a checkpoint, and into its metadata how it was trained and what it reaches."""
    metadata = init.metadata
    kept = {name: value for name, value in metadata.metrics.items() if not name.startswith(_MEASURED)}
    source, data = metadata.source.partition(_AND_HEAD)[0], how["data"]
    assert isinstance(data, list)
    metadata = dataclasses.replace(
        metadata,
        source=f"{source}{_AND_HEAD}{', '.join(data) or 'unnamed pictures'}",
        multibox=head.spec,
        training={**metadata.training, "multibox": dict(how)},
        metrics={**kept, **{f"{_MEASURED}{name}": round(value, 4) for name, value in recall.items()}},
    )
    return Checkpoint(init.network, metadata, head)


def _spec(init: Checkpoint, batches: WindowBatches, recipe: MultiBoxRecipe) -> MultiBoxSpec:
    """Say where the head reads the trunk, and cluster priors from the objects of a first epoch."""
    features, stages = init.backbone.features, STAGES[init.metadata.architecture]
    with torch.inference_mode():
        x = torch.zeros(1, 3, recipe.size, recipe.size)
        maps = {}
        for name, stage in features[: stages_read(features, stages)].named_children():
            x = stage(x)
            maps[name] = x
    channels = tuple(maps[name].shape[1] for name in stages)
    cells = [maps[name].shape[2] for name in stages]
    while cells[-1] > 4:
        cells.append((cells[-1] + 1) // 2)
    shapes = cluster_sides(batches.sides(epoch=0), recipe.shapes, seed=recipe.seed)
    return MultiBoxSpec(stages, channels, recipe.size, tuple(place_on_grids(shapes, cells, recipe.size)))

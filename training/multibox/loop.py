"""The iterations of MultiBox's training: a frozen trunk looks at windows, the head learns from its maps."""

import copy
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from detector.errors import ParameterError
from detector.inference.engine import choose_precision
from detector.models.multibox_head import MultiBoxHead, MultiBoxNetwork
from training.common.broken_images import BrokenImages
from training.common.progress import Progress
from training.common.ranges import RATE, SEED, check_ranges
from training.common.run_log import RunLog
from training.common.schedule import exponential, schedule
from training.multibox.batches import Batches, Minibatch
from training.multibox.losses import MultiBoxLosses, MultiBoxLossWeights, multibox_losses
from training.multibox.windows import WindowSettings


@dataclass(frozen=True)
class MultiBoxRecipe:
    """Settings of a run: SGD with momentum, a half cosine, an exponential average of the weights."""

    iterations: int = 4000
    batch: int = 32
    rate: float = 0.02
    warmup: int = 200
    momentum: float = 0.9
    weight_decay: float = 1e-4
    average: float = 0.998
    shapes: int = 28
    size: int = 224
    save_every: int = 200
    seed: int = 0
    windows: WindowSettings = field(default_factory=WindowSettings)
    loss: MultiBoxLossWeights = field(default_factory=MultiBoxLossWeights)

    def __post_init__(self) -> None:
        """Raises ParameterError for a setting outside its range."""
        check_ranges(self, rate=RATE, seed=SEED)


def train_multibox(
    features: nn.Sequential,
    head: MultiBoxHead,
    batches: Batches,
    output: Path,
    recipe: MultiBoxRecipe,
    device: torch.device,
    after_epoch: Callable[[int, MultiBoxHead], None],
    broken: BrokenImages,
) -> MultiBoxHead:
    """Run the iterations, or go on where ``output/state.safetensors`` left off; return the averaged head.

    ``features`` is the trunk, which keeps its weights. ``after_epoch`` is called with the iterations done and
    a copy of the averaged head, whenever every picture was seen once more, and at the end. ``broken`` is told
    of pictures that cannot be read. Raises CheckpointError if the state belongs to another run, DatasetError
    if too many pictures cannot be read.
    """
    precision = choose_precision("auto", device)
    network = MultiBoxNetwork(copy.deepcopy(features), head).to(device)
    network.trunk.eval().requires_grad_(False).to(precision).to(memory_format=torch.channels_last)
    head.train()
    anchors = head.spec.anchors()
    named = dict(head.named_parameters())
    optimizer = torch.optim.SGD(
        [{"params": list(named.values()), "rate": recipe.rate}],
        lr=recipe.rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    run = _run_id(recipe, features, batches)
    progress = Progress(
        output / "state.safetensors", run, named, optimizer, average=exponential(recipe.average)
    )
    log = RunLog(output / "log.jsonl", progress.first)
    bar = tqdm(
        batches.run(progress.first, recipe.iterations),
        desc="training",
        initial=progress.first,
        total=recipe.iterations,
    )
    for iteration, minibatch in enumerate(bar, start=progress.first):
        broken.report(minibatch.broken)
        factor = schedule(iteration, recipe.iterations, recipe.warmup)
        losses = _losses(network, minibatch, anchors, recipe.loss, device, precision)
        if not bool(losses.total.isfinite()):
            raise ParameterError(f"the loss is no number any more in iteration {iteration}: lower the rate")
        progress.step(losses.total, iteration, factor)
        log.add(iteration, recipe.rate * factor, losses._asdict(), bar)
        done = iteration + 1
        if done % recipe.save_every == 0 or done == recipe.iterations:
            progress.save(done)
        if done % batches.an_epoch == 0 or done == recipe.iterations:
            after_epoch(done, _averaged(head, progress))
    return _averaged(head, progress)


def _losses(
    network: MultiBoxNetwork,
    minibatch: Minibatch,
    anchors: np.ndarray,
    weights: MultiBoxLossWeights,
    device: torch.device,
    precision: torch.dtype,
) -> MultiBoxLosses:
    images = minibatch.images.to(device, precision, memory_format=torch.channels_last)
    with torch.no_grad():
        fine, coarse = network.maps(images)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        output = network.head(fine, coarse)
    return multibox_losses(output, anchors, minibatch.objects, minibatch.partial, weights)


def _averaged(head: MultiBoxHead, progress: Progress) -> MultiBoxHead:
    result = copy.deepcopy(head).cpu().eval().requires_grad_(False)
    result.load_state_dict(progress.averaged())
    return result


def _run_id(recipe: MultiBoxRecipe, features: nn.Sequential, batches: Batches) -> str:
    """Digest of all that decides the course of a run, for telling the state file of another."""
    digest = hashlib.sha256(repr(recipe).encode() + batches.digest())
    for value in features.state_dict().values():
        digest.update(value.cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]

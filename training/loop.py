"""The iterations of fine-tuning: minibatches of cached maps through the trained stages and the heads."""

import hashlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from detector.engine import choose_precision
from detector.region_network import RegionNetwork
from training.feature_cache import FeatureCache
from training.minibatch import Sampler
from training.objective import Losses, LossWeights, Targets, losses
from training.progress import Progress
from training.recipe import Averaging, Recipe
from training.run_log import RunLog
from training.schedule import Keep, exponential, none, schedule, uniform


def run_training(
    network: RegionNetwork,
    split: int,
    cache: FeatureCache,
    output: Path,
    recipe: Recipe,
    device: torch.device,
) -> dict[str, Tensor]:
    """Run the iterations, or go on with them where ``output/state.safetensors`` left off.

    ``split`` is how many stages of the trunk are frozen. Returns the averaged weights of what was trained, by
    name, on the CPU. Every iteration depends on its number and on the weights alone, so a resumed run does
    what an undisturbed one does. Raises CheckpointError if the state belongs to another run.
    """
    network.to(device).train()
    network.backbone.features[:split].requires_grad_(False)
    tail = network.backbone.features[split:].to(memory_format=torch.channels_last)
    named = {name: value for name, value in network.named_parameters() if value.requires_grad}
    progress = Progress(
        output / "state.safetensors",
        _run_id(recipe, cache),
        named,
        _optimizer(named, tail, recipe),
        average=_keep(recipe),
    )
    sampler = Sampler(
        cache.labels.numpy(), cache.overlaps.numpy(), network.pooling.num_classes, recipe.batch, recipe.seed
    )
    precision = choose_precision("auto", device)
    log = RunLog(output / "log.jsonl", progress.first)
    bar = tqdm(
        range(progress.first, recipe.iterations),
        desc="training",
        initial=progress.first,
        total=recipe.iterations,
    )
    for iteration in bar:
        factor = schedule(iteration, recipe.iterations, recipe.warmup)
        torch.manual_seed(recipe.seed * 1_000_003 + iteration)  # dropout, as a function of the iteration
        part = _forward(network, tail, cache, sampler.draw(iteration), recipe.loss, device, precision)
        progress.step(part.total, iteration, factor)
        log.add(iteration, recipe.rate * factor, part._asdict(), bar)
        if (iteration + 1) % recipe.save_every == 0 or iteration + 1 == recipe.iterations:
            progress.save(iteration + 1)
    return progress.averaged()


def _keep(recipe: Recipe) -> Keep:
    if recipe.averaging is Averaging.EMA:
        return exponential(recipe.average)
    if recipe.averaging is Averaging.POLYAK:
        return uniform(round(recipe.average_from * recipe.iterations))
    return none


def _optimizer(named: dict[str, nn.Parameter], tail: nn.Module, recipe: Recipe) -> torch.optim.SGD:
    trunk = {id(parameter) for parameter in tail.parameters()}
    return torch.optim.SGD(
        [
            {"params": [p for p in named.values() if id(p) in trunk], "rate": recipe.rate},
            {"params": [p for p in named.values() if id(p) not in trunk], "rate": recipe.head_rate},
        ],
        lr=recipe.rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )


def _forward(
    network: RegionNetwork,
    tail: nn.Module,
    cache: FeatureCache,
    chosen: NDArray[np.int64],
    weights: LossWeights,
    device: torch.device,
    precision: torch.dtype,
) -> Losses:
    index = torch.from_numpy(np.sort(chosen))  # in the file's order: fewer seeks
    maps = cache.maps[index].to(device, precision, memory_format=torch.channels_last)
    with torch.autocast(device.type, precision, enabled=precision != torch.float32):
        last = tail(maps)
    output = network.heads(last.float())
    targets = Targets(
        *(part[index].to(device) for part in (cache.labels, cache.overlaps, cache.deltas, cache.teacher))
    )
    return losses(network, output, targets, weights)


def _run_id(recipe: Recipe, cache: FeatureCache) -> str:
    """Digest of all that decides the course of a run, for telling the state file of another."""
    digest = hashlib.sha256(repr(recipe).encode())
    digest.update(cache.labels.numpy().tobytes() + cache.deltas.numpy().tobytes())
    return digest.hexdigest()[:16]

"""The iterations of fine-tuning: minibatches through the trained stages and the heads, on any number of
devices."""

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from detector.errors import DatasetError, ParameterError
from detector.inference.engine import choose_precision
from training.rcnn.dataloader import Feed, Minibatch
from training.rcnn.losses import Asked, Losses, Targets, asked
from training.rcnn.mining import keep_hardest
from training.rcnn.recipe import Averaging, Recipe
from training.rcnn.training_module import RegionLearner
from training.rcnn.validation import EarlyStop, HeldOut
from training.trainer.distributed import World
from training.trainer.optimization import Keep, exponential, none, schedule, uniform
from training.trainer.progress import Progress
from training.trainer.run_log import Lines, RunLog, open_board, show

_NETWORK = "network."


def run_training(
    learner: RegionLearner,
    feed: Feed,
    output: Path,
    recipe: Recipe,
    device: torch.device,
    world: World,
    held_out: HeldOut | None = None,
) -> dict[str, Tensor]:
    """Run the iterations, or go on with them where ``output/state.safetensors`` left off.

    Returns the weights that are the result, of what was trained of the network, by name, on the CPU. Every
    iteration depends on its number and on the weights alone, so a resumed run does what an undisturbed one
    does. Raises CheckpointError if the state belongs to another run, ParameterError if the loss grows beyond
    all numbers.
    """
    learner.to(device).train()
    named = {name: value for name, value in learner.named_parameters() if value.requires_grad}
    optimizer = torch.optim.SGD(
        learner.rates(recipe.rate, recipe.head_rate, recipe.stage_decay),
        lr=recipe.rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    run = _run_id(recipe, feed, named)
    if not world.agree(run):
        raise DatasetError(
            "the processes do not read the same data: a picture changed, or a machine lacks a disk. Give the "
            "same command again"
        )
    progress = Progress(output / "state.safetensors", run, named, optimizer, average=_keep(recipe))
    stop = EarlyStop(recipe.patience)
    stop.restore(progress.further)
    step = _Step(learner, recipe, device, world)
    journal = _Journal(output, progress.first) if world.first else None
    last = progress.first if stop.over else recipe.iterations
    bar = tqdm(
        feed.minibatches(progress.first, last),
        desc="training",
        initial=progress.first,
        total=recipe.iterations,
        disable=not world.first,
    )
    for iteration, minibatch in enumerate(bar, start=progress.first):
        factor = schedule(iteration, recipe.iterations, recipe.warmup, recipe.decay, an_epoch=feed.an_epoch)
        progress.clear()
        part = step.gather(minibatch, iteration)
        if not bool(part.total.isfinite()):
            raise ParameterError(f"the loss is no number any more in iteration {iteration}: lower the rates")
        progress.advance(iteration, factor)
        if journal is not None:
            journal.log(iteration, recipe.rate * factor, part, bar)
        done = iteration + 1
        if held_out is not None and (done % recipe.check_every == 0 or done == recipe.iterations):
            measure = held_out.measure(learner, progress.average)
            stop.add(measure.loss, progress.average)
            if journal is not None:
                journal.held_out(iteration, measure._asdict())
        if world.first and (done % recipe.save_every == 0 or done == recipe.iterations or stop.over):
            progress.save(done, stop.state())
        if stop.over:
            break
    result = stop.best or progress.averaged()
    return {name.removeprefix(_NETWORK): value for name, value in result.items() if name.startswith(_NETWORK)}


def _run_id(recipe: Recipe, feed: Feed, start: Mapping[str, Tensor]) -> str:
    """Digest of all that decides the course of a run, the weights it starts from included."""
    digest = hashlib.sha256(repr(recipe).encode() + feed.digest())
    for name, value in start.items():
        digest.update(name.encode() + value.detach().float().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class _Step:
    """Gradients of one minibatch, shared by the processes and run in pieces."""

    def __init__(self, learner: RegionLearner, recipe: Recipe, device: torch.device, world: World) -> None:
        self._learner, self._recipe, self._world = learner, recipe, world
        self._background = learner.network.pooling.num_classes
        self._precision = choose_precision("auto", device)
        self._shared: RegionLearner | DistributedDataParallel = learner
        if world.size > 1:
            ids = [device.index] if device.type == "cuda" else None
            self._shared = DistributedDataParallel(learner, device_ids=ids, broadcast_buffers=False)

    def gather(self, batch: Minibatch, iteration: int) -> Losses:
        """Add the gradients of the whole minibatch to the weights; return its losses."""
        recipe, world = self._recipe, self._world
        # Dropout, as a function of the iteration; other places fall out in each process.
        torch.manual_seed((recipe.seed * 1_000_003 + iteration) * 1009 + world.rank)
        if recipe.batch.pool_size:
            batch = keep_hardest(
                batch, self._learner, recipe.batch.pool_size, recipe.batch.hardest, world, self._precision
            )
        # A part of the loss is a mean over all regions it asks of, wherever they are.
        mine = asked(batch.targets, self._background, recipe.loss.unsure).counts()
        counts = Asked(*world.total(torch.stack(mine)))
        pieces = _pieces(batch, recipe.accumulate)
        sums = torch.zeros(len(Losses._fields), device=batch.maps.device)
        for number, piece in enumerate(pieces, start=1):
            quiet = isinstance(self._shared, DistributedDataParallel) and number < len(pieces)
            with self._shared.no_sync() if quiet else nullcontext():  # type: ignore[operator]
                part, _ = self._shared(piece.maps, piece.targets, counts, self._precision)
                (part.total * world.size).backward()  # the processes' gradients are averaged: ours sum up
            sums += torch.stack(part).detach()
        return Losses(*world.total(sums).cpu())


class _Journal:
    """What a run writes besides its state: log.jsonl, held_out.jsonl, and TensorBoard's events."""

    def __init__(self, output: Path, first: int) -> None:
        self._log = RunLog(output / "log.jsonl", first)
        self._held_out = Lines(output / "held_out.jsonl", first)
        self._board = open_board(output / "tensorboard", first)

    def log(self, iteration: int, rate: float, part: Losses, bar: tqdm) -> None:
        values = self._log.add(iteration, rate, part._asdict(), bar)
        show(self._board, "train", iteration, {**values, "rate": rate})

    def held_out(self, iteration: int, values: dict[str, float]) -> None:
        self._held_out.add({"iteration": iteration, **{name: round(v, 5) for name, v in values.items()}})
        show(self._board, "held_out", iteration, values)


def _pieces(batch: Minibatch, count: int) -> list[Minibatch]:
    """The minibatch in ``count`` pieces of nearly the same size, or as many as it has regions."""
    columns = [part.tensor_split(min(count, len(batch.maps))) for part in batch.targets]
    maps, slots = (part.tensor_split(min(count, len(batch.maps))) for part in (batch.maps, batch.slots))
    targets = [Targets(*row) for row in zip(*columns, strict=True)]
    return [Minibatch(*row) for row in zip(maps, targets, slots, strict=True)]


def _keep(recipe: Recipe) -> Keep:
    if recipe.averaging is Averaging.EMA:
        return exponential(recipe.average)
    if recipe.averaging is Averaging.POLYAK:
        return uniform(round(recipe.average_from * recipe.iterations))
    return none

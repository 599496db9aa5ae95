"""Training a classifier of whole pictures: GoogLeNet as its paper says, from nothing or from a checkpoint.

A step stands in :mod:`training.classification.training_step`.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor
from tqdm import tqdm

from detector.errors import ParameterError
from detector.inference.region_crops import Preprocessing
from detector.models.googlenet import GoogLeNet
from training.classification.dataloader import Augmentation, MeasuredPieces, Piece, TrainingPieces, loader
from training.classification.dataset import ImageList
from training.classification.initialization import fit_to
from training.classification.training_step import ClassifierStep
from training.rcnn.recipe import Averaging
from training.trainer.distributed import World
from training.trainer.left_out import BrokenImages
from training.trainer.optimization import (
    RATE,
    SEED,
    Decay,
    Keep,
    check_ranges,
    exponential,
    none,
    schedule,
    uniform,
)
from training.trainer.progress import Progress
from training.trainer.run_log import RunLog, open_board, show


@dataclass(frozen=True)
class PretrainRecipe:
    """Settings of a run; with the data and the first weights they decide its course.

    From the paper (arXiv 1409.4842, sections 5 and 6): momentum, 4 % off the rate every 8 epochs, Polyak
    averaging (here over the last quarter), the patches and their distortion, side classifiers at
    ``auxiliary``; dropout is the network's. Not in the paper, and ours: the rate, the size of a minibatch,
    weight decay, and ``warmup`` iterations of a rising rate (at most a tenth of the run), which a network
    without batch normalisation needs. A minibatch is run in ``accumulate`` pieces: less memory, the same
    gradient.

    After every ``measure_every`` epochs the averaged weights are measured.
    """

    epochs: int = 80
    batch: int = 128
    accumulate: int = 1
    rate: float = 0.02
    warmup: int = 2000
    decay: Decay = Decay.PAPER
    momentum: float = 0.9
    weight_decay: float = 2e-4
    averaging: Averaging = Averaging.POLYAK
    average: float = 0.999
    average_from: float = 0.75
    auxiliary: float = 0.3
    augmentation: Augmentation | None = field(default_factory=Augmentation)
    measure_every: int = 1
    save_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        """Raises ParameterError for a setting outside its range."""
        check_ranges(self, rate=RATE, seed=SEED)


Measure = Callable[[int, dict[str, Tensor]], Mapping[str, float]]
"""What is done with the averaged weights, by name, after so many iterations; gives what was measured."""

_FITTED = 32
"""Pictures that random first weights are fitted to."""

STATE, BOARD = "state.safetensors", "tensorboard"
"""What the state and the folder of TensorBoard's events are called in a run's folder."""


def pretrain(
    network: GoogLeNet,
    images: ImageList,
    preprocessing: Preprocessing,
    output: Path,
    recipe: PretrainRecipe,
    measure: Measure,
    broken: BrokenImages,
    *,
    device: torch.device,
    world: World,
    workers: int = 0,
    fit: bool = False,
) -> dict[str, Tensor]:
    """Run the iterations, or go on with them where ``output/STATE`` left off.

    With ``fit`` the first weights, random ones, are fitted to the first pictures before anything is learnt.
    Returns the averaged weights by name, on the CPU. Every iteration depends on its number and on the weights
    alone, so a resumed run does what an undisturbed one does: a measure comes before the state that it
    belongs to is saved, and is taken again where a kill came between. Raises CheckpointError if the state is
    another run's, DatasetError if too many pictures cannot be read, ParameterError if the loss runs away.
    """
    network.to(device).to(memory_format=torch.channels_last).train()
    named = dict(network.named_parameters())
    pieces = TrainingPieces(
        images,
        recipe.augmentation,
        size=preprocessing.size,
        batch=recipe.batch,
        accumulate=recipe.accumulate,
        seed=recipe.seed,
        world=world,
    )
    iterations = recipe.epochs * pieces.an_epoch
    warmup = min(recipe.warmup, iterations // 10)
    optimizer = torch.optim.SGD(
        [{"params": list(named.values()), "rate": recipe.rate}],
        lr=recipe.rate,
        momentum=recipe.momentum,
        weight_decay=recipe.weight_decay,
    )
    run, state = _run_id(recipe, pieces, network), output / STATE
    if fit and not state.exists():
        first = images.chosen(pieces.order(epoch=0)[:_FITTED])
        fit_to(network, MeasuredPieces(first, preprocessing, World())[0].pixels.to(device))
    step = ClassifierStep(
        network,
        preprocessing,
        batch=pieces.batch,
        auxiliary=recipe.auxiliary,
        seed=recipe.seed,
        device=device,
        world=world,
    )
    progress = Progress(state, run, named, optimizer, average=_keep(recipe, iterations))
    log = RunLog(output / "log.jsonl", progress.first) if world.first else None
    board = open_board(output / BOARD, progress.first) if world.first else None
    bar = tqdm(
        range(progress.first, iterations),
        desc="training",
        initial=progress.first,
        total=iterations,
        disable=not world.first,
    )
    numbers = range(progress.first * recipe.accumulate, iterations * recipe.accumulate)
    coming = iter(loader(pieces, numbers, device, workers))
    for iteration in bar:
        factor = schedule(iteration, iterations, warmup, recipe.decay, an_epoch=pieces.an_epoch)
        progress.clear()
        batch: list[Piece] = [next(coming) for _ in range(recipe.accumulate)]
        for piece in batch:
            broken.report({images.name(index): why for index, why in piece.broken.items()})
        part = step.gather(batch, iteration)
        if not bool(part.total.isfinite()):
            raise ParameterError(f"the loss is no number any more in iteration {iteration}: lower the rate")
        progress.advance(iteration, factor)
        if log is not None:
            values = log.add(iteration, recipe.rate * factor, part._asdict(), bar)
            show(board, "train", iteration, {**values, "rate": recipe.rate * factor})
        done = iteration + 1
        epoch, rest = divmod(done, pieces.an_epoch)
        measured = done == iterations or (rest == 0 and epoch % recipe.measure_every == 0)
        if measured:
            show(board, "val", iteration, measure(done, progress.averaged()))
        if world.first and (measured or done % recipe.save_every == 0):
            progress.save(done)
    return progress.averaged()


def _keep(recipe: PretrainRecipe, iterations: int) -> Keep:
    if recipe.averaging is Averaging.EMA:
        return exponential(recipe.average)
    if recipe.averaging is Averaging.POLYAK:
        return uniform(round(recipe.average_from * iterations))
    return none


def _run_id(recipe: PretrainRecipe, pieces: TrainingPieces, network: GoogLeNet) -> str:
    """Digest of all that decides the course of a run, for telling the state file of another."""
    digest = hashlib.sha256(repr(recipe).encode() + pieces.digest())
    for value in network.state_dict().values():
        digest.update(value.cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]

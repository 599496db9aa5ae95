"""Training a classifier of whole pictures: GoogLeNet as its paper says, from nothing or from a checkpoint.

Letters for shapes: N pictures of a piece of a minibatch, C classes.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel
from tqdm import tqdm

from detector.engine import choose_precision
from detector.errors import ParameterError
from detector.googlenet import GoogLeNet
from detector.regions import Preprocessing
from training.board import open_board, show
from training.broken_pictures import BrokenPictures
from training.distributed import World
from training.picture_feed import Augmentation, Piece, TrainingPieces, loader
from training.picture_list import PictureList
from training.progress import Progress
from training.recipe import Averaging
from training.run_log import RunLog
from training.schedule import Decay, Keep, exponential, none, schedule, uniform


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


class ClassifierLosses(NamedTuple):
    """Scalars: the weighted sum, and the cross-entropy of the main and of the two side classifiers."""

    total: Tensor
    main: Tensor
    aux_4a: Tensor
    aux_4d: Tensor


Measure = Callable[[int, dict[str, Tensor]], Mapping[str, float]]
"""What is done with the averaged weights, by name, after so many iterations; gives what was measured."""

BOARD = "tensorboard"
"""The folder of TensorBoard's events in a run's."""


def pretrain(
    network: GoogLeNet,
    pictures: PictureList,
    preprocessing: Preprocessing,
    output: Path,
    recipe: PretrainRecipe,
    measure: Measure,
    broken: BrokenPictures,
    *,
    device: torch.device,
    world: World,
    workers: int = 0,
) -> dict[str, Tensor]:
    """Run the iterations, or go on with them where ``output/state.safetensors`` left off.

    Returns the averaged weights by name, on the CPU. Every iteration depends on its number and on the weights
    alone, so a resumed run does what an undisturbed one does: a measure comes before the state that it
    belongs to is saved, and is taken again where a kill came between. Raises CheckpointError if the state is
    another run's, DatasetError if too many pictures cannot be read, ParameterError if the loss runs away.
    """
    network.to(device).to(memory_format=torch.channels_last).train()
    named = dict(network.named_parameters())
    pieces = TrainingPieces(
        pictures,
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
    run = _run_id(recipe, pieces, network)
    progress = Progress(
        output / "state.safetensors", run, named, optimizer, average=_keep(recipe, iterations)
    )
    step = _Step(network, preprocessing, recipe, pieces.batch, device, world)
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
            broken.report({pictures.name(index): why for index, why in piece.broken.items()})
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


class _Step:
    """Gradients of one minibatch, shared by the processes and run in pieces."""

    def __init__(
        self,
        network: GoogLeNet,
        preprocessing: Preprocessing,
        recipe: PretrainRecipe,
        batch: int,
        device: torch.device,
        world: World,
    ) -> None:
        self._recipe, self._batch, self._device, self._world = recipe, batch, device, world
        self._precision = choose_precision("auto", device)
        self._mean = torch.tensor(preprocessing.mean, device=device)[:, None, None]
        self._std = torch.tensor(preprocessing.std, device=device)[:, None, None]
        self._shared: GoogLeNet | DistributedDataParallel = network
        if world.size > 1:
            ids = [device.index] if device.type == "cuda" else None
            self._shared = DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False)

    def gather(self, pieces: Sequence[Piece], iteration: int) -> ClassifierLosses:
        """Add the gradients of this process' pieces, and of the others', to the weights; return the losses of
        the whole minibatch."""
        # Dropout, as a function of the iteration; other places fall out in each process.
        torch.manual_seed((self._recipe.seed * 1_000_003 + iteration) * 1009 + self._world.rank)
        sums = torch.zeros(len(ClassifierLosses._fields), device=self._device)
        for number, piece in enumerate(pieces, start=1):
            quiet = isinstance(self._shared, DistributedDataParallel) and number < len(pieces)
            with self._shared.no_sync() if quiet else nullcontext():  # type: ignore[operator]
                part = self._losses(piece)
                (part.total * self._world.size).backward()  # the processes' are averaged: ours sum up
            sums += torch.stack(part).detach()
        return ClassifierLosses(*self._world.total(sums).cpu())

    def _losses(self, piece: Piece) -> ClassifierLosses:
        """Sums over the piece's pictures, divided by the pictures of the whole minibatch."""
        pixels = piece.pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2)  # N x 3 x S x S
        labels = piece.labels.to(self._device, non_blocking=True)
        pixels = (pixels.float() - self._mean) / self._std  # channels_last, as the bytes came
        mixed = self._precision != torch.float32
        with torch.autocast(self._device.type, self._precision, enabled=mixed):
            output = self._shared(pixels)
        main, *aux = (
            F.cross_entropy(logits.float(), labels, reduction="sum") / self._batch for logits in output
        )
        return ClassifierLosses(main + self._recipe.auxiliary * sum(aux), main, *aux)


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

"""One pretraining run: from labelled images to a classifier of their classes."""

import dataclasses
import time
from pathlib import Path

import torch
from tqdm import tqdm

from detector.errors import ParameterError
from detector.inference.preprocessing import Preprocessing
from detector.models.checkpoint import Checkpoint
from detector.models.googlenet import GoogLeNet
from detector.models.metadata import Metadata
from training.classification.dataloader import TrainingBatches, ValidationBatches
from training.classification.dataset import ImageList, LabelledImages
from training.classification.initialization import (
    freeze,
    fresh,
    from_checkpoint,
    lsuv_initialise,
)
from training.classification.task import (
    ACCURACY,
    BEST,
    LAST,
    ClassificationTask,
    ClassifierValidation,
    PretrainRecipe,
)
from training.trainer.dataloader import workers_for
from training.trainer.distributed import ProcessGroup, join_world
from training.trainer.excluded_images import BrokenImages
from training.trainer.trainer import STATE, Trainer

_LSUV_IMAGES = 32
"""Images that LSUV initialisation takes means and deviations over."""


def pretrain_classifier(
    data: LabelledImages,
    init: Checkpoint | None,
    output: Path,
    recipe: PretrainRecipe,
    *,
    name: str = "googlenet",
    data_name: str,
    max_broken: int = 100,
    workers: int | None = None,
    device: str = "auto",
) -> Path:
    """Train a classifier of the classes of ``data``; return the path of the best checkpoint.

    Without ``init`` the network begins with random weights. Called again after a kill, it resumes; under
    torchrun this is one process of several. Raises DetectorError for data, a checkpoint or settings that
    cannot be used.
    """
    started = time.monotonic()
    world, chosen = join_world(device)
    if recipe.batch < world.size * recipe.accumulate:
        raise ParameterError(
            f"{recipe.batch} pictures a minibatch are too few for {world.size} processes with "
            f"{recipe.accumulate} pieces each; give a larger --batch"
        )
    classes, seed = data.classes, recipe.seed
    if init is None and recipe.frozen_through != "none":
        raise ParameterError("--frozen-through keeps stages of --init, and there is no --init")
    start = fresh(classes, seed) if init is None else from_checkpoint(init, classes, seed)
    freeze(start.network, recipe.frozen_through)
    if world.first:
        output.mkdir(parents=True, exist_ok=True)
        if not (output / STATE).exists():  # what an earlier run reached there is not this one's
            (output / ACCURACY).unlink(missing_ok=True)
        for note in data.notes:
            tqdm.write(note)
        tqdm.write(
            f"{len(data.train)} pictures to learn, {len(data.val)} to measure ({data.how}), "
            f"{len(classes)} classes; {start.how}"
        )
    metadata = _metadata(init, data, recipe, start.preprocessing, name, data_name)
    limit = min(max_broken, max(1, len(data.train) // 10))
    broken = BrokenImages(output / "broken.txt", limit, "give a larger --max-broken")
    workers = workers_for(chosen, world) if workers is None else workers
    task = ClassificationTask(
        start.network,
        data.train,
        start.preprocessing,
        recipe,
        broken=broken,
        device=chosen,
        world=world,
        workers=workers,
        validation=ClassifierValidation(
            data.val, metadata, output, broken, device=chosen, world=world, workers=workers
        ),
    )
    if init is None and not (output / STATE).exists():
        initialise_by_images(start.network, task.batches, data.train, start.preprocessing, chosen)
    Trainer(task, recipe, output, device=chosen, world=world).run()
    best = output / BEST
    if world.first:
        tqdm.write(
            f"{recipe.epochs} epochs in {(time.monotonic() - started) / 60:.1f} minutes\n"
            f"log       {output / 'log.jsonl'}, {output / ACCURACY}\n"
            f"weights   {best}, {output / LAST} ({best.stat().st_size / 2**20:.1f} MiB)\n"
            f"next      detector classify PICTURE --weights {best}\n"
            f"          detector train --data DATA --init {best}"
        )
    return best


def initialise_by_images(
    network: GoogLeNet,
    batches: TrainingBatches,
    images: ImageList,
    preprocessing: Preprocessing,
    device: torch.device,
) -> None:
    """Apply LSUV initialisation over the first images of the first epoch, whole and not augmented."""
    first = images.chosen(batches.order(epoch=0)[:_LSUV_IMAGES])
    pixels = ValidationBatches(first, preprocessing, ProcessGroup())[0].pixels
    lsuv_initialise(network.to(device).train(), pixels.to(device))


def _metadata(
    init: Checkpoint | None,
    data: LabelledImages,
    recipe: PretrainRecipe,
    preprocessing: Preprocessing,
    name: str,
    data_name: str,
) -> Metadata:
    licence, source = f"the terms of {data_name}", f"trained on {data_name}"
    if init is not None:
        licence = f"{init.metadata.licence}; {licence}"
        source = f"{init.metadata.name} ({init.metadata.source}), {source}"
    return Metadata(
        name,
        "googlenet",
        preprocessing,
        data.classes,
        training={
            "init": init.metadata.name if init is not None else None,
            "data": data_name,
            "pictures": len(data.train),
            **dataclasses.asdict(recipe),
        },
        licence=licence,
        source=source,
    )

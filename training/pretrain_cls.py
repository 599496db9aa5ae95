"""Train GoogLeNet to classify pictures, from scratch or on from a checkpoint.

    python training/pretrain_cls.py --data ilsvrc --output runs/pretrain
    torchrun --nproc-per-node 8 training/pretrain_cls.py --data ilsvrc --output runs/pretrain

``--data`` holds ILSVRC/ with CLS-LOC in its official layout, or one folder of pictures a class. Run again
after a kill, it goes on where it was.
"""

import dataclasses
import time
from pathlib import Path
from typing import Annotated

import typer
from tqdm import tqdm

from detector.cli.options import run_script
from detector.errors import ParameterError
from detector.io.terminal_text import valid_name
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.metadata import Metadata
from training.classification.augmentation import Distortion, PatchSettings
from training.classification.dataloader import Augmentation
from training.classification.dataset import LabelledImages, read_labelled_images
from training.classification.initialization import fresh, from_checkpoint
from training.classification.pretraining import STATE, PretrainRecipe, pretrain
from training.classification.validation import ACCURACY, BEST, LAST, Results
from training.rcnn.dataloader import workers_for
from training.rcnn.recipe import Averaging
from training.trainer.distributed import join_world, leave_world
from training.trainer.left_out import BrokenImages
from training.trainer.optimization import Decay
from training.trainer.run_folder import check_run_folder, run_folder
from training.trainer.script import one_line_errors

FINE_RATE = 0.001
"""The rate for weights that can already do something."""


def main(
    data: Annotated[Path, typer.Option(help="The folder that holds ILSVRC/, or one folder a class.")],
    output: Annotated[Path, typer.Option(help="Folder for the log, the state and the checkpoints.")],
    init: Annotated[Path | None, typer.Option(help="Checkpoint to go on from [from scratch].")] = None,
    epochs: Annotated[int, typer.Option(help="How often each picture is seen.", min=1)] = (
        PretrainRecipe.epochs
    ),
    batch: Annotated[int, typer.Option(help="Pictures a minibatch, over all devices.", min=1)] = (
        PretrainRecipe.batch
    ),
    accumulate: Annotated[int, typer.Option(help="Pieces a minibatch is run in, to save memory.", min=1)] = (
        PretrainRecipe.accumulate
    ),
    rate: Annotated[
        float | None, typer.Option(help=f"Learning rate [{PretrainRecipe.rate}; with --init {FINE_RATE}].")
    ] = None,
    decay: Annotated[Decay, typer.Option(help="How the rate falls.")] = PretrainRecipe.decay,
    averaging: Annotated[Averaging, typer.Option(help="Which average of the weights is the result.")] = (
        PretrainRecipe.averaging
    ),
    least_area: Annotated[float, typer.Option(help="Least share of a picture that a patch shows.")] = (
        PatchSettings.least
    ),
    distortion: Annotated[bool, typer.Option(help="Change light and colours.")] = True,
    overfit: Annotated[
        int,
        typer.Option(help="To check a set-up: learn so many pictures by heart, and measure on these.", min=0),
    ] = 0,
    measure_every: Annotated[int, typer.Option(help="Epochs between measures.", min=1)] = (
        PretrainRecipe.measure_every
    ),
    save_every: Annotated[int, typer.Option(help="Iterations between saved states.", min=1)] = (
        PretrainRecipe.save_every
    ),
    max_broken: Annotated[
        int, typer.Option(help="Pictures that may be unreadable (but a tenth of the set at most).", min=0)
    ] = 100,
    name: Annotated[str, typer.Option(help="Name of the classifier.")] = "googlenet",
    seed: Annotated[int, typer.Option(help="One seed, one result.")] = PretrainRecipe.seed,
    workers: Annotated[
        int | None, typer.Option(help="Processes that read pictures ahead [by the device].", min=0)
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Train, print top-1 and top-5 accuracy, and write OUTPUT/best.safetensors and last.safetensors."""
    try:
        with one_line_errors():
            check_run_folder(output, [init], [data])
            augmentation = Augmentation(PatchSettings(least=least_area), Distortion() if distortion else None)
            recipe = PretrainRecipe(
                epochs=epochs,
                batch=batch,
                accumulate=accumulate,
                rate=rate if rate is not None else PretrainRecipe.rate if init is None else FINE_RATE,
                decay=decay,
                averaging=averaging,
                augmentation=None if overfit else augmentation,
                measure_every=measure_every,
                save_every=save_every,
                seed=seed,
            )
            start = load_checkpoint(init) if init is not None else None
            found = read_labelled_images(data)
            if overfit:
                few = found.train.of_few_classes(overfit)
                found = dataclasses.replace(
                    found, train=few, val=few, how=f"{len(few)} pictures to learn by heart"
                )
            with run_folder(output):
                pretrain_classifier(
                    found,
                    start,
                    output,
                    recipe,
                    name=name,
                    data_name=valid_name(data.absolute().name),
                    max_broken=max_broken,
                    workers=workers,
                    device=device,
                )
    finally:
        leave_world()


def pretrain_classifier(
    found: LabelledImages,
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
    """Train a classifier of the found pictures' classes; the path of the best checkpoint.

    Without ``init`` the network begins with random weights. Started by torchrun, this is one process of
    several. Raises DetectorError for data, a checkpoint or settings that cannot be used.
    """
    started = time.monotonic()
    world, chosen = join_world(device)
    if recipe.batch < world.size * recipe.accumulate:
        raise ParameterError(
            f"{recipe.batch} pictures a minibatch are too few for {world.size} processes with "
            f"{recipe.accumulate} pieces each; give a larger --batch"
        )
    classes, seed = found.classes, recipe.seed
    start = fresh(classes, seed) if init is None else from_checkpoint(init, classes, seed)
    if world.first:
        output.mkdir(parents=True, exist_ok=True)
        if not (output / STATE).exists():  # a new run: what an earlier one reached there is none of its own
            (output / ACCURACY).unlink(missing_ok=True)
        for note in found.notes:
            tqdm.write(note)
        tqdm.write(
            f"{len(found.train)} pictures to learn, {len(found.val)} to measure ({found.how}), "
            f"{len(classes)} classes; {start.how}"
        )
    source = (
        f"{init.metadata.name} ({init.metadata.source}), trained on" if init is not None else "trained on"
    )
    metadata = Metadata(
        name,
        "googlenet",
        start.preprocessing,
        classes,
        training={
            "init": init.metadata.name if init is not None else None,
            "data": data_name,
            "pictures": len(found.train),
            **dataclasses.asdict(recipe),
        },
        licence=f"{init.metadata.licence}; the terms of {data_name}" if init else f"the terms of {data_name}",
        source=f"{source} {data_name}",
    )
    limit = min(max_broken, max(1, len(found.train) // 10))
    broken = BrokenImages(output / "broken.txt", limit, "give a larger --max-broken")
    workers = workers_for(chosen, world) if workers is None else workers
    results = Results(found.val, metadata, output, broken, device=chosen, world=world, workers=workers)
    pretrain(
        start.network,
        found.train,
        start.preprocessing,
        output,
        recipe,
        results.measure,
        broken,
        device=chosen,
        world=world,
        workers=workers,
        fit=init is None,
    )
    best = output / BEST
    if world.first:
        tqdm.write(
            f"{recipe.epochs} epochs in {(time.monotonic() - started) / 60:.1f} minutes\n"
            f"log       {output / 'log.jsonl'}, {output / ACCURACY}\n"
            f"weights   {best}, {output / LAST} ({best.stat().st_size / 2**20:.1f} MiB)\n"
            f"next      detector classify PICTURE --weights {best}\n"
            f"          python training/finetune_det.py --data DATA --init {best}"
        )
    return best


if __name__ == "__main__":
    run_script(main)

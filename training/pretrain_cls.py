"""Train GoogLeNet to classify pictures, from scratch or on from a checkpoint.

    python training/pretrain_cls.py --data ilsvrc --output runs/pretrain
    torchrun --nproc-per-node 8 training/pretrain_cls.py --data ilsvrc --output runs/pretrain

``--data`` holds ILSVRC/ with CLS-LOC in its official layout, or one folder of pictures a class. Run again
after a kill, it goes on where it was.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, arg

from detector.cli.command_line import DefaultFrom, at_least, option_given, run_script
from detector.io.terminal_text import valid_name
from detector.models.checkpoint import load_checkpoint
from training.classification.augmentation import ColorJitter, PatchSettings
from training.classification.dataloader import Augmentation
from training.classification.dataset import read_labelled_images
from training.classification.pretraining import pretrain_classifier
from training.classification.task import PretrainRecipe
from training.trainer.command_errors import one_line_errors
from training.trainer.distributed import leave_world
from training.trainer.run_folder import check_run_folder, run_folder

FINE_RATE = 0.001
"""The rate with --init: for weights that are trained already."""


def _usual_recipe(arguments: Sequence[str]) -> PretrainRecipe:
    """Choose the recipe that the options change: with ``--init`` the rate is small."""
    return PretrainRecipe() if option_given(arguments, "--init") is None else PretrainRecipe(rate=FINE_RATE)


def main(
    data: Annotated[Path, arg(help="The folder that holds ILSVRC/, or one folder a class.")],
    output: Annotated[Path, arg(help="Folder for the log, the state and the checkpoints.")],
    init: Annotated[Path | None, arg(help="Checkpoint to go on from [from scratch].")] = None,
    least_area: Annotated[float, arg(help="Least share of a picture that a patch shows.")] = (
        PatchSettings.least
    ),
    distortion: Annotated[bool, arg(help="Change light and colours.")] = True,
    overfit: Annotated[
        int,
        at_least(0),
        arg(help="To check a set-up: learn so many pictures by heart, and measure on these."),
    ] = 0,
    max_broken: Annotated[
        int, at_least(0), arg(help="Pictures that may be unreadable (but a tenth of the set at most).")
    ] = 100,
    name: Annotated[str, arg(help="Name of the classifier.")] = "googlenet",
    workers: Annotated[
        int | None, at_least(0), arg(help="Processes that read pictures ahead [by the device].")
    ] = None,
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")] = "auto",
    recipe: Annotated[PretrainRecipe, OmitArgPrefixes, DefaultFrom(_usual_recipe)] = PretrainRecipe(),  # noqa: B008 (frozen)
) -> None:
    """Train, print top-1 and top-5 accuracy, and write OUTPUT/best.safetensors and last.safetensors."""
    try:
        with one_line_errors():
            check_run_folder(output, [init], [data])
            augmentation = Augmentation(
                PatchSettings(least=least_area), ColorJitter() if distortion else None
            )
            recipe = dataclasses.replace(recipe, augmentation=None if overfit else augmentation)
            start = load_checkpoint(init) if init is not None else None
            labelled = read_labelled_images(data)
            if overfit:
                few = labelled.train.of_few_classes(overfit)
                labelled = dataclasses.replace(
                    labelled, train=few, val=few, how=f"{len(few)} pictures to learn by heart"
                )
            with run_folder(output):
                pretrain_classifier(
                    labelled,
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


if __name__ == "__main__":
    run_script(main)

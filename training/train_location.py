"""Train the head that moves boxes onto objects, on a detector that stays as it is otherwise.

    python training/train_location.py --data VOCdevkit/VOC2007 --data coco --output runs/location
    torchrun --nproc-per-node 8 training/train_location.py --data coco --output runs/location

What an object is does not matter here, so any pictures with boxes will do. The result is the checkpoint it
started from with a new head inside. Run again after a kill, it goes on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from detector.cli.command_line import at_least, run_script
from detector.datasets.problems import OnProblem
from detector.io.atomic_write import check_writable
from detector.models.checkpoint import load_checkpoint
from detector.pretrained import SHIPPED
from training.finetune.training_data import further_data, further_folder
from training.location.task import LocationRecipe
from training.location.training import train_location_head
from training.trainer.command_errors import one_line_errors
from training.trainer.distributed import leave_world
from training.trainer.run_folder import check_folder_apart, check_run_folder, run_folder


def main(
    data: Annotated[
        Sequence[str],
        UseAppendAction,
        arg(
            help="A data set to learn from, in any layout; give it again for more: FOLDER, or "
            "FOLDER:split=...,weight=...,positives=...,background=... (a split or list file, how often its "
            "pictures come, regions kept of each).",
            help_behavior_hint="(required)",
        ),
    ],
    output: Annotated[Path, arg(help="Folder for the log, the state and the checkpoint.")],
    init: Annotated[Path, arg(help="Detector that gets the head.")] = SHIPPED,
    val: Annotated[
        str | None, arg(help="A data set to measure on, as FOLDER or FOLDER:split=...; none is needed.")
    ] = None,
    cache: Annotated[Path | None, arg(help="Folder for proposals and maps [OUTPUT/cache].")] = None,
    cache_gib: Annotated[
        float, at_least(0, float), arg(help="Keep maps up to so many GiB; else stream pictures.")
    ] = 16.0,
    workers: Annotated[
        int | None, at_least(0), arg(help="Processes that stream pictures [cores to spare].")
    ] = None,
    on_problem: Annotated[OnProblem, arg(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")] = "auto",
    recipe: Annotated[LocationRecipe, OmitArgPrefixes] = LocationRecipe(),  # noqa: B008 (frozen)
) -> None:
    """Train, say how far boxes move onto their objects where --val is given, and write
    OUTPUT/detector.safetensors."""
    with one_line_errors():
        roots = [further_folder(text) for text in [*data, *([val] if val else [])]]
        check_run_folder(output, [init], roots)
        if cache is not None:
            check_folder_apart(cache, roots)
            check_writable(cache / "part")
        start = load_checkpoint(init)
        learned = [further_data(text, recipe.sampling, on_problem) for text in data]
        held_out = further_data(val, recipe.sampling, on_problem).spec.dataset if val else None
        try:
            with run_folder(output):
                train_location_head(
                    start,
                    [part.spec for part in learned],
                    output,
                    recipe,
                    cache=cache or output / "cache",
                    data=[part.name for part in learned],
                    validation=held_out,
                    device=device,
                    cache_gib=cache_gib,
                    workers=workers,
                    on_problem=on_problem,
                )
        finally:
            leave_world()


if __name__ == "__main__":
    run_script(main)

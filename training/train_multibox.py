"""Train a MultiBox head on a checkpoint's trunk: boxes of objects of any class, from one pass over an image.

    python training/train_multibox.py --data ilsvrc --output runs/multibox
    torchrun --nproc-per-node 8 training/train_multibox.py --data ilsvrc --output runs/multibox

The result is the checkpoint it started from with the head inside. Run again after a kill, it goes on.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tqdm import tqdm
from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from detector.cli.command_line import at_least, run_script
from detector.datasets.annotated_image import Dataset
from detector.datasets.load_image import without_unreadable
from detector.datasets.open import DataFolder, Format, open_dataset
from detector.datasets.problems import OnProblem
from detector.datasets.train_validation import validation_split
from detector.errors import DatasetError, ParameterError
from detector.io.atomic_write import check_writable
from detector.io.terminal_text import valid_name
from detector.models.checkpoint import load_checkpoint
from detector.pretrained import SHIPPED
from training.multibox.dataset import read_object_images
from training.multibox.task import MultiBoxRecipe
from training.multibox.training import add_multibox
from training.trainer.command_errors import one_line_errors
from training.trainer.distributed import leave_world
from training.trainer.excluded_images import Exclusion
from training.trainer.run_folder import check_folder_apart, check_run_folder, run_folder


def main(
    data: Annotated[
        Sequence[Path],
        UseAppendAction,
        arg(
            help="Folder of ILSVRC or of a data set in any layout; give it again for more.",
            help_behavior_hint="(required)",
        ),
    ],
    output: Annotated[Path, arg(help="Folder for the log, the state and the checkpoint.")],
    init: Annotated[Path, arg(help="Checkpoint whose trunk is used and kept as it is.")] = SHIPPED,
    format: Annotated[Format | None, arg(help="Layout of --data [found by looking].")] = None,
    split: Annotated[
        str | None, arg(help="Split of --data, or a list file [train of ILSVRC, of other layouts all].")
    ] = None,
    val: Annotated[
        Path | None,
        arg(help="Folder of the data set that is measured [the first of --data that has DET/val]."),
    ] = None,
    val_format: Annotated[Format | None, arg(help="Layout of --val [found by looking].")] = None,
    val_split: Annotated[
        str | None,
        arg(help="Split of --val, or a list file [val, else test, else all; of ILSVRC DET's val]."),
    ] = None,
    exclude: Annotated[
        Sequence[Path], UseAppendAction, arg(help="List file of pictures to leave out, as in ImageSets.")
    ] = (),
    on_problem: Annotated[OnProblem, arg(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    cache: Annotated[Path | None, arg(help="Folder for maps [OUTPUT/cache].")] = None,
    cache_gib: Annotated[
        float,
        at_least(0, float),
        arg(help="With --zoom 1, keep maps up to so many GiB; else stream pictures."),
    ] = 16.0,
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")] = "auto",
    recipe: Annotated[MultiBoxRecipe, OmitArgPrefixes] = MultiBoxRecipe(),  # noqa: B008 (frozen)
) -> None:
    """Train, print recall on what is measured each epoch, and write OUTPUT/detector.safetensors."""
    with one_line_errors():
        roots = [*data, *([val] if val else [])]
        check_run_folder(output, [init, *(exclude or [])], roots)
        if cache is not None:
            check_folder_apart(cache, roots)
            check_writable(cache / "part")
        start = load_checkpoint(init)
        if val is None and (val_format or val_split):
            raise ParameterError("--val-format and --val-split are of --val: name its folder too")
        validation = open_dataset(val, val_format) if val else _first_ilsvrc(data)
        measured = _measured(validation, val_split, on_problem) if validation else Dataset([], [])
        records = measured.records
        excluded = Exclusion(exclude or [])
        images = read_object_images(
            data,
            excluded,
            format=format,
            split=split,
            validation=records,
            validation_format=validation.format if validation else Format.ILSVRC,
            on_problem=on_problem,
        )
        for line in excluded.unused():
            tqdm.write(line)
        for problem in [*measured.problems, *images.problems]:
            tqdm.write(f"{problem.image_id}: {problem.kind}: {problem.message}")
        try:
            with run_folder(output):
                add_multibox(
                    start,
                    images.records,
                    records,
                    output,
                    recipe,
                    data=[valid_name(root.absolute().name) for root in data],
                    cache=cache,
                    cache_gib=cache_gib,
                    device=device,
                    on_problem=on_problem,
                )
        finally:
            leave_world()


def _measured(folder: DataFolder, split: str | None, on_problem: OnProblem) -> Dataset:
    """Return the images to measure on that can be decoded. Raises DatasetError if none of them has an
    object."""
    split = validation_split(folder) if split is None else split
    dataset = without_unreadable(folder.read(split, on_problem=on_problem), on_problem)
    if not any(len(record.boxes) for record in dataset.records):
        raise DatasetError(f"{folder.root} has no object to measure on in {split or 'it'}")
    return dataset


def _first_ilsvrc(roots: Sequence[Path]) -> DataFolder | None:
    """Return the first folder that has the validation images of ILSVRC DET."""
    for root in roots:
        try:
            folder = open_dataset(root, Format.ILSVRC)
        except DatasetError:
            continue
        if "val" in folder.splits:
            return folder
    return None


if __name__ == "__main__":
    run_script(main)

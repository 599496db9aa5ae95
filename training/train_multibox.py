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

from detector.cli.options import run_script
from detector.datasets.formats.ilsvrc_det import read_ilsvrc_det
from detector.datasets.pixels import without_unreadable
from detector.datasets.record import Dataset, OnProblem
from detector.errors import DatasetError
from detector.io.terminal_text import valid_name
from detector.models.checkpoint import load_checkpoint
from detector.pretrained import SHIPPED
from training.multibox.dataset import read_object_images
from training.multibox.task import MultiBoxRecipe
from training.multibox.training import add_multibox
from training.trainer.distributed import leave_world
from training.trainer.left_out import Exclusion
from training.trainer.run_folder import check_run_folder, run_folder
from training.trainer.script import one_line_errors


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
    val: Annotated[
        Path | None, arg(help="ILSVRC folder whose DET/val is measured [the first of --data].")
    ] = None,
    exclude: Annotated[
        Sequence[Path], UseAppendAction, arg(help="List file of pictures to leave out, as in ImageSets.")
    ] = (),
    on_problem: Annotated[OnProblem, arg(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")] = "auto",
    recipe: Annotated[MultiBoxRecipe, OmitArgPrefixes] = MultiBoxRecipe(),  # noqa: B008 (frozen)
) -> None:
    """Train, print recall on DET/val each epoch, and write OUTPUT/detector.safetensors."""
    with one_line_errors():
        check_run_folder(output, [init, *(exclude or [])], [*data, *([val] if val else [])])
        start = load_checkpoint(init)
        val = val or _first_ilsvrc(data)
        measured = _measured(val, on_problem) if val else Dataset([], [])
        records = measured.records
        excluded = Exclusion(exclude or [])
        images = read_object_images(data, excluded, held_out=records, on_problem=on_problem)
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
                    device=device,
                    on_problem=on_problem,
                )
        finally:
            leave_world()


def _measured(root: Path, on_problem: OnProblem) -> Dataset:
    """Read the images of DET/val that can be decoded."""
    return without_unreadable(read_ilsvrc_det(root, "val", on_problem=on_problem), on_problem)


def _first_ilsvrc(data: Sequence[Path]) -> Path | None:
    """Find the first of the folders that lists DET/val."""
    for root in data:
        try:
            read_ilsvrc_det(root, "val", check_images=False)
        except DatasetError:
            continue
        return root
    return None


if __name__ == "__main__":
    run_script(main)

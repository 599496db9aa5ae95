"""Train a MultiBox head on a checkpoint's trunk: boxes of objects of any class, from one look at a picture.

    python training/train_multibox.py --data ilsvrc --output runs/multibox

The result is the checkpoint it started from with the head inside. Run again after a kill, it goes on.
"""

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm

from detector.cli.options import run_script
from detector.datasets.formats.ilsvrc_det import read_ilsvrc_det
from detector.datasets.pixels import load_record, tolerated, without_unreadable
from detector.datasets.record import Dataset, OnProblem, Record
from detector.errors import DatasetError, ParameterError
from detector.evaluation.proposal_recall import proposal_recall
from detector.inference.engine import choose_device, place
from detector.inference.region_crops import Preprocessing
from detector.io.atomic_write import write_whole
from detector.io.terminal_text import valid_name
from detector.models.backbone import Backbone
from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.models.multibox_head import MultiBoxHead, MultiBoxSpec, stages_read
from detector.pretrained import SHIPPED
from detector.proposals.anchors import cluster_sides, place_on_grids
from detector.proposals.multibox import MultiBox, MultiBoxInference
from training.common.broken_images import BrokenImages
from training.common.exclusion import Exclusion
from training.common.locks import run_folder
from training.common.run_files import check_run_folder
from training.common.run_log import lines_before
from training.common.script import one_line_errors
from training.multibox.batches import Batches
from training.multibox.dataset import read_object_images
from training.multibox.loop import MultiBoxRecipe, train_multibox

STAGES = {
    "googlenet": ("inception_3b", "inception_4e"),
    "torchvision-googlenet": ("inception3b", "inception4e"),
}
"""What the head reads of each architecture: the last maps before the third and the fourth pooling."""

BUDGETS = (10, 50, 200)

_MEASURED = "MultiBox "
"""What the name of a measure of the head begins with; those of a head that is replaced go with it."""

_AND_HEAD = "; MultiBox head trained on "


def main(
    data: Annotated[
        list[Path],
        typer.Option(help="Folder of ILSVRC or of a data set in any layout; give it again for more."),
    ],
    output: Annotated[Path, typer.Option(help="Folder for the log, the state and the checkpoint.")],
    init: Annotated[Path, typer.Option(help="Checkpoint whose trunk is used and kept as it is.")] = SHIPPED,
    val: Annotated[
        Path | None, typer.Option(help="ILSVRC folder whose DET/val is measured [the first of --data].")
    ] = None,
    exclude: Annotated[
        list[Path] | None, typer.Option(help="List file of pictures to leave out, as in ImageSets.")
    ] = None,
    iterations: Annotated[int, typer.Option(help="Minibatches.", min=1)] = MultiBoxRecipe.iterations,
    batch: Annotated[int, typer.Option(help="Pictures a minibatch.", min=1)] = MultiBoxRecipe.batch,
    rate: Annotated[float, typer.Option(help="Learning rate.")] = MultiBoxRecipe.rate,
    shapes: Annotated[int, typer.Option(help="Shapes of priors, by k-means.", min=1)] = MultiBoxRecipe.shapes,
    on_problem: Annotated[OnProblem, typer.Option(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    seed: Annotated[int, typer.Option(help="One seed, one result.")] = MultiBoxRecipe.seed,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Train, print recall on DET/val each epoch, and write OUTPUT/detector.safetensors."""
    with one_line_errors():
        recipe = MultiBoxRecipe(iterations=iterations, batch=batch, rate=rate, shapes=shapes, seed=seed)
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


def add_multibox(
    init: Checkpoint,
    records: Sequence[Record],
    val: Sequence[Record],
    output: Path,
    recipe: MultiBoxRecipe,
    *,
    data: Sequence[str] = (),
    device: str = "auto",
    on_problem: OnProblem = OnProblem.REPORT,
) -> Path:
    """Train a head on ``records``, measure it on ``val``, and return the path of the checkpoint with it.

    ``data`` names the sets that the records are from, for the checkpoint's metadata. A picture that cannot be
    read is named in ``broken.txt``, and another one comes in its place, or the run stops at it, as
    ``on_problem`` says. Raises DetectorError for data, a checkpoint or settings that cannot be used.
    """
    if not records:
        raise ParameterError("no picture has an object to learn from")
    started = time.monotonic()
    output.mkdir(parents=True, exist_ok=True)
    preprocessing = dataclasses.replace(init.metadata.preprocessing, size=recipe.size)
    batches = Batches(records, preprocessing, recipe.windows, batch=recipe.batch, seed=recipe.seed)
    torch.manual_seed(recipe.seed)  # the head's first weights
    head = MultiBoxHead(_spec(init, batches, recipe))
    boxes = sum(len(record.boxes) for record in records)
    print(f"{len(records)} pictures, {boxes} objects, {len(head.spec.anchors())} priors")
    stops = on_problem is OnProblem.STOP
    broken = BrokenImages(
        output / "broken.txt",
        0 if stops else tolerated(len(records)),
        "go on without them by --on-problem report" if stops else "",
    )
    history = output / "recall.jsonl"
    recall: dict[str, float] = {}

    def measure(done: int, averaged: MultiBoxHead) -> None:
        if not val:
            return
        recall.update(_recall(init.backbone, averaged, init.metadata.preprocessing, val, device))
        lines = [*lines_before(history, done), json.dumps({"iteration": done, **recall})]
        write_whole(history, "".join(f"{line}\n" for line in lines).encode())
        tqdm.write(f"{done}: " + ", ".join(f"{name} {value:.1%}" for name, value in recall.items()))

    trained = train_multibox(
        init.backbone.features, head, batches, output, recipe, choose_device(device), measure, broken
    )
    if not recall:  # the run had ended before, and was asked for again
        measure(recipe.iterations, trained)
    training = {"data": list(data), "pictures": len(records), "boxes": boxes, **dataclasses.asdict(recipe)}
    others = {name: value for name, value in init.metadata.metrics.items() if not name.startswith(_MEASURED)}
    source = init.metadata.source.partition(_AND_HEAD)[0]
    metadata = dataclasses.replace(
        init.metadata,
        source=f"{source}{_AND_HEAD}{', '.join(data) or 'unnamed pictures'}",
        multibox=trained.spec,
        training={**init.metadata.training, "multibox": training},
        metrics={**others, **{f"{_MEASURED}{name}": round(v, 4) for name, v in recall.items()}},
    )
    path = output / "detector.safetensors"
    save_checkpoint(path, Checkpoint(init.network, metadata, trained))
    lost = f"left out    {len(broken)} unreadable pictures: {output / 'broken.txt'}\n" if broken else ""
    print(
        f"\n{lost}{recipe.iterations} iterations in {(time.monotonic() - started) / 60:.1f} minutes\n"
        f"log         {output / 'log.jsonl'}\n"
        f"checkpoint  {path} ({path.stat().st_size / 2**20:.1f} MiB)\n"
        f"next        python training/evaluate_proposals.py --data DATA --weights {path}"
    )
    return path


def _spec(init: Checkpoint, batches: Batches, recipe: MultiBoxRecipe) -> MultiBoxSpec:
    """Where the head reads the trunk, and priors that suit the objects of a first epoch."""
    features, stages = init.backbone.features, STAGES[init.metadata.architecture]
    with torch.inference_mode():
        x = torch.zeros(1, 3, recipe.size, recipe.size)
        maps = {}
        for name, stage in features[: stages_read(features, stages)].named_children():
            x = stage(x)
            maps[name] = x
    channels = tuple(maps[name].shape[1] for name in stages)
    cells = [maps[name].shape[2] for name in stages]
    while cells[-1] > 4:
        cells.append((cells[-1] + 1) // 2)
    shapes = cluster_sides(batches.sides(epoch=0), recipe.shapes, seed=recipe.seed)
    return MultiBoxSpec(stages, channels, recipe.size, tuple(place_on_grids(shapes, cells, recipe.size)))


def _recall(
    backbone: Backbone, head: MultiBoxHead, preprocessing: Preprocessing, val: Sequence[Record], device: str
) -> dict[str, float]:
    """Recall at IoU 0.5 and 0.7 with so many boxes."""
    network = place(MultiBoxInference(backbone.features, head), device=device)
    multibox = MultiBox(network, preprocessing)
    found = [multibox.propose(load_record(record), max(BUDGETS)).boxes for record in val]
    truth = [record.boxes for record in val]
    return {
        f"recall@{iou} of {budget}": float(recall)
        for iou in (0.5, 0.7)
        for budget, recall in zip(BUDGETS, proposal_recall(truth, found, iou, BUDGETS).recall, strict=True)
    }


def _measured(root: Path, on_problem: OnProblem) -> Dataset:
    """The pictures of DET/val that can be decoded."""
    return without_unreadable(read_ilsvrc_det(root, "val", on_problem=on_problem), on_problem)


def _first_ilsvrc(data: Sequence[Path]) -> Path | None:
    for root in data:
        try:
            read_ilsvrc_det(root, "val", check_images=False)
        except DatasetError:
            continue
        return root
    return None


if __name__ == "__main__":
    run_script(main)

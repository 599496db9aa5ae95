"""One training of MultiBox: from images with boxes and a checkpoint to the checkpoint with a head inside."""

import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import tolerated
from detector.datasets.problems import OnProblem
from detector.errors import ParameterError
from detector.models.checkpoint import Checkpoint, save_checkpoint
from detector.models.multibox_head import MultiBoxHead, MultiBoxSpec, stages_read
from detector.proposals.anchors import cluster_sides, place_on_grids
from training.multibox.dataloader import WindowBatches
from training.multibox.task import MultiBoxRecipe, MultiBoxTask
from training.trainer.distributed import join_world
from training.trainer.excluded_images import BrokenImages
from training.trainer.trainer import Trainer

STAGES = {
    "googlenet": ("inception_3b", "inception_4e"),
    "torchvision-googlenet": ("inception3b", "inception4e"),
}
"""Stages of each architecture that the head reads: the last before the third and the fourth pooling."""

_MEASURED = "MultiBox "
"""What the names of a head's metrics begin with; they are dropped where the head is replaced."""

_AND_HEAD = "; MultiBox head trained on "


def add_multibox(
    init: Checkpoint,
    records: Sequence[AnnotatedImage],
    val: Sequence[AnnotatedImage],
    output: Path,
    recipe: MultiBoxRecipe,
    *,
    data: Sequence[str] = (),
    device: str = "auto",
    on_problem: OnProblem = OnProblem.REPORT,
) -> Path:
    """Train a head on ``records``, measure it on ``val``, and return the path of the checkpoint with it.

    ``data`` names the sets that the records are from, for the checkpoint's metadata. An image that cannot be
    read is listed in ``broken.txt``, and another one comes in its place, or the run stops at it, as
    ``on_problem`` says. Called again after a kill, it resumes; under torchrun the processes share the work,
    and the first one writes. Raises DetectorError for data, a checkpoint or settings that cannot be used.
    """
    if not records:
        raise ParameterError("no picture has an object to learn from")
    started = time.monotonic()
    world, chosen = join_world(device)
    if min(recipe.batch, len(records)) < world.size:
        raise ParameterError(f"{recipe.batch} pictures a minibatch are too few for {world.size} processes")
    output.mkdir(parents=True, exist_ok=True)
    preprocessing = dataclasses.replace(init.metadata.preprocessing, size=recipe.size)
    batches = WindowBatches(
        records, preprocessing, recipe.windows, batch=recipe.batch, seed=recipe.seed, world=world
    )
    torch.manual_seed(recipe.seed)  # initial weights of the head
    head = MultiBoxHead(_spec(init, batches, recipe))
    boxes = sum(len(record.boxes) for record in records)
    if world.first:
        print(f"{len(records)} pictures, {boxes} objects, {len(head.spec.anchors())} priors")
    stops = on_problem is OnProblem.STOP
    broken = BrokenImages(
        output / "broken.txt",
        0 if stops else tolerated(len(records)),
        "go on without them by --on-problem report" if stops else "",
    )
    task = MultiBoxTask(
        init, head, batches, recipe, output, val=val, broken=broken, device=chosen, world=world
    )
    head.load_state_dict(Trainer(task, recipe, output, device=chosen, world=world).run())
    head.cpu().eval().requires_grad_(False)
    path = output / "detector.safetensors"
    recall = task.recall
    if val and (recipe.patience or not recall):  # the best head is not the last one; or the run had ended
        recall = task.measure(head)
    with world.first_alone():
        if world.first:
            how = {"data": list(data), "pictures": len(records), "boxes": boxes, **dataclasses.asdict(recipe)}
            save_checkpoint(path, _with_head(init, head, how, recall))
            lost = (
                f"left out    {len(broken)} unreadable pictures: {output / 'broken.txt'}\n" if broken else ""
            )
            print(
                f"\n{lost}{recipe.iterations} iterations in {(time.monotonic() - started) / 60:.1f} minutes\n"
                f"log         {output / 'log.jsonl'}\n"
                f"checkpoint  {path} ({path.stat().st_size / 2**20:.1f} MiB)\n"
                f"next        detector evaluate proposals --data DATA --weights {path}"
            )
    return path


def _with_head(
    init: Checkpoint, head: MultiBoxHead, how: Mapping[str, object], recall: Mapping[str, float]
) -> Checkpoint:
    """Put a head into a checkpoint, and into its metadata how it was trained and what it reaches."""
    metadata = init.metadata
    kept = {name: value for name, value in metadata.metrics.items() if not name.startswith(_MEASURED)}
    source, data = metadata.source.partition(_AND_HEAD)[0], how["data"]
    assert isinstance(data, list)
    metadata = dataclasses.replace(
        metadata,
        source=f"{source}{_AND_HEAD}{', '.join(data) or 'unnamed pictures'}",
        multibox=head.spec,
        training={**metadata.training, "multibox": dict(how)},
        metrics={**kept, **{f"{_MEASURED}{name}": round(value, 4) for name, value in recall.items()}},
    )
    return Checkpoint(init.network, metadata, head)


def _spec(init: Checkpoint, batches: WindowBatches, recipe: MultiBoxRecipe) -> MultiBoxSpec:
    """Say where the head reads the trunk, and cluster priors from the objects of a first epoch."""
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

"""One training of MultiBox: from images with boxes and a checkpoint to the checkpoint with a head inside."""

import copy
import dataclasses
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.problems import OnProblem
from detector.errors import ParameterError
from detector.models.checkpoint import Checkpoint, save_checkpoint
from detector.models.multibox_head import MultiBoxHead
from training.multibox.anchors import choose_anchors
from training.multibox.cached_maps_loader import CachedMapsLoader
from training.multibox.map_cache import MapCache, cache_size
from training.multibox.mapped_images import FrozenTrunk, MapsLoader, StreamingMapsLoader
from training.multibox.task import MultiBoxRecipe, MultiBoxTask
from training.scaled_images import ImageBatches
from training.trainer.distributed import ProcessGroup, join_world
from training.trainer.excluded_images import BrokenImages
from training.trainer.run_folder import DETECTOR
from training.trainer.trainer import Trainer

MEASURED = "MultiBox "
"""What the names of a head's metrics begin with; they are dropped where the head is replaced."""

SHAPES = 20
"""Shapes of priors of a new head, where nothing else is asked for."""

_AND_HEAD = "; MultiBox head trained on "


def add_multibox(
    init: Checkpoint,
    records: Sequence[AnnotatedImage],
    val: Sequence[AnnotatedImage],
    output: Path,
    recipe: MultiBoxRecipe,
    *,
    data: Sequence[str] = (),
    cache: Path | None = None,
    cache_gib: float = 16.0,
    device: str = "auto",
    on_problem: OnProblem = OnProblem.REPORT,
) -> Path:
    """Train a head on ``records``, measure it on ``val``, and return the path of the checkpoint with it.

    A head that ``init`` has is trained on, unless the recipe wants ``shapes`` of a new one, or other scales.
    ``data`` names the sets that the records are from, for the checkpoint's metadata. Where each image is seen
    at its own size (``zoom`` 1), its maps are kept in ``cache`` [``output/cache``], if all need at most
    ``cache_gib``. An image that cannot be read is listed in ``broken.txt``, and left out, or another one
    comes in its place, or the run stops at it, as ``on_problem`` says. Called again after a kill, it resumes;
    under torchrun the processes share the work, and the first one writes. Raises DetectorError for data, a
    checkpoint or settings that cannot be used.
    """
    if not records:
        raise ParameterError("no picture has an object to learn from")
    started = time.monotonic()
    world, chosen = join_world(device)
    if min(recipe.batch, len(records)) < world.size:
        raise ParameterError(f"{recipe.batch} pictures a minibatch are too few for {world.size} processes")
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)  # initial weights of a new head
    head, is_new = _head_to_train(init, records, recipe)
    boxes = sum(len(record.boxes) for record in records)
    if world.first:
        shapes = sum(len(grid.sides) for grid in head.spec.grids)
        kind = f"{shapes} shapes of priors" if is_new else "the head of --init is trained on"
        print(f"{len(records)} pictures, {boxes} objects, {kind}")
    broken = BrokenImages.of_run(output, len(records), on_problem)
    images = ImageBatches(
        records,
        np.ones(len(records)),
        recipe.image,
        init.metadata.preprocessing,
        min(recipe.batch, len(records)),
        recipe.seed,
        zoom=recipe.zoom,
    )
    trunk = FrozenTrunk(init, head.spec.stages, chosen)
    loader = _make_loader(
        images, trunk, cache or output / "cache", cache_gib=cache_gib, broken=broken, world=world
    )
    task = MultiBoxTask(init, head, loader, recipe, output, val=val, device=chosen, world=world)
    task.module.load_state_dict(Trainer(task, recipe, output, device=chosen, world=world).run())
    head.cpu().eval().requires_grad_(False)
    path = output / DETECTOR
    recall = task.recall
    if val and (recipe.patience or not recall):  # the best head is not the last one; or the run had ended
        recall = task.measure(task.module)
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


def _head_to_train(
    init: Checkpoint, records: Sequence[AnnotatedImage], recipe: MultiBoxRecipe
) -> tuple[MultiBoxHead, bool]:
    """Return a copy of the head of ``init``, or a new head; and whether it is new."""
    if recipe.shapes is None and init.multibox is not None and init.multibox.spec.image == recipe.image:
        return copy.deepcopy(init.multibox).float().requires_grad_(True), False
    architecture, features = init.metadata.architecture, init.backbone.features
    shapes = SHAPES if recipe.shapes is None else recipe.shapes
    spec = choose_anchors(architecture, features, records, recipe.image, shapes, seed=recipe.seed)
    return MultiBoxHead(spec), True


def _make_loader(
    images: ImageBatches,
    trunk: FrozenTrunk,
    cache: Path,
    *,
    cache_gib: float,
    broken: BrokenImages,
    world: ProcessGroup,
) -> MapsLoader:
    """Return minibatches of kept maps where sizes do not change and the maps are not too many; else of
    pictures."""
    if images.zoom == 1:
        needed = cache_size(images.records, images.scales, trunk.channels)
        if needed <= cache_gib * 2**30:
            maps = MapCache(cache, trunk, images)
            kept = maps.fill(world, broken)
            return CachedMapsLoader(
                maps, images.records, kept, images.batch, images.seed, device=trunk.device, world=world
            )
        if world.first:
            tqdm.write(
                f"maps of the trunk would take {needed / 2**30:.1f} GiB, more than the {cache_gib:g} GiB "
                "allowed (--cache-gib): pictures are streamed instead"
            )
    return StreamingMapsLoader(images, trunk, broken=broken, world=world)


def _with_head(
    init: Checkpoint, head: MultiBoxHead, how: Mapping[str, object], recall: Mapping[str, float]
) -> Checkpoint:
    """Put a head into a checkpoint, and into its metadata how it was trained and what it reaches."""
    metadata = init.metadata
    kept = {name: value for name, value in metadata.metrics.items() if not name.startswith(MEASURED)}
    source, data = metadata.source.partition(_AND_HEAD)[0], how["data"]
    assert isinstance(data, list)
    metadata = dataclasses.replace(
        metadata,
        source=f"{source}{_AND_HEAD}{', '.join(data) or 'unnamed pictures'}",
        multibox=head.spec,
        thresholds=None,  # scores go by the head's confidence
        training={**metadata.training, "multibox": dict(how)},
        metrics={**kept, **{f"{MEASURED}{name}": round(value, 4) for name, value in recall.items()}},
    )
    return Checkpoint(init.network, metadata, head)

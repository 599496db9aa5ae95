"""One training of a location head: from labelled images and a detector to the detector with a new head."""

import copy
import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from detector.datasets.annotated_image import Dataset
from detector.datasets.problems import OnProblem
from detector.errors import ParameterError
from detector.models.backbone import LAST_STAGES
from detector.models.checkpoint import Checkpoint, save_checkpoint
from detector.models.location_head import LocationHead
from detector.models.region_network import RegionNetwork
from training.location.task import LocationRecipe, LocationTask, ValidationLocations
from training.multibox.training import MEASURED
from training.rcnn.make_dataloader import DataLoaderBuilder
from training.rcnn.mixing import DatasetSpec, mix
from training.rcnn.proposal_cache import ProposalCache, profile_to_learn_from
from training.rcnn.recipe import SCORING
from training.trainer.distributed import join_world
from training.trainer.excluded_images import BrokenImages
from training.trainer.run_folder import DETECTOR
from training.trainer.trainer import Trainer

_AND_HEAD = "; location head trained on "


def train_location_head(
    init: Checkpoint,
    train: Sequence[DatasetSpec],
    output: Path,
    recipe: LocationRecipe,
    *,
    cache: Path,
    data: Sequence[str],
    validation: Dataset | None = None,
    device: str = "auto",
    cache_gib: float = 16.0,
    workers: int | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
) -> Path:
    """Train a head on the objects of ``train``, whatever their classes, and return the path of the checkpoint
    with it: all else in it is that of ``init``, to the bit.

    A head that ``init`` has is trained on. ``data`` names the sets, for the checkpoint's metadata;
    ``validation`` is measured on the way. ``cache`` is the folder for proposals and maps, of up to
    ``cache_gib``. Called again after a kill, it resumes; under torchrun the processes share the work, and the
    first one writes. Raises DetectorError for data, a checkpoint or settings that cannot be used.
    """
    started = time.monotonic()
    metadata, network = init.metadata, init.network
    if not isinstance(network, RegionNetwork) or metadata.detection is None:
        raise ParameterError(f"{metadata.name} is no detector: train one first (detector train)")
    shared, classes = metadata.shared_maps, metadata.detection
    mixed = mix(train, classes, unknown=True, labelled=False)
    world, chosen = join_world(device)
    side = mixed.short_side if shared is None else max(shared.scales)
    broken = BrokenImages.of_run(output, len(mixed.records), on_problem, writes=world.first)
    preprocessing = replace(metadata.preprocessing, short_side=side)
    builder = DataLoaderBuilder(
        init=init,
        frozen=len(init.backbone.features) - LAST_STAGES,
        distilled_classes=0,
        background=len(classes),
        preprocessing=preprocessing,
        shared=shared,
        proposals=ProposalCache(
            cache / "proposals",
            init,
            preprocessing,
            shared=shared,
            profile=profile_to_learn_from(init, shared),
            device=str(chosen),
        ),
        folder=cache / "maps",
        device=chosen,
        world=world,
        broken=broken,
    )
    dataloader = builder.build(mixed, recipe, cache_gib=cache_gib, workers=workers)
    held_out = None
    if validation is not None:
        regions = builder.validation_cache(validation, classes, unknown=True)
        held_out = ValidationLocations(regions, output, device=chosen, world=world)
    torch.manual_seed(recipe.seed)  # initial weights of a new head
    head = copy.deepcopy(network.location_head) or LocationHead()
    task = LocationTask(head, dataloader, recipe, device=chosen, world=world, validation=held_out)
    trainer = Trainer[Any, Any](task, recipe, output, device=chosen, world=world)
    task.module.load_state_dict({**task.module.state_dict(), **trainer.run()})
    boxes = sum(len(record.boxes) + len(record.unknown) for record in mixed.records)
    how = {
        "data": list(data),
        "pictures": len(mixed.records),
        "boxes": boxes,
        **dataclasses.asdict(recipe),
    }
    path = output / DETECTOR
    with world.first_alone():
        if world.first:
            save_checkpoint(path, _with_head(init, network, head.cpu().eval(), how))
            tqdm.write(
                f"{len(mixed.records)} pictures, {boxes} objects, {recipe.iterations} iterations in "
                f"{(time.monotonic() - started) / 60:.1f} minutes\n"
                f"checkpoint  {path} ({path.stat().st_size / 2**20:.1f} MiB)\n"
                f"next        detector evaluate --data DATA --weights {path}"
            )
    return path


def _with_head(
    init: Checkpoint, network: RegionNetwork, head: LocationHead, how: Mapping[str, Any]
) -> Checkpoint:
    """Put a head into a checkpoint in the place of those before it, and into its metadata how it was trained.

    What was measured with other boxes is dropped, and so are thresholds of other scores."""
    network = copy.deepcopy(network)
    network.box_head = network.fit_head = None
    network.location_head = head
    metadata = init.metadata
    kept = {name: value for name, value in metadata.metrics.items() if name.startswith(MEASURED)}
    source = metadata.source.partition(_AND_HEAD)[0]
    metadata = replace(
        metadata,
        source=f"{source}{_AND_HEAD}{', '.join(how['data'])}",
        scoring=SCORING,
        thresholds=None,
        training={**metadata.training, "location": dict(how)},
        metrics=kept,
    )
    return Checkpoint(network.eval(), metadata, init.multibox)

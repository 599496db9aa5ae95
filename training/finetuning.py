"""One training run: from labelled pictures and a checkpoint to a detector of their classes."""

import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from detector.checkpoints import Checkpoint, save_checkpoint
from detector.classes import ClassList
from detector.datasets.record import Dataset
from detector.engine import choose_device
from detector.errors import ParameterError
from detector.folding import fold
from detector.proposals.multibox_head import MultiBoxHead, stages_read
from detector.region_network import RegionNetwork
from training.feature_cache import build_feature_cache
from training.loop import run_training
from training.proposal_cache import cached_proposals
from training.recipe import Recipe

DETECTOR = "detector.safetensors"
"""What the result is called in the run's folder."""


def finetune(
    train: Dataset,
    init: Checkpoint,
    classes: ClassList,
    output: Path,
    recipe: Recipe,
    *,
    cache: Path,
    name: str,
    data_name: str,
    held_out: Dataset | None = None,
    device: str = "auto",
) -> Path:
    """Train a detector of ``classes`` and return the path of its checkpoint.

    ``cache`` is the folder for proposals and maps, which several runs may share. ``name`` is the detector's,
    ``data_name`` says in its metadata what it was trained on. Called again after a kill, it goes on where it
    was. Raises DetectorError for data, a checkpoint or settings that cannot be used.
    """
    started = time.monotonic()
    frozen = stages_through(init, recipe.frozen_through)
    records = [record for record in train.records if len(record.boxes)]
    if not records:
        raise ParameterError(f"{data_name}: no picture has an object to learn from")
    output.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)  # the box head's first weights
    start = fold(init, own_rows=True)
    assert isinstance(start.network, RegionNetwork)
    maps = build_feature_cache(
        cache / "maps",
        init,
        frozen,
        records,
        cached_proposals(records, cache / "proposals"),
        recipe.sampling,
        background_label=len(classes),
        seed=recipe.seed,
        device=device,
    )
    averaged = run_training(start.network, frozen, maps, output, recipe, choose_device(device))
    start.network.load_state_dict({**start.network.state_dict(), **averaged})
    training = {
        "init": init.metadata.name,
        "data": data_name,
        "pictures": len(records),
        "boxes": sum(len(record.boxes) for record in records),
        "regions": len(maps.labels),
        **dataclasses.asdict(recipe),
    }
    multibox = _kept_multibox(init, frozen)
    if multibox is not None and "multibox" in init.metadata.training:
        training["multibox"] = init.metadata.training["multibox"]
    path = output / DETECTOR
    short_side = int(np.median([min(record.width, record.height) for record in records]))
    metadata = dataclasses.replace(
        start.metadata,
        preprocessing=dataclasses.replace(start.metadata.preprocessing, short_side=short_side),
        name=name,
        multibox=multibox.spec if multibox is not None else None,
        training=training,
        licence=f"{init.metadata.licence}; the terms of {data_name}",
        source=f"{init.metadata.name} ({init.metadata.source}), fine-tuned on {data_name}",
    )
    save_checkpoint(path, Checkpoint(start.network.cpu().eval(), metadata, multibox))
    tqdm.write(
        f"{training['pictures']} pictures, {training['boxes']} objects, {training['regions']} regions, "
        f"{recipe.iterations} iterations in {(time.monotonic() - started) / 60:.1f} minutes"
    )
    return path


def stages_through(init: Checkpoint, name: str) -> int:
    """How many stages of the trunk end with the one of that name; 0 for "none".

    Raises ParameterError if no stage has that name.
    """
    names = [stage for stage, _ in init.backbone.features.named_children()]
    if name == "none":
        return 0
    if name not in names:
        raise ParameterError(
            f"--frozen-through {name!r} is no stage; use 'none' or one of {', '.join(names)}"
        )
    return names.index(name) + 1


def _kept_multibox(init: Checkpoint, frozen: int) -> MultiBoxHead | None:
    """The init's MultiBox head, if what it reads of the trunk keeps its weights: it is still good then."""
    multibox = init.multibox
    if multibox is None or stages_read(init.backbone.features, multibox.spec.stages) > frozen:
        return None
    return multibox

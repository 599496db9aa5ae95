"""One training run: from labelled pictures and a checkpoint to a detector of their classes."""

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from tqdm import tqdm

from detector.datasets.pixels import tolerated
from detector.datasets.record import Dataset, OnProblem
from detector.errors import ParameterError
from detector.models.checkpoint import Checkpoint, save_checkpoint
from detector.models.multibox_head import MultiBoxHead, stages_read
from detector.models.region_network import RegionNetwork
from detector.models.transfer import transfer
from detector.structures.classes import ClassList
from training.rcnn.loop import run_training
from training.rcnn.make_dataloader import Source, choose_feed, held_out_regions
from training.rcnn.mixing import Ingredient, mix
from training.rcnn.proposal_cache import ProposalCache
from training.rcnn.recipe import Recipe
from training.rcnn.training_module import RegionLearner
from training.trainer.distributed import join_world
from training.trainer.left_out import BrokenImages
from training.trainer.run_folder import run_folder

DETECTOR = "detector.safetensors"
"""What the result is called in the run's folder."""


def finetune(
    train: Dataset | Sequence[Ingredient],
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
    cache_gib: float = 16.0,
    workers: int | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
) -> Path:
    """Train a detector of ``classes`` and return the path of its checkpoint.

    ``cache`` is the folder for proposals and maps, which several runs may share; maps of up to ``cache_gib``
    are kept there, else pictures are streamed by ``workers`` processes [as many as there are cores to
    spare]. ``name`` is the detector's, ``data_name`` says in its metadata what it was trained on.
    ``held_out`` is measured on the way. Called again after a kill, it goes on where it was; under torchrun
    the processes share the work, and the first one writes. A picture that can no longer be read is left out
    and named in ``broken.txt``, or ends the run, as ``on_problem`` says. Raises DetectorError for data, a
    checkpoint or settings that cannot be used, and where another run uses ``output``.
    """
    with run_folder(output):
        started = time.monotonic()
        frozen = stages_through(init, recipe.frozen_through)
        mixed = mix(train, classes)
        world, chosen = join_world(device)
        preprocessing = dataclasses.replace(init.metadata.preprocessing, short_side=mixed.short_side)
        torch.manual_seed(recipe.seed)  # the first weights of new heads
        start = transfer(init, classes)
        assert isinstance(start.network, RegionNetwork)
        known = start.metadata.classification
        stops = on_problem is OnProblem.STOP
        broken = BrokenImages(
            output / "broken.txt",
            0 if stops else tolerated(len(mixed.records)),
            "give --on-problem report, which leaves them out" if stops else "",
            writes=world.first,
        )
        source = Source(
            init=init,
            frozen=frozen,
            known=len(known) if known is not None and recipe.loss.distillation > 0 else 0,
            background=len(classes),
            preprocessing=preprocessing,
            proposals=ProposalCache(cache / "proposals", init, preprocessing, device=str(chosen)),
            folder=cache / "maps",
            device=chosen,
            world=world,
            broken=broken,
        )
        feed = choose_feed(source, mixed, recipe, cache_gib=cache_gib, workers=workers)
        measured = held_out_regions(source, held_out, classes, recipe) if held_out is not None else None
        learner = RegionLearner(start.network, frozen, recipe.loss)
        result = run_training(learner, feed, output, recipe, chosen, world, measured)
        start.network.load_state_dict({**start.network.state_dict(), **result})
        multibox = _kept_multibox(init, frozen)
        training = {
            "init": init.metadata.name,
            "data": data_name,
            "pictures": len(mixed.records),
            "boxes": sum(len(record.boxes) for record in mixed.records),
            **dataclasses.asdict(recipe),
        }
        if multibox is not None and "multibox" in init.metadata.training:
            training["multibox"] = init.metadata.training["multibox"]
        metadata = dataclasses.replace(
            start.metadata,
            preprocessing=preprocessing,
            name=name,
            scoring=recipe.scoring,
            multibox=multibox.spec if multibox is not None else None,
            training=training,
            licence=f"{init.metadata.licence}; the terms of {data_name}",
            source=f"{init.metadata.name} ({init.metadata.source}), fine-tuned on {data_name}",
        )
        path = output / DETECTOR
        with world.first_alone():
            if world.first:
                save_checkpoint(path, Checkpoint(start.network.cpu().eval(), metadata, multibox))
                tqdm.write(
                    f"{training['pictures']} pictures, {training['boxes']} objects, {recipe.iterations} "
                    f"iterations in {(time.monotonic() - started) / 60:.1f} minutes"
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

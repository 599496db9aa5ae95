"""One fine-tuning run: from labelled images and a checkpoint to a detector of their classes."""

import copy
import dataclasses
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from detector.datasets.annotated_image import Dataset
from detector.datasets.problems import OnProblem
from detector.errors import ParameterError
from detector.inference.preprocessing import Preprocessing
from detector.inference.shared_maps import SharedMaps
from detector.models.checkpoint import Checkpoint, save_checkpoint
from detector.models.multibox_head import MultiBoxHead, stages_read
from detector.models.region_network import RegionNetwork
from detector.models.transfer import transfer
from detector.structures.classes import ClassList
from training.multibox.anchors import choose_anchors
from training.multibox.losses import MultiBoxLossWeights
from training.rcnn.joint_task import JointTask, validation_batches
from training.rcnn.joint_training import JointTrainingModule
from training.rcnn.make_dataloader import VALIDATION_IMAGES, DataLoaderBuilder
from training.rcnn.mixing import DatasetSpec, Mix, mix, relabelled, spread
from training.rcnn.proposal_cache import ProposalCache, profile_to_learn_from
from training.rcnn.recipe import Recipe
from training.rcnn.streaming_dataloader import class_balance
from training.rcnn.task import RegionTask
from training.rcnn.training_module import RegionTrainingModule, check_frozen
from training.scaled_images import ImageBatches
from training.trainer.dataloader import workers_for
from training.trainer.distributed import ProcessGroup, join_world
from training.trainer.excluded_images import BrokenImages
from training.trainer.run_folder import DETECTOR, run_folder
from training.trainer.trainer import Task, Trainer

SHARED_STAGE = {"googlenet": "inception_4e", "torchvision-googlenet": "inception4e"}
"""Last stage of each architecture that regions share: the last before the fourth pooling."""


def finetune(
    train: Dataset | Sequence[DatasetSpec],
    init: Checkpoint,
    classes: ClassList,
    output: Path,
    recipe: Recipe,
    *,
    cache: Path,
    name: str,
    data_name: str,
    validation: Dataset | None = None,
    device: str = "auto",
    cache_gib: float = 16.0,
    workers: int | None = None,
    on_problem: OnProblem = OnProblem.REPORT,
) -> Path:
    """Train a detector of ``classes`` and return the path of its checkpoint.

    ``cache`` is the folder for proposals and maps, which several runs may share; maps of up to ``cache_gib``
    are kept there, else images are streamed by ``workers`` processes [as many as there are cores to
    spare]. ``name`` is the detector's, ``data_name`` says in its metadata what it was trained on.
    ``validation`` is measured on the way. Called again after a kill, it resumes; under torchrun the processes
    share the work, and the first one writes. An image that can no longer be read is left out and listed in
    ``broken.txt``, or ends the run, as ``on_problem`` says. Raises DetectorError for data, a checkpoint or
    settings that cannot be used, and where another run uses ``output``.
    """
    with run_folder(output):
        started = time.monotonic()
        frozen = stages_through(init, recipe.frozen_through)
        shared = recipe.shared_maps(init.metadata.shared_maps, SHARED_STAGE[init.metadata.architecture])
        joint = shared is not None and frozen < stages_through(init, shared.stage)
        mixed = mix(train, classes, unknown=joint)
        world, chosen = join_world(device)
        # Shared maps have scales of their own, to which smaller images are enlarged.
        side = mixed.short_side if shared is None else max(shared.scales)
        preprocessing = dataclasses.replace(init.metadata.preprocessing, short_side=side)
        torch.manual_seed(recipe.seed)  # initial weights of new heads
        start = transfer(init, classes)
        assert isinstance(start.network, RegionNetwork)
        check_frozen(start.network, frozen)  # before hours of proposals and maps
        classification = start.metadata.classification
        writes = world.first or joint  # in joint training each process reads images of its own
        broken = BrokenImages.of_run(output, len(mixed.records), on_problem, writes=writes)
        distilled = len(classification) if classification is not None and recipe.loss.distillation > 0 else 0
        multibox: MultiBoxHead | None
        task: Task[Any, Any]
        if joint:
            assert shared is not None
            multibox = _trained_multibox(init, mixed, shared, recipe)
            task = _joint_task(
                start.network,
                multibox,
                frozen,
                shared,
                preprocessing,
                mixed,
                recipe,
                distilled=distilled,
                validation=relabelled(validation, classes) if validation is not None else None,
                output=output,
                broken=broken,
                device=chosen,
                world=world,
                workers=workers,
            )
        else:
            multibox = _kept_multibox(init, frozen)
            builder = DataLoaderBuilder(
                init=init,
                frozen=frozen,
                distilled_classes=distilled,
                background=len(classes),
                preprocessing=preprocessing,
                shared=shared,
                proposals=ProposalCache(
                    cache / "proposals",
                    init,
                    preprocessing,
                    shared=shared,
                    profile=recipe.proposals or profile_to_learn_from(init, shared),
                    device=str(chosen),
                ),
                folder=cache / "maps",
                device=chosen,
                world=world,
                broken=broken,
            )
            dataloader = builder.build(mixed, recipe, cache_gib=cache_gib, workers=workers)
            regions = None
            if validation is not None:
                regions = builder.build_validation(validation, classes, recipe, output)
            task = RegionTask(
                RegionTrainingModule(start.network, frozen, recipe.loss),
                dataloader,
                recipe,
                device=chosen,
                world=world,
                validation=regions,
            )
        result = Trainer[Any, Any](task, recipe, output, device=chosen, world=world).run()
        task.module.load_state_dict({**task.module.state_dict(), **result})
        training = {
            "init": init.metadata.name,
            "data": data_name,
            "pictures": len(mixed.records),
            "boxes": sum(len(record.boxes) for record in mixed.records),
            **dataclasses.asdict(recipe),
        }
        if not joint and multibox is not None and "multibox" in init.metadata.training:
            training["multibox"] = init.metadata.training["multibox"]
        metadata = dataclasses.replace(
            start.metadata,
            preprocessing=preprocessing,
            shared_maps=shared,
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
                head = multibox.cpu().eval() if multibox is not None else None
                save_checkpoint(path, Checkpoint(start.network.cpu().eval(), metadata, head))
                tqdm.write(
                    f"{training['pictures']} pictures, {training['boxes']} objects, {recipe.iterations} "
                    f"iterations in {(time.monotonic() - started) / 60:.1f} minutes"
                )
        return path


def stages_through(init: Checkpoint, name: str) -> int:
    """Return how many stages of the trunk end with the one of that name; 0 for "none".

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


def _joint_task(
    network: RegionNetwork,
    multibox: MultiBoxHead,
    frozen: int,
    shared: SharedMaps,
    preprocessing: Preprocessing,
    mixed: Mix,
    recipe: Recipe,
    *,
    distilled: int,
    validation: Dataset | None,
    output: Path,
    broken: BrokenImages,
    device: torch.device,
    world: ProcessGroup,
    workers: int | None,
) -> JointTask:
    """Build the task of training all of a detector from the first stage that is not frozen on.

    Raises ParameterError for fewer images in a minibatch than there are processes.
    """
    if recipe.batch.images < world.size:
        raise ParameterError(
            f"{recipe.batch.images} pictures a minibatch are too few for {world.size} processes: give more "
            "with --batch-images"
        )
    module = JointTrainingModule(
        network,
        multibox,
        frozen,
        shared,
        preprocessing,
        sampling=recipe.sampling,
        batch=recipe.batch,
        weights=recipe.loss,
        multibox_weights=MultiBoxLossWeights(),
        distilled_classes=distilled,
        seed=recipe.seed,
        world=world,
    )
    if module.teacher is not None:
        module.teacher.to(device)
    images = ImageBatches(
        mixed.records,
        class_balance(mixed.records, recipe.batch.balance) * mixed.weights,
        shared,
        preprocessing,
        recipe.batch.images,
        recipe.seed,
        zoom=recipe.zoom,
        color_jitter=recipe.color_jitter,
    )
    held_out = None
    if validation is not None:
        records = [record for record in validation.records if len(record.boxes)]
        if not records:
            raise ParameterError("no held-out picture has an object to measure by")
        records = spread(records, VALIDATION_IMAGES)
        batch = max(min(recipe.batch.images, len(records)), world.size)
        weights = np.ones(len(records))
        held_out = validation_batches(replace(images, records=records, weights=weights, batch=batch))
    return JointTask(
        module,
        images,
        recipe,
        broken=broken,
        device=device,
        world=world,
        workers=workers_for(device, world) if workers is None else workers,
        validation=held_out,
        log=output / "held_out.jsonl",
    )


def _trained_multibox(init: Checkpoint, mixed: Mix, shared: SharedMaps, recipe: Recipe) -> MultiBoxHead:
    """Return a copy of the init's MultiBox head if it reads the same scales, else a new one."""
    multibox = init.multibox
    if multibox is not None and multibox.spec.image == shared.image:
        return copy.deepcopy(multibox).requires_grad_(True)
    features = init.backbone.features
    architecture = init.metadata.architecture
    spec = choose_anchors(architecture, features, mixed.records, shared, recipe.shapes, seed=recipe.seed)
    return MultiBoxHead(spec)


def _kept_multibox(init: Checkpoint, frozen: int) -> MultiBoxHead | None:
    """Return the init's MultiBox head if the stages that it reads keep their weights, else None."""
    multibox = init.multibox
    if multibox is None or stages_read(init.backbone.features, multibox.spec.stages) > frozen:
        return None
    return multibox

"""Small runs of fine-tuning that several tests start, also from processes of their own.

    python runs.py DATA INIT OUTPUT KIND

trains on the bright rectangles that ``DATA`` holds in the layout of PASCAL VOC; the second of several
processes is killed once.
"""

import os
import signal
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

from torch import nn

from detector.datasets.annotated_image import Dataset
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.structures.classes import ClassList
from training.multibox.dataset import read_object_images
from training.rcnn.dataloader import BatchSettings
from training.rcnn.finetuning import finetune
from training.rcnn.recipe import Recipe, RegionKind
from training.rcnn.sampling import SamplingSettings
from training.trainer.distributed import leave_world

CLASSES = ClassList.of(["dog"])

SMALL = Recipe(
    iterations=8,
    rate=1e-5,
    head_rate=1e-5,  # untrained weights give large maps
    warmup=2,
    save_every=2,
    validate_every=3,
    batch=BatchSettings(positives=3, background=4, whole=1, mined=0.5, pool=2, images=2),
    sampling=SamplingSettings(positives=3, background=4),
)

KINDS = {
    "cached": SMALL,
    "streamed": replace(SMALL, iterations=6, color_jitter=True, patience=2),
    "shared": replace(SMALL, iterations=6, regions=RegionKind.SHARED, scales=(64, 128), zoom=1.3),
    "joint": replace(
        SMALL,
        iterations=6,
        regions=RegionKind.SHARED,
        scales=(32, 64),
        zoom=1.2,
        frozen_through="pool2",
        color_jitter=True,
        shapes=4,
        accumulate=2,
        patience=2,
        save_every=1,
    ),
}
"""A run from cached maps, one from pictures, which keeps the best weights, one whose regions share the trunk,
all of which mine hard backgrounds; and one that trains trunk, MultiBox and region heads together."""

BY_TWO = {"joint_by_two": replace(KINDS["joint"], accumulate=1)}
"""What two processes do, each with an image of its own."""

STEADY = "streamed"
"""The kind in which nothing drops out: it is the same however many processes share it, but for rounding."""


def small_set(data: Path) -> Dataset:
    records = read_object_images([data], frozenset()).records
    return Dataset(records, ["dog"])


def train(
    data: Path,
    init: Checkpoint,
    output: Path,
    recipe: Recipe,
    *,
    cache: Path | None = None,
    validation: bool = True,
) -> Path:
    """Learn from three pictures, and be measured on another one."""
    records = small_set(data).records
    return finetune(
        Dataset(records[:3], ["dog"]),
        init,
        CLASSES,
        output,
        recipe,
        cache=cache or output / "cache",
        name="small",
        data_name="rectangles",
        validation=Dataset(records[3:4], ["dog"]) if validation else None,
        device="cpu",
    )


def keep_all(init: Checkpoint) -> None:
    """Let nothing drop out of a network, nor of one made from it."""
    for part in init.network.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0


def train_kind(data: Path, init: Path, output: Path, kind: str) -> None:
    """A run by its name, as one of the processes of the environment."""
    start = load_checkpoint(init)
    if kind == STEADY:
        keep_all(start)
    train(data, start, output, {**KINDS, **BY_TWO}[kind])
    leave_world()


def killed_once(output: Path, iteration: int) -> None:
    """End the second of two processes for good, the first time that a run comes so far."""
    mark = output / "killed"
    if os.environ.get("RANK") != "1" or mark.exists():
        return
    thread = threading.Thread(target=_kill_at, args=(output / "log.jsonl", iteration, mark), daemon=True)
    thread.start()


def _kill_at(log: Path, iteration: int, mark: Path) -> None:
    while not log.exists() or len(log.read_text().splitlines()) < iteration:
        time.sleep(0.02)
    mark.touch()
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    data, init, output = (Path(argument) for argument in sys.argv[1:4])
    killed_once(output, iteration=3)
    train_kind(data, init, output, sys.argv[4])

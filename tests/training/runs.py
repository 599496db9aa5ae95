"""Small runs of fine-tuning that several tests start, also from processes of their own.

    python runs.py DATA INIT OUTPUT KIND

trains on the bright rectangles that ``DATA`` holds in the layout of PASCAL VOC.
"""

import sys
from dataclasses import replace
from pathlib import Path

from detector.checkpoints import load_checkpoint
from detector.classes import ClassList
from detector.datasets.record import Dataset
from training.distributed import leave_world
from training.finetuning import finetune
from training.minibatch import BatchSettings
from training.object_pictures import read_object_pictures
from training.recipe import Recipe
from training.sampling import SamplingSettings

CLASSES = ClassList.of(["dog"])

SMALL = Recipe(
    iterations=8,
    warmup=2,
    save_every=2,
    check_every=3,
    batch=BatchSettings(positives=4, background=6, whole=2, mined=0.5, pool=2, pictures=3),
    sampling=SamplingSettings(positives=4, background=6),
)

KINDS = {
    "cached": SMALL,
    "streamed": replace(SMALL, distortion=True, patience=2, frozen_through="inception_4e"),
}
"""A run from cached maps, and one from pictures; both mine hard backgrounds, one keeps the best weights."""


def small_set(data: Path) -> Dataset:
    records = read_object_pictures([data], frozenset()).records
    return Dataset(records, ["dog"])


def train(data: Path, init: Path, output: Path, recipe: Recipe) -> Path:
    whole = small_set(data)
    part, held_out = Dataset(whole.records[:8], ["dog"]), Dataset(whole.records[8:], ["dog"])
    return finetune(
        part,
        load_checkpoint(init),
        CLASSES,
        output,
        recipe,
        cache=output / "cache",
        name="small",
        data_name="rectangles",
        held_out=held_out,
        device="cpu",
    )


if __name__ == "__main__":
    train(*(Path(argument) for argument in sys.argv[1:4]), KINDS[sys.argv[4]])
    leave_world()

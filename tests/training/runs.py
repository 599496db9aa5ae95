"""Small runs of fine-tuning that several tests start, also from processes of their own.

    python runs.py DATA INIT OUTPUT KIND [--kill]

trains on the bright rectangles that ``DATA`` holds in the layout of PASCAL VOC.
"""

import os
import signal
import sys
import threading
import time
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
    rate=1e-5,
    head_rate=1e-5,  # untrained weights give large maps
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
    part, held_out = Dataset(whole.records[:4], ["dog"]), Dataset(whole.records[4:6], ["dog"])
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
    if "--kill" in sys.argv:
        killed_once(output, iteration=4)
    train(data, init, output, KINDS[sys.argv[4]])
    leave_world()

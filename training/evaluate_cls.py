"""Measure classifiers by top-1 and top-5 error on ILSVRC CLS-LOC.

python training/evaluate_cls.py --data ilsvrc --weights googlenet.safetensors --crops 1
"""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
from tqdm import tqdm
from tyro.conf import UseAppendAction, arg

from detector.cli.command_line import run_script
from detector.datasets.formats.ilsvrc_cls import read_ilsvrc_cls
from detector.datasets.load_image import labelled_without_unreadable
from detector.datasets.problems import OnProblem, left_out
from detector.errors import DatasetError
from detector.evaluation.classification import top_k_error
from detector.inference.classifier import Classifier
from detector.io.decoding import load
from detector.models.checkpoint import load_checkpoint
from detector.pretrained import SHIPPED
from training.trainer.command_errors import one_line_errors
from training.trainer.excluded_images import Exclusion


def main(
    data: Annotated[Path, arg(help="The folder that holds ILSVRC/ in its official layout.")],
    weights: Annotated[Sequence[Path], UseAppendAction, arg(help="Checkpoint; give it again for more.")] = (),
    split: Annotated[str, arg(help="train or val.")] = "val",
    crops: Annotated[int, arg(help="Views a picture: 1, 10 or 144.")] = 1,
    exclude: Annotated[
        Sequence[Path], UseAppendAction, arg(help="List file of pictures to leave out, as in ImageSets.")
    ] = (),
    on_problem: Annotated[OnProblem, arg(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> None:
    """Print top-1 and top-5 accuracy, one line a classifier."""
    with one_line_errors():
        classifiers = [Classifier(load_checkpoint(path), device=device) for path in weights or [SHIPPED]]
        dataset = read_ilsvrc_cls(data, split, on_problem=on_problem)
        excluded = Exclusion(exclude or [])
        images = [image for image in dataset.images if Path(image.image_id).name not in excluded]
        for line in excluded.unused():
            print(line)
        dataset = labelled_without_unreadable(replace(dataset, images=images), on_problem)
        images = dataset.images
        for problem in dataset.problems:
            print(problem)
        if not images:
            raise DatasetError(f"{data} has no picture to measure on in {split}")
        lost = left_out(dataset.problems)
        without = f" ({lost} left out for problems in the data)" if lost else ""
        labels = np.array([image.label for image in images])
        for classifier in classifiers:
            start = time.perf_counter()
            scores = np.stack(
                [
                    classifier.probabilities(load(image.path), crops=crops)
                    for image in tqdm(images, desc=classifier.name, unit="picture")
                ]
            )
            seconds = (time.perf_counter() - start) / len(images)
            error = top_k_error(scores, labels)
            print(
                f"{classifier.name}: top-1 {1 - error[1]:.1%}, top-5 {1 - error[5]:.1%} "
                f"on {len(images)} pictures{without}, {crops} crops, {seconds * 1000:.0f} ms a picture"
            )


if __name__ == "__main__":
    run_script(main)

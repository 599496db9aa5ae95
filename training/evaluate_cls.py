"""Measure classifiers by top-1 and top-5 error on ILSVRC CLS-LOC: weights, ensembles, numbers of crops.

    python training/evaluate_cls.py --data ilsvrc --weights net.safetensors --crops 1 --crops 10 --crops 144
    python training/evaluate_cls.py --data ilsvrc --weights a.safetensors:b.safetensors
    python training/evaluate_cls.py --data ilsvrc --ensemble --weights a.safetensors --weights b.safetensors
    python training/evaluate_cls.py --data ilsvrc --precision float32 --precision int8 --every 10

All is measured in one pass over the pictures, in which a network runs once however many rows of the table it
stands in. A row's cost is that of table 3 of arXiv 1409.4842: networks times crops.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal

from tyro.conf import UseAppendAction, arg

from detector.cli.command_line import at_least, run_script
from detector.datasets.annotated_image import LabelledDataset
from detector.datasets.formats.ilsvrc_cls import read_ilsvrc_cls
from detector.datasets.load_image import labelled_without_unreadable
from detector.datasets.problems import OnProblem, left_out
from detector.errors import DatasetError, ParameterError
from detector.evaluation.classification import ClassificationFigures
from detector.evaluation.tables import classification_table
from detector.io.atomic_write import check_writable, write_whole
from detector.io.output_paths import check_apart, check_not_overwriting
from detector.options import Engine
from detector.pretrained import SHIPPED
from training.evaluating.classifiers import ClassifierEvaluation, Row, read_networks
from training.trainer.command_errors import one_line_errors
from training.trainer.excluded_images import Exclusion

_SECONDS = (
    "s/picture: crops and networks, without decoding; '-' where other networks ran in the same passes, whose "
    "time cannot be told apart. Alone in a run, each has its own.\n"
)


def main(
    data: Annotated[Path, arg(help="The folder that holds ILSVRC/ in its official layout.")],
    weights: Annotated[
        Sequence[Path],
        UseAppendAction,
        arg(help="Checkpoint, or path:path, which averages several; give it again for more."),
    ] = (),
    split: Annotated[str, arg(help="train or val.")] = "val",
    crops: Annotated[
        Sequence[Literal[1, 10, 144]],
        UseAppendAction,
        arg(help="Views a picture: 1, 10 or 144; give it again for more [1]."),
    ] = (),
    exclude: Annotated[
        Sequence[Path], UseAppendAction, arg(help="List file of pictures to leave out, as in ImageSets.")
    ] = (),
    on_problem: Annotated[OnProblem, arg(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")] = "auto",
    engine: Annotated[Engine, arg(help="What runs the networks.")] = Engine.AUTO,
    precision: Annotated[
        Sequence[str],
        UseAppendAction,
        arg(help="auto, float32, bfloat16, float16 or int8; give it again for more [auto]."),
    ] = (),
    ensemble: Annotated[
        bool, arg(help="All weights averaged: the first alone, the first two, ... up to all, in one run.")
    ] = False,
    every: Annotated[int, at_least(1), arg(help="Measure every Nth picture only.")] = 1,
    json_file: Annotated[Path | None, arg(name="json", help="Write all figures there.")] = None,
) -> None:
    """Print one table of top-1 and top-5 errors: a line for each network or ensemble and number of crops."""
    with one_line_errors():
        networks = read_networks(weights or [SHIPPED], ensemble=ensemble)
        files = [path for some in networks for path in some]
        check_apart([json_file], [*files, *(exclude or [])], data)
        check_not_overwriting(json_file)
        if json_file is not None:
            check_writable(json_file)
        evaluation = ClassifierEvaluation(
            networks, crops or [1], precisions=precision or ["auto"], device=device, engine=engine
        )
        dataset = _read(data, split, exclude or [], on_problem, every)
        if list(evaluation.class_ids) != dataset.class_ids:
            raise ParameterError(
                f"{evaluation.rows[0].name} names other classes than the 1000 of {data}: measured are "
                "classifiers of ILSVRC's"
            )
        for problem in dataset.problems:
            print(problem)
        figures = evaluation.run(dataset.images)
        count, lost = len(dataset.images), left_out(dataset.problems)
        every_nth = f", one of every {every}" if every > 1 else ""
        without = f", {lost} left out for problems in the data" if lost else ""
        # Printed first: where the file cannot be written after all, this is what is left of hours.
        print(f"\n{count} pictures of CLS-LOC/{split}{every_nth}{without}; {_chance(figures[0], count)}\n")
        if any(of_row.seconds is None for of_row in figures):
            print(_SECONDS)
        print(classification_table(figures), flush=True)
        if json_file is not None:
            document = {
                "data": f"CLS-LOC/{split}",
                "pictures": count,
                "left_out": lost,
                "every": every,
                "runs": [_as_json(*of_row) for of_row in zip(evaluation.rows, figures, strict=True)],
            }
            write_whole(json_file, json.dumps(document, indent=1, allow_nan=False).encode())


def _read(
    data: Path, split: str, exclude: Sequence[Path], on_problem: OnProblem, every: int
) -> LabelledDataset:
    """Read every Nth picture that is left. Raises DatasetError if there is none."""
    dataset = read_ilsvrc_cls(data, split, on_problem=on_problem)
    excluded = Exclusion(exclude)
    images = [image for image in dataset.images if Path(image.image_id).name not in excluded]
    for line in excluded.unused():
        print(line)
    dataset = labelled_without_unreadable(replace(dataset, images=images[::every]), on_problem)
    if not dataset.images:
        raise DatasetError(f"{data} has no picture to measure on in {split}")
    return dataset


def _chance(first: ClassificationFigures, count: int) -> str:
    """Say how far chance moves the errors of the first row."""
    errors = (first.top1_error, first.top5_error)
    top1, top5 = (100 * math.sqrt(error * (1 - error) / count) for error in errors)
    return f"standard error in the first line {top1:.1f} and {top5:.1f} points"


def _as_json(row: Row, figures: ClassificationFigures) -> dict[str, Any]:
    return {
        "name": figures.name,
        "weights": [str(path) for path in row.networks],
        "precision": figures.precision,
        "networks": figures.networks,
        "crops": figures.crops,
        "cost": figures.cost,
        "top1_error": figures.top1_error,
        "top5_error": figures.top5_error,
        "top1_accuracy": 1 - figures.top1_error,
        "top5_accuracy": 1 - figures.top5_error,
        "seconds": figures.seconds,
    }


if __name__ == "__main__":
    run_script(main)

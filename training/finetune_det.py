"""A detector of your own: from a folder of labelled pictures to weights that serve, with a report.

    python training/finetune_det.py --data pictures
    python training/finetune_det.py --data VOCdevkit/VOC2007 --train trainval --val test --members 6

ILSVRC, PASCAL VOC (also flat), COCO and YOLO layouts are told apart by looking. Run again after a kill, it
goes on where it was; under torchrun it uses many devices. docs/training.md says more.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

from tqdm import tqdm
from tyro.conf import OmitArgPrefixes, UseAppendAction, arg

from detector.cli.command_line import DefaultFrom, at_least, option_given, run_script
from detector.datasets.open import Format
from detector.datasets.problems import OnProblem, left_out
from detector.io.atomic_write import check_writable
from detector.models.checkpoint import load_checkpoint
from detector.pretrained import SHIPPED
from training.finetune.pipeline import Plan, make_detector
from training.finetune.training_data import ChosenData, choose_data, further_data, further_folder
from training.rcnn.recipe import MINIBATCHES_AN_IMAGE, PRESETS, Recipe, suggested_iterations
from training.rcnn.recipe import preset as named_preset
from training.trainer.command_errors import one_line_errors
from training.trainer.run_folder import check_folder_apart, check_run_folder

_LISTED = 10  # problems of the data that are printed; the report has more, check_data.py all


def _named_recipe(arguments: Sequence[str]) -> Recipe:
    """Choose the recipe that the options change: ``--preset``."""
    return named_preset(option_given(arguments, "--preset") or "default")


def main(
    data: Annotated[Path, arg(help="The folder of the data set.")],
    init: Annotated[
        Path, arg(help="Checkpoint to start from: a detector, or a 1000-class GoogLeNet.")
    ] = SHIPPED,
    output: Annotated[
        Path | None, arg(help="Folder for detector, log, state and report [runs/NAME].")
    ] = None,
    name: Annotated[str | None, arg(help="Name of the detector [that of the data].")] = None,
    format: Annotated[Format | None, arg(help="Layout of the data [found by looking].")] = None,
    train: Annotated[str | None, arg(help="Split to learn from, or a text file that lists pictures.")] = None,
    val: Annotated[str | None, arg(help="Split to measure on, or a text file that lists pictures.")] = None,
    preset: Annotated[str, arg(help="Recipe: default, joint, quick, rcnn or paper.")] = "default",
    iterations: Annotated[
        int | None, arg(help="Minibatches [as many as suit the size of the data, or the preset's].")
    ] = None,
    also: Annotated[
        Sequence[str],
        UseAppendAction,
        arg(
            help="A further data set to learn from: FOLDER, or FOLDER:split=...,weight=...,positives=...,"
            "background=... (a split or list file, how often its pictures come, regions kept of each). Its "
            "classes are found by name; what it does not label is not taken for background."
        ),
    ] = (),
    members: Annotated[
        int, at_least(1), arg(help="Networks to train, of other seeds and samplings, for an ensemble.")
    ] = 1,
    measured_images: Annotated[
        int, at_least(1), arg(help="Of the pictures held out, measure at most so many.")
    ] = Plan.measured_images,
    precision_wanted: Annotated[
        float,
        arg(
            help="The share of what is shown that is to be right where detection is asked for with "
            "score_threshold 'auto': the score of each class that does it is measured and stored."
        ),
    ] = Plan.precision_wanted,
    cache: Annotated[Path | None, arg(help="Folder for proposals and maps [OUTPUT/cache].")] = None,
    cache_gib: Annotated[
        float,
        at_least(0, float),
        arg(help="Keep maps of the frozen stages up to so many GiB; else stream pictures."),
    ] = Plan.cache_gib,
    workers: Annotated[
        int | None, at_least(0), arg(help="Processes that stream pictures [cores to spare].")
    ] = None,
    on_problem: Annotated[OnProblem, arg(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")] = "auto",
    recipe: Annotated[Recipe, OmitArgPrefixes, DefaultFrom(_named_recipe)] = PRESETS["default"],
) -> None:
    """Train a detector of a data set's classes, measure it, and write weights and a report."""
    with one_line_errors():
        start = load_checkpoint(init)
        roots = [data, *(further_folder(text) for text in also or [])]
        read = [init, *(Path(split) for split in (train, val) if split)]
        if output is not None:
            check_run_folder(output, read, roots, members)
        if cache is not None:
            check_folder_apart(cache, roots)
            check_writable(cache / "part")
        chosen = choose_data(data, format=format, train=train, validation=val, on_problem=on_problem)
        if iterations is not None:
            recipe = replace(recipe, iterations=iterations)
        elif preset in MINIBATCHES_AN_IMAGE:
            recipe = _of_suitable_length(recipe, chosen, MINIBATCHES_AN_IMAGE[preset])
        if output is None:
            output = Path("runs") / chosen.name
            check_run_folder(output, read, roots, members)
        plan = Plan(
            data=chosen,
            init=start,
            recipe=recipe,
            output=output,
            cache=cache or output / "cache",
            name=name or chosen.name,
            members=members,
            measured_images=measured_images,
            precision_wanted=precision_wanted,
            device=device,
            cache_gib=cache_gib,
            workers=workers,
            on_problem=on_problem,
            also=[further_data(text, recipe.sampling, on_problem) for text in also or []],
        )
        _describe(chosen, recipe)
        make_detector(plan)


def _of_suitable_length(recipe: Recipe, chosen: ChosenData, an_image: float) -> Recipe:
    iterations = suggested_iterations(chosen.train.records, an_image)
    return replace(recipe, iterations=iterations, warmup=min(recipe.warmup, iterations // 10))


def _describe(chosen: ChosenData, recipe: Recipe) -> None:
    """Say what was found in the data, and what is about to happen."""
    objects = chosen.objects(chosen.train)
    shown = ", ".join(
        f"{name} {count}" for name, count in list(zip(chosen.classes.names, objects, strict=True))[:30]
    )
    problems = [*chosen.train.problems, *chosen.validation.problems]
    lines = [
        f"data      {chosen.root}: {chosen.format}, {len(chosen.classes)} classes ({chosen.how})",
        f"learn     {len(chosen.train.records)} pictures, {sum(objects)} objects: {shown}",
        f"measure   {len(chosen.validation.records)} pictures, "
        f"{sum(chosen.objects(chosen.validation))} objects",
        f"train     {recipe.iterations} iterations",
    ]
    if problems:
        lost = [left_out(part.problems) for part in (chosen.train, chosen.validation)]
        lines.append(f"left out  {lost[0]} pictures to learn from, {lost[1]} to measure on")
        kinds = ", ".join(f"{count} {kind}" for kind, count in Counter(p.kind for p in problems).items())
        lines.append(f"problems  {kinds}")
        lines += [f"          {problem.message}" for problem in problems[:_LISTED]]
        if len(problems) > _LISTED:
            lines.append(f"          and more: detector check {chosen.root} lists all")
    tqdm.write("\n".join(lines))


if __name__ == "__main__":
    run_script(main)

"""A detector of your own: from a folder of labelled pictures to weights that serve, with a report.

    python training/finetune_det.py --data pictures
    python training/finetune_det.py --data VOCdevkit/VOC2007 --train trainval --val test --members 6

ILSVRC, PASCAL VOC (also flat), COCO and YOLO layouts are told apart by looking. Run again after a kill, it
goes on where it was; under torchrun it uses many devices. docs/training.md says more.
"""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from tqdm import tqdm

from detector.cli.options import run_script
from detector.datasets.open import Format
from detector.datasets.problems import OnProblem, left_out
from detector.io.atomic_write import check_writable
from detector.models.checkpoint import load_checkpoint
from detector.pretrained import SHIPPED
from training.finetune.finetune import Plan, make_detector
from training.finetune.training_data import ChosenData, choose_data, further_data, further_folder
from training.rcnn.recipe import Recipe, suggested_iterations
from training.rcnn.recipe import preset as named_preset
from training.trainer.optimization import Averaging, Decay
from training.trainer.run_folder import check_folder_apart, check_run_folder
from training.trainer.script import one_line_errors

_LISTED = 10  # problems of the data that are printed; the report has more, check_data.py all


def main(
    data: Annotated[Path, typer.Option(help="The folder of the data set.")],
    init: Annotated[
        Path, typer.Option(help="Checkpoint to start from: a detector, or a 1000-class GoogLeNet.")
    ] = SHIPPED,
    output: Annotated[
        Path | None, typer.Option(help="Folder for detector, log, state and report [runs/NAME].")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the detector [that of the data].")] = None,
    format: Annotated[Format | None, typer.Option(help="Layout of the data [found by looking].")] = None,
    train: Annotated[
        str | None, typer.Option(help="Split to learn from, or a text file that lists pictures.")
    ] = None,
    val: Annotated[
        str | None, typer.Option(help="Split to measure on, or a text file that lists pictures.")
    ] = None,
    preset: Annotated[str, typer.Option(help="Recipe: default, quick, rcnn or paper.")] = "default",
    iterations: Annotated[
        int | None, typer.Option(help="Minibatches [as many as suit the size of the data, or the preset's].")
    ] = None,
    rate: Annotated[float | None, typer.Option(help="Learning rate of the trunk [the preset's].")] = None,
    head_rate: Annotated[
        float | None, typer.Option(help="Rate of the classifier and the other heads [the preset's].")
    ] = None,
    frozen_through: Annotated[
        str | None,
        typer.Option(help="Last stage that keeps its weights; 'none' trains all [the preset's]."),
    ] = None,
    distillation: Annotated[
        float | None,
        typer.Option(help="How much keeping the init's knowledge of pictures counts [the preset's]."),
    ] = None,
    batch_positives: Annotated[
        int | None, typer.Option(help="Object regions of a minibatch [the preset's].", min=1)
    ] = None,
    batch_background: Annotated[
        int | None, typer.Option(help="Background regions of a minibatch [the preset's].", min=1)
    ] = None,
    decay: Annotated[
        Decay | None, typer.Option(help="How rates fall: cosine, paper (-4 % every 8 epochs) or constant.")
    ] = None,
    stage_decay: Annotated[
        float | None, typer.Option(help="A stage's rate, as a share of that of the stage above it.")
    ] = None,
    averaging: Annotated[
        Averaging | None, typer.Option(help="What the result is: ema, polyak or none (the last weights).")
    ] = None,
    accumulate: Annotated[
        int | None,
        typer.Option(help="Run a minibatch in so many pieces: less memory, the same result.", min=1),
    ] = None,
    distortion: Annotated[
        bool | None,
        typer.Option(help="Change light and colour of the pictures: they are streamed, not cached."),
    ] = None,
    auxiliary: Annotated[
        float | None, typer.Option(help="Weight of the side classifiers, where their stages are trained.")
    ] = None,
    label_smoothing: Annotated[
        float | None, typer.Option(help="Share of what is asked that goes to all classes alike.")
    ] = None,
    balance: Annotated[
        float | None, typer.Option(help="0: all object regions are as likely; 1: all classes are.")
    ] = None,
    mined: Annotated[
        float | None, typer.Option(help="Share of the backgrounds that are the hardest of a larger pool.")
    ] = None,
    kept_positives: Annotated[
        int | None, typer.Option(help="Object regions kept of each picture [the preset's].", min=1)
    ] = None,
    kept_background: Annotated[
        int | None, typer.Option(help="Background regions kept of each picture [the preset's].", min=1)
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            help="A further data set to learn from: FOLDER, or FOLDER:split=...,weight=...,positives=...,"
            "background=... (a split or list file, how often its pictures come, regions kept of each). Its "
            "classes are found by name; what it does not label is not taken for background."
        ),
    ] = None,
    members: Annotated[
        int, typer.Option(help="Networks to train, of other seeds and samplings, for an ensemble.", min=1)
    ] = 1,
    measured_images: Annotated[
        int, typer.Option(help="Of the pictures held out, measure at most so many.", min=1)
    ] = Plan.measured_images,
    cache: Annotated[Path | None, typer.Option(help="Folder for proposals and maps [OUTPUT/cache].")] = None,
    cache_gib: Annotated[
        float,
        typer.Option(help="Keep maps of the frozen stages up to so many GiB; else stream pictures.", min=0),
    ] = Plan.cache_gib,
    workers: Annotated[
        int | None, typer.Option(help="Processes that stream pictures [cores to spare].", min=0)
    ] = None,
    patience: Annotated[
        int | None,
        typer.Option(help="Stop after so many measures without a lower held-out loss; 0 never does."),
    ] = None,
    on_problem: Annotated[OnProblem, typer.Option(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    seed: Annotated[int, typer.Option(help="One seed, one result.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
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
        recipe = _changed(
            named_preset(preset),
            seed=seed,
            rate=rate,
            head_rate=head_rate,
            frozen_through=frozen_through,
            iterations=iterations,
            patience=patience,
            decay=decay,
            stage_decay=stage_decay,
            averaging=averaging,
            accumulate=accumulate,
            color_jitter=distortion,
        )
        recipe = replace(
            recipe,
            batch=_changed(
                recipe.batch,
                positives=batch_positives,
                background=batch_background,
                balance=balance,
                mined=mined,
            ),
            loss=_changed(
                recipe.loss,
                distillation=distillation,
                auxiliary=auxiliary,
                label_smoothing=label_smoothing,
            ),
            sampling=_changed(recipe.sampling, positives=kept_positives, background=kept_background),
        )
        chosen = choose_data(data, format=format, train=train, validation=val, on_problem=on_problem)
        if iterations is None and preset == "default":
            recipe = _of_suitable_length(recipe, chosen)
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
            device=device,
            cache_gib=cache_gib,
            workers=workers,
            on_problem=on_problem,
            also=[further_data(text, recipe.sampling, on_problem) for text in also or []],
        )
        _describe(chosen, recipe)
        make_detector(plan)


def _changed(settings: Any, **given: Any) -> Any:
    """The settings with those that were given."""
    return replace(settings, **{name: value for name, value in given.items() if value is not None})


def _of_suitable_length(recipe: Recipe, chosen: ChosenData) -> Recipe:
    iterations = suggested_iterations(chosen.train.records)
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
            lines.append(f"          and more: python training/check_data.py {chosen.root} lists all")
    tqdm.write("\n".join(lines))


if __name__ == "__main__":
    run_script(main)

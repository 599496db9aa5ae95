"""Measure detectors on any labelled data set: several weights, profiles and scorings in one run.

    python training/evaluate_det.py --data ilsvrc --weights bvlc.safetensors --weights detector.safetensors
    python training/evaluate_det.py --data ilsvrc --profile fast --profile balanced --profile paper --every 4
    python training/evaluate_det.py --data VOCdevkit/VOC2007 --split test --weights mine.safetensors
    python training/evaluate_det.py --data ilsvrc --scoring plain:box_regression=false --scoring own:
    python training/evaluate_det.py --data ilsvrc --ensemble --weights a.safetensors --weights b.safetensors
    python training/evaluate_det.py --data ilsvrc --results theirs.txt

Says mAP by the rule of the data set's benchmark, COCO's measures, and where mAP is lost. A checkpoint that
only classifies is folded onto the 200 classes: what it finds without any training. Weights of other classes
than the data's are measured on those that they know, by id, name or alias.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

from tyro.conf import UseAppendAction, arg

from detector.cli.command_line import at_least, run_script
from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image
from detector.datasets.open import Format
from detector.datasets.problems import OnProblem, left_out
from detector.errors import ParameterError
from detector.evaluation.class_match import ClassMatch, match_classes
from detector.evaluation.tables import thresholds_table
from detector.evaluation.thresholds import PRECISION, measure_thresholds, threshold_figures
from detector.inference.thresholds import check_precision
from detector.io.atomic_write import check_writable, write_whole
from detector.io.output_paths import check_apart, check_not_overwriting
from detector.models.checkpoint import add_metrics
from detector.models.weights import change_metadata, read_metadata
from detector.options import MIN_TILE, Engine, Precision, Profile
from detector.pretrained import SHIPPED
from detector.structures.detections import Detections
from training.evaluating.configurations import System, make_systems
from training.evaluating.data import MeasuredData, open_measured, results_kind
from training.evaluating.figures import RuleName, RunFigures, all_runs_table, measure, run_text, usual_rules
from training.evaluating.run import ProfileRun, run_candidates, with_costs
from training.trainer.command_errors import one_line_errors
from training.trainer.run_folder import check_folder_apart

_SECONDS_OF_A_PART = (
    "s/picture of the first members: regions at the time of all members, times how long so many take of it, "
    "measured once before the run; all propose as the whole ensemble does.\n"
)


def main(
    data: Annotated[Path, arg(help="The folder of the data set.")],
    weights: Annotated[Sequence[Path], UseAppendAction, arg(help="Checkpoint; give it again for more.")] = (),
    profile: Annotated[
        Sequence[Profile],
        UseAppendAction,
        arg(
            help="Where to look; give it again for more. If not given, balanced for weights with a MultiBox "
            "head, else search. With several, regions that they share are scored once, and the seconds of "
            "each are those of its proposals plus so many regions at the measured seconds a region."
        ),
    ] = (),
    split: Annotated[
        str | None, arg(help="A split of the data, or a list file [val, else test, else all].")
    ] = None,
    max_proposals: Annotated[
        int | None, at_least(1), arg(help="Regions a picture; if not given, each profile's own number.")
    ] = None,
    tile: Annotated[
        int | None,
        at_least(MIN_TILE),
        arg(help="Look at larger pictures also in overlapping squares of so many pixels a side."),
    ] = None,
    blacklist: Annotated[Path | None, arg(help="ILSVRC's official blacklist of the split.")] = None,
    on_problem: Annotated[OnProblem, arg(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")] = "auto",
    engine: Annotated[Engine, arg(help="What runs the network.")] = Engine.AUTO,
    precision: Annotated[Precision, arg(help="What it computes in.")] = Precision.AUTO,
    record: Annotated[bool, arg(help="Write each detector's mAP into its checkpoint's metadata.")] = False,
    thresholds_to: Annotated[
        Path | None,
        arg(
            help="Write the weights there (.safetensors) with the thresholds that score_threshold 'auto' "
            "takes: the lowest score of each class from which on --precision-wanted of it is right."
        ),
    ] = None,
    precision_wanted: Annotated[
        float, arg(help="The share of what is shown that is to be right, for --thresholds-to.")
    ] = PRECISION,
    every: Annotated[int, at_least(1), arg(help="Measure every Nth picture only.")] = 1,
    format: Annotated[Format | None, arg(help="The data's layout, if looking cannot tell.")] = None,
    rule: Annotated[
        Sequence[RuleName],
        UseAppendAction,
        arg(help="By what rule; give it again for more. If not given, that of the data, and COCO's."),
    ] = (),
    scoring: Annotated[
        Sequence[str],
        UseAppendAction,
        arg(
            help="How detections are made: NAME:key=value,key=value changes the weights' own scoring "
            "(box_regression, fit_power, context_power, flip, nms_iou, vote_iou, ...), NAME: leaves "
            "it. Give it again for more in the same run: regions are looked at once for all."
        ),
    ] = (),
    ensemble: Annotated[
        bool,
        arg(
            help="All weights as one detector: the first alone, the first two, ... up to all, in one run. "
            "Each network sees a region once, and what networks have in common runs once for all."
        ),
    ] = False,
    results: Annotated[
        Sequence[Path],
        UseAppendAction,
        arg(
            help="Detections in a file (.txt: ILSVRC's form, .json: COCO's), run by no weights. Annotations "
            "are enough: no picture's file is needed where its annotation states its size."
        ),
    ] = (),
    save_results: Annotated[
        Path | None, arg(help="Write the detections there (.txt: ILSVRC's form, .json: COCO's).")
    ] = None,
    json_file: Annotated[Path | None, arg(name="json", help="Write all figures there.")] = None,
    cache: Annotated[
        Path | None, arg(help="Keep the detections of each picture there: a run that is killed goes on.")
    ] = None,
) -> None:
    """Print AP of every class, where mAP is lost, and one line a detector, profile and scoring."""
    with one_line_errors():
        _check_options(results, weights, record, ensemble, scoring)
        check_precision(precision_wanted)
        read = [*(results or []), *(weights or [SHIPPED]), blacklist, Path(split) if split else None]
        check_apart([save_results, json_file, thresholds_to], read, data)
        check_not_overwriting(json_file)
        if cache is not None:
            check_folder_apart(cache, [data])
        _check_files(weights or [], save_results, json_file, cache, record)
        if thresholds_to is not None:
            check_writable(thresholds_to)
            _check_measures_thresholds(weights or [SHIPPED], profile, results, ensemble, scoring)
        measured = open_measured(
            data,
            format=format,
            split=split,
            on_problem=on_problem,
            every=every,
            images_needed=not results,
        )
        if not results:
            measured = measured.without_unreadable(on_problem)
        for problem in measured.problems:
            print(problem)
        banned = measured.blacklist(blacklist) if blacklist else frozenset()
        rules = list(dict.fromkeys(rule or usual_rules(measured.folder.format)))
        if thresholds_to is not None and set(rules) == {RuleName.COCO}:
            raise ParameterError(
                "--thresholds-to goes by a rule that says what is right: ilsvrc, voc07 or voc"
            )

        figures = []
        detections: dict[str, Detections] = {}
        for path in results or []:
            detections, left_aside = measured.read_results(path)
            if left_aside:
                print(left_aside)
            figures.append(
                measure(path.name, measured.records, detections, len(measured.classes), rules, banned)
            )
        systems = []
        if not results:
            systems = make_systems(
                weights or [SHIPPED],
                ensemble=ensemble,
                scorings=scoring or [],
                device=device,
                engine=engine,
                precision=precision,
            )
        if save_results is not None:
            results_kind(save_results)
            _check_one_run(systems, profile, len(results or []))
        matches = [match_classes(system.whole.classes, measured.classes) for system in systems]
        for system, match in zip(systems, matches, strict=True):
            _warm_up(system, system.profiles(profile), measured.records)
            _say_unknown(system, match)
        for system, match in zip(systems, matches, strict=True):
            cache_of = system.cache_of(cache, max_proposals, tile) if cache is not None else None
            runs = run_candidates(
                with_costs(system.candidates, load_image(measured.records[0])),
                system.profiles(profile),
                measured.records,
                max_proposals,
                cache_of,
                tile,
            )
            judged = []
            for run in runs:
                detections = {image_id: match.detections(found) for image_id, found in run.detections.items()}
                judgement = _judge(run, match, detections, measured, rules, banned)
                judged.append(replace(judgement, settings=_settings(system, run)))
            if record:
                _record(system, runs, judged, measured, rules)
            figures += judged
        # Printed first: where a file cannot be written after all, this is what is left of hours.
        for of_run in figures:
            print(f"\n{run_text(of_run, measured.classes)}")
        print(f"\n{len(measured.records)} pictures of {measured.name}{_without(measured)}\n")
        if any(len(system.titles) > 1 for system in systems):
            print(_SECONDS_OF_A_PART)
        print(all_runs_table(figures, rules), flush=True)
        if json_file is not None:
            _write_figures(json_file, figures, measured)
        if thresholds_to is not None:
            _write_thresholds(systems[0], matches[0], figures[0], measured, precision_wanted, thresholds_to)
        if save_results is not None:
            measured.write_results(save_results, detections)  # of the only run, or of all members


def _check_options(
    results: Sequence[Path] | None,
    weights: Sequence[Path] | None,
    record: bool,
    ensemble: bool,
    scoring: Sequence[str] | None,
) -> None:
    if results and (weights or scoring or ensemble or record):
        raise ParameterError(
            "--results measures a file: leave out --weights, --scoring, --ensemble, --record"
        )
    if record and (ensemble or scoring):
        raise ParameterError("--record notes the figure of one checkpoint as it is: no --ensemble, --scoring")


def _check_measures_thresholds(
    weights: Sequence[Path],
    profile: Sequence[Profile],
    results: Sequence[Path],
    ensemble: bool,
    scoring: Sequence[str],
) -> None:
    """Raises ParameterError for what is not one network as it is, and CheckpointError for one that does not
    detect."""
    if results or ensemble or scoring or len(weights) > 1 or len(profile or []) > 1:
        raise ParameterError(
            "--thresholds-to is about one network as it is: one --weights, one --profile at most, no "
            "--ensemble, --scoring, --results"
        )
    if read_metadata(weights[0]).detection is None:
        raise ParameterError(
            f"{weights[0]} only classifies: make a detector of it first, with `detector train --init`"
        )


def _check_files(
    weights: Sequence[Path],
    save_results: Path | None,
    json_file: Path | None,
    cache: Path | None,
    record: bool,
) -> None:
    """Raises CheckpointError or WriteError for files that would stop the run later, perhaps after hours."""
    for path in weights:
        read_metadata(path)
    outputs = [save_results, json_file, *(weights if record else [])]
    for output in (*outputs, cache / "any" / "file" if cache is not None else None):
        if output is not None:
            check_writable(output)


def _warm_up(system: System, profiles: Sequence[Profile], records: Sequence[AnnotatedImage]) -> None:
    """Propose once by all profiles before any time is taken: what is to be compiled is, and weights that
    cannot serve a profile say so at once."""
    image = load_image(records[0])
    for profile in profiles:
        system.whole.propose(image, profile)


def _say_unknown(system: System, match: ClassMatch) -> None:
    if match.unknown_names:
        print(f"{system.whole.name} does not know, and is not measured on: {', '.join(match.unknown_names)}")


def _judge(
    run: ProfileRun,
    match: ClassMatch,
    detections: dict[str, Detections],
    measured: MeasuredData,
    rules: Sequence[RuleName],
    banned: frozenset[tuple[str, int]],
) -> RunFigures:
    return measure(
        run.name,
        [match.record(record) for record in run.records],
        detections,
        len(measured.classes),
        rules,
        banned,
        run.proposals,
        (run.seconds, run.proposal_seconds),
    )


def _settings(system: System, run: ProfileRun) -> dict[str, Any]:
    return {
        "weights": [str(path) for path in system.paths[: len(run.detector.members)]],
        "profile": str(run.profile),
        "scoring": asdict(run.detector.scoring),
    }


def _record(
    system: System,
    runs: Sequence[ProfileRun],
    figures: Sequence[RunFigures],
    measured: MeasuredData,
    rules: Sequence[RuleName],
) -> None:
    """Note the mAP by each rule but COCO's in the checkpoint."""
    for rule in rules:
        if rule is not RuleName.COCO:
            suffix = "" if rule is RuleName.ILSVRC else f" ({rule})"
            on = f"{len(measured.records)} pictures{_without(measured)}"
            for run, of_run in zip(runs, figures, strict=True):
                name = f"{measured.name} mAP{suffix}, {run.profile}, {run.boxes:.0f} proposals, {on}"
                add_metrics(system.paths[0], {name: of_run.evaluations[rule].mean_ap})


def _write_thresholds(
    system: System,
    match: ClassMatch,
    figures: RunFigures,
    measured: MeasuredData,
    precision: float,
    target: Path,
) -> None:
    """Write the weights with the thresholds that a run's figures give, by the first of its rules but COCO's.

    Raises ParameterError where no score reaches the precision.
    """
    rule, evaluation = next(iter(figures.evaluations.items()))
    pictures = f"{len(measured.records)} pictures{_without(measured)}"
    on = f"{measured.name}, {rule} rule, {figures.settings['profile']}, {pictures}"
    thresholds = measure_thresholds(evaluation, precision, on)
    if not thresholds.reached:
        raise ParameterError(
            f"no score of {system.title} reaches a precision of {precision} on these pictures: want less "
            "with --precision-wanted, or measure on more pictures"
        )
    change_metadata(system.paths[0], target, thresholds=match.thresholds(thresholds))
    print(f"\n{thresholds_table(threshold_figures(evaluation, thresholds), thresholds, measured.classes)}")
    print(f"\n{target}: thresholds for {100 * precision:.0f} % right")


def _without(measured: MeasuredData) -> str:
    """Return what belongs beside the number of pictures where some of them could not be used."""
    lost = left_out(measured.problems)
    return f", {lost} left out for problems in the data" if lost else ""


def _check_one_run(systems: Sequence[System], profile: Sequence[Profile] | None, files: int) -> None:
    """Raise ParameterError where what is to be saved is of several runs, before hours are spent on them."""
    runs = files + sum(
        len(system.candidates) // len(system.titles) * len(system.profiles(profile)) for system in systems
    )
    if runs != 1:
        raise ParameterError(
            f"--save-results writes the detections of one run, and there are {runs}: "
            "give one weights file (or --ensemble), one profile and one scoring"
        )


def _write_figures(path: Path, figures: Sequence[RunFigures], measured: MeasuredData) -> None:
    document = {
        "data": measured.name,
        "pictures": len(measured.records),
        "left_out": left_out(measured.problems),
        "runs": [of_run.as_json(measured.classes) for of_run in figures],
    }
    write_whole(path, json.dumps(document, indent=1, allow_nan=False).encode())


if __name__ == "__main__":
    run_script(main)

"""Measure proposal methods side by side: what they cover, with how many boxes, in how long.

    python training/evaluate_proposals.py --data ilsvrc
    python training/evaluate_proposals.py --data VOCdevkit/VOC2007 --split test --every 10

Prints tables, and writes all figures as proposals.json and a chart of them as proposals.png. Selective search
by itself looks at pictures as they are, a detector's profiles at the size that its network is used to: on
larger pictures the two differ by that too.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from tyro.conf import UseAppendAction, arg

from detector.cli.command_line import at_least, run_script
from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.open import Format
from detector.datasets.problems import OnProblem, left_out
from detector.evaluation.proposal_methods import (
    UNIONS,
    Method,
    MethodRun,
    chosen,
    detector_methods,
    run_methods,
    search_methods,
)
from detector.evaluation.proposal_recall import MethodFigures, figures, found_by, truncate_to_counts_of
from detector.evaluation.tables import comparison_table, coverage_table, precision_table, source_table
from detector.inference.loading import load_detector
from detector.io.atomic_write import check_writable, write_whole
from detector.io.output_paths import check_apart
from detector.pretrained import SHIPPED
from training.evaluating.data import open_measured
from training.evaluating.proposal_plot import curve_budgets, proposal_plot
from training.trainer.command_errors import one_line_errors
from training.trainer.run_folder import check_folder_apart

PLAIN = "search-fast"
FIGURES, CHART = "proposals.json", "proposals.png"


def main(
    data: Annotated[Path, arg(help="The folder of the data set.")],
    split: Annotated[
        str | None, arg(help="A split of the data, or a list file [val, else test, else all].")
    ] = None,
    weights: Annotated[
        Path | None, arg(help="Checkpoint whose MultiBox head to measure; the shipped one if not given.")
    ] = None,
    method: Annotated[
        Sequence[str],
        UseAppendAction,
        arg(
            help=f"Give it again for more: {', '.join(search_methods())}; and with a MultiBox head multibox, "
            "profile-fast, profile-balanced, profile-paper. If not given, search-fast, search-fast-2x and "
            "all that the weights hold."
        ),
    ] = (),
    every: Annotated[int, at_least(1), arg(help="Measure every Nth picture only.")] = 1,
    out: Annotated[Path, arg(help="Folder for proposals.json and proposals.png.")] = Path("runs/proposals"),
    on_problem: Annotated[OnProblem, arg(help="At a broken picture: stop, or report and go on.")] = (
        OnProblem.REPORT
    ),
    device: Annotated[str, arg(help="auto, cpu, cuda or cuda:N.")] = "auto",
    format: Annotated[Format | None, arg(help="The data's layout [found by looking].")] = None,
) -> None:
    """Print what each method covers at several budgets of boxes, and what a union gains."""
    with one_line_errors():
        read = [weights or SHIPPED, Path(split) if split else None]
        check_apart([out / FIGURES, out / CHART], read)
        for name in (FIGURES, CHART):
            check_writable(out / name)
        methods = _methods(method, weights, device)
        measured = open_measured(data, format=format, split=split, on_problem=on_problem, every=every)
        check_folder_apart(out, [data])
        measured = measured.without_unreadable(on_problem)
        for problem in measured.problems:
            print(problem)
        records = measured.records
        if not any(len(record.boxes) for record in records):
            raise SystemExit(f"error: {data} holds no object to measure on")
        runs = run_methods(methods, records)
        _report(runs, records, left_out(measured.problems), out)


def _methods(names: Sequence[str] | None, weights: Path | None, device: str) -> list[Method]:
    """Return those of these names, or by default all that the weights hold and what they are compared
    with."""
    methods = search_methods()
    if not names or not set(names) <= methods.keys():
        of_weights = detector_methods(load_detector(weights, device=device))
        names = names or [PLAIN, f"{PLAIN}-2x", *of_weights]
        methods |= of_weights
    return chosen(names, methods)


def _report(runs: Sequence[MethodRun], records: Sequence[AnnotatedImage], lost: int, out: Path) -> None:
    measured = [figures(run, records) for run in runs]
    truth = [record.boxes for record in records]
    by_name = {run.name: run for run in runs}
    unions = {name: by_name[name] for name in UNIONS if name in by_name}
    sources = {name: found_by(truth, run.proposals) for name, run in unions.items()}
    compared = _compared(by_name, unions, records)

    title = f"{len(records)} pictures, {measured[0].objects} objects"
    if lost:
        title += f", {lost} pictures left out for problems in the data"
    print(f"\n{title}\n\n{coverage_table(measured)}\n\n{precision_table(measured)}")
    if sources:
        print(f"\n{source_table(sources)}")
    if compared:
        print(f"\n{comparison_table(compared)}")

    most = max(len(found) for run in runs for found in run.proposals)
    curves = [figures(run, records, curve_budgets(most)) for run in runs]
    content = {
        "pictures": len(records),
        "left_out": lost,
        "objects": measured[0].objects,
        "methods": [of_method.as_dict() for of_method in measured],
        "found_by": {name: vars(by) for name, by in sources.items()},
        "compared": [of_method.as_dict() for of_method in compared],
        "curves": [of_method.as_dict() for of_method in curves],
    }
    write_whole(out / FIGURES, json.dumps(content, indent=1).encode())
    write_whole(out / CHART, proposal_plot(curves, f"Proposals on {title}"))
    print(f"\n{out / FIGURES}, {out / CHART}")


def _compared(
    by_name: dict[str, MethodRun], unions: dict[str, MethodRun], records: Sequence[AnnotatedImage]
) -> list[MethodFigures]:
    """Return each union beside all boxes of plain selective search, and beside as many of its best."""
    plain = by_name.get(PLAIN)
    if plain is None or not unions:
        return []
    compared = [plain]
    for name, run in unions.items():
        compared += [run, truncate_to_counts_of(plain, run, f"{PLAIN}, as many as {name}")]
    return [figures(run, records) for run in compared]


if __name__ == "__main__":
    run_script(main)

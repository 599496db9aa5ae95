"""The figures of an evaluation as text: a part for each run, and one table of all."""

from collections.abc import Sequence
from math import isnan

from detector.evaluation.coco import CocoFigures
from detector.evaluation.det_table import det_summary, det_table
from detector.evaluation.error_table import error_table
from detector.evaluation.text_table import aligned
from detector.structures.classes import ClassList
from training.evaluating.figures import RuleName, RunFigures

_COCO = {
    "ap": "AP",
    "ap50": "AP50",
    "ap75": "AP75",
    "ap_small": "APs",
    "ap_medium": "APm",
    "ap_large": "APl",
    "ar1": "AR1",
    "ar10": "AR10",
    "ar100": "AR100",
}


def run_text(figures: RunFigures, classes: ClassList) -> str:
    """AP of every class by the first rule, the summary of each, and where mAP is lost."""
    parts = [figures.name]
    if figures.evaluations:
        parts.append(det_table(next(iter(figures.evaluations.values())), classes))
    lines = [f"{rule}: {det_summary(evaluation)}" for rule, evaluation in figures.evaluations.items()]
    if figures.coco is not None:
        lines.append(f"{RuleName.COCO}: {coco_line(figures.coco)}")
    return "\n\n".join([*parts, "\n".join(lines), error_table(figures.errors)])


def coco_line(coco: CocoFigures) -> str:
    """The nine figures in percent."""
    return ", ".join(f"{name} {_percent(getattr(coco, field))}" for field, name in _COCO.items())


def _percent(share: float) -> str:
    return "-" if isnan(share) else f"{100 * share:.1f}"


def all_runs_table(runs: Sequence[RunFigures], rules: Sequence[RuleName]) -> str:
    """One line a run: mAP by each rule, boxes a picture and what they cover, median seconds of a picture."""
    titles = {rule: "COCO AP %" if rule is RuleName.COCO else f"{rule} mAP %" for rule in rules}
    if len(rules) == 1:
        titles = {rule: title.removeprefix(f"{rule} ") for rule, title in titles.items()}
    header = ["", *titles.values(), "boxes", "recall@0.5", "recall@0.7", "s/picture", "proposals"]
    rows = [header]
    for run in runs:
        cells = [f"{100 * run.mean_ap(rule):.2f}" for rule in rules]
        speed = ["-"] * 5
        if run.speed is not None:
            speed = [
                f"{run.speed.proposals:.0f}",
                f"{100 * run.speed.recall05:.1f}",
                f"{100 * run.speed.recall07:.1f}",
                f"{run.speed.seconds:.3f}",
                f"{run.speed.proposal_seconds:.3f}",
            ]
        rows.append([run.name, *cells, *speed])
    return aligned(rows)

"""The figures of one run of a detector over a set, by every rule that was asked for: as JSON and as text, a
part for each run and one table of all.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import isnan
from typing import Any

import numpy as np

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.open import Format
from detector.evaluation.coco import CocoFigures, evaluate_coco
from detector.evaluation.det_evaluation import DetEvaluation, evaluate
from detector.evaluation.error_analysis import ErrorBreakdown, break_down
from detector.evaluation.ilsvrc import ILSVRC
from detector.evaluation.matching import Rule
from detector.evaluation.measured_table import aligned
from detector.evaluation.proposal_recall import ALL, proposal_recall
from detector.evaluation.tables import det_summary, det_table, error_table
from detector.evaluation.voc import VOC, VOC_2007
from detector.structures.boxes import Boxes
from detector.structures.classes import ClassList
from detector.structures.detections import Detections


class RuleName(StrEnum):
    """The rules that an evaluation can go by."""

    ILSVRC = "ilsvrc"
    VOC07 = "voc07"
    VOC = "voc"
    COCO = "coco"


_RULES: dict[RuleName, Rule] = {
    RuleName.ILSVRC: ILSVRC,
    RuleName.VOC07: VOC_2007,
    RuleName.VOC: VOC,
}


def usual_rules(format: Format) -> list[RuleName]:
    """Return the rules of a data set's own benchmark first, and COCO's."""
    if format is Format.ILSVRC:
        return [RuleName.ILSVRC, RuleName.COCO]
    if format is Format.VOC:
        return [RuleName.VOC07, RuleName.VOC, RuleName.COCO]
    return [RuleName.VOC, RuleName.COCO]


@dataclass(frozen=True)
class Speed:
    """proposals: the mean number a picture; recall05, recall07: the share of objects that they cover at an
    IoU of 0.5 and 0.7; median seconds a picture, in all and for proposals."""

    proposals: float
    recall05: float
    recall07: float
    seconds: float
    proposal_seconds: float


@dataclass(frozen=True)
class RunFigures:
    """One run's figures. ``evaluations`` are by the rules other than COCO's, ``errors`` by the first of them
    (by VOC's where COCO's is the only one); ``speed`` is None where detections came out of a file.
    ``settings`` says for programs what was run."""

    name: str
    evaluations: Mapping[RuleName, DetEvaluation]
    coco: CocoFigures | None
    errors: ErrorBreakdown
    speed: Speed | None
    settings: Mapping[str, Any] = field(default_factory=dict)

    def mean_ap(self, rule: RuleName) -> float:
        """Return the figure that a rule sums up in, 0..1."""
        if rule is RuleName.COCO:
            return self.coco.ap if self.coco is not None else float("nan")
        return self.evaluations[rule].mean_ap

    def as_json(self, classes: ClassList) -> dict[str, Any]:
        """Return all figures, NaN as null."""
        figures = {
            "name": self.name,
            "settings": dict(self.settings),
            "rules": {
                rule: {"mean_ap": evaluation.mean_ap, "classes": _by_class(evaluation, classes)}
                for rule, evaluation in self.evaluations.items()
            },
            "coco": vars(self.coco) if self.coco is not None else None,
            "errors": {
                "gains": {kind.name.lower(): gain for kind, gain in self.errors.gains.items()},
                "counts": {kind.name.lower(): count for kind, count in self.errors.counts.items()},
                "no_false_positives": self.errors.no_false_positives,
                "no_misses": self.errors.no_misses,
                "objects": self.errors.objects,
                "uncovered": self.errors.uncovered,
            },
            "sizes": [vars(size) for size in self.errors.sizes],
            "speed": vars(self.speed) if self.speed is not None else None,
        }
        return _without_nan(figures)


def measure(
    name: str,
    records: Sequence[AnnotatedImage],
    detections: Mapping[str, Detections],
    num_classes: int,
    rules: Sequence[RuleName],
    blacklist: Collection[tuple[str, int]] = frozenset(),
    proposals: Sequence[Boxes] | None = None,
    speed: tuple[Sequence[float], Sequence[float]] | None = None,
) -> RunFigures:
    """Judge detections by every rule.

    ``proposals`` are those of each record, ``speed`` the seconds of each, in all and for proposals.
    """
    own: list[RuleName] = [rule for rule in rules if rule is not RuleName.COCO]
    evaluations: dict[RuleName, DetEvaluation] = {
        rule: evaluate(records, detections, num_classes, _RULES[rule], blacklist) for rule in own
    }
    coco = None
    if RuleName.COCO in rules:
        coco = evaluate_coco(records, detections, num_classes, blacklist)
    looked_at = None
    if proposals is not None:
        looked_at = {record.image_id: boxes for record, boxes in zip(records, proposals, strict=True)}
    errors = break_down(
        records, detections, num_classes, _RULES[own[0] if own else RuleName.VOC], blacklist, looked_at
    )
    return RunFigures(name, evaluations, coco, errors, _speed(records, proposals, speed))


def _speed(
    records: Sequence[AnnotatedImage],
    proposals: Sequence[Boxes] | None,
    speed: tuple[Sequence[float], Sequence[float]] | None,
) -> Speed | None:
    if proposals is None or speed is None:
        return None
    covered = proposal_recall([record.boxes for record in records], proposals, budgets=[ALL])
    return Speed(
        proposals=float(covered.proposals[0]),
        recall05=float(covered.recall_at(0.5)[0]),
        recall07=float(covered.recall_at(0.7)[0]),
        seconds=float(np.median(speed[0])),
        proposal_seconds=float(np.median(speed[1])),
    )


def _by_class(evaluation: DetEvaluation, classes: ClassList) -> list[dict[str, Any]]:
    return [
        {
            "id": classes.ids[label],
            "name": classes.names[label],
            "ap": float(evaluation.ap[label]),
            "recall": float(evaluation.recall[label]),
            "objects": int(evaluation.ground_truths[label]),
            "detections": int(evaluation.detections[label]),
        }
        for label in np.flatnonzero(evaluation.measured)
    ]


def _without_nan(value: Any) -> Any:
    """Return a value with None for NaN, which JSON does not know."""
    if isinstance(value, dict):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and math.isnan(value) else value


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
    """Write the AP of every class by the first rule, the summary of each, and where mAP is lost."""
    parts = [figures.name]
    if figures.evaluations:
        parts.append(det_table(next(iter(figures.evaluations.values())), classes))
    lines = [f"{rule}: {det_summary(evaluation)}" for rule, evaluation in figures.evaluations.items()]
    if figures.coco is not None:
        lines.append(f"{RuleName.COCO}: {coco_line(figures.coco)}")
    return "\n\n".join([*parts, "\n".join(lines), error_table(figures.errors)])


def coco_line(coco: CocoFigures) -> str:
    """Return the nine figures in percent."""
    return ", ".join(f"{name} {_percent(getattr(coco, field))}" for field, name in _COCO.items())


def _percent(share: float) -> str:
    return "-" if isnan(share) else f"{100 * share:.1f}"


def all_runs_table(runs: Sequence[RunFigures], rules: Sequence[RuleName]) -> str:
    """Return one line a run: mAP by each rule, boxes a picture and what they cover, median seconds of a
    picture."""
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

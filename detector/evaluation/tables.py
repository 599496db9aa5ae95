"""Tables in plain text: of a detection evaluation, of its errors, of classifiers, and of proposal methods."""

from collections.abc import Iterable, Mapping, Sequence
from math import isnan

import numpy as np
from numpy import nan_to_num

from detector.evaluation.classification import ClassificationFigures
from detector.evaluation.det_evaluation import DetEvaluation
from detector.evaluation.error_analysis import ErrorBreakdown, ErrorKind
from detector.evaluation.measured_table import aligned
from detector.evaluation.proposal_recall import ALL, FoundBy, MethodFigures
from detector.evaluation.sizes import SIZES
from detector.evaluation.thresholds import ThresholdFigures
from detector.inference.thresholds import Thresholds
from detector.options import SCORE_THRESHOLD
from detector.structures.classes import ClassList

MEANING = {
    ErrorKind.CONFUSION: "of another class, in the right place",
    ErrorKind.LOCALISATION: "beside an object of its class",
    ErrorKind.BOTH: "beside an object of another class",
    ErrorKind.DUPLICATE: "of an object found already",
    ErrorKind.BACKGROUND: "where no object is",
    ErrorKind.MISSED: "objects with no detection near",
}


def error_table(errors: ErrorBreakdown) -> str:
    """Return one line a kind of error and the mAP that mending it would gain, the sizes, the proposals'
    share."""
    lost = [["where mAP is lost", "mAP gained", "how many", ""]]
    for kind in sorted(errors.gains, key=lambda kind: -nan_to_num(errors.gains[kind])):
        lost.append(
            [
                kind.name.lower(),
                _percent(errors.gains[kind], "+.2f"),
                f"{errors.counts[kind]}",
                MEANING[kind],
            ]
        )
    lost.append(["all wrong detections", _percent(errors.no_false_positives, "+.2f"), "", ""])
    lost.append(["all objects not found", _percent(errors.no_misses, "+.2f"), "", ""])

    sizes = [["objects", "of the picture", "how many", "recall %", "mAP %"]]
    for size in errors.sizes:
        low, high = SIZES[size.name]
        sizes.append(
            [
                size.name,
                f"{100 * low:.0f} to {100 * high:.0f} %",
                f"{size.objects}",
                _percent(size.recall, ".1f"),
                _percent(size.mean_ap, ".2f"),
            ]
        )
    parts = [_with_words_to_the_left(lost), aligned(sizes)]
    if errors.uncovered is not None and errors.objects:
        parts.append(
            f"{errors.uncovered} of {errors.objects} objects "
            f"({100 * errors.uncovered / errors.objects:.1f} %) are covered by no proposal"
        )
    return "\n\n".join(parts)


def _percent(share: float, form: str) -> str:
    return "-" if isnan(share) else f"{100 * share:{form}}"


def _with_words_to_the_left(rows: list[list[str]]) -> str:
    """Return rows whose last cell explains the others."""
    lines = aligned([row[:-1] for row in rows]).splitlines()
    return "\n".join(f"{line}  {row[-1]}".rstrip() for line, row in zip(lines, rows, strict=True))


def det_table(evaluation: DetEvaluation, classes: ClassList) -> str:
    """Return one line a measured class, best AP first: AP and recall in percent, objects, detections."""
    names = [classes.names[label] for label in np.flatnonzero(evaluation.measured)]
    width = max(map(len, names), default=5)
    lines = [f"{'class':{width}}  {'AP %':>6}  {'recall %':>8}  {'objects':>7}  {'detections':>10}"]
    for label in np.argsort(-evaluation.ap, kind="stable"):
        if evaluation.measured[label]:
            lines.append(
                f"{classes.names[label]:{width}}  {100 * evaluation.ap[label]:6.2f}  "
                f"{100 * evaluation.recall[label]:8.2f}  {evaluation.ground_truths[label]:7d}  "
                f"{evaluation.detections[label]:10d}"
            )
    return "\n".join(lines)


def thresholds_table(figures: Sequence[ThresholdFigures], thresholds: Thresholds, classes: ClassList) -> str:
    """Return one line a class that the set holds or that was detected: its threshold, and what it shows of
    the set; then one of all classes together."""
    rows = [["class", "threshold", "shown", "right", "right %", "objects", "found %"]]
    for name, measured in zip(classes.names, figures, strict=True):
        if measured.objects or measured.shown:
            rows.append([name, *_threshold_cells(measured)])
    shown, right, objects = (
        sum(getattr(measured, what) for measured in figures) for what in ("shown", "right", "objects")
    )
    every = ThresholdFigures(thresholds.common, shown, right, objects)
    return aligned([*rows, ["all, each by its own; in common", *_threshold_cells(every)]])


def _threshold_cells(measured: ThresholdFigures) -> list[str]:
    return [
        "-" if measured.threshold is None else f"{measured.threshold:.3f}",
        f"{measured.shown}",
        f"{measured.right}",
        f"{100 * measured.right / measured.shown:.0f}" if measured.shown else "-",
        f"{measured.objects}",
        f"{100 * measured.right / measured.objects:.0f}" if measured.objects else "-",
    ]


def det_summary(evaluation: DetEvaluation) -> str:
    """Return the line that matters: mean AP, over how many classes, and on how many objects it was
    measured."""
    measured = int(evaluation.measured.sum())
    if not measured:
        return "mAP not measured: the set holds no object of any class"
    median = np.median(evaluation.ap[evaluation.measured])
    shown, recall = evaluation.at_score(SCORE_THRESHOLD)
    precision = "none" if np.isnan(shown) else f"{100 * shown:.1f} %"
    return (
        f"mAP {100 * evaluation.mean_ap:.2f} % over the {measured} of {len(evaluation.ap)} classes "
        f"that the set holds objects of, median AP {100 * median:.2f} %; "
        f"{evaluation.ground_truths.sum()} objects, {evaluation.detections.sum()} detections; "
        f"from score {SCORE_THRESHOLD} on {precision} of what is shown is right, and "
        f"{100 * recall:.1f} % found"
    )


def classification_table(figures: Sequence[ClassificationFigures]) -> str:
    """Return one line a classifier, one at least: what it costs, its errors and accuracy in percent.

    ``to the first`` is the difference of the top-5 error, in points, to that of the first line. The precision
    is named where there are several.
    """
    several = len({row.precision for row in figures}) > 1
    head = ["classifier", *(["precision"] if several else []), "networks", "crops", "cost"]
    head += ["top-1 error %", "top-5 error %", "to the first", "top-1 %", "top-5 %", "s/picture"]
    rows = [head]
    for row in figures:
        errors = (row.top1_error, row.top5_error)
        rows.append(
            [
                row.name,
                *([row.precision] if several else []),
                str(row.networks),
                str(row.crops),
                str(row.cost),
                *(f"{100 * error:.2f}" for error in errors),
                f"{100 * (row.top5_error - figures[0].top5_error):+.2f}",
                *(f"{100 * (1 - error):.2f}" for error in errors),
                "-" if row.seconds is None else f"{row.seconds:.3f}",
            ]
        )
    return aligned(rows)


def coverage_table(methods: Sequence[MethodFigures]) -> str:
    """Return one block a measure, one line a method, one column a budget of boxes a picture; all in percent.

    The methods, one at least, are measured at the same budgets.
    """
    budgets = budget_names(methods[0])
    blocks = []
    for measure in methods[0].measures:
        rows = [[f"{measure}, %", *budgets, "boxes", "s/picture"]]
        rows += [
            [method.name, *percent(method.measures[measure]), f"{method.boxes:.0f}", f"{method.seconds:.3f}"]
            for method in methods
        ]
        blocks.append(aligned(rows))
    return "\n\n".join(blocks)


def precision_table(methods: Sequence[MethodFigures]) -> str:
    """Return one line a method: AP of its boxes as detections of any class, where they have an objectness,
    and recall at IoU 0.5 of all its boxes by the size of objects; in percent."""
    sizes = [f"{name}, {100 * low:.0f} to {100 * high:.0f} %" for name, (low, high) in SIZES.items()]
    rows = [["all boxes, %", "proposal AP", *(f"recall@0.5 {size}" for size in sizes)]]
    for method in methods:
        figures = (method.precision, *method.recall_by_size().values())
        rows.append([method.name, *("-" if isnan(figure) else f"{100 * figure:.1f}" for figure in figures)])
    return aligned(rows)


def comparison_table(methods: Sequence[MethodFigures]) -> str:
    """Return all boxes of each method, one at least, beside those of the first: how many, and what they
    cover."""
    rows = [["all boxes, %", "boxes", "share", *methods[0].measures]]
    for method in methods:
        measures = percent(values[-1] for values in method.measures.values())
        rows.append([method.name, f"{method.boxes:.0f}", f"{method.boxes / methods[0].boxes:.0%}", *measures])
    return aligned(rows)


def source_table(unions: Mapping[str, FoundBy]) -> str:
    """Return one line a union: of all objects, in percent, those that which source finds."""
    rows = [["found by, %", "search only", "MultiBox only", "both", "neither"]]
    for name, by in unions.items():
        counts = (by.search_only, by.multibox_only, by.both, by.neither)
        rows.append([name, *percent(count / max(sum(counts), 1) for count in counts)])
    return aligned(rows)


def budget_names(method: MethodFigures) -> list[str]:
    """Return the head of each budget's column."""
    return ["all" if budget == ALL else str(budget) for budget in method.recall.budgets.tolist()]


def percent(shares: Iterable[float]) -> list[str]:
    """Return shares in 0..1 as cells of a table in percent."""
    return [f"{100 * share:.1f}" for share in shares]

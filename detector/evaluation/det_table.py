"""Figures of a detection evaluation as plain text."""

import numpy as np

from detector.evaluation.by_class import DetEvaluation
from detector.structures.classes import ClassList


def det_table(evaluation: DetEvaluation, classes: ClassList) -> str:
    """One line a measured class, best AP first: AP and recall in percent, objects, detections."""
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


def det_summary(evaluation: DetEvaluation) -> str:
    """The line that matters: mean AP, over how many classes, and on how many objects it was measured."""
    measured = int(evaluation.measured.sum())
    if not measured:
        return "mAP not measured: the set holds no object of any class"
    median = np.median(evaluation.ap[evaluation.measured])
    return (
        f"mAP {100 * evaluation.mean_ap:.2f} % over the {measured} of {len(evaluation.ap)} classes "
        f"that the set holds objects of, median AP {100 * median:.2f} %; "
        f"{evaluation.ground_truths.sum()} objects, {evaluation.detections.sum()} detections"
    )

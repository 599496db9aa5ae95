"""The report of a training run: one HTML page that needs no other file."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from PIL import Image
from tqdm import tqdm

from detector.datasets.problems import left_out
from detector.errors import ImageError
from detector.evaluation.det_evaluation import DetEvaluation
from detector.evaluation.error_analysis import break_down
from detector.evaluation.reliability import LEAST_SCORE, reliability
from detector.evaluation.tables import MEANING
from detector.evaluation.thresholds import PRIOR, threshold_figures
from detector.io.terminal_text import utf8_text
from detector.structures.classes import ClassList
from training.finetune.measuring import Measured
from training.finetune.mistakes import Mistake, cut_out, worst_false_positives, worst_missed
from training.finetune.report_charts import curves_chart, precision_recall_chart, reliability_chart
from training.finetune.training_data import ChosenData

_CURVES = 12  # classes whose curves are shown
_PROBLEMS = 200  # problems that are listed


@dataclass(frozen=True)
class RunFacts:
    """Facts of a run besides its figures.

    ``runs`` are the runs' folders by name, ``training`` is that of the checkpoint's metadata, ``commands``
    are the next ones, ``minutes`` is the time of the whole.
    """

    name: str
    runs: Mapping[str, Path]
    training: Mapping[str, Any]
    commands: Sequence[str]
    minutes: float


def report(data: ChosenData, measured: Sequence[Measured], facts: RunFacts) -> str:
    """Render the page. ``measured`` holds one detector, or the members of an ensemble and then all of it."""
    last = measured[-1]
    curves, shown = _curves(last.evaluation, data.classes)
    environment = Environment(
        loader=PackageLoader("training.finetune", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=False,
    )
    learned = sum(len(record.boxes) for record in data.train.records)
    problems = [*data.train.problems, *data.validation.problems]
    return environment.get_template("report.html.j2").render(
        title=f"{facts.name}: {100 * last.evaluation.mean_ap:.1f} % mAP",
        subtitle=f"Trained on {len(data.train.records):,} pictures with {learned:,} objects of "
        f"{len(data.classes)} classes; measured on {len(last.records):,} pictures it has not seen "
        f"({data.how}){_without(data)}.",
        figures=[
            (f"{100 * last.evaluation.mean_ap:.1f} %", f"mAP, {last.rule} rule"),
            (f"{last.seconds:.2f} s", f"a picture, {last.profile}"),
            (f"{facts.minutes:.0f} min", "from pictures to report"),
            (f"{facts.training['iterations']:,}", "iterations"),
        ],
        commands=facts.commands,
        members=measured,
        curves=curves_chart(facts.runs),
        rule=last.rule,
        classes=_class_rows(data, last.evaluation),
        curves_shown=shown,
        precision_recall=precision_recall_chart(curves),
        **_trust(last, data.classes),
        losses=_losses(data, last),
        mistakes=_mistakes(data, last),
        how=f"{facts.training['init']}, fine-tuned on {facts.training['data']}.",
        settings=_flat(facts.training),
        problem_count=len(problems),
        problems=problems[:_PROBLEMS],
    )


def _trust(measured: Measured, classes: ClassList) -> dict[str, Any]:
    """Return what the page says of scores: how reliable they are, and from which on a class is shown."""
    thresholds, evaluation = measured.thresholds, measured.evaluation
    found = reliability(evaluation.curves)
    figures = threshold_figures(evaluation, thresholds)
    rows = sorted(zip(classes.names, figures, strict=True), key=lambda row: -row[1].objects)
    return {
        "reliability": reliability_chart(found),
        "calibration_error": found.expected_calibration_error if found.shown.any() else None,
        "least_score": LEAST_SCORE,
        "prior": PRIOR,
        "thresholds": thresholds,
        "threshold_rows": [row for row in rows if row[1].objects or row[1].shown],
    }


def _losses(data: ChosenData, measured: Measured) -> list[tuple[str, str, float, float]]:
    """List kinds of error, the costliest first: name, meaning, points of mAP, percent of the costliest."""
    errors = break_down(measured.records, measured.detections, len(data.classes), data.rule)
    gains = {kind: 100 * float(np.nan_to_num(gain)) for kind, gain in errors.gains.items()}
    worst = max(*gains.values(), 1e-9)
    order = sorted(gains, key=lambda kind: -gains[kind])
    return [
        (kind.name.lower(), MEANING[kind], gains[kind], 100 * max(gains[kind], 0) / worst) for kind in order
    ]


def _class_rows(data: ChosenData, evaluation: DetEvaluation) -> list[dict[str, Any]]:
    """Make a row for each class, the best first; classes that were not measured come last."""
    learned, measured = data.objects(data.train), evaluation.ground_truths.tolist()
    rows = [
        {
            "name": name,
            "learned": learned[label],
            "measured": measured[label],
            "ap": evaluation.ap[label] if measured[label] else None,
            "recall": evaluation.recall[label],
        }
        for label, name in enumerate(data.classes.names)
    ]
    return sorted(rows, key=lambda row: -1.0 if row["ap"] is None else row["ap"], reverse=True)


def _curves(evaluation: DetEvaluation, classes: ClassList) -> tuple[list[tuple[str, float, Any]], str]:
    """Return name, AP and curve of each class, or of the best and worst only, and a sentence on which."""
    order = np.flatnonzero(evaluation.measured)
    order = order[np.argsort(-evaluation.ap[order], kind="stable")]
    shown = f"The {_CURVES // 2} best and the {_CURVES // 2} worst of {len(order)} classes."
    if len(order) <= _CURVES:
        shown = "All classes, the best first." if len(order) > 1 else ""
    else:
        order = np.concatenate([order[: _CURVES // 2], order[-_CURVES // 2 :]])
    return [(classes.names[i], float(evaluation.ap[i]), evaluation.curves[i]) for i in order], shown


def _mistakes(data: ChosenData, measured: Measured) -> list[tuple[str, str, list[dict[str, str]]]]:
    arguments = measured.records, measured.detections, data.classes, data.rule
    return [
        (
            "Surest of what is not there",
            "Detections that find no object, by score. In colour what was said, in white what is annotated: "
            "look for objects that nobody annotated, too.",
            _shown(worst_false_positives(*arguments), data.classes),
        ),
        (
            "Largest objects missed",
            "Annotated objects (white) that no detection with a score of 0.3 or more finds.",
            _shown(worst_missed(*arguments), data.classes),
        ),
    ]


def _shown(mistakes: Sequence[Mistake], classes: ClassList) -> list[dict[str, str]]:
    """Describe mistakes for the page; one whose image can no longer be read is left out, with a message."""
    shown = []
    for mistake in mistakes:
        file = BytesIO()
        try:
            Image.fromarray(cut_out(mistake, classes)).save(file, "JPEG", quality=80)
        except ImageError as error:
            tqdm.write(utf8_text(f"not drawn in the report: {error}"))
            continue
        shown.append(
            {
                "label": classes.names[mistake.label],
                "score": "" if np.isnan(mistake.score) else f"{mistake.score:.2f}",
                "what": mistake.what,
                "picture": mistake.record.image_id,
                "jpeg": base64.b64encode(file.getvalue()).decode("ascii"),
            }
        )
    return shown


def _without(data: ChosenData) -> str:
    """Return the text about images that could not be used; empty if all could."""
    learned, held_out = (left_out(part.problems) for part in (data.train, data.validation))
    if not learned and not held_out:
        return ""
    return f"; left out for problems in the data: {learned} pictures to learn from, {held_out} to measure on"


def _flat(settings: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Flatten nested settings into lines such as ("batch.positives", "32")."""
    lines = []
    for name, value in settings.items():
        if isinstance(value, Mapping):
            lines += _flat(value, f"{prefix}{name}.")
        else:
            lines.append((prefix + name, str(value)))
    return lines

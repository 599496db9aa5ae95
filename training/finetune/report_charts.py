"""The charts of a training report, as SVG in the page's text color: legible on light and on dark."""

from collections.abc import Mapping, Sequence
from io import StringIO
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from detector.evaluation.average_precision import PrecisionRecall
from detector.evaluation.reliability import Reliability, wilson_interval
from training.trainer.run_log import log_lines

_INK = "#010203"  # replaced by the page's text color
# Okabe and Ito's colors that stand out from white and from black alike.
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_SMOOTHED = 50  # a curve of thousands of minibatches is shown as so many running means' worth of points
_NO_LOSS = ("iteration", "rate")


def read_log(path: Path) -> dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]:
    """Read a log (one JSON object a line) -> iterations and values of each figure, by name."""
    points: dict[str, list[tuple[int, float]]] = {}
    for _, entry in log_lines(path):
        for name, value in entry.items():
            if name not in _NO_LOSS and isinstance(value, int | float):
                points.setdefault(name, []).append((entry["iteration"], value))
    return {
        name: (np.array([x for x, _ in pairs], float), np.array([y for _, y in pairs], float))
        for name, pairs in points.items()
        if any(y for _, y in pairs)  # a part of the loss that the recipe leaves out
    }


def curves_chart(runs: Mapping[str, Path]) -> str:
    """Draw a panel for each figure of the runs' logs ("total", "box" ...), with a color for each run, as SVG.

    ``runs``: the folder of each run by name. Validations (``held_out.jsonl``) are dotted beside the
    figures of training (``log.jsonl``).
    """
    trained = {run: read_log(folder / "log.jsonl") for run, folder in runs.items()}
    held_out = {run: read_log(folder / "held_out.jsonl") for run, folder in runs.items()}
    names = list(dict.fromkeys(name for log in (*trained.values(), *held_out.values()) for name in log))
    figure, panels = _panels(len(names), columns=3, height=2.3)
    for panel, name in zip(panels, names, strict=True):
        for number, run in enumerate(runs):
            color = _COLORS[number % len(_COLORS)]
            if name in trained[run]:
                panel.plot(*_smoothed(*trained[run][name]), color=color, linewidth=1.6, label=run)
            if name in held_out[run]:
                panel.plot(*held_out[run][name], ":o", color=_COLORS[1] if len(runs) == 1 else color,
                           linewidth=1.4, markersize=3)  # fmt: skip
        panel.set_title(name.replace("_", " "), fontsize=9, color=_INK, loc="left")
        panel.set_ylim(bottom=0)
    if len(runs) > 1 and names:
        panels[0].legend(frameon=False, fontsize=8, labelcolor=_INK)
    return _svg(figure)


def precision_recall_chart(curves: Sequence[tuple[str, float, PrecisionRecall]]) -> str:
    """Draw a panel for each class, given by name, AP and curve, as SVG."""
    figure, panels = _panels(len(curves), columns=4, height=1.9)
    for panel, (name, ap, curve) in zip(panels, curves, strict=True):
        envelope = np.maximum.accumulate(curve.precision[::-1])[::-1]
        # From the left edge on; without detections there is nothing to draw.
        x, y = np.append(np.zeros(len(envelope[:1])), curve.recall), np.append(envelope[:1], envelope)
        panel.step(x, y, where="pre", color=_COLORS[0], linewidth=1.6)
        panel.fill_between(x, y, step="pre", color=_COLORS[0], alpha=0.18, linewidth=0)
        panel.set(xlim=(0, 1.02), ylim=(0, 1.05), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
        panel.set_title(f"{name}  {100 * ap:.0f}", fontsize=9, color=_INK, loc="left")
    return _svg(figure)


def reliability_chart(measured: Reliability) -> str:
    """Draw the share that is right over the score, with what chance may make of it, and how many detections
    each bin holds, as SVG."""
    figure, (right, shown) = _panels(2, columns=2, height=2.9)
    middle = (measured.edges[:-1] + measured.edges[1:]) / 2
    some = measured.shown > 0
    low, high = wilson_interval(measured.right, measured.shown)
    share = measured.share
    right.plot((0, 1), (0, 1), color=_INK, alpha=0.4, linewidth=1, linestyle=":")
    right.errorbar(
        measured.score[some],
        share[some],
        yerr=np.maximum([(share - low)[some], (high - share)[some]], 0),
        fmt="-o",
        color=_COLORS[0],
        linewidth=1.6,
        markersize=4,
        capsize=3,
    )
    right.set(xlim=(0, 1.02), ylim=(0, 1.05), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    right.set_title("share right, by score", fontsize=9, color=_INK, loc="left")
    shown.bar(middle, measured.shown, np.diff(measured.edges) * 0.9, color=_COLORS[0], alpha=0.35)
    shown.bar(middle, measured.right, np.diff(measured.edges) * 0.9, color=_COLORS[0])
    shown.set_yscale("symlog", linthresh=1)  # of low scores there are thousands
    shown.set(xlim=(0, 1.02), xticks=(0, 0.5, 1))
    shown.set_title("detections (logarithmic), dark: right", fontsize=9, color=_INK, loc="left")
    return _svg(figure)


def _panels(count: int, *, columns: int, height: float) -> tuple[Figure, list[Axes]]:
    rows = max(1, -(-count // columns))
    figure = Figure(figsize=(9.6, height * rows), layout="constrained")
    figure.patch.set_alpha(0)
    panels = list(np.ravel(figure.subplots(rows, columns, squeeze=False)))
    for panel in panels[count:]:
        panel.set_axis_off()
    for panel in panels[:count]:
        panel.patch.set_alpha(0)
        panel.tick_params(colors=_INK, labelsize=8, length=0)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.spines["bottom"].set_color(_INK)
        panel.grid(True, axis="y", color="#888888", alpha=0.25, linewidth=0.8)
        panel.locator_params(nbins=4)
    return figure, panels[:count]


def _smoothed(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], ...]:
    """Average consecutive points, so that some hundred are left; few points stay as they are."""
    width = max(1, len(y) // (4 * _SMOOTHED))
    whole = len(y) // width * width
    return x[:whole].reshape(-1, width).mean(axis=1), y[:whole].reshape(-1, width).mean(axis=1)


def _svg(figure: Figure) -> str:
    file = StringIO()
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "report"}):
        figure.savefig(file, format="svg", metadata={"Date": None, "Creator": None})
    text = file.getvalue()
    return text[text.index("<svg") :].replace(_INK, "currentColor")

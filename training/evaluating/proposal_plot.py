"""A chart of what proposal methods cover, over the number of boxes."""

from collections.abc import Sequence
from io import BytesIO

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from detector.evaluation.proposal_recall import MethodFigures

# Okabe and Ito's colours, which stay apart for colour-blind eyes; the yellow is too pale for a line.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_PANELS = {"recall@0.5": "Recall at IoU 0.5", "recall@0.7": "Recall at IoU 0.7", "AR": "Average recall"}
_DASHES = ("-", "--", ":")
_SIZE = (13.0, 4.8)  # inches


def curve_budgets(most: int, points: int = 60) -> list[int]:
    """Return budgets from one box to ``most``, evenly spread on a log scale."""
    return np.unique(np.geomspace(1, max(most, 1), points).round().astype(int)).tolist()


def proposal_plot(methods: Sequence[MethodFigures], title: str) -> bytes:
    """Draw recall at IoU 0.5 and 0.7 and average recall, side by side, one line a method, as a PNG file.

    Each method comes measured at :func:`curve_budgets`; its line ends, in a dot, where its boxes do.
    """
    figure = Figure(figsize=_SIZE, dpi=150, layout="constrained")
    panels = figure.subplots(1, 3, sharey=True)
    for panel, (measure, name) in zip(panels, _PANELS.items(), strict=True):
        for number, method in enumerate(methods):
            values = method.measures[measure]
            colour = _COLOURS[number % len(_COLOURS)]
            dash = _DASHES[number // len(_COLOURS) % len(_DASHES)]
            panel.plot(
                method.recall.proposals,
                values,
                dash,
                color=colour,
                linewidth=1.8,
                label=method.name,
                zorder=2,
            )
            panel.plot(method.recall.proposals[-1:], values[-1:], "o", color=colour, markersize=5, zorder=3)
        panel.set(title=name, xlabel="boxes a picture", xscale="log", ylim=(0, 1.02))
        panel.xaxis.set_major_locator(LogLocator(numticks=10))
        panel.xaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{count:,.0f}"))
        panel.xaxis.set_minor_formatter(NullFormatter())
        panel.yaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:.0f} %"))
        panel.set_yticks(np.linspace(0, 1, 11))
        panel.grid(True, which="major", color="#dddddd", linewidth=0.8)
        panel.grid(True, which="minor", axis="x", color="#f0f0f0", linewidth=0.6)
        panel.set_axisbelow(True)
        panel.spines[["top", "right"]].set_visible(False)
    figure.suptitle(title, fontsize=13)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=min(len(names), 6) or 1, frameon=False)
    file = BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()

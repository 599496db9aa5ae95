"""Figures of proposal methods as plain text."""

from collections.abc import Iterable, Mapping, Sequence

from detector.evaluation.proposal_figures import ALL, MethodFigures
from detector.evaluation.sources import FoundBy
from detector.evaluation.text_table import aligned


def coverage_table(methods: Sequence[MethodFigures]) -> str:
    """One block a measure, one line a method, one column a budget of boxes a picture; all in percent.

    The methods, one at least, are measured at the same budgets.
    """
    budgets = budget_names(methods[0])
    blocks = []
    for measure in methods[0].measures:
        rows = [[f"{measure}, %", *budgets, "boxes", "s/picture"]]
        rows += [
            [one.name, *percent(one.measures[measure]), f"{one.boxes:.0f}", f"{one.seconds:.3f}"]
            for one in methods
        ]
        blocks.append(aligned(rows))
    return "\n\n".join(blocks)


def comparison_table(methods: Sequence[MethodFigures]) -> str:
    """All boxes of each method, one at least, beside those of the first: how many, and what they cover."""
    rows = [["all boxes, %", "boxes", "share", *methods[0].measures]]
    for one in methods:
        measures = percent(values[-1] for values in one.measures.values())
        rows.append([one.name, f"{one.boxes:.0f}", f"{one.boxes / methods[0].boxes:.0%}", *measures])
    return aligned(rows)


def source_table(unions: Mapping[str, FoundBy]) -> str:
    """One line a union: of all objects, in percent, those that which source finds."""
    rows = [["found by, %", "search only", "MultiBox only", "both", "neither"]]
    for name, by in unions.items():
        counts = (by.search_only, by.multibox_only, by.both, by.neither)
        rows.append([name, *percent(count / max(sum(counts), 1) for count in counts)])
    return aligned(rows)


def budget_names(method: MethodFigures) -> list[str]:
    """The head of each budget's column."""
    return ["all" if budget == ALL else str(budget) for budget in method.recall.budgets.tolist()]


def percent(shares: Iterable[float]) -> list[str]:
    """Shares in 0..1 as cells of a table in percent."""
    return [f"{100 * share:.1f}" for share in shares]

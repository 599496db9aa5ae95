"""The figures of proposal methods that were run over the same pictures. Letters: B budgets."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.datasets.record import Record
from detector.evaluation.proposal_methods import MethodRun
from detector.evaluation.recall import ProposalRecall, proposal_recall

ALL = int(np.iinfo(np.int64).max)
"""The budget that takes every box."""

BUDGETS = (10, 50, 100, 200, 500, 1000, ALL)


@dataclass(frozen=True)
class MethodFigures:
    """How much of so many objects of so many pictures a method covers, and how long it takes a picture."""

    name: str
    pictures: int
    objects: int
    seconds: float
    recall: ProposalRecall

    @property
    def boxes(self) -> float:
        """Boxes a picture within the largest budget."""
        return float(self.recall.proposals[-1])

    @property
    def measures(self) -> dict[str, NDArray[np.float64]]:
        """Each measure of coverage at every budget, [B] in 0..1."""
        return {
            "recall@0.5": self.recall.recall_at(0.5),
            "recall@0.7": self.recall.recall_at(0.7),
            "AR": self.recall.average_recall,
            "MABO": self.recall.mabo,
        }

    def as_dict(self) -> dict[str, Any]:
        """All figures as JSON takes them; the budget of every box is null."""
        recall = self.recall
        return {
            "name": self.name,
            "pictures": self.pictures,
            "objects": self.objects,
            "seconds_a_picture": self.seconds,
            "budgets": [None if budget == ALL else budget for budget in recall.budgets.tolist()],
            "boxes": recall.proposals.tolist(),
            **{measure: values.tolist() for measure, values in self.measures.items()},
        }


def figures(run: MethodRun, records: Sequence[Record], budgets: Sequence[int] = BUDGETS) -> MethodFigures:
    """Measure a run against the records it was made on, in their order; MABO is the mean over classes."""
    measured = records[: len(run.proposals)]
    return MethodFigures(
        name=run.name,
        pictures=len(measured),
        objects=sum(len(record.boxes) for record in measured),
        seconds=run.median_seconds,
        recall=proposal_recall(
            [record.boxes for record in measured],
            [found.boxes for found in run.proposals],
            budgets=budgets,
            labels=[record.labels for record in measured],
        ),
    )


def cut_alike(run: MethodRun, other: MethodRun, name: str) -> MethodRun:
    """A run with as many of its best boxes in each picture as another one has there."""
    pairs = zip(run.proposals, other.proposals, strict=True)
    return MethodRun(name, [mine.first(len(theirs)) for mine, theirs in pairs], run.seconds)

"""Recall of proposals: how much of the ground truth they cover, with how many boxes, and of which source.

Letters for shapes: G ground truths of all images, B budgets of boxes an image.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import ParameterError
from detector.evaluation.proposal_methods import MethodRun
from detector.evaluation.proposal_precision import proposal_average_precision
from detector.evaluation.sizes import SIZES, is_of_size
from detector.structures import boxes as box_algebra
from detector.structures.boxes import Boxes, area, iou
from detector.structures.proposals import Proposals, Source


@dataclass(frozen=True)
class ProposalRecall:
    """Coverage at each budget, the largest number of proposals a picture may use.

    overlaps [G,B]: the best IoU of each ground truth with any proposal of the budget; everything else is
    drawn from it. All [B]: budgets; proposals, the mean number a picture did use; recall, the share of
    ground truths that some proposal overlaps at the IoU threshold; mabo, mean average best overlap
    (Uijlings et al. 2013, section 5). NaN where there is no ground truth, or no picture.
    """

    budgets: NDArray[np.int64]
    proposals: NDArray[np.float64]
    overlaps: NDArray[np.float64]
    recall: NDArray[np.float64]
    mabo: NDArray[np.float64]

    def recall_at(self, iou: float) -> NDArray[np.float64]:
        """Return recall [B] at another IoU threshold, which counts itself."""
        return _mean(self.overlaps >= iou)

    @property
    def average_recall(self) -> NDArray[np.float64]:
        """Twice the area [B] under recall over IoU from 0.5 to 1, so that 1 is the best there is.

        Hosang et al., "What makes for effective detection proposals?", arXiv 1502.05082: it goes with the
        quality of a detector more closely than recall at any one IoU. Exact, not summed in steps: an object
        overlapped by o is found at every IoU up to o, and adds o - 0.5. There a proposal covers one object
        only; here, as for recall and MABO, it may cover several.
        """
        return _mean(2 * np.maximum(self.overlaps - 0.5, 0))


def proposal_recall(
    ground_truth: Sequence[Boxes],
    proposals: Sequence[Boxes],
    iou: float = 0.5,
    budgets: Sequence[int] = (100, 300, 1000, 2000),
    labels: Sequence[NDArray[np.int64]] | None = None,
) -> ProposalRecall:
    """Return how each picture's proposals [*,4], which come best first, cover its ground truths [*,4].

    With ``labels`` [*] of each picture's ground truths the mean best overlap is taken over classes, as
    published figures are; without them over all ground truths. Recall is over all ground truths either way.

    Raises ParameterError if the sequences do not agree or a budget is below 1.
    """
    if len(ground_truth) != len(proposals):
        raise ParameterError(f"{len(ground_truth)} pictures of ground truth, {len(proposals)} of proposals")
    if labels is not None and list(map(len, labels)) != list(map(len, ground_truth)):
        raise ParameterError("labels must hold one label a ground truth, picture by picture")
    if min(budgets, default=1) < 1:
        raise ParameterError(f"budgets must be at least 1, got {list(budgets)}")
    limits = np.array(budgets, np.int64)
    best = np.concatenate(
        [np.zeros((0, len(limits)))]
        + [
            _best_overlaps(truths, found, limits)
            for truths, found in zip(ground_truth, proposals, strict=True)
        ]
    )
    used = np.minimum(limits, np.array([len(found) for found in proposals], np.int64)[:, None])
    groups = np.concatenate(labels) if labels else np.zeros(len(best), np.int64)
    return ProposalRecall(
        budgets=limits,
        proposals=_mean(used),
        overlaps=best,
        recall=_mean(best >= iou),
        mabo=_mean(
            np.array([_mean(best[groups == group]) for group in np.unique(groups)]).reshape(-1, len(limits))
        ),
    )


def _best_overlaps(ground_truth: Boxes, proposals: Boxes, budgets: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the best IoU [*,B] of each ground truth of a picture with the first proposals of each budget."""
    if not len(proposals) or not len(ground_truth):
        return np.zeros((len(ground_truth), len(budgets)))
    so_far = np.maximum.accumulate(box_algebra.iou(ground_truth, proposals), axis=1)  # * x proposals
    return so_far[:, np.minimum(budgets, len(proposals)) - 1].astype(np.float64)


def _mean(values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the mean over the first axis; NaN of nothing."""
    return values.mean(axis=0, dtype=np.float64) if len(values) else np.full(values.shape[1], np.nan)


@dataclass(frozen=True)
class FoundBy:
    """Counts of ground truths by the source of the proposals that overlap them."""

    search_only: int
    multibox_only: int
    both: int
    neither: int

    @property
    def found(self) -> int:
        """Ground truths that some proposal overlaps."""
        return self.search_only + self.multibox_only + self.both


def found_by(
    ground_truth: Sequence[Boxes], proposals: Sequence[Proposals], iou_threshold: float = 0.5
) -> FoundBy:
    """Count the ground truths [*,4] of all pictures by the sources that overlap them at the threshold.

    A union leaves out near-duplicates, and with them some of what both would have found: the one that it
    kept has the merit. Raises ParameterError if the sequences do not agree.
    """
    if len(ground_truth) != len(proposals):
        raise ParameterError(f"{len(ground_truth)} pictures of ground truth, {len(proposals)} of proposals")
    counts = np.zeros((2, 2), np.int64)  # by search or not, by MultiBox or not
    for boxes, found in zip(ground_truth, proposals, strict=True):
        overlaps = iou(boxes, found.boxes) >= iou_threshold  # ground truths x proposals
        by_search, by_multibox = (
            overlaps[:, found.source == source].any(axis=1)
            for source in (Source.SELECTIVE_SEARCH, Source.MULTIBOX)
        )
        np.add.at(counts, (by_search.astype(int), by_multibox.astype(int)), 1)
    return FoundBy(
        search_only=int(counts[1, 0]),
        multibox_only=int(counts[0, 1]),
        both=int(counts[1, 1]),
        neither=int(counts[0, 0]),
    )


ALL = int(np.iinfo(np.int64).max)
"""The budget that takes every box."""

BUDGETS = (10, 50, 100, 200, 500, 1000, ALL)


@dataclass(frozen=True)
class MethodFigures:
    """How much of so many objects of so many pictures a method covers, and how long it takes a picture.

    ``precision`` is :func:`detector.evaluation.proposal_precision.proposal_average_precision`; ``shares``
    [G] are the objects' shares of their picture's area.
    """

    name: str
    images: int
    objects: int
    seconds: float
    recall: ProposalRecall
    precision: float
    shares: NDArray[np.float64]

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

    def recall_by_size(self, iou: float = 0.5) -> dict[str, float]:
        """Return recall within the largest budget by the objects' size; NaN where there are none of it."""
        found = self.recall.overlaps[:, -1] >= iou
        of_size = {name: is_of_size(self.shares, name) for name in SIZES}
        return {
            name: float(found[chosen].mean()) if chosen.any() else float("nan")
            for name, chosen in of_size.items()
        }

    def as_dict(self) -> dict[str, Any]:
        """Return all figures as JSON takes them; the budget of every box, and what is not known, are null."""
        recall = self.recall
        return {
            "name": self.name,
            "pictures": self.images,
            "objects": self.objects,
            "seconds_a_picture": self.seconds,
            "budgets": [None if budget == ALL else budget for budget in recall.budgets.tolist()],
            "boxes": recall.proposals.tolist(),
            **{measure: values.tolist() for measure, values in self.measures.items()},
            "AP": _known(self.precision),
            "recall@0.5 by size": {name: _known(recall) for name, recall in self.recall_by_size().items()},
        }


def _known(figure: float) -> float | None:
    return None if np.isnan(figure) else figure


def figures(
    run: MethodRun, records: Sequence[AnnotatedImage], budgets: Sequence[int] = BUDGETS
) -> MethodFigures:
    """Measure a run against the records it was made on, in their order; MABO is the mean over classes."""
    measured = records[: len(run.proposals)]
    truth = [record.boxes for record in measured]
    areas = [area(record.boxes) / (record.width * record.height) for record in measured]
    return MethodFigures(
        name=run.name,
        images=len(measured),
        objects=sum(len(record.boxes) for record in measured),
        seconds=run.median_seconds,
        recall=proposal_recall(
            truth,
            [found.boxes for found in run.proposals],
            budgets=budgets,
            labels=[record.labels for record in measured],
        ),
        precision=proposal_average_precision(truth, run.proposals),
        shares=np.concatenate([np.zeros(0), *areas]),
    )


def truncate_to_counts_of(run: MethodRun, other: MethodRun, name: str) -> MethodRun:
    """Return a run with as many of its best boxes in each picture as another one has there."""
    pairs = zip(run.proposals, other.proposals, strict=True)
    return MethodRun(name, [own.first(len(theirs)) for own, theirs in pairs], run.seconds)

"""Which of two methods the objects that a union of them covers are owed to."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.errors import ParameterError
from detector.structures.boxes import Boxes, iou
from detector.structures.proposals import Proposals, Source


@dataclass(frozen=True)
class FoundBy:
    """How many ground truths proposals of which source overlap."""

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

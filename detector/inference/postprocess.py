"""From what the network says of a picture's regions to detections.

Pure functions of arrays, so that settings can be compared without running the network again. Letters for
shapes: R regions, C classes, D detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms

from detector.errors import ParameterError
from detector.inference.scoring import Scoring, class_prior, filled_objectness, region_scores
from detector.structures.boxes import Boxes, iou
from detector.structures.detections import Detections
from detector.structures.proposals import Proposals

# No more pairs of region and class than this are suppressed to find out which regions deserve a second look.
_LIKELIEST = 1000


@dataclass(frozen=True)
class RegionScores:
    """What the network says of one picture's regions.

    boxes [R,4] float32: each region moved by its offsets and cut to the picture; probabilities [R,C]
    float32, one column a class, background left out; ``proposals``, the R regions as they were proposed; fit
    [R] float32 in 0..1, the predicted IoU of a region and its object; picture [C] float32, the posterior of
    the whole picture. What is None is not known, and no part of a score.
    """

    boxes: Boxes
    probabilities: NDArray[np.float32]
    proposals: Proposals | None = None
    fit: NDArray[np.float32] | None = None
    image: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def rows(self, chosen: NDArray[np.integer]) -> "RegionScores":
        """Some of the regions, by their numbers."""
        proposals, fit = self.proposals, self.fit
        if proposals is not None:
            proposals = Proposals(
                proposals.boxes[chosen], proposals.source[chosen], proposals.objectness[chosen]
            )
        return RegionScores(
            self.boxes[chosen],
            self.probabilities[chosen],
            proposals,
            fit[chosen] if fit is not None else None,
            self.image,
        )


def class_scores(regions: RegionScores, scoring: Scoring) -> NDArray[np.float32]:
    """The score [R,C] of each region for each class: probabilities and all that bears on them."""
    objectness = prior = None
    if scoring.objectness_power and regions.proposals is not None:
        objectness = filled_objectness(regions.proposals.boxes, regions.proposals.objectness)
    if scoring.context_power and regions.image is not None:
        prior = class_prior(regions.image, regions.probabilities, scoring)
    return region_scores(regions.probabilities, scoring, fit=regions.fit, objectness=objectness, prior=prior)


def select(
    regions: RegionScores,
    *,
    score_threshold: float,
    max_detections: int,
    scoring: Scoring = Scoring(),  # noqa: B008 (frozen)
    classes: Sequence[int] | None = None,
) -> Detections:
    """Greedy suppression class by class (R-CNN, arXiv 1311.2524, section 2), then the best of all classes.

    With ``classes``, labels, the best of these classes only; their scores are the same as without.

    Raises ParameterError for a threshold outside 0..1, no detections asked for, or an unknown label.
    """
    if not 0 <= score_threshold <= 1:
        raise ParameterError(f"score_threshold must lie in 0..1, got {score_threshold}")
    if max_detections < 1:
        raise ParameterError(f"max_detections must be at least 1, got {max_detections}")
    scores = class_scores(regions, scoring)
    wanted = scores >= score_threshold  # R x C
    if classes is not None:
        wanted &= _chosen(classes, scores.shape[1])
    region, label = _best_kept(regions.boxes, scores, wanted, max_detections, scoring.nms_iou)
    boxes = regions.boxes[region]
    if scoring.vote_iou is not None:
        boxes = vote(boxes, regions.boxes, scores[:, label].T, scoring.vote_iou)
    return Detections(boxes, label, scores[region, label])


def vote(kept: Boxes, boxes: Boxes, weights: NDArray[np.float32], vote_iou: float) -> NDArray[np.float32]:
    """The boxes ``kept`` [D,4], each as the mean of those of ``boxes`` [R,4] that overlap it by ``vote_iou``.

    ``weights`` [D,R] are the scores of all boxes for the class of each one kept (Gidaris and Komodakis, arXiv
    1505.01749, section 4.2). A box that no weight is near stays.
    """
    weights = np.where(iou(kept, boxes) >= vote_iou, weights, 0)  # D x R
    total = weights.sum(axis=1, keepdims=True)
    mean = weights @ boxes / np.where(total > 0, total, 1)
    return np.where(total > 0, mean, kept).astype(np.float32)


def worth_a_second_look(regions: RegionScores, scoring: Scoring) -> NDArray[np.int64]:
    """The best ``scoring.refine_regions`` regions, or fewer, that suppression keeps for some class."""
    scores = class_scores(regions, scoring)
    likeliest = np.argsort(-scores, axis=None, kind="stable")[:_LIKELIEST]
    region, label = np.unravel_index(likeliest, scores.shape)
    kept = region[_suppress(regions.boxes, scores, region, label, scoring.nms_iou)]
    _, first = np.unique(kept, return_index=True)
    return kept[np.sort(first)[: scoring.refine_regions]]


def refined(first: RegionScores, second: RegionScores, rows: NDArray[np.integer]) -> RegionScores:
    """``first`` with what a second look at its moved boxes says of some ``rows``.

    Their boxes are those of the second look, their probabilities and fit the mean of both: two looks at one
    object from slightly different places.
    """
    boxes, probabilities, fit = first.boxes.copy(), first.probabilities.copy(), first.fit
    boxes[rows] = second.boxes
    probabilities[rows] = (probabilities[rows] + second.probabilities) / 2
    if fit is not None and second.fit is not None:
        fit = fit.copy()
        fit[rows] = (fit[rows] + second.fit) / 2
    return RegionScores(boxes, probabilities, first.proposals, fit, first.image)


def _chosen(classes: Sequence[int], count: int) -> NDArray[np.bool_]:
    """Which of ``count`` labels [C] are among ``classes``. Raises ParameterError for one beyond them."""
    unknown = [label for label in classes if not 0 <= label < count]
    if unknown:
        raise ParameterError(f"classes must be labels in 0..{count - 1}, got {unknown[0]}")
    chosen = np.zeros(count, np.bool_)
    chosen[list(classes)] = True
    return chosen


def _best_kept(
    boxes: Boxes, scores: NDArray[np.float32], wanted: NDArray[np.bool_], most: int, nms_iou: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The ``most`` best pairs of region and label among those ``wanted`` [R,C] that suppression keeps.

    Only better pairs suppress one, so that the best alone are looked at, and more only if too few of them are
    kept: all pairs of a low threshold would take many seconds.
    """
    region, label = np.nonzero(wanted)
    best_first = np.argsort(-scores[region, label], kind="stable")
    region, label = region[best_first], label[best_first]
    count = max(_LIKELIEST, 4 * most)
    while True:
        kept = _suppress(boxes, scores, region[:count], label[:count], nms_iou)[:most]
        if len(kept) == most or count >= len(region):
            return region[kept], label[kept]
        count *= 4


def _suppress(
    boxes: Boxes,
    scores: NDArray[np.float32],
    region: NDArray[np.integer],
    label: NDArray[np.integer],
    nms_iou: float,
) -> NDArray[np.int64]:
    """Which pairs of region and label no better one of the same label overlaps, best first."""
    kept = batched_nms(
        torch.from_numpy(boxes[region]),
        torch.from_numpy(scores[region, label]),
        torch.from_numpy(label),
        nms_iou,
    )
    return kept.numpy()

"""From the network's outputs for an image's regions to detections.

Pure functions: settings can be compared without running the network again. Letters for shapes: R regions,
C classes, D detections.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.inference.ensemble import RegionPrediction
from detector.inference.scoring import (
    RegionFactor,
    Scoring,
    class_posterior,
    class_prior,
    filled_objectness,
    region_scores,
    score_factors,
)
from detector.structures.boxes import Boxes, clip, decode, iou
from detector.structures.detections import Detections
from detector.structures.nms import suppress
from detector.structures.proposals import Proposals

_LIKELIEST = 1000  # pairs of region and class that suppression looks at first


@dataclass(frozen=True)
class RegionScores:
    """The regions of one image as the network sees them.

    boxes [R,4] float32: each region moved by its offsets and cut to the image; probabilities [R,C] float32,
    one column a class, background left out; ``proposals``, the R regions as they were proposed; predicted_iou
    [R] float32 in 0..1, of a region and its object; image [C] float32, the posterior of the whole image. What
    is None is not known, and no part of a score.
    """

    boxes: Boxes
    probabilities: NDArray[np.float32]
    proposals: Proposals | None = None
    predicted_iou: NDArray[np.float32] | None = None
    image: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def rows(self, chosen: NDArray[np.integer]) -> "RegionScores":
        """Return some of the regions, by their numbers."""
        proposals, predicted_iou = self.proposals, self.predicted_iou
        if proposals is not None:
            proposals = Proposals(
                proposals.boxes[chosen], proposals.source[chosen], proposals.objectness[chosen]
            )
        return RegionScores(
            self.boxes[chosen],
            self.probabilities[chosen],
            proposals,
            predicted_iou[chosen] if predicted_iou is not None else None,
            self.image,
        )


def score_regions(
    prediction: RegionPrediction, boxes: Boxes, width: int, height: int, scoring: Scoring
) -> RegionScores:
    """Apply a scoring to the raw outputs for boxes [R,4] of an image of ``width`` x ``height`` pixels.

    Boxes are moved by their offsets, where there are some and the scoring moves boxes. A prediction of R+1
    rows ends with that of the whole image.
    """
    count = len(boxes)
    if prediction.deltas is not None and scoring.box_regression:
        boxes = decode(boxes, prediction.deltas[:count])
    ious, whole = prediction.predicted_iou, prediction.probabilities[count:]
    return RegionScores(
        clip(boxes, width, height),
        prediction.probabilities[:count, :-1],
        predicted_iou=ious[:count] if ious is not None else None,
        image=class_posterior(whole[0]) if len(whole) else None,
    )


def factors_of(regions: RegionScores, scoring: Scoring) -> list[RegionFactor]:
    """Return the factors of the scores [R,C] of an image's regions."""
    return score_factors(regions.probabilities, scoring, **_besides_probabilities(regions, scoring))


def class_scores(regions: RegionScores, scoring: Scoring) -> NDArray[np.float32]:
    """Return the score [R,C] of each region for each class: probabilities and all that bears on them."""
    return region_scores(regions.probabilities, scoring, **_besides_probabilities(regions, scoring))


def _besides_probabilities(regions: RegionScores, scoring: Scoring) -> dict[str, NDArray[np.float32] | None]:
    """Return what else bears on scores, as :func:`detector.inference.scoring.score_factors` takes it."""
    objectness = prior = None
    if scoring.objectness_power and regions.proposals is not None:
        objectness = filled_objectness(regions.proposals.boxes, regions.proposals.objectness)
    if scoring.context_power and regions.image is not None:
        prior = class_prior(regions.image, regions.probabilities, scoring)
    return {"predicted_iou": regions.predicted_iou, "objectness": objectness, "prior": prior}


def check_selection(score_threshold: float | NDArray[np.float64], max_detections: int) -> None:
    """Raise ParameterError for what :func:`select` cannot go by."""
    if not isinstance(score_threshold, np.ndarray) and not 0 <= score_threshold <= 1:
        raise ParameterError(f"score_threshold must lie in 0..1, got {score_threshold}")
    if not isinstance(max_detections, Integral) or isinstance(max_detections, bool) or max_detections < 1:
        raise ParameterError(f"max_detections must be a whole number from 1, got {max_detections!r}")


def select(
    regions: RegionScores,
    *,
    score_threshold: float | NDArray[np.float64],
    max_detections: int,
    scoring: Scoring = Scoring(),  # noqa: B008 (frozen)
    classes: Sequence[int] | None = None,
) -> Detections:
    """Suppress class by class, greedily (R-CNN, arXiv 1311.2524, section 2); keep the best of all classes.

    ``score_threshold`` is the least score kept, of all classes or of each [C]; an infinite one keeps none of
    its class. With ``classes``, labels, the best of these classes only; their scores are the same as without.

    Raises ParameterError for a threshold outside 0..1, no detections asked for, or an unknown label.
    """
    check_selection(score_threshold, max_detections)
    scores = class_scores(regions, scoring)
    wanted = scores >= score_threshold  # R x C, thresholds of each class along C
    if classes is not None:
        wanted &= _chosen(classes, scores.shape[1])
    region, label = _best_kept(regions.boxes, scores, wanted, max_detections, scoring.nms_iou)
    boxes = regions.boxes[region]
    if scoring.vote_iou is not None:
        boxes = vote(boxes, regions.boxes, scores[:, label].T, scoring.vote_iou)
    return Detections(boxes, label, scores[region, label], regions=region)


def vote(kept: Boxes, boxes: Boxes, weights: NDArray[np.float32], vote_iou: float) -> NDArray[np.float32]:
    """Replace the boxes ``kept`` [D,4], each by the mean of those of ``boxes`` [R,4] that overlap it enough.

    Enough is an IoU of ``vote_iou``; ``weights`` [D,R] are the scores of all boxes for the class of each one
    kept (Gidaris and Komodakis, arXiv 1505.01749, section 4.2). A box that no weight is near stays.
    """
    weights = np.where(iou(kept, boxes) >= vote_iou, weights, 0)  # D x R
    total = weights.sum(axis=1, keepdims=True)
    mean = weights @ boxes / np.where(total > 0, total, 1)
    return np.where(total > 0, mean, kept).astype(np.float32)


def _chosen(classes: Sequence[int], count: int) -> NDArray[np.bool_]:
    """Mark the labels [C] that are among ``classes``. Raises ParameterError for one beyond ``count``."""
    unknown = [label for label in classes if not 0 <= label < count]
    if unknown:
        raise ParameterError(f"classes must be labels in 0..{count - 1}, got {unknown[0]}")
    chosen = np.zeros(count, np.bool_)
    chosen[list(classes)] = True
    return chosen


def _best_kept(
    boxes: Boxes, scores: NDArray[np.float32], wanted: NDArray[np.bool_], most: int, nms_iou: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the ``most`` best pairs of region and label of those ``wanted`` [R,C] that suppression keeps.

    Only better pairs suppress one, so that the best alone are looked at, and more only if too few of them are
    kept: all pairs of a low threshold would take many seconds.
    """
    region, label = np.nonzero(wanted)
    best_first = np.argsort(-scores[region, label], kind="stable")
    region, label = region[best_first], label[best_first]
    count = max(_LIKELIEST, 4 * most)
    while True:
        some, labels = region[:count], label[:count]
        kept = suppress(boxes[some], scores[some, labels], nms_iou, labels)[:most]
        if len(kept) == most or count >= len(region):
            return region[kept], label[kept]
        count *= 4

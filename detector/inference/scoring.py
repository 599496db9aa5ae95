"""The score of a region: its settings, its factors, and the context that the whole image gives.

GoogLeNet's detector was entered without contextual information for want of time (arXiv 1409.4842, section 8);
others of that year gained by scoring the whole image (DeepID-Net, arXiv 1412.5661, section 3.6). Here the
whole image is one more region of the same network. Letters for shapes: R regions, C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.io.terminal_text import one_line
from detector.structures.boxes import Boxes, iou
from detector.structures.explanation import FACTOR_NAMES

_RETIRED = {"refine", "refine_regions"}
"""A second look at moved boxes (arXiv 1505.01749, section 4.1), which earlier versions had: it gained nothing
(docs/training.md)."""


class Context(StrEnum):
    """Where the evidence comes from that a class is in the image at all.

    ``picture``: the whole image seen as one more region. ``regions``: that, or a region of the image,
    whichever is surer, so that what only a close look shows is not held against itself.
    """

    IMAGE = "picture"
    REGIONS = "regions"


@dataclass(frozen=True)
class Scoring:
    """How detections are made of the network's outputs for regions; part of a detector's checkpoint.

    The score of a region for a class is ``(p * iou ** fit_power * objectness ** objectness_power * prior **
    context_power) ** score_power``: the class's probability, the predicted IoU of the region and its object
    (stored as "fit"), MultiBox's confidence, and how likely the image shows the class at all (``context``,
    with ``context_floor`` for classes it gives no sign of). A power of 0 leaves a factor out. A product of
    several factors is small where each of them is good; ``score_power`` brings it back to where a threshold
    is expected, and changes no order. The defaults are those of R-CNN (arXiv 1311.2524): the probability
    alone, greedy suppression from ``nms_iou`` on, boxes moved by their offsets.

    ``flip`` looks at every region mirrored as well and averages. ``vote_iou`` replaces each box that is kept
    by the mean of those that overlap it by so much, weighted by their scores for its class (Gidaris and
    Komodakis, arXiv 1505.01749, section 4.2); None does not. ``box_regression`` moves boxes by their offsets
    at all.
    """

    fit_power: float = 0.0
    objectness_power: float = 0.0
    context_power: float = 0.0
    context: Context = Context.IMAGE
    context_floor: float = 0.1
    score_power: float = 1.0
    flip: bool = False
    box_regression: bool = True
    nms_iou: float = 0.3
    vote_iou: float | None = None

    def __post_init__(self) -> None:
        """Raises ParameterError for a setting outside its range."""
        for name in ("fit_power", "objectness_power", "context_power"):
            _check_range(name, getattr(self, name), 0, 10)
        _check_range("score_power", self.score_power, 0.01, 10)
        for name in ("context_floor", "nms_iou"):
            _check_range(name, getattr(self, name), 0, 1)
        if self.vote_iou is not None:
            _check_range("vote_iou", self.vote_iou, 0, 1)
        if self.context not in tuple(Context):
            raise ParameterError(f"context must be one of {', '.join(Context)}, got {_shown(self.context)}")
        object.__setattr__(self, "context", Context(self.context))
        for name in ("flip", "box_regression"):
            if not isinstance(getattr(self, name), bool):
                raise ParameterError(f"{name} must be true or false, got {_shown(getattr(self, name))}")

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "Scoring":
        """Read what ``dataclasses.asdict`` made; a setting that the entry lacks has its default, and one of
        earlier versions that no longer exists is passed over.

        Raises ParameterError for a setting that this version does not know, or one outside its range.
        """
        known = {field.name for field in fields(cls)}
        if not isinstance(entry, Mapping):
            raise ParameterError(f"scoring must be settings by name, got {_shown(entry)}")
        unknown = sorted(map(_shown, entry.keys() - known - _RETIRED))
        if unknown:
            raise ParameterError(
                f"scoring has the settings {', '.join(unknown)}, of which this version knows none; it knows "
                f"{', '.join(sorted(known))}"
            )
        return cls(**{name: value for name, value in entry.items() if name not in _RETIRED})


def _check_range(name: str, value: object, low: float, high: float) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not low <= value <= high:  # type: ignore[operator]
        raise ParameterError(f"{name} must lie in {low}..{high}, got {_shown(value)}")


def _shown(value: object) -> str:
    try:
        return one_line(repr(value), limit=60)
    except ValueError:
        return "a number of thousands of digits"


class RegionFactor(NamedTuple):
    """One factor of the scores of all regions: its name (:data:`FACTOR_NAMES`), ``values`` in 0..1 that
    broadcast to [R,C], and its power before ``score_power``."""

    name: str
    values: NDArray[np.float32]
    power: float


def score_factors(
    probabilities: NDArray[np.float32],
    scoring: Scoring,
    *,
    predicted_iou: NDArray[np.float32] | None = None,
    objectness: NDArray[np.float32] | None = None,
    prior: NDArray[np.float32] | None = None,
) -> list[RegionFactor]:
    """Return the factors of the scores of regions, their probabilities [R,C] first.

    ``predicted_iou`` [R] is that of a region and its object, ``objectness`` [R] as :func:`filled_objectness`
    gives it, ``prior`` [C] how likely the image shows each class. A factor that is None or has no power is
    left out.
    """
    columns = (
        (probabilities, 1.0),
        (predicted_iou[:, None] if predicted_iou is not None else None, scoring.fit_power),
        (objectness[:, None] if objectness is not None else None, scoring.objectness_power),
        (prior[None, :] if prior is not None else None, scoring.context_power),
    )
    return [
        RegionFactor(name, values, power)
        for name, (values, power) in zip(FACTOR_NAMES, columns, strict=True)
        if values is not None and power
    ]


def region_scores(
    probabilities: NDArray[np.float32],
    scoring: Scoring,
    *,
    predicted_iou: NDArray[np.float32] | None = None,
    objectness: NDArray[np.float32] | None = None,
    prior: NDArray[np.float32] | None = None,
) -> NDArray[np.float32]:
    """Return scores [R,C] in 0..1 of probabilities [R,C]: the product of the :func:`score_factors`, each to
    its power."""
    scores = probabilities
    for factor in score_factors(
        probabilities, scoring, predicted_iou=predicted_iou, objectness=objectness, prior=prior
    )[1:]:
        scores = scores * factor.values**factor.power
    if scoring.score_power != 1:
        scores = scores**scoring.score_power
    return scores.astype(np.float32, copy=False)


def filled_objectness(boxes: Boxes, objectness: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the objectness [R] of proposals [R,4] whatever method they came from.

    Selective search has none (NaN): its boxes get that of the MultiBox box that overlaps them most, times
    the IoU. Where no box has any, all are 1: there is nothing to tell them apart.
    """
    known = ~np.isnan(objectness)
    if not known.any():
        return np.ones(len(boxes), np.float32)
    filled = objectness.copy()
    overlaps = iou(boxes[~known], boxes[known])  # boxes of the search x boxes of MultiBox
    nearest = overlaps.argmax(axis=1)
    filled[~known] = objectness[known][nearest] * overlaps.max(axis=1)
    return filled


def class_posterior(probabilities: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the posterior [C] of an image's classes, given that it shows one, from probabilities [C+1].

    Background is the last. A whole image is seldom one object: that it is no object is no evidence against
    the classes.
    """
    classes = probabilities[:-1]
    return (classes / np.maximum(classes.sum(), np.finfo(np.float32).tiny)).astype(np.float32)


def class_prior(
    image: NDArray[np.float32], regions: NDArray[np.float32], scoring: Scoring
) -> NDArray[np.float32]:
    """Return how likely an image shows each class [C], between ``scoring.context_floor`` and 1.

    ``image`` [C] is the posterior of the whole image, ``regions`` [R,C] the probabilities of its regions. The
    likeliest class counts 1: an image that is hard to make out as a whole keeps its best detections, and
    thresholds keep their meaning. The floor is for objects too small to be seen in the whole image.
    """
    sign = image / np.maximum(image.max(initial=0), np.finfo(np.float32).tiny)
    if scoring.context is Context.REGIONS and len(regions):
        sign = np.maximum(sign, regions.max(axis=0))
    return (scoring.context_floor + (1 - scoring.context_floor) * sign).astype(np.float32)

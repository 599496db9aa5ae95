"""Match detections with the objects of an image, by the rule of a benchmark.

Letters for shapes: D detections and G ground truths of one image, C classes.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import ParameterError
from detector.evaluation.average_precision import PrecisionRecall
from detector.structures.boxes import Boxes
from detector.structures.detections import Detections


@dataclass(frozen=True)
class Rule:
    """How a benchmark measures detections.

    thresholds: of ground truths [G,4], the IoU [G] at which each counts as found.
    match: of detections [D,4], best first, ground truths [G,4] and which of these are difficult [G], all of
    one class and one picture, the ground truth that each detection finds: indices [D], -1 for none. Any
    number of detections may find a difficult one, which counts for nothing; any other is found once.
    average_precision: the figure of a class from its curve.
    leaves_difficult: whether difficult objects are left aside; else they are objects like any other.
    """

    name: str
    thresholds: Callable[[Boxes], NDArray[np.float64]]
    match: Callable[[Boxes, Boxes, NDArray[np.bool_]], NDArray[np.int64]]
    average_precision: Callable[[PrecisionRecall], float]
    leaves_difficult: bool = False


class EvaluatedImage(NamedTuple):
    """What counts in one picture: its objects, and its detections, best first."""

    record: AnnotatedImage
    boxes: Boxes
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    found: Detections

    def wanted(self, rule: Rule) -> NDArray[np.bool_]:
        """Return which objects [G] are to be found: all but those that the rule leaves aside."""
        return ~(self.difficult & rule.leaves_difficult)


def evaluated_images(
    ground_truth: Sequence[AnnotatedImage],
    detections: Mapping[str, Detections],
    num_classes: int,
    blacklist: Collection[tuple[str, int]] = frozenset(),
) -> Iterator[EvaluatedImage]:
    """Yield each picture without what is passed over: as for
    :func:`detector.evaluation.det_evaluation.evaluate`, which see for errors."""
    _check_ids(ground_truth, detections)
    banned: dict[str, list[int]] = {}
    for image_id, label in blacklist:
        banned.setdefault(image_id, []).append(label)
    nothing = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.int64), np.zeros(0, np.float32))
    for record in ground_truth:
        passed_over = banned.get(record.image_id, [])
        counts = ~np.isin(record.labels, passed_over)
        labels = record.labels[counts]
        _check_labels(record.image_id, labels, num_classes)

        found = detections.get(record.image_id, nothing)
        _check_labels(record.image_id, found.labels, num_classes)
        if np.isnan(found.scores).any():
            raise ParameterError(f"a detection of picture {record.image_id} has the score NaN")
        asked_for = ~np.isin(found.labels, passed_over)
        if record.partial:
            asked_for &= np.isin(found.labels, labels)
        rows = np.flatnonzero(asked_for)
        rows = rows[np.argsort(-found.scores[rows], kind="stable")]
        yield EvaluatedImage(
            record,
            record.boxes[counts],
            labels,
            record.difficult[counts],
            Detections(found.boxes[rows], found.labels[rows], found.scores[rows]),
        )


def match_detections(image: EvaluatedImage, rule: Rule) -> NDArray[np.int64]:
    """Return which object of the picture each of its detections finds by the rule: indices [D], -1 for
    none."""
    labels = image.found.labels
    found = np.full(len(labels), -1, np.int64)
    for label in np.unique(image.labels):
        rows, truths = np.flatnonzero(labels == label), np.flatnonzero(image.labels == label)
        difficult = image.difficult[truths] & rule.leaves_difficult
        matched = rule.match(image.found.boxes[rows], image.boxes[truths], difficult)
        found[rows[matched >= 0]] = truths[matched[matched >= 0]]
    return found


def _check_ids(ground_truth: Sequence[AnnotatedImage], detections: Mapping[str, Detections]) -> None:
    times = Counter(record.image_id for record in ground_truth)
    twice = [image_id for image_id, count in times.items() if count > 1]
    if twice:
        raise ParameterError(f"picture {twice[0]} stands twice in the ground truth")
    foreign = [image_id for image_id in detections if image_id not in times]
    if foreign:
        raise ParameterError(
            f"{len(foreign)} pictures have detections but no ground truth, {foreign[0]} first: measure only "
            f"pictures of the set"
        )


def _check_labels(image_id: str, labels: NDArray[np.int64], num_classes: int) -> None:
    if len(labels) and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ParameterError(
            f"picture {image_id} has labels {labels.min()}..{labels.max()}, "
            f"but those of {num_classes} classes are 0..{num_classes - 1}"
        )

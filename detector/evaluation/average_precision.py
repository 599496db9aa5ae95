"""Average precision class by class, whatever the rule.

Letters for shapes: D detections and G ground truths of one class in one picture, C classes.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import ParameterError
from detector.evaluation.matching import PrecisionRecall, precision_recall
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


@dataclass(frozen=True)
class DetEvaluation:
    """Figures of every class, and their mean.

    ap [C] and recall [C] float64 in 0..1, NaN where the set holds no object of the class; ground_truths [C]
    and detections [C] int64, without what was passed over; curves: one a class.
    """

    ap: NDArray[np.float64]
    recall: NDArray[np.float64]
    ground_truths: NDArray[np.int64]
    detections: NDArray[np.int64]
    curves: tuple[PrecisionRecall, ...]

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Which classes [C] the set holds an object of: those that :attr:`mean_ap` is a mean over."""
        return self.ground_truths > 0

    @property
    def mean_ap(self) -> float:
        """Mean AP over the measured classes; NaN if there are none."""
        return float(self.ap[self.measured].mean()) if self.measured.any() else float("nan")


class ImageInput(NamedTuple):
    """What counts in one picture: its objects, and its detections, best first."""

    record: AnnotatedImage
    boxes: Boxes
    labels: NDArray[np.int64]
    difficult: NDArray[np.bool_]
    found: Detections

    def wanted(self, rule: Rule) -> NDArray[np.bool_]:
        """Which objects [G] are to be found: all but those that the rule leaves aside."""
        return ~(self.difficult & rule.leaves_difficult)


def images(
    ground_truth: Sequence[AnnotatedImage],
    detections: Mapping[str, Detections],
    num_classes: int,
    blacklist: Collection[tuple[str, int]] = frozenset(),
) -> Iterator[ImageInput]:
    """Each picture without what is passed over: as for :func:`evaluate`, which see for errors."""
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
        yield ImageInput(
            record,
            record.boxes[counts],
            labels,
            record.difficult[counts],
            Detections(found.boxes[rows], found.labels[rows], found.scores[rows]),
        )


def evaluate(
    ground_truth: Sequence[AnnotatedImage],
    detections: Mapping[str, Detections],
    num_classes: int,
    rule: Rule,
    blacklist: Collection[tuple[str, int]] = frozenset(),
) -> DetEvaluation:
    """Measure detections, by image id, against the records of a set; a picture without any may be absent.

    ``blacklist`` holds pairs of image id and label that are passed over, objects and detections alike
    (:func:`detector.evaluation.ilsvrc.read_blacklist`). A partial record counts as blacklisted for every
    class that it does not list. Equal scores rank in the order of ``ground_truth``.

    Raises ParameterError if a picture stands twice in ``ground_truth``, if there are detections for one that
    does not, if a label is not in 0..num_classes-1, or if a score is NaN.
    """
    positives = np.zeros(num_classes, np.int64)
    judged = [_Judged(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.bool_))]
    for image in images(ground_truth, detections, num_classes, blacklist):
        wanted = image.wanted(rule)
        positives += np.bincount(image.labels[wanted], minlength=num_classes)
        found = find(image, rule)
        counts = np.append(wanted, True)[found]  # -1, for none, reads what is appended
        parts = image.found.labels, image.found.scores, found >= 0
        judged.append(_Judged(*(part[counts] for part in parts)))
    labels, scores, correct = (np.concatenate(column) for column in zip(*judged, strict=True))
    return figures(labels, scores, correct, positives, rule)


def figures(
    labels: NDArray[np.int64],
    scores: NDArray[np.floating],
    correct: NDArray[np.bool_],
    positives: NDArray[np.int64],
    rule: Rule,
) -> DetEvaluation:
    """Figures from the labels, scores and truth, all [*], of every picture's detections, and objects [C]."""
    by_label = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=len(positives)))
    curves = tuple(
        precision_recall(scores[mine], correct[mine], int(count))
        for mine, count in zip(np.split(by_label, ends[:-1]), positives, strict=True)
    )
    measured = positives > 0
    return DetEvaluation(
        ap=np.where(measured, [rule.average_precision(curve) for curve in curves], np.nan),
        recall=np.where(
            measured, [curve.recall[-1] if len(curve.recall) else 0.0 for curve in curves], np.nan
        ),
        ground_truths=positives,
        detections=np.array([len(curve.scores) for curve in curves], np.int64),
        curves=curves,
    )


def find(image: ImageInput, rule: Rule) -> NDArray[np.int64]:
    """Which object of the picture each of its detections finds by the rule: indices [D], -1 for none."""
    labels = image.found.labels
    found = np.full(len(labels), -1, np.int64)
    for label in np.unique(image.labels):
        mine, truths = np.flatnonzero(labels == label), np.flatnonzero(image.labels == label)
        difficult = image.difficult[truths] & rule.leaves_difficult
        matched = rule.match(image.found.boxes[mine], image.boxes[truths], difficult)
        found[mine[matched >= 0]] = truths[matched[matched >= 0]]
    return found


class _Judged(NamedTuple):
    """Detections of one picture, best first: labels, scores, and whether each is correct, all [D]."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    correct: NDArray[np.bool_]


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

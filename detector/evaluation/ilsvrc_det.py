"""Average precision by the rules of the ILSVRC detection task.

ILSVRC2014 development kit, section 2.3 and ``eval_detection.m``; Russakovsky et al., arXiv 1409.0575,
section 4.3. Letters for shapes: D detections and G ground truths of one class in one picture, C classes.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes, area, intersection
from detector.datasets.record import Record
from detector.errors import ParameterError
from detector.evaluation.precision_recall import PrecisionRecall, average_precision, precision_recall
from detector.results import Detections

_IOU = 0.5
_TOLERANCE = 10  # pixels that a drawn box may be longer and wider than a small object


@dataclass(frozen=True)
class DetEvaluation:
    """Figures of every class, and their mean.

    ap [C] and recall [C] float64 in 0..1, NaN where the set holds no object of the class; ground_truths [C]
    and detections [C] int64, without blacklisted ones; curves: one a class.
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


def evaluate_det(
    ground_truth: Sequence[Record],
    detections: Mapping[str, Detections],
    num_classes: int,
    blacklist: Collection[tuple[str, int]] = frozenset(),
) -> DetEvaluation:
    """Measure detections, by image id, against the records of a set; a picture without any may be absent.

    ``blacklist`` holds pairs of image id and label that are passed over, objects and detections alike
    (:func:`detector.evaluation.blacklist.read_blacklist`). A partial record counts as blacklisted for every
    class that it does not list. Equal scores rank in the order of ``ground_truth``.

    Raises ParameterError if a picture stands twice in ``ground_truth``, if there are detections for one that
    does not, if a label is not in 0..num_classes-1, or if a score is NaN.
    """
    _check_ids(ground_truth, detections)
    banned: dict[str, list[int]] = {}
    for image_id, label in blacklist:
        banned.setdefault(image_id, []).append(label)

    positives = np.zeros(num_classes, np.int64)
    judged = [_Judged(np.zeros(0, np.int64), np.zeros(0, np.float32), np.zeros(0, np.bool_))]
    for record in ground_truth:
        passed_over = banned.get(record.image_id, [])
        counts = ~np.isin(record.labels, passed_over)
        boxes, labels = record.boxes[counts], record.labels[counts]
        _check_labels(record.image_id, labels, num_classes)
        positives += np.bincount(labels, minlength=num_classes)

        found = detections.get(record.image_id)
        if found is None:
            continue
        _check_labels(record.image_id, found.labels, num_classes)
        if np.isnan(found.scores).any():
            raise ParameterError(f"a detection of picture {record.image_id} has the score NaN")
        counts = ~np.isin(found.labels, passed_over)
        if record.partial:
            counts &= np.isin(found.labels, labels)
        judged.append(_judge(found, counts, boxes, labels))

    curves = _curves(judged, positives)
    measured = positives > 0
    return DetEvaluation(
        ap=np.where(measured, [average_precision(curve) for curve in curves], np.nan),
        recall=np.where(
            measured, [curve.recall[-1] if len(curve.recall) else 0.0 for curve in curves], np.nan
        ),
        ground_truths=positives,
        detections=np.array([len(curve.scores) for curve in curves], np.int64),
        curves=curves,
    )


def iou_thresholds(boxes: Boxes) -> NDArray[np.float64]:
    """The IoU [G] at which each ground truth counts as found: 0.5, less for objects under about 25 pixels."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).astype(np.float64).T
    return np.minimum(_IOU, width * height / ((width + _TOLERANCE) * (height + _TOLERANCE)))


def match(boxes: Boxes, ground_truth: Boxes) -> NDArray[np.int64]:
    """Which ground truth [G,4] each detection [D,4], best first, finds: indices [D], -1 for none.

    All are of one class and one picture. Each detection in turn takes, among the ground truths not yet taken
    whose own threshold its IoU reaches, the one with the highest IoU: the first of equals.
    """
    # Areas of whole-pixel boxes are exact in float32; the quotient is compared with a float64 threshold.
    shared = intersection(boxes, ground_truth).astype(np.float64)  # D x G
    union = area(boxes).astype(np.float64)[:, None] + area(ground_truth) - shared
    iou = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
    iou[(iou < iou_thresholds(ground_truth)) | (shared <= 0)] = 0
    taken = np.full(len(boxes), -1, np.int64)
    for index in np.flatnonzero(iou.any(axis=1)):
        best = int(iou[index].argmax())
        if iou[index, best] > 0:
            taken[index] = best
            iou[:, best] = 0
    return taken


class _Judged(NamedTuple):
    """Detections of one picture, best first: labels, scores, and whether each is correct, all [D]."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    correct: NDArray[np.bool_]


def _judge(
    found: Detections, counts: NDArray[np.bool_], truth_boxes: Boxes, truth_labels: NDArray[np.int64]
) -> _Judged:
    rows = np.flatnonzero(counts)
    rows = rows[np.argsort(-found.scores[rows], kind="stable")]
    boxes, labels = found.boxes[rows], found.labels[rows]
    correct = np.zeros(len(rows), np.bool_)
    for label in np.unique(truth_labels):
        mine = np.flatnonzero(labels == label)
        correct[mine] = match(boxes[mine], truth_boxes[truth_labels == label]) >= 0
    return _Judged(labels, found.scores[rows], correct)


def _curves(judged: Sequence[_Judged], positives: NDArray[np.int64]) -> tuple[PrecisionRecall, ...]:
    labels, scores, correct = (np.concatenate(column) for column in zip(*judged, strict=True))
    by_class = np.argsort(labels, kind="stable")
    ends = np.cumsum(np.bincount(labels, minlength=len(positives)))
    rows = np.split(by_class, ends[:-1])
    return tuple(
        precision_recall(scores[mine], correct[mine], int(count))
        for mine, count in zip(rows, positives, strict=True)
    )


def _check_ids(ground_truth: Sequence[Record], detections: Mapping[str, Detections]) -> None:
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

"""Intersection over union as precisely as a rule with a threshold needs it.

Measuring a detector on a data set whose classes are other ones than its own.

Letters for shapes: D detections, K classes of the detector, C of the data set.

Precision-recall curves and the area under them. Letters: D detections of one class, best first.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms

from detector.datasets.record import Record
from detector.errors import ParameterError
from detector.structures.boxes import Boxes, area, intersection
from detector.structures.class_aliases import class_aliases
from detector.structures.classes import ClassList
from detector.structures.detections import Detections


def exact_iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Intersection over union [N,M] in float64 of boxes a [N,4] and b [M,4]; 0 where they share nothing.

    Areas of whole-pixel boxes are exact in float32, so an IoU of just the threshold is told from one below.
    """
    shared = intersection(a, b).astype(np.float64)
    union = area(a).astype(np.float64)[:, None] + area(b) - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


_NMS_IOU = 0.3


@dataclass(frozen=True)
class ClassMatch:
    """Which of the data's classes each class of a detector is: labels [K], -1 where it is none of them."""

    detector: ClassList
    data: ClassList
    labels: NDArray[np.int64]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Which classes of the data set [C] the detector knows."""
        return np.isin(np.arange(len(self.data)), self.labels)

    @property
    def is_identity(self) -> bool:
        """Whether both lists are the same, id by id."""
        return self.detector.ids == self.data.ids

    @property
    def unknown_names(self) -> list[str]:
        """The classes of the data set that the detector knows nothing of."""
        return [name for name, known in zip(self.data.names, self.known, strict=True) if not known]

    def detections(self, found: Detections) -> Detections:
        """Detections with the data's labels, without those of no class of it.

        Where several classes of the detector are one of the data set ("bottle"), they see one object more
        than once: then the best of overlapping boxes stays, as it does within a class.
        """
        if self.is_identity:
            return found
        labels = self.labels[found.labels]
        rows = np.flatnonzero(labels >= 0)
        times = Counter(self.labels.tolist())
        joined = np.array([times[label] > 1 for label in labels[rows].tolist()], np.bool_)
        ours = rows[joined]
        kept = batched_nms(
            torch.from_numpy(found.boxes[ours]),
            torch.from_numpy(found.scores[ours]),
            torch.from_numpy(labels[ours]),
            _NMS_IOU,
        ).numpy()
        rows = np.sort(np.concatenate([rows[~joined], ours[kept]]))  # best first, as they came
        return Detections(found.boxes[rows], labels[rows], found.scores[rows])

    def record(self, record: Record) -> Record:
        """The record without objects of classes that the detector knows nothing of."""
        asked_for = self.known[record.labels]
        if asked_for.all():
            return record
        return replace(
            record,
            boxes=record.boxes[asked_for],
            labels=record.labels[asked_for],
            difficult=record.difficult[asked_for],
        )


def match_classes(detector: ClassList, data: ClassList) -> ClassMatch:
    """Match classes by their ids, else by what they mean: names, aliases, synsets.

    Raises ParameterError if no class matches.
    """
    index = data.index()
    kinds = [class_aliases(class_id, name) for class_id, name in zip(data.ids, data.names, strict=True)]
    labels = []
    for class_id, name in zip(detector.ids, detector.names, strict=True):
        mine = class_aliases(class_id, name)
        same = [label for label, kind in enumerate(kinds) if kind & mine]
        labels.append(index.get(class_id, same[0] if same else -1))
    match = ClassMatch(detector, data, np.array(labels, np.int64))
    if not match.known.any():
        raise ParameterError(
            f"the detector knows none of the data's classes: it has {_some(detector)}, "
            f"the data {_some(data)}; train one on them with training/finetune_det.py"
        )
    return match


def _some(classes: ClassList) -> str:
    shown = ", ".join(classes.names[:4])
    return shown if len(classes) <= 4 else f"{shown} and {len(classes) - 4} more"


@dataclass(frozen=True)
class PrecisionRecall:
    """One point a detection, by falling score: what keeping it and all better ones gives.

    recall [D], precision [D], scores [D], all float64. Without ground truth the recall is NaN throughout.
    """

    recall: NDArray[np.float64]
    precision: NDArray[np.float64]
    scores: NDArray[np.float64]


def precision_recall(
    scores: NDArray[np.floating], correct: NDArray[np.bool_], ground_truths: int
) -> PrecisionRecall:
    """The curve of detections with scores [D] of which correct [D] are true, against that many ground truths.

    Equal scores keep the order in which they come.
    """
    order = np.argsort(-scores, kind="stable")
    true = np.cumsum(correct[order])
    return PrecisionRecall(
        recall=true / ground_truths if ground_truths else np.full(len(order), np.nan),
        precision=true / np.arange(1, len(order) + 1),
        scores=scores[order].astype(np.float64),
    )


def average_precision(curve: PrecisionRecall) -> float:
    """Area under the curve after precision is made monotone: at each recall the best at that or a higher one.

    The rule of PASCAL VOC since 2010 and of ILSVRC; not the eleven points of VOC 2007. 0 without
    detections; NaN where the recall is.
    """
    best_from_here = np.maximum.accumulate(curve.precision[::-1])[::-1]
    return float(np.sum(np.diff(curve.recall, prepend=0.0) * best_from_here))

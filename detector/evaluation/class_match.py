"""Match the classes of a detector with those of a data set that has others.

Letters for shapes: D detections, K classes of the detector, C of the data set.
"""

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import ParameterError
from detector.inference.thresholds import Thresholds
from detector.structures.classes import ClassList, class_aliases
from detector.structures.detections import Detections
from detector.structures.nms import suppress

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
        """Return detections with the data's labels, without those of no class of it.

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
        kept = suppress(found.boxes[ours], found.scores[ours], _NMS_IOU, labels[ours])
        rows = np.sort(np.concatenate([rows[~joined], ours[kept]]))  # best first, as they came
        return Detections(found.boxes[rows], labels[rows], found.scores[rows])

    def thresholds(self, of_data: Thresholds) -> Thresholds:
        """Return thresholds of the data's classes as those of the detector's: the common one for a class that
        is none of the data's."""
        scores = (of_data.scores[label] if label >= 0 else of_data.common for label in self.labels.tolist())
        return replace(of_data, scores=tuple(scores))

    def record(self, record: AnnotatedImage) -> AnnotatedImage:
        """Return the record without objects of classes that the detector knows nothing of."""
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
        aliases = class_aliases(class_id, name)
        same = [label for label, kind in enumerate(kinds) if kind & aliases]
        labels.append(index.get(class_id, same[0] if same else -1))
    match = ClassMatch(detector, data, np.array(labels, np.int64))
    if not match.known.any():
        raise ParameterError(
            f"the detector knows none of the data's classes: it has {_some(detector)}, "
            f"the data {_some(data)}; train one on them with `detector train`"
        )
    return match


def _some(classes: ClassList) -> str:
    shown = ", ".join(classes.names[:4])
    return shown if len(classes) <= 4 else f"{shown} and {len(classes) - 4} more"

"""What detection and classification of one picture give, and their JSON form."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes
from detector.classes import ClassList


@dataclass(frozen=True)
class Detections:
    """Objects found in one picture, best first.

    boxes [D,4] float32 in pixels of the upright picture, labels [D] int64, scores [D] float32 in 0..1.
    """

    boxes: Boxes
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]

    def __len__(self) -> int:
        return len(self.boxes)

    def as_dicts(self, classes: ClassList) -> list[dict[str, Any]]:
        """One dict an object: ``label``, ``wnid``, ``score`` and ``box`` in pixels."""
        return [
            {
                "label": classes.names[label],
                "wnid": classes.ids[label],
                "score": round(float(score), 4),
                "box": dict(zip(("xmin", "ymin", "xmax", "ymax"), _pixels(box), strict=True)),
            }
            for box, label, score in zip(self.boxes, self.labels, self.scores, strict=True)
        ]


@dataclass(frozen=True)
class Classification:
    """The likeliest classes of one picture, best first: labels [K] int64, scores [K] float32 in 0..1."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]

    def as_dicts(self, classes: ClassList) -> list[dict[str, Any]]:
        """One dict a class: ``label``, ``wnid`` and ``score``."""
        return [
            {"label": classes.names[label], "wnid": classes.ids[label], "score": round(float(score), 4)}
            for label, score in zip(self.labels, self.scores, strict=True)
        ]


def _pixels(box: NDArray[np.float32]) -> list[float]:
    return [round(float(value), 1) for value in box]

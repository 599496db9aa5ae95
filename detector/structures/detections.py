"""What detection and classification of one image give, and their JSON form."""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.structures.boxes import Boxes
from detector.structures.classes import ClassList

_WORDNET_ID = re.compile(r"n[0-9]{8}")  # of a synset, as ILSVRC's lists name their classes


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
        """Return one dict an object: ``label``, ``wnid`` or ``class_id``, ``score`` and ``box`` in pixels.

        A class whose id is a WordNet id has a ``wnid``, any other a ``class_id``.
        """
        return [
            {
                **_class_keys(classes, label),
                "score": round(score, 4),
                "box": {
                    "xmin": round(x1, 1),
                    "ymin": round(y1, 1),
                    "xmax": round(x2, 1),
                    "ymax": round(y2, 1),
                },
            }
            for (x1, y1, x2, y2), label, score in zip(
                self.boxes.tolist(), self.labels.tolist(), self.scores.tolist(), strict=True
            )
        ]


@dataclass(frozen=True)
class Classification:
    """The likeliest classes of one picture, best first: labels [K] int64, scores [K] float32 in 0..1."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float32]

    def as_dicts(self, classes: ClassList) -> list[dict[str, Any]]:
        """Return one dict a class: ``label``, ``wnid`` or ``class_id``, as of detections, and ``score``."""
        return [
            {**_class_keys(classes, label), "score": round(float(score), 4)}
            for label, score in zip(self.labels, self.scores, strict=True)
        ]


def _class_keys(classes: ClassList, label: int) -> dict[str, str]:
    class_id = classes.ids[label]
    key = "wnid" if _WORDNET_ID.fullmatch(class_id) else "class_id"
    return {"label": classes.names[label], key: class_id}

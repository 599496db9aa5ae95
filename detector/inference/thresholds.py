"""The lowest score of each class from which on a wanted share of detections is right.

They are measured on pictures held out (:mod:`detector.evaluation.thresholds`) and stored with the weights;
``score_threshold="auto"`` selects by them. Letters for shapes: C classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.io.terminal_text import printable


@dataclass(frozen=True)
class Thresholds:
    """Thresholds of scores; part of a detector's checkpoint.

    From ``scores`` (one a class, in the order of its labels) on a share of ``precision`` of the detections is
    right; ``common`` is that of all classes together. None says that no score reaches it: nothing of such a
    class is shown. ``measured_on`` says in words on which pictures, by which rule and profile.
    """

    precision: float
    common: float | None
    scores: tuple[float | None, ...]
    measured_on: str

    def __post_init__(self) -> None:
        """Raises ParameterError for shares or scores outside 0..1."""
        check_precision(self.precision)
        for score in (self.common, *self.scores):
            if score is not None and not (_is_number(score) and 0 <= score <= 1):
                raise ParameterError("thresholds must be scores in 0..1, or null where none does")

    @property
    def reached(self) -> bool:
        """Whether any class has a score that reaches the precision."""
        return any(score is not None for score in self.scores)

    @property
    def least(self) -> NDArray[np.float64]:
        """The least score [C] that is shown of each class; infinite where nothing is."""
        return np.array([np.inf if score is None else score for score in self.scores], np.float64)

    @classmethod
    def from_json(cls, entry: Mapping[str, Any], classes: int) -> "Thresholds":
        """Read what ``dataclasses.asdict`` made. Raises ParameterError for other entries, or thresholds of
        another number of classes."""
        known = {field.name for field in fields(cls)}
        if entry.keys() != known:
            raise ParameterError(f"thresholds must have the entries {', '.join(sorted(known))}")
        scores, measured_on = entry["scores"], entry["measured_on"]
        if not isinstance(scores, list | tuple) or len(scores) != classes:
            raise ParameterError(f"thresholds must have a score for each of the {classes} classes")
        if not isinstance(measured_on, str):
            raise ParameterError("measured_on of thresholds must be text")
        return cls(entry["precision"], entry["common"], tuple(scores), printable(measured_on))


def check_precision(precision: float) -> None:
    """Raises ParameterError for a share that cannot be wanted."""
    if not _is_number(precision) or not 0 < precision < 1:
        raise ParameterError(
            f"the precision wanted must lie between 0 and 1, got {printable(str(precision))}"
        )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)

"""What every proposal method returns."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from detector.structures.boxes import Boxes


class Source(IntEnum):
    """Which method a proposal came from."""

    SELECTIVE_SEARCH = 0
    MULTIBOX = 1
    REFERENCE = 2


@dataclass(frozen=True)
class Proposals:
    """Class-agnostic boxes of one picture, best first: a prefix is a good budget.

    boxes [R,4] float32 in pixels of the picture, source [R] int8 (a :class:`Source` each), objectness [R]
    float32 (MultiBox's confidence; for methods without one, NaN).
    """

    boxes: Boxes
    source: NDArray[np.int8]
    objectness: NDArray[np.float32]

    @classmethod
    def of(cls, boxes: Boxes, source: Source) -> "Proposals":
        """Make proposals of boxes [R,4] of one source, without objectness."""
        count = len(boxes)
        return cls(boxes, np.full(count, source, np.int8), np.full(count, np.nan, np.float32))

    def __len__(self) -> int:
        return len(self.boxes)

    def first(self, count: int | None) -> "Proposals":
        """Return the best ``count`` proposals, or all for None."""
        return Proposals(self.boxes[:count], self.source[:count], self.objectness[:count])

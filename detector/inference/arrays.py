"""Arrays: what is done with pixels and maps, wherever they live.

Each engine has its own: NumPy's for those that read and write the host's memory, torch's for a GPU and for
torch on a CPU. The steps of inference hand arrays on without looking into them. Letters for shapes: H and W
of an image, R regions, K channels of maps, h x w their cells.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from detector.inference.preprocessing import Preprocessing
from detector.io.decoding import RGB
from detector.structures.boxes import Boxes

Array: TypeAlias = Any
"""A float32 array of the kind that an engine reads, on its device: a NumPy array or a torch tensor."""


class Arrays(Protocol):
    """Operations on arrays of one kind in one place."""

    def normalise(self, image: RGB, preprocessing: Preprocessing) -> Array:
        """Turn an image [H,W,3] uint8 into [3,H,W] float32, mean taken out, divided by the deviation.

        Raises ParameterError for what is no such image.
        """

    def pad(self, image: Array, before: int, right: int, below: int) -> Array:
        """Surround an image [3,H,W] by zeros: [1,3,H',W'], ``before`` pixels left and above."""

    def halve(self, image: Array) -> Array:
        """Halve an image [3,H,W]: means of 2x2 pixels, or of what there is of them; sides are rounded up."""

    def sample(self, image: Array, windows: Boxes, size: int) -> Array:
        """Sample an image [3,H,W] on a size x size grid over each window [R,4], bilinear, zero outside:
        [R,3,size,size]."""

    def align(self, maps: Array, regions: Boxes, size: int, scale: float) -> Array:
        """Cut regions [R,4] out of maps [1,K,h,w]: [R,K,size,size].

        RoIAlign (arXiv 1703.06870, section 3): ``scale`` turns the regions' coordinates into cells, whose
        centres are half a cell from their edge; bilinear, one sample a cell.
        """

    def mirror(self, rows: Array) -> Array:
        """Turn rows [R,...,W] left to right."""

    def take(self, rows: Array, index: NDArray[np.int64]) -> Array:
        """Return some rows by their numbers."""

    def concatenate(self, parts: Sequence[Array]) -> Array:
        """Put rows one after the other."""

    def copy(self, rows: Array) -> Array:
        """Return rows in memory of their own."""

    def in_groups(
        self, groups: NDArray[np.integer], make: Callable[[int, NDArray[np.int64]], Array]
    ) -> Array:
        """Make rows group by group and return them in their order.

        ``groups`` [R] is each row's group; ``make`` gets a group and the numbers of its rows.
        """


def make_in_groups(
    arrays: Arrays, groups: NDArray[np.integer], make: Callable[[int, NDArray[np.int64]], Array]
) -> Array:
    """Do what :meth:`Arrays.in_groups` says by means of its other methods."""
    numbers = np.unique(groups).tolist() or [0]
    rows = [np.flatnonzero(groups == number) for number in numbers]
    parts = [make(number, some) for number, some in zip(numbers, rows, strict=True)]
    if len(parts) == 1:
        return parts[0]
    return arrays.take(arrays.concatenate(parts), np.argsort(np.concatenate(rows), kind="stable"))

"""Anchors (MultiBox calls them priors): the boxes that it starts from, found in the ground truth by k-means.

Erhan et al., "Scalable Object Detection using Deep Neural Networks" (CVPR 2014), section 3, clusters the
boxes of the training set. Szegedy et al., "Scalable, High-Quality Object Detection" (arXiv 1412.1441),
section 3, makes the network convolutional: the same shapes at every cell of grids of several strides. Letters
for shapes: G ground truths, S shapes, K anchors. All boxes are in pixels of the padded image at one scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.structures.boxes import Boxes, iou_of_sides

Sides = NDArray[np.float32]
"""Widths and heights of boxes, [G,2] or [S,2], in pixels."""


@dataclass(frozen=True, eq=False)
class Grid:
    """Anchors at cells ``stride`` pixels apart, at each of them boxes of sides [S,2], smallest first.

    ``first_centre`` is how many pixels the centre of the first cell has from the edge.
    """

    stride: float
    first_centre: float
    sides: Sides

    def __eq__(self, other: object) -> bool:
        # Left to the dataclass, arrays would be compared one by one and have no truth value.
        if not isinstance(other, Grid):
            return NotImplemented
        places = (self.stride, self.first_centre) == (other.stride, other.first_centre)
        return places and np.array_equal(self.sides, other.sides)

    def boxes(self, height: int, width: int) -> Boxes:
        """Return the anchors [height*width*S,4] of so many cells: by row, by column, by shape."""
        y, x = (
            np.arange(cells, dtype=np.float32) * self.stride + self.first_centre for cells in (height, width)
        )
        centres = np.stack(np.meshgrid(x, y, indexing="xy"), axis=-1)[:, :, None]  # height x width x 1 x 2
        half = self.sides / 2
        return np.concatenate([centres - half, centres + half], axis=-1).reshape(-1, 4).astype(np.float32)


def cluster_sides(sides: Sides, count: int, *, seed: int = 0, rounds: int = 100) -> Sides:
    """Return the ``count`` shapes [S,2] that ground truths of sides [G,2] are nearest to, smallest first.

    k-means under the distance 1 - IoU of two boxes with one centre, so that a pixel matters more to a small
    box; a cluster's new shape is the geometric mean of its members. The start is k-means++ from ``seed``.

    Raises ParameterError if there are fewer different ground truths than shapes to find.
    """
    sides = np.asarray(sides, np.float32)
    if len(np.unique(sides, axis=0)) < count:
        raise ParameterError(f"{count} shapes of priors need at least as many different boxes to learn from")
    rng = np.random.default_rng(seed)
    shapes = _spread_out(sides, count, rng)
    owner = np.full(len(sides), -1)
    for _ in range(rounds):
        nearest = iou_of_sides(sides, shapes).argmax(axis=1)
        if (nearest == owner).all():
            break
        owner = nearest
        for shape in range(count):
            members = sides[owner == shape]
            # A shape that lost all its members starts anew where the fit is worst.
            worst = iou_of_sides(sides, shapes).max(axis=1).argmin()
            shapes[shape] = np.exp(np.log(members).mean(axis=0)) if len(members) else sides[worst]
    return shapes[np.argsort(shapes.prod(axis=1), kind="stable")]


def share_out(shapes: Sides, strides: Sequence[int]) -> list[Sides]:
    """Share shapes [S,2] out to grids of these strides in pixels, finest first, each to the coarsest that is
    fine enough.

    A grid is fine enough for a shape whose geometric mean side is at least twice the stride: wherever an
    object of that shape lies, some anchor is then less than a quarter of its side away. The finest grid takes
    what is too small for all. A grid that no shape suits gets the shape nearest to it, so that every level
    learns something.

    Raises ParameterError if there are fewer shapes than grids.
    """
    if len(shapes) < len(strides):
        raise ParameterError(f"{len(strides)} grids need at least as many shapes, got {len(shapes)}")
    pitch = np.array(sorted(strides), np.float64)
    side = np.sqrt(shapes.prod(axis=1))
    level = np.maximum((side[:, None] >= 2 * pitch).sum(axis=1) - 1, 0)
    for index in range(len(pitch)):
        if not (level == index).any():
            shared = [shape for shape in range(len(shapes)) if (level == level[shape]).sum() > 1]
            if shared:
                level[min(shared, key=lambda shape: abs(side[shape] - 2 * pitch[index]))] = index
    return [shapes[level == index] for index in range(len(pitch))]


def _spread_out(sides: Sides, count: int, rng: np.random.Generator) -> Sides:
    """Draw starts by k-means++: each next one in proportion to how badly it is covered so far."""
    chosen = [sides[rng.integers(len(sides))]]
    while len(chosen) < count:
        distance = 1 - iou_of_sides(sides, np.array(chosen)).max(axis=1)
        chosen.append(sides[rng.choice(len(sides), p=distance / distance.sum())])
    return np.array(chosen, np.float32)

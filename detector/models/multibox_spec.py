"""The specification of a MultiBox head: the anchors, and which maps of which scales it reads.

Szegedy et al., "Scalable, High-Quality Object Detection" (arXiv 1412.1441): anchors (MultiBox calls them
priors) on grids of several strides, at several scales of the image. Letters for shapes: K anchors.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.inference.image_scales import ImageScales, Square
from detector.proposals.anchors import Grid
from detector.structures.boxes import Boxes

_MOST = 1024  # channels, and pixels from cell to cell: far beyond any head, but bounds the memory


@dataclass(frozen=True)
class MultiBoxSpec:
    """The specification of a head without its weights; part of the checkpoint's metadata.

    ``stages`` are the trunk's stages that are read, the first one for the finest grid, the second for all
    others; ``channels`` are their numbers of channels. ``image`` says at which scales the image is seen: the
    head reads the maps of each (earlier files have the ``size`` of a square that the image is stretched to).
    ``grids`` carry the anchors, finest first; each after the second has half the cells of the one before,
    rounded up.
    """

    stages: tuple[str, str]
    channels: tuple[int, int]
    image: ImageScales | Square
    grids: tuple[Grid, ...]

    def anchors(self, fine: tuple[int, int], coarse: tuple[int, int]) -> Boxes:
        """Return all anchors [K,4] of an image, in pixels of the padded image at one scale.

        ``fine`` and ``coarse`` are the heights and widths of the maps that are read. The order is that of
        the head's outputs.
        """
        cells = [fine, coarse]
        while len(cells) < len(self.grids):
            cells.append(((cells[-1][0] + 1) // 2, (cells[-1][1] + 1) // 2))
        return np.concatenate([grid.boxes(*size) for grid, size in zip(self.grids, cells, strict=True)])

    def as_json(self) -> dict[str, Any]:
        """Return the JSON object that :meth:`from_json` reads."""
        grids = [{**vars(grid), "sides": grid.sides.tolist()} for grid in self.grids]
        return {**asdict(self), "grids": grids}

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> "MultiBoxSpec":
        """Make a specification from a JSON object.

        Raises KeyError or ValueError for an entry of which no head can be made; the message begins with the
        name of what is wrong.
        """
        stages, channels, grid_list = (entry[name] for name in ("stages", "channels", "grids"))
        if not _is_pair(stages) or not all(isinstance(stage, str) for stage in stages):
            raise ValueError("stages, which must be two names")
        if not _is_pair(channels):
            raise ValueError("channels, which must be two numbers")
        (fine, coarse), (fine_channels, coarse_channels) = stages, channels
        if not isinstance(grid_list, list) or not all(isinstance(grid, dict) for grid in grid_list):
            raise ValueError("grids, which must be a list of objects with stride, first_centre and sides")
        square = "size" in entry
        image = Square(_positive(entry["size"], "size")) if square else _image(entry["image"])
        grids = tuple(
            _grid_of_square(grid, entry["size"])
            if square
            else _grid(grid, of_square=isinstance(image, Square))
            for grid in grid_list
        )
        if len(grids) < 2:
            raise ValueError("grids, of which two maps need at least two")
        for grid in grids:
            if not len(grid.sides) or not ((grid.sides > 0) & np.isfinite(grid.sides)).all():
                raise ValueError("sides, which must be positive, and of one shape a grid at least")
        widths = _positive(fine_channels, "channels"), _positive(coarse_channels, "channels")
        return cls((fine, coarse), widths, image, grids)


def _image(entry: Any) -> ImageScales | Square:
    if isinstance(entry, dict) and entry.keys() == {"size"}:
        return Square(_positive(entry["size"], "size"))
    if not isinstance(entry, dict) or entry.keys() != {"scales", "long_side", "padding"}:
        raise ValueError("image, which must be an object with scales, long_side and padding")
    scales = tuple(entry["scales"]) if isinstance(entry["scales"], list) else entry["scales"]
    return ImageScales(scales, entry["long_side"], entry["padding"])


def _grid(entry: Mapping[str, Any], *, of_square: bool) -> Grid:
    """Make a grid; that of a square may have cells between pixels."""
    stride = entry["stride"]
    stride = _length(stride, "stride", above=0) if of_square else _positive(stride, "stride")
    return Grid(stride, _length(entry["first_centre"], "first_centre"), _sides(entry["sides"]))


def _grid_of_square(entry: Mapping[str, Any], size: int) -> Grid:
    """Make the grid of an earlier file, which states how many cells a side of the square has."""
    pitch = size / _positive(entry["cells"], "cells")
    return Grid(pitch, pitch / 2, _sides(entry["sides"]))


def _is_pair(value: object) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2


def _sides(value: object) -> NDArray[np.float32]:
    try:
        return np.array(value, np.float32).reshape(-1, 2)
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError("sides, which must be pairs of numbers") from error


def _length(value: object, what: str, *, above: float = -1) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not max(above, 0) <= value <= _MOST:
        raise ValueError(f"{what}, which must be a number in 0..{_MOST}")
    if value <= above:
        raise ValueError(f"{what}, which must be more than {above}")
    return value


def _positive(number: object, what: str) -> int:
    if not isinstance(number, int) or isinstance(number, bool) or not 1 <= number <= _MOST:
        raise ValueError(f"{what}, which must be a whole number in 1..{_MOST}")
    return number

"""The MultiBox network: a head on the maps of a classifier's trunk that proposes boxes of objects.

Erhan et al., "Scalable Object Detection using Deep Neural Networks" (CVPR 2014): a confidence and box offsets
for each of K anchors (there: priors). The convolutional form is that of Szegedy et al., "Scalable,
High-Quality Object Detection" (arXiv 1412.1441): the anchors lie on grids of several strides, at several
scales of the image. Letters for shapes: N images.
"""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from detector.errors import ParameterError
from detector.inference.image_scales import ImageScales, Square
from detector.proposals.anchors import Grid
from detector.structures.boxes import Boxes

INITIAL_OBJECTNESS = 0.01
"""The objectness of every anchor before training: most anchors hold no object."""

SCALE = (0.1, 0.1, 0.2, 0.2)
"""Offsets are divided by these, as R-CNN's are: an output of 1 moves a box by a typical error."""

_WIDTH, _FINE_WIDTH, _GROUPS = 192, 64, 16

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


class MultiBoxHead(nn.Module):
    """The head that predicts objectness and box offsets of every anchor from the trunk's maps at two depths.

    Normalisation is by groups of channels: it is the same in training and in use, for every size of batch.
    """

    def __init__(self, spec: MultiBoxSpec) -> None:
        super().__init__()
        self.spec = spec
        fine, coarse = spec.channels
        shapes = [len(grid.sides) for grid in spec.grids]
        self.reduce_fine = nn.Conv2d(fine, _FINE_WIDTH, 1)
        self.reduce = _block(coarse, _WIDTH, 1)
        self.mix = _block(_WIDTH, _WIDTH, 3)
        self.down = nn.ModuleList(_block(_WIDTH, _WIDTH, 3, stride=2) for _ in shapes[2:])
        self.context = nn.Conv2d(_WIDTH, _FINE_WIDTH, 1)
        self.norm_fine = nn.GroupNorm(_GROUPS, _FINE_WIDTH)
        self.mix_fine = _block(_FINE_WIDTH, _FINE_WIDTH, 3)
        widths = [_FINE_WIDTH] + [_WIDTH] * (len(shapes) - 1)
        outputs = [
            nn.Conv2d(width, count * 5, 3, padding=1) for width, count in zip(widths, shapes, strict=True)
        ]
        self.predict = nn.ModuleList(outputs)
        _initialise(self, outputs)

    def forward(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Predict [N,K,5], the objectness logit and whitened offsets, from maps at two depths.

        With GoogLeNet at 224 pixels the maps are [N,480,28,28] and [N,832,14,14]; any other size will do.
        """
        level = self.mix(self.reduce(coarse))  # N x 192 x 14 x 14
        above = F.interpolate(self.context(level), size=fine.shape[2:], mode="nearest")
        detail = torch.relu(self.norm_fine(self.reduce_fine(fine) + above))  # N x 64 x 28 x 28
        levels = [self.mix_fine(detail), level]
        for down in self.down:
            levels.append(down(levels[-1]))  # N x 192 x 7 x 7, x 4 x 4
        outputs = [
            predict(x).permute(0, 2, 3, 1).reshape(len(x), -1, 5)  # N x h*w*shapes x 5
            for predict, x in zip(self.predict, levels, strict=True)
        ]
        return torch.cat(outputs, dim=1)


def objectness_and_offsets(output: Tensor) -> tuple[Tensor, Tensor]:
    """Split outputs [N,K,5] into objectness [N,K] in 0..1, and offsets [N,K,4] for ``boxes.decode``."""
    return output[..., 0].sigmoid(), output[..., 1:] * output.new_tensor(SCALE)


def stages_read(features: nn.Sequential, stages: Sequence[str]) -> int:
    """Return how many stages of a trunk must run for a head that reads ``stages``.

    Raises ParameterError if the trunk lacks one of them.
    """
    names = [name for name, _ in features.named_children()]
    unknown = [name for name in stages if name not in names]
    if unknown:
        raise ParameterError(f"the trunk has no stage {unknown[0]!r}; it has {', '.join(names)}")
    return 1 + max(names.index(name) for name in stages)


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


def _initialise(head: nn.Module, outputs: Sequence[nn.Conv2d]) -> None:
    for part in head.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            nn.init.zeros_(part.bias)  # type: ignore[arg-type]
    for output in outputs:
        nn.init.normal_(output.weight, std=0.01)
        with torch.no_grad():
            output.bias.view(-1, 5)[:, 0] = float(np.log(INITIAL_OBJECTNESS / (1 - INITIAL_OBJECTNESS)))  # type: ignore[union-attr]


def _block(channels: int, filters: int, kernel: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        OrderedDict(
            conv=nn.Conv2d(channels, filters, kernel, stride, padding=kernel // 2),
            norm=nn.GroupNorm(_GROUPS, filters),
            relu=nn.ReLU(inplace=True),
        )
    )

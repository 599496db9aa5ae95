"""The stages of the trunks as data: what a graph is built of, and the shapes that weights must have.

Letters for shapes: C channels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from detector.errors import CheckpointError, ParameterError

Shapes = dict[str, tuple[int, ...]]
"""Shapes of tensors by name."""


@dataclass(frozen=True)
class Conv:
    """A convolution with padding that keeps the size, and ReLU; ``normalised``: batch normalisation
    between."""

    name: str
    channels: int
    filters: int
    kernel: int = 1
    stride: int = 1
    normalised: bool = False

    def shapes(self) -> Shapes:
        """Return the shapes of its tensors."""
        shapes: Shapes = {"conv.weight": (self.filters, self.channels, self.kernel, self.kernel)}
        if not self.normalised:
            return shapes | {"conv.bias": (self.filters,)}
        names = ("weight", "bias", "running_mean", "running_var")
        return shapes | {f"bn.{name}": (self.filters,) for name in names} | {"bn.num_batches_tracked": ()}


@dataclass(frozen=True)
class Pool:
    """Maximum over ``kernel`` x ``kernel``, every second place; the last window may reach over the edge."""

    name: str
    kernel: int = 3

    def shapes(self) -> Shapes:
        """Return no shapes: it has no tensors."""
        return {}


@dataclass(frozen=True)
class Norm:
    """Local response normalisation (:mod:`detector.models.lrn`)."""

    name: str
    channels: int

    def shapes(self) -> Shapes:
        """Return no shapes: it has no tensors."""
        return {}


@dataclass(frozen=True)
class Inception:
    """Branches of convolutions side by side, concatenated; the one at ``pooled`` begins with a 3x3
    maximum."""

    name: str
    branches: tuple[tuple[Conv, ...], ...]

    def shapes(self) -> Shapes:
        """Return the shapes of its tensors."""
        return {
            f"{conv.name}.{name}": shape
            for branch in self.branches
            for conv in branch
            for name, shape in conv.shapes().items()
        }

    @property
    def pooled(self) -> int:
        """The number of the branch that begins with a maximum: the last."""
        return len(self.branches) - 1


Stage: TypeAlias = Conv | Pool | Norm | Inception


def _googlenet_inception(name: str, *widths: int) -> Inception:
    channels, c1x1, c3x3_reduce, c3x3, c5x5_reduce, c5x5, pool_proj = widths
    return Inception(
        name,
        (
            (Conv("branch1", channels, c1x1),),
            (Conv("branch3.0", channels, c3x3_reduce), Conv("branch3.1", c3x3_reduce, c3x3, 3)),
            (Conv("branch5.0", channels, c5x5_reduce), Conv("branch5.1", c5x5_reduce, c5x5, 5)),
            (Conv("branch_pool.1", channels, pool_proj),),
        ),
    )


def _torchvision_inception(name: str, *widths: int) -> Inception:
    channels, c1x1, c3x3_reduce, c3x3, c5x5_reduce, c5x5, pool_proj = widths
    return Inception(
        name,
        (
            (Conv("branch1", channels, c1x1, normalised=True),),
            (
                Conv("branch2.0", channels, c3x3_reduce, normalised=True),
                Conv("branch2.1", c3x3_reduce, c3x3, 3, normalised=True),
            ),
            (
                Conv("branch3.0", channels, c5x5_reduce, normalised=True),
                Conv("branch3.1", c5x5_reduce, c5x5, 3, normalised=True),
            ),
            (Conv("branch4.1", channels, pool_proj, normalised=True),),
        ),
    )


_WIDTHS = {
    "3a": (192, 64, 96, 128, 16, 32, 32),
    "3b": (256, 128, 128, 192, 32, 96, 64),
    "4a": (480, 192, 96, 208, 16, 48, 64),
    "4b": (512, 160, 112, 224, 24, 64, 64),
    "4c": (512, 128, 128, 256, 24, 64, 64),
    "4d": (512, 112, 144, 288, 32, 64, 64),
    "4e": (528, 256, 160, 320, 32, 128, 128),
    "5a": (832, 256, 160, 320, 32, 128, 128),
    "5b": (832, 384, 192, 384, 48, 128, 128),
}
"""Table 1 (arXiv 1409.4842): channels, #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj."""

TRUNKS: dict[str, tuple[Stage, ...]] = {
    "googlenet": (
        Conv("conv1", 3, 64, 7, stride=2),
        Pool("pool1"),
        Norm("norm1", 64),
        Conv("conv2_reduce", 64, 64),
        Conv("conv2", 64, 192, 3),
        Norm("norm2", 192),
        Pool("pool2"),
        *(_googlenet_inception(f"inception_{name}", *_WIDTHS[name]) for name in ("3a", "3b")),
        Pool("pool3"),
        *(
            _googlenet_inception(f"inception_{name}", *_WIDTHS[name])
            for name in ("4a", "4b", "4c", "4d", "4e")
        ),
        Pool("pool4"),
        *(_googlenet_inception(f"inception_{name}", *_WIDTHS[name]) for name in ("5a", "5b")),
    ),
    "torchvision-googlenet": (
        Conv("conv1", 3, 64, 7, stride=2, normalised=True),
        Pool("maxpool1"),
        Conv("conv2", 64, 64, normalised=True),
        Conv("conv3", 64, 192, 3, normalised=True),
        Pool("maxpool2"),
        *(_torchvision_inception(f"inception{name}", *_WIDTHS[name]) for name in ("3a", "3b")),
        Pool("maxpool3"),
        *(
            _torchvision_inception(f"inception{name}", *_WIDTHS[name])
            for name in ("4a", "4b", "4c", "4d", "4e")
        ),
        Pool("maxpool4", kernel=2),
        *(_torchvision_inception(f"inception{name}", *_WIDTHS[name]) for name in ("5a", "5b")),
    ),
}
"""The stages of each architecture, in order."""


def trunk_of(architecture: str, source: str = "the checkpoint") -> tuple[Stage, ...]:
    """Return the stages of an architecture. Raises CheckpointError for one that is unknown."""
    if architecture not in TRUNKS:
        raise CheckpointError(
            f"{source} is of architecture {architecture!r}; this version knows {', '.join(TRUNKS)}"
        )
    return TRUNKS[architecture]


def stages_through(trunk: Sequence[Stage], stage: str) -> int:
    """Return how many stages end with the one called ``stage``. Raises ParameterError if there is none."""
    names = [part.name for part in trunk]
    if stage not in names:
        raise ParameterError(f"the trunk has no stage {stage!r}, only {', '.join(names)}")
    return names.index(stage) + 1


def first_cell(trunk: Sequence[Stage]) -> tuple[float, int]:
    """Return where the first cell of a trunk's last maps has its centre, and how far it is from one cell to
    the next, both in pixels of the crop.

    The centre is not half a step from the edge: the poolings have no padding, so each moves it by half its
    window, while convolutions keep it where it is.
    """
    centre, step = 0.5, 1
    for stage in trunk:
        if isinstance(stage, Pool):
            centre += step * (stage.kernel - 1) / 2
            step *= 2
        elif isinstance(stage, Conv):
            step *= stage.stride
    return centre, step


def shapes_of(trunk: Sequence[Stage], prefix: str) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield the names and shapes of a trunk's tensors."""
    for stage in trunk:
        for name, shape in stage.shapes().items():
            yield f"{prefix}{stage.name}.{name}", shape

"""Sizes of maps: how many cells and channels stages leave, and whether heads can read them."""

from collections.abc import Sequence

from detector.errors import ParameterError
from detector.graphs.heads import CELLS
from detector.graphs.stages import Conv, Inception, Pool, Stage, stages_through, trunk_of
from detector.inference.image_scales import STRIDE, Square
from detector.models.metadata import Metadata
from detector.models.multibox_spec import MultiBoxSpec

_SIDE = 8 * STRIDE


def check_sizes(metadata: Metadata, *, heads: bool) -> None:
    """Raise ParameterError for crops, regions or images that a network cannot read as its metadata say;
    ``heads``: it has some that read the layout of a region."""
    trunk = trunk_of(metadata.architecture)
    crop, shared = metadata.preprocessing.size, metadata.shared_maps
    sides = {f"crops of {crop} pixels": cells_after(trunk, crop)}
    if metadata.detection is not None and shared is not None:
        cut = stages_through(trunk, shared.stage)
        if cells_after(trunk[:cut], _SIDE) != _SIDE // STRIDE:
            raise ParameterError(f"the stages through {shared.stage} have no stride of {STRIDE} pixels")
        sides[f"regions of {shared.size} cells"] = cells_after(trunk[cut:], shared.size)
    for what, cells in sides.items():
        if cells < 1 or (heads and metadata.detection is not None and cells != CELLS):
            needed = f"{CELLS} are needed" if heads else "at least one is needed"
            raise ParameterError(f"{what} leave {cells} cells a side, where {needed}")
    if metadata.multibox is not None:
        _check_multibox(trunk, metadata.multibox)


def channels_after(trunk: Sequence[Stage], stage: str) -> int:
    """Return how many channels a stage gives."""
    channels = 3
    for part in trunk[: stages_through(trunk, stage)]:
        if isinstance(part, Conv):
            channels = part.filters
        elif isinstance(part, Inception):
            channels = sum(branch[-1].filters for branch in part.branches)
    return channels


def cells_after(stages: Sequence[Stage], side: int) -> int:
    """Return how many cells a side stages leave of so many, 0 for none."""
    for part in stages:
        if isinstance(part, Conv):
            side = (side - 1) // part.stride + 1
        elif isinstance(part, Pool):
            side = max(-(-(side - part.kernel) // 2) + 1, 0)
    return side


def _check_multibox(trunk: Sequence[Stage], spec: MultiBoxSpec) -> None:
    side = spec.image.size if isinstance(spec.image, Square) else _SIDE
    for stage, channels, stride in zip(spec.stages, spec.channels, (STRIDE // 2, STRIDE), strict=True):
        given = channels_after(trunk, stage)
        if given != channels:
            raise ParameterError(f"a MultiBox head reads {channels} channels of {stage}, which has {given}")
        if cells_after(trunk[: stages_through(trunk, stage)], side) != side // stride:
            raise ParameterError(f"a MultiBox head reads {stage}, which has no stride of {stride} pixels")

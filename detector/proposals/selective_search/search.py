"""Selective search: class-agnostic boxes from hierarchies of superpixels.

Uijlings et al., "Selective Search for Object Recognition", IJCV 2013. Several colour spaces, scales of
superpixels and similarities give several hierarchies; their segments' boxes are the proposals.
"""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import product
from typing import Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.proposals.selective_search.color import COLOUR_SPACES, Pixels, Planes, check_rgb
from detector.proposals.selective_search.features import Gradients, describe, slopes
from detector.proposals.selective_search.grouping import Strategy, group
from detector.proposals.selective_search.ranking import rank_boxes
from detector.proposals.selective_search.segmentation import PixelGraph, pixel_graph, superpixels
from detector.structures.proposals import Proposals, Source

MAX_SIDE = 500
MIN_SIDE = 8
MIN_SUPERPIXEL_SCALE = 0.25

Mode = Literal["single", "fast", "quality"]

_log = logging.getLogger(__name__)

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Recipe:
    """The hierarchies of a mode: one for every colour space, scale k and strategy."""

    spaces: tuple[str, ...]
    scales: tuple[float, ...]
    strategies: tuple[Strategy, ...]


_CTSF = Strategy(colour=True, texture=True, size=True, fill=True)
_TSF = Strategy(texture=True, size=True, fill=True)

# The three versions that the paper measures (section 5).
RECIPES: dict[Mode, Recipe] = {
    "single": Recipe(("hsv",), (100,), (_CTSF,)),
    "fast": Recipe(("hsv", "lab"), (50, 100), (_CTSF, _TSF)),
    "quality": Recipe(
        ("hsv", "lab", "rgi", "hue", "intensity"),
        (50, 100, 150, 300),
        (_CTSF, _TSF, Strategy(fill=True), Strategy(size=True)),
    ),
}


def selective_search(
    image: Pixels,
    mode: Mode = "fast",
    superpixel_scale: float = 1.0,
    max_boxes: int | None = None,
    threads: int = 1,
) -> Proposals:
    """Propose boxes that may hold an object, best first; the first is the whole image.

    ``image`` is RGB, uint8 [H,W,3]. The search runs on a copy whose longer side is at most MAX_SIDE pixels,
    so that the time is bounded for images of any size (this is logged at level INFO). The boxes are distinct,
    in pixels of the original, and have sides of at least MIN_SIDE pixels in the copy. ``mode`` sets how many
    hierarchies are built: 1, 8 or 80. ``superpixel_scale`` multiplies the size of superpixels: 2 halves the
    number of boxes (GoogLeNet, arXiv 1409.4842, section 8). ``max_boxes`` keeps only the best. ``threads`` is
    the number of threads; with 1 the caller's own does the work. The same image always gives the same boxes
    in the same order, with any number of threads.

    Raises ParameterError for an image of another shape or type and for settings outside their range.
    """
    check_rgb(image)
    _check_settings(mode, superpixel_scale, max_boxes, threads)
    recipe = RECIPES[mode]
    work = _working_copy(image)

    def view_of(space: str) -> _View:
        planes = COLOUR_SPACES[space](work)
        return _View(planes, pixel_graph(planes), slopes(planes))

    def boxes_of_strategies(view_and_scale: tuple[_View, float]) -> list[NDArray[np.int32]]:
        view, scale = view_and_scale
        k = scale * superpixel_scale
        labels, count = superpixels(view.graph, k, min_size=round(k))
        segments = describe(view.planes, view.slopes, labels, count)
        return [group(segments, strategy).boxes for strategy in recipe.strategies]

    views = _mapped(view_of, recipe.spaces, threads)
    boxes_by_view = _mapped(boxes_of_strategies, list(product(views, recipe.scales)), threads)
    hierarchies = [boxes for boxes_by_strategy in boxes_by_view for boxes in boxes_by_strategy]
    boxes = rank_boxes(hierarchies, MIN_SIDE)[:max_boxes]
    return Proposals.of(_in_pixels_of(image, work, boxes), Source.SELECTIVE_SEARCH)


@dataclass(frozen=True)
class _View:
    """An image in one colour space, with what all scales share."""

    planes: Planes
    graph: PixelGraph
    slopes: Gradients


def _mapped(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """Return the function's results for all items, in their order, with at most ``threads`` at a time."""
    if threads == 1 or len(items) == 1:
        return [function(item) for item in items]
    with ThreadPoolExecutor(min(threads, len(items))) as pool:
        return list(pool.map(function, items))


def _check_settings(mode: str, superpixel_scale: float, max_boxes: int | None, threads: int) -> None:
    if mode not in RECIPES:
        raise ParameterError(f"mode must be one of {', '.join(RECIPES)}, got {mode!r}")
    if not MIN_SUPERPIXEL_SCALE <= superpixel_scale < float("inf"):
        raise ParameterError(
            f"superpixel_scale must be a number from {MIN_SUPERPIXEL_SCALE} up, got {superpixel_scale}"
        )
    if max_boxes is not None and max_boxes < 1:
        raise ParameterError(f"max_boxes must be at least 1, or None for all boxes, got {max_boxes}")
    if threads < 1:
        raise ParameterError(f"threads must be at least 1, got {threads}")


def _working_copy(image: Pixels) -> Pixels:
    """Return the image as a contiguous array, made smaller if a side is over MAX_SIDE pixels."""
    height, width = image.shape[:2]
    shrink = MAX_SIDE / max(height, width)
    if shrink >= 1:
        return np.ascontiguousarray(image)
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    _log.info("a picture of %d x %d pixels is searched at %d x %d", width, height, *size)
    # Halving is many times as fast as the last step, with the same quality. An odd row or column at the
    # border is dropped: it is less than half a pixel of the copy.
    while min(image.shape[:2]) >= 2 * MAX_SIDE:
        height, width = image.shape[0] // 2, image.shape[1] // 2
        image = np.asarray(
            cv2.resize(image[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA),
            np.uint8,
        )
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)


def _in_pixels_of(image: Pixels, work: Pixels, boxes: NDArray[np.int32]) -> NDArray[np.float32]:
    height, width = image.shape[:2]
    work_height, work_width = work.shape[:2]
    original = np.array([width, height, width, height], np.float64)
    return (boxes * original / [work_width, work_height, work_width, work_height]).astype(np.float32)

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
    """Boxes that may hold an object, best first, the first of them the whole picture.

    ``image`` [H,W,3] is RGB uint8. Work is done on a copy whose longer side is at most MAX_SIDE pixels, so
    the time is bounded however large the picture (the log says so at level INFO); boxes are in pixels of the
    original, distinct, and of at least MIN_SIDE pixels a side in the copy.
    ``mode`` says how many hierarchies are built: 1, 8 or 80. ``superpixel_scale`` multiplies the size of
    superpixels: 2 halves the number of boxes (GoogLeNet, arXiv 1409.4842, section 8). ``max_boxes`` keeps
    that many of the best. ``threads`` work on the picture, 1 being the caller's own. The same picture always
    gives the same boxes in the same order, with any number of threads.

    Raises ParameterError for an image of another shape or type and for settings outside their range.
    """
    check_rgb(image)
    _check_settings(mode, superpixel_scale, max_boxes, threads)
    recipe = RECIPES[mode]
    work = _working_copy(image)

    def looked_at(space: str) -> _View:
        planes = COLOUR_SPACES[space](work)
        return _View(planes, pixel_graph(planes), slopes(planes))

    def grouped(view_and_scale: tuple[_View, float]) -> list[NDArray[np.int32]]:
        view, scale = view_and_scale
        k = scale * superpixel_scale
        labels, count = superpixels(view.graph, k, min_size=round(k))
        segments = describe(view.planes, view.slopes, labels, count)
        return [group(segments, strategy).boxes for strategy in recipe.strategies]

    views = _mapped(looked_at, recipe.spaces, threads)
    found = _mapped(grouped, list(product(views, recipe.scales)), threads)
    hierarchies = [boxes for hierarchies_of_scale in found for boxes in hierarchies_of_scale]
    boxes = rank_boxes(hierarchies, MIN_SIDE)[:max_boxes]
    return Proposals.of(_in_pixels_of(image, work, boxes), Source.SELECTIVE_SEARCH)


@dataclass(frozen=True)
class _View:
    """A picture in one colour space, and what all scales have in common."""

    planes: Planes
    graph: PixelGraph
    slopes: Gradients


def _mapped(function: Callable[[Item], Result], items: Sequence[Item], threads: int) -> list[Result]:
    """The results for all items, in their order; at most ``threads`` at a time."""
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
    """The image in one piece of memory, made smaller if a side is over MAX_SIDE."""
    height, width = image.shape[:2]
    shrink = MAX_SIDE / max(height, width)
    if shrink >= 1:
        return np.ascontiguousarray(image)
    size = (max(1, round(width * shrink)), max(1, round(height * shrink)))
    _log.info("a picture of %d x %d pixels is searched at %d x %d", width, height, *size)
    # Halving is many times as fast as the last step, and as good. An odd line at the border is dropped: it
    # is less than half a pixel of the copy.
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

"""Windows of pictures, each stretched to the network's square input: crops, scales and flips in one.

Letters for shapes: G objects of a picture.
"""

from dataclasses import dataclass

import numpy as np

from detector.structures.boxes import Boxes, area, as_boxes, flip, intersection


@dataclass(frozen=True)
class WindowSettings:
    """How windows are drawn.

    ``whole`` is how often the whole picture is taken. Else the window's area is ``least`` to ``most`` of the
    picture's, its aspect off the picture's by 3/4 to 4/3 (arXiv 1409.4842, section 6); what it holds beyond
    the picture is the mean colour. An object counts where ``visible`` of its area is inside and its shorter
    side is at least ``min_side`` pixels of the input.
    """

    whole: float = 0.25
    least: float = 0.2
    most: float = 1.5
    aspect: float = 4 / 3
    visible: float = 0.5
    min_side: float = 6.0
    tries: int = 8


@dataclass(frozen=True)
class Window:
    """A part of a picture ``box`` [4] in its pixels, perhaps mirrored, and the objects [G,4] in it, in pixels
    of the network's input."""

    box: Boxes
    mirrored: bool
    objects: Boxes


def draw_window(
    width: int, height: int, objects: Boxes, size: int, settings: WindowSettings, rng: np.random.Generator
) -> Window:
    """A random window of a picture with at least one of its objects [G,4], or the whole picture."""
    mirrored = bool(rng.random() < 0.5)
    if rng.random() >= settings.whole:
        for _ in range(settings.tries):
            box = _random_box(width, height, settings, rng)
            inside = objects_in(box, objects, size, settings)
            if len(inside):
                return Window(box, mirrored, flip(inside, size) if mirrored else inside)
    box = as_boxes([(0, 0, width, height)])[0]
    inside = objects_in(box, objects, size, settings)
    return Window(box, mirrored, flip(inside, size) if mirrored else inside)


def objects_in(window: Boxes, objects: Boxes, size: int, settings: WindowSettings) -> Boxes:
    """The objects [G,4] that a window [4] of the picture shows, cut to it, in pixels of the input."""
    share = intersection(objects, window[None])[:, 0] / np.maximum(area(objects), 1e-6)
    corner, sides = np.tile(window[:2], 2), np.tile(window[2:] - window[:2], 2)
    seen = np.clip((objects - corner) / sides, 0, 1) * size
    large = ((seen[:, 2:] - seen[:, :2]) >= settings.min_side).all(axis=1)
    return seen[(share >= settings.visible) & large].astype(np.float32)


def _random_box(width: int, height: int, settings: WindowSettings, rng: np.random.Generator) -> Boxes:
    share = np.exp(rng.uniform(np.log(settings.least), np.log(settings.most)))
    stretch = np.exp(rng.uniform(-0.5, 0.5) * np.log(settings.aspect))
    w, h = width * np.sqrt(share) * stretch, height * np.sqrt(share) / stretch
    # Where the window is larger than the picture, the picture lies somewhere inside it.
    x, y = (
        rng.uniform(min(0, width - w), max(0, width - w)),
        rng.uniform(min(0, height - h), max(0, height - h)),
    )
    return as_boxes([(x, y, x + w, y + h)])[0]

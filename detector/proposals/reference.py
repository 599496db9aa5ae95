"""The ``selectivesearch`` package of PyPI behind our own result type: a yardstick, slow and less complete."""

import warnings

import numpy as np

from detector.errors import ParameterError
from detector.proposals.selective_search.color import Pixels, check_rgb
from detector.structures.boxes import as_boxes
from detector.structures.proposals import Proposals, Source


def reference_selective_search(
    image: Pixels, k: float = 100.0, sigma: float = 0.8, min_size: int = 100
) -> Proposals:
    """Return the distinct boxes of one hierarchy of an RGB uint8 picture [H,W,3], the last merges first.

    The package does HSV, one scale ``k`` and one strategy, as the mode ``single`` of our own does. It
    differs in its texture (local binary patterns), its neighbours (overlapping boxes) and its borders.

    Raises ParameterError for an image of another shape or type, and where the package is not installed.
    """
    check_rgb(image)
    try:
        from selectivesearch import selective_search
    except ImportError as error:
        raise ParameterError(
            "the reference needs the package selectivesearch: pip install 'googlenet-detector[reference]'"
        ) from error
    with warnings.catch_warnings():
        # scikit-image warns of local binary patterns of floats, which is what the package computes.
        warnings.simplefilter("ignore", UserWarning)
        _, regions = selective_search(image, scale=k, sigma=sigma, min_size=min_size)
    # A rect is x, y and the distances to the last pixels, which belong to the segment.
    rects = reversed([region["rect"] for region in regions])
    boxes = dict.fromkeys((x, y, x + width + 1, y + height + 1) for x, y, width, height in rects)
    return Proposals.of(as_boxes(np.array(list(boxes))), Source.REFERENCE)

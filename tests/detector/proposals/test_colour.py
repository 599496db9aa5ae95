"""Colour spaces by known colours, and what is not a picture."""

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.proposals.colour import COLOUR_SPACES, check_rgb


@pytest.mark.parametrize(
    ("space", "rgb", "expected"),
    [
        ("hsv", (255, 0, 0), (0, 255, 255)),
        ("hsv", (0, 255, 0), (85, 255, 255)),
        ("hsv", (0, 0, 255), (170, 255, 255)),
        ("hsv", (255, 0, 5), (255, 255, 255)),
        ("hsv", (90, 90, 90), (0, 0, 90)),
        ("lab", (0, 0, 0), (0, 128, 128)),
        ("lab", (255, 255, 255), (255, 128, 128)),
        ("lab", (255, 0, 0), (136, 208, 195)),
        ("rgi", (0, 0, 0), (0, 0, 0)),
        ("rgi", (255, 255, 255), (85, 85, 255)),
        ("rgi", (200, 0, 0), (255, 0, 66)),
        ("hue", (0, 255, 0), (85, 85, 85)),
        ("intensity", (255, 255, 255), (255, 255, 255)),
        ("intensity", (255, 0, 0), (76, 76, 76)),
    ],
)
def test_known_colours(space: str, rgb: tuple[int, int, int], expected: tuple[int, int, int]) -> None:
    image = np.full((2, 3, 3), rgb, np.uint8)
    pixels = COLOUR_SPACES[space](image)
    assert pixels.dtype == np.uint8
    assert (pixels == expected).all(), pixels[0, 0]


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ([[1, 2, 3]], "numpy array"),
        (np.zeros((4, 4, 3), np.float32), "float32"),
        (np.zeros((4, 4), np.uint8), r"\[4, 4\]"),
        (np.zeros((4, 4, 4), np.uint8), "convert it to RGB"),
        (np.zeros((4, 0, 3), np.uint8), r"\[4, 0, 3\]"),
    ],
    ids=["a list", "floats", "grey", "with alpha", "no pixels"],
)
def test_what_is_no_picture_is_refused(image: object, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        check_rgb(image)  # type: ignore[arg-type]

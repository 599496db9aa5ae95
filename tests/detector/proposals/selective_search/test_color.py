"""Colour spaces by known colours, and what is not a picture."""

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.proposals.selective_search.color import COLOUR_SPACES, check_rgb


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
        ("rgi", (1, 2, 4), (36, 72, 2)),
        ("hue", (0, 255, 0), (85,)),
        ("intensity", (255, 255, 255), (255,)),
        ("intensity", (255, 0, 0), (76,)),
    ],
)
def test_known_colours(space: str, rgb: tuple[int, int, int], expected: tuple[int, ...]) -> None:
    image = np.full((2, 3, 3), rgb, np.uint8)
    planes = COLOUR_SPACES[space](image)
    assert planes.dtype == np.uint8
    assert planes.shape == (len(expected), 2, 3)
    assert planes.flags.c_contiguous
    assert (planes == np.array(expected)[:, None, None]).all(), planes[:, 0, 0]


def test_normalised_colours_are_rounded_down() -> None:
    image = np.random.default_rng(0).integers(0, 256, (60, 70, 3)).astype(np.uint8)
    red, green, intensity = COLOUR_SPACES["rgi"](image)
    wide = image.astype(np.int64)
    total = wide.sum(axis=2)
    assert (red == 255 * wide[..., 0] // np.maximum(total, 1)).all()
    assert (green == 255 * wide[..., 1] // np.maximum(total, 1)).all()
    assert (intensity == total // 3).all()


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

"""Pixels become a picture that is read as it was."""

import numpy as np
import pytest

from api.frontend.platforms.tensors import picture_of_pixels
from detector.io.decoding import read


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (33, 65), (480, 641)])
def test_pixels_as_a_picture(shape: tuple[int, int]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    picture = picture_of_pixels(memoryview(pixels.tobytes()), shape[1], shape[0])
    assert np.array_equal(read(picture).pixels, pixels)

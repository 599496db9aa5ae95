import numpy as np
import pytest

from detector.structures.boxes import from_corners, to_corners

CASES = [
    pytest.param((0, 0, 99, 79), 0, (0, 0, 100, 80), id="a whole 100x80 picture counted from 0"),
    pytest.param((1, 1, 100, 80), 1, (0, 0, 100, 80), id="the same counted from 1, as PASCAL VOC does"),
    pytest.param((7, 9, 7, 9), 0, (7, 9, 8, 10), id="one pixel has area 1"),
]


@pytest.mark.parametrize(("corners", "first_pixel", "box"), CASES)
def test_both_ways(corners: tuple[int, ...], first_pixel: int, box: tuple[int, ...]) -> None:
    boxes = from_corners(np.array([corners], np.float64), first_pixel)
    assert boxes.dtype == np.float32
    assert boxes.tolist() == [list(box)]
    assert to_corners(boxes, first_pixel).tolist() == [list(corners)]


def test_fractions_go_to_the_nearest_pixel_and_never_vanish() -> None:
    boxes = np.array([[10.4, 10.6, 20.4, 20.6], [5.1, 5.1, 5.2, 5.2]], np.float32)
    assert to_corners(boxes).tolist() == [[10, 11, 19, 20], [5, 5, 5, 5]]


def test_no_boxes() -> None:
    assert from_corners(np.zeros((0, 4))).shape == (0, 4)
    assert to_corners(np.zeros((0, 4), np.float32)).shape == (0, 4)

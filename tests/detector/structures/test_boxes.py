"""Box algebra, by hand."""

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.structures.boxes import area, as_boxes, clip, decode, encode, flip, iou

IOU = [
    ("itself", (0, 0, 10, 10), (0, 0, 10, 10), 1.0),
    ("half of it", (0, 0, 10, 10), (0, 0, 10, 5), 0.5),
    ("a corner", (0, 0, 10, 10), (5, 5, 15, 15), 25 / 175),
    ("touching", (0, 0, 10, 10), (10, 0, 20, 10), 0.0),
    ("apart", (0, 0, 10, 10), (30, 30, 40, 40), 0.0),
    ("inside", (0, 0, 10, 10), (2, 2, 4, 4), 0.04),
    ("empty and full", (3, 3, 3, 3), (0, 0, 10, 10), 0.0),
    ("two empty ones", (3, 3, 3, 3), (3, 3, 3, 3), 0.0),
    ("turned inside out", (10, 10, 0, 0), (0, 0, 10, 10), 0.0),
]


@pytest.mark.parametrize(("a", "b", "expected"), [case[1:] for case in IOU], ids=[case[0] for case in IOU])
def test_iou(a: tuple, b: tuple, expected: float) -> None:
    assert iou(as_boxes([a]), as_boxes([b]))[0, 0] == pytest.approx(expected)
    assert iou(as_boxes([b]), as_boxes([a]))[0, 0] == pytest.approx(expected)


def test_shapes_of_nothing() -> None:
    assert iou(as_boxes([]), as_boxes([(0, 0, 1, 1)])).shape == (0, 1)
    assert area(as_boxes([])).shape == (0,)


@pytest.mark.parametrize(
    "boxes",
    [[(0, 0, 1)], [(0, 0, 1, float("nan"))], (0, 0, 1, 1), [[(0, 0, 1, 1)]]],
    ids=["three numbers", "not a number", "one box without its list", "too deep"],
)
def test_other_shapes_are_refused(boxes: object) -> None:
    with pytest.raises(ParameterError):
        as_boxes(boxes)


@pytest.mark.parametrize(
    ("box", "cut"),
    [
        ((-5, -5, 10, 10), (0, 0, 10, 10)),
        ((90, 40, 120, 60), (90, 40, 100, 50)),
        ((120, 60, 130, 70), (100, 50, 100, 50)),
    ],
    ids=["over the top left", "over the bottom right", "wholly outside: no area"],
)
def test_clip(box: tuple, cut: tuple) -> None:
    assert clip(as_boxes([box]), 100, 50).tolist() == [list(cut)]


def test_flip_twice_is_nothing() -> None:
    boxes = as_boxes([(1, 2, 30, 40), (0, 0, 100, 50)])
    assert flip(boxes, 100).tolist() == [[70, 2, 99, 40], [0, 0, 100, 50]]
    assert np.array_equal(flip(flip(boxes, 100), 100), boxes)


def test_offsets_by_hand() -> None:
    """Moved right by half a width, and twice as high."""
    assert encode(as_boxes([(0, 0, 10, 20)]), as_boxes([(5, -10, 15, 30)])) == pytest.approx(
        np.array([[0.5, 0, 0, np.log(2)]])
    )


def test_decode_undoes_encode() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 200, (2, 50, 2))
    regions, targets = (np.concatenate([c, c + rng.uniform(1, 90, (50, 2))], axis=1) for c in corners)
    regions, targets = as_boxes(regions), as_boxes(targets)
    assert np.abs(decode(regions, encode(regions, targets)) - targets).max() < 1e-3


def test_wild_offsets_stay_finite() -> None:
    assert np.isfinite(decode(as_boxes([(0, 0, 10, 10)]), np.array([[0, 0, 900, 900]], np.float32))).all()

"""Drawn explanations: heat where the map says, nothing elsewhere, the factors below."""

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.io.heat_map import draw_explanation, overlay_heat
from detector.structures.boxes import as_boxes
from detector.structures.classes import ClassList
from detector.structures.detections import Detections
from detector.structures.explanation import Explanation, Factor

CLASSES = ClassList.of(["n1", "n2"], ["dog", "cat"])


def grey(width: int, height: int) -> NDArray[np.uint8]:
    return np.full((height, width, 3), 128, np.uint8)


def hot_at(row: int, column: int, size: tuple[int, int] = (7, 7)) -> NDArray[np.float32]:
    activation = np.zeros(size, np.float32)
    activation[row, column] = 10
    return activation


def change(heated: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.abs(heated.astype(float) - 128).sum(axis=2)


@pytest.mark.parametrize(
    ("region", "cell", "expected"),
    [
        pytest.param((0, 0, 700, 350), (3, 3), (350, 175), id="the middle of a region over all"),
        pytest.param((100, 50, 450, 400), (0, 6), (425, 75), id="a corner of a region within"),
        pytest.param((-350, -350, 350, 350), (6, 6), (300, 300), id="a region that reaches beyond"),
        pytest.param((350, 0, 1050, 350), (1, 1), (500, 75), id="and to the right"),
    ],
)
def test_heat_lies_at_the_cell(
    region: tuple[float, ...], cell: tuple[int, int], expected: tuple[int, int]
) -> None:
    heated = overlay_heat(grey(700, 350), hot_at(*cell), region)  # type: ignore[arg-type]
    changed = change(heated)
    rows, columns = np.nonzero(changed > changed.max() * 0.9)
    assert (columns.mean(), rows.mean()) == pytest.approx(expected, abs=8)


def test_only_the_region_is_heated() -> None:
    image = grey(640, 480)
    everywhere = np.linspace(1, 5, 49, dtype=np.float32).reshape(7, 7)
    changed = change(overlay_heat(image, everywhere, (100.5, 200, 400, 400)))
    assert not changed[:200].any()
    assert not changed[400:].any()
    assert not changed[:, :100].any()
    assert not changed[:, 400:].any()
    assert (changed[370:395, 110:390] > 0).all()
    assert (image == 128).all(), "the input is left alone"


@pytest.mark.parametrize(
    ("activation", "region"),
    [
        pytest.param(np.full((7, 7), 3, np.float32), (0, 0, 100, 100), id="the same everywhere"),
        pytest.param(np.zeros((7, 7), np.float32), (0, 0, 100, 100), id="a class without sub-classes"),
        pytest.param(hot_at(0, 0) - 20, (0, 0, 100, 100), id="nothing speaks for the class"),
        pytest.param(hot_at(3, 3), (200, 0, 300, 100), id="a region beside the picture"),
    ],
)
def test_no_place_stands_out(activation: NDArray[np.float32], region: tuple[float, ...]) -> None:
    assert not change(overlay_heat(grey(100, 100), activation, region)).any()  # type: ignore[arg-type]


@pytest.mark.parametrize("size", [(40_000, 20), (20, 40_000), (5000, 5000)])
def test_pictures_beyond_what_opencv_warps_at_once(size: tuple[int, int]) -> None:
    """Parts join without a seam: the map, even in the middle, falls to both ends alike."""
    width, height = size
    changed = change(overlay_heat(grey(width, height), hot_at(3, 3), (0, 0, width, height)))
    assert np.allclose(changed, changed[::-1, ::-1], atol=6)
    assert changed[height // 2, width // 2] > 100


def explained(count: int = 2) -> Detections:
    factors = (Factor("probability", 0.81, 0.5), Factor("predicted_iou", 0.5, 1.0))
    explanation = Explanation(factors, (100, 100, 300, 300), hot_at(3, 3), -1.0)
    return Detections(
        as_boxes([(120, 120, 280, 280), (0, 0, 50, 50)]),
        np.array([1, 0]),
        np.array([0.45, 0.4], np.float32),
        CLASSES,
        explanations=(explanation, None),
    )


@pytest.mark.parametrize(
    ("size", "least"),
    [
        pytest.param((640, 480), (640, 481), id="one line below"),
        pytest.param((500, 60), (500, 61), id="a strip"),
        pytest.param((100, 100), (720, 721), id="small: enlarged first"),
        pytest.param((60, 600), (60, 640), id="narrow: a line for each factor"),
    ],
)
def test_factors_stand_below(size: tuple[int, int], least: tuple[int, int]) -> None:
    drawn = draw_explanation(grey(*size), explained(), 0)
    height, width = drawn.shape[:2]
    assert width == least[0]
    assert height >= least[1]
    strip = drawn[least[1] - 1 :]
    assert (strip == 24).all(axis=2).any()
    assert (strip > 200).all(axis=2).any(), "with white letters"


def test_what_is_not_explained_is_not_drawn() -> None:
    with pytest.raises(ParameterError, match="detection 1 is not explained"):
        explained().draw_explanation(grey(640, 480), 1)


def test_the_object_alone_is_framed() -> None:
    """Other detections would hide the heat."""
    drawn = explained().draw_explanation(grey(640, 480), 0)
    assert (drawn[:90, :90] == 128).all()
    assert not (drawn[118:123, 200] == 128).all(), "the frame's upper line"

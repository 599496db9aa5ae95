"""Windows of pictures: what they hold, where they may lie, how large they are."""

import numpy as np
import pytest

from detector.structures.boxes import area, as_boxes, flip
from training.multibox.dataloader import Window, WindowSettings, draw_window, objects_in

SETTINGS = WindowSettings()
WINDOW = (50, 0, 150, 100)  # at 200 pixels a side: everything twice as large


@pytest.mark.parametrize(
    ("window", "size", "box", "seen"),
    [
        pytest.param(WINDOW, 200, (60, 10, 100, 50), (20, 20, 100, 100), id="wholly inside"),
        pytest.param(WINDOW, 200, (50, 0, 150, 100), (0, 0, 200, 200), id="as large as the window"),
        pytest.param(WINDOW, 200, (30, 20, 80, 60), (0, 40, 60, 120), id="cut at the left: 60 % inside"),
        pytest.param(WINDOW, 200, (130, 80, 160, 105), (160, 160, 200, 200), id="cut at a corner: 53 %"),
        pytest.param(WINDOW, 200, (25, 20, 75, 60), (0, 40, 50, 120), id="half inside counts"),
        pytest.param(WINDOW, 200, (24, 20, 75, 60), None, id="less than half does not"),
        pytest.param(WINDOW, 200, (0, 0, 200, 100), (0, 0, 200, 200), id="larger than the window, half seen"),
        pytest.param(WINDOW, 200, (0, 0, 210, 100), None, id="larger, less than half seen"),
        pytest.param(WINDOW, 200, (0, 0, 50, 100), None, id="beside it"),
        pytest.param(WINDOW, 200, (60, 10, 63, 50), (20, 20, 26, 100), id="six pixels wide count"),
        pytest.param(WINDOW, 200, (60, 10, 62.9, 50), None, id="fewer do not"),
        pytest.param(WINDOW, 200, (60, 10, 100, 12.9), None, id="nor in height"),
        pytest.param(WINDOW, 200, (46, 10, 52, 50), None, id="nor what cutting leaves"),
        pytest.param(WINDOW, 200, (60, 10, 60, 50), None, id="no area at all"),
        pytest.param(
            (0, 0, 200, 50), 100, (20, 10, 60, 30), (10, 20, 30, 60), id="each axis by its own factor"
        ),
        pytest.param((-50, -50, 150, 150), 100, (0, 0, 100, 80), (25, 25, 75, 65), id="beyond the picture"),
    ],
)
def test_objects_by_hand(
    window: tuple[float, ...], size: int, box: tuple[float, ...], seen: tuple[float, ...] | None
) -> None:
    found = objects_in(as_boxes([window])[0], as_boxes([box]), size, SETTINGS)
    assert found.dtype == np.float32
    assert np.allclose(found, as_boxes([seen] if seen else []), atol=1e-4)
    assert found.shape == (int(seen is not None), 4)


def test_objects_keep_their_order() -> None:
    boxes = as_boxes([(60, 10, 100, 50), (0, 0, 10, 10), (110, 60, 140, 90), (70, 20, 90, 40)])
    found = objects_in(as_boxes([WINDOW])[0], boxes, 100, SETTINGS)
    assert np.allclose(found, [[10, 10, 50, 50], [60, 60, 90, 90], [20, 20, 40, 40]])


def drawn(
    objects: object,
    *,
    width: int = 300,
    height: int = 200,
    settings: WindowSettings = SETTINGS,
    seeds: int = 200,
) -> list[Window]:
    """One window of each of many seeds, at 100 pixels a side."""
    boxes = as_boxes(objects)
    return [
        draw_window(width, height, boxes, 100, settings, np.random.default_rng(seed)) for seed in range(seeds)
    ]


OBJECTS = [(20, 30, 120, 150), (200, 100, 290, 190), (140, 10, 180, 60)]


def is_whole(window: Window, width: int = 300, height: int = 200) -> bool:
    return window.box.tolist() == [0, 0, width, height]


@pytest.mark.parametrize(("width", "height"), [(300, 200), (150, 400)], ids=["lying", "standing"])
def test_sizes_and_aspects_keep_to_the_settings(width: int, height: int) -> None:
    parts = [w for w in drawn(OBJECTS, width=width, height=height) if not is_whole(w, width, height)]
    sides = np.array([w.box[2:] - w.box[:2] for w in parts])
    share = sides.prod(axis=1) / (width * height)
    aspect = sides[:, 0] / sides[:, 1] / (width / height)
    assert SETTINGS.least * 0.999 <= share.min() < 0.3
    assert 1.2 < share.max() <= SETTINGS.most * 1.001
    assert 0.749 <= aspect.min() < 0.8
    assert 1.25 < aspect.max() <= 1.334


def test_windows_lie_in_the_picture_or_hold_it() -> None:
    """On each axis: a window that is larger than the picture has all of it."""
    for window in drawn(OBJECTS):
        for low, high, side in zip(window.box[:2], window.box[2:], (300, 200), strict=True):
            if high - low <= side:
                assert low >= -1e-3
                assert high <= side + 1e-3
            else:
                assert low <= 1e-3
                assert high >= side - 1e-3


def test_objects_are_those_of_the_window_mirrored_with_it() -> None:
    windows = drawn(OBJECTS)
    for window in windows:
        expected = objects_in(window.box, as_boxes(OBJECTS), 100, SETTINGS)
        assert np.allclose(window.objects, flip(expected, 100) if window.mirrored else expected)
        assert window.objects.dtype == np.float32
        assert (area(window.objects) > 0).all()
        assert (window.objects >= 0).all()
        assert (window.objects <= 100).all()
    assert 0.4 < np.mean([window.mirrored for window in windows]) < 0.6


@pytest.mark.parametrize("whole", [0.0, 0.3, 1.0])
def test_how_often_the_whole_picture_is_taken(whole: float) -> None:
    share = np.mean([is_whole(window) for window in drawn(OBJECTS, settings=WindowSettings(whole=whole))])
    assert share == pytest.approx(whole, abs=0.08 if 0 < whole < 1 else 0)


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param(OBJECTS, id="large ones"),
        pytest.param([(290, 190, 300, 200)], id="one small in a corner"),
        pytest.param([(0, 0, 300, 200)], id="one as large as the picture"),
        pytest.param([(0, 0, 1, 1), (100, 100, 140, 120)], id="one of two too small to be seen"),
    ],
)
def test_where_an_object_can_be_seen_one_is(objects: list[tuple[float, ...]]) -> None:
    """Smaller windows that hold none are drawn again, and the whole picture is taken in the end."""
    whole = objects_in(as_boxes([(0, 0, 300, 200)])[0], as_boxes(objects), 100, WindowSettings(min_side=3))
    assert len(whole) > 0
    assert all(len(w.objects) for w in drawn(objects, settings=WindowSettings(min_side=3)))


@pytest.mark.parametrize("objects", [[], [(5, 5, 6, 6)]], ids=["no object", "one too small in any window"])
def test_without_an_object_the_whole_picture_is_taken(objects: list[tuple[float, ...]]) -> None:
    for window in drawn(objects, seeds=20):
        assert is_whole(window)
        assert window.objects.shape == (0, 4)


def test_what_is_too_small_in_the_whole_picture_is_seen_from_near() -> None:
    """Ten pixels of 300 are three of the input's hundred."""
    windows = drawn([(145, 95, 155, 105)], settings=WindowSettings(whole=0.0, min_side=4))
    near = [w for w in windows if len(w.objects)]
    assert len(near) > 20
    assert not any(is_whole(w) for w in near)
    assert all(is_whole(w) for w in windows if not len(w.objects))


def test_one_state_of_the_generator_gives_one_window() -> None:
    for first, second in zip(drawn(OBJECTS, seeds=20), drawn(OBJECTS, seeds=20), strict=True):
        assert np.array_equal(first.box, second.box)
        assert np.array_equal(first.objects, second.objects)
        assert first.mirrored == second.mirrored
    assert len({tuple(window.box) for window in drawn(OBJECTS, seeds=20)}) > 10

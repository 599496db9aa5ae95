"""Priors: where they lie, which shapes k-means finds, which grid each shape goes to."""

from collections.abc import Sequence

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.proposals.anchors import Grid, Sides, cluster_sides, share_out

STRIDES = (8, 16, 32, 64)


def squares(*sides: float) -> Sides:
    return np.array([(side, side) for side in sides], np.float32)


def planted(shapes: list[tuple[float, float]], each: int, spread: float = 0.05, seed: int = 0) -> Sides:
    """``each`` boxes around every shape, in random order."""
    random = np.random.default_rng(seed)
    sides = np.repeat(np.array(shapes), each, axis=0) * np.exp(
        random.normal(0, spread, (each * len(shapes), 2))
    )
    return random.permutation(sides).astype(np.float32)


def overlap(a: Sequence[float] | Sides, b: Sequence[float] | Sides) -> float:
    """IoU of two boxes with one centre."""
    shared = min(a[0], b[0]) * min(a[1], b[1])
    return float(shared / (a[0] * a[1] + b[0] * b[1] - shared))


def fit(sides: Sides, shapes: Sides) -> float:
    """The mean overlap of boxes with the shape nearest to each."""
    return float(np.mean([max(overlap(box, shape) for shape in shapes) for box in sides]))


def test_priors_of_a_grid_by_hand() -> None:
    """By row, by column, by shape; a shape may reach beyond the picture."""
    grid = Grid(50, 14.5, np.array([(10, 20), (60, 40)], np.float32))
    assert grid.boxes(2, 3).tolist() == [
        [9.5, 4.5, 19.5, 24.5], [-15.5, -5.5, 44.5, 34.5], [59.5, 4.5, 69.5, 24.5],
        [34.5, -5.5, 94.5, 34.5], [109.5, 4.5, 119.5, 24.5], [84.5, -5.5, 144.5, 34.5],
        [9.5, 54.5, 19.5, 74.5], [-15.5, 44.5, 44.5, 84.5], [59.5, 54.5, 69.5, 74.5],
        [34.5, 44.5, 94.5, 84.5], [109.5, 54.5, 119.5, 74.5], [84.5, 44.5, 144.5, 84.5],
    ]  # fmt: skip
    assert grid.boxes(2, 3).dtype == np.float32


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (7, 2), (0, 3)], ids=str)
def test_a_grid_has_the_cells_that_it_is_asked_for(height: int, width: int) -> None:
    boxes = Grid(8, 6.5, squares(6, 9)).boxes(height, width)
    assert boxes.shape == (height * width * 2, 4)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    assert set(map(tuple, centres.tolist())) == {
        (6.5 + 8 * column, 6.5 + 8 * row) for row in range(height) for column in range(width)
    }


@pytest.mark.parametrize(
    ("one", "other", "equal"),
    [
        (Grid(8, 6.5, squares(5, 6)), Grid(8, 6.5, squares(5, 6)), True),
        (Grid(8, 6.5, squares(5, 6)), Grid(16, 6.5, squares(5, 6)), False),
        (Grid(8, 6.5, squares(5, 6)), Grid(8, 4.0, squares(5, 6)), False),
        (Grid(8, 6.5, squares(5, 6)), Grid(8, 6.5, squares(5, 7)), False),
        (Grid(8, 6.5, squares(5, 6)), Grid(8, 6.5, squares(5)), False),
        (Grid(8, 6.5, squares(5, 6)), "grid", False),
    ],
    ids=["same", "other stride", "other start", "other shape", "fewer shapes", "no grid"],
)
def test_grids_compare_by_value(one: Grid, other: object, equal: bool) -> None:
    assert (one == other) is equal


@pytest.mark.parametrize(
    "shapes",
    [
        [(20, 20)],
        [(10, 10), (100, 100)],
        [(30, 10), (10, 30), (90, 60), (200, 180)],
        [(8, 8), (16, 16), (32, 32), (64, 64), (128, 128), (200, 90), (60, 190)],
    ],
    ids=["one", "two sizes", "lying and standing", "many"],
)
def test_planted_shapes_are_found(shapes: list[tuple[float, float]]) -> None:
    """k-means may stop at a worse answer from one start: the best of four starts is looked at."""
    sides = planted(shapes, each=60)
    found = max(
        (cluster_sides(sides, len(shapes), seed=seed) for seed in range(4)), key=lambda s: fit(sides, s)
    )
    assert found.dtype == np.float32
    assert len(found) == len(shapes)
    for mine in shapes:
        assert max(overlap(mine, theirs) for theirs in found) > 0.95


@pytest.mark.parametrize("seed", range(4))
def test_shapes_are_the_geometric_means_of_their_members(seed: int) -> None:
    """A fixed point: another round would change nothing."""
    random = np.random.default_rng(seed)
    sides = np.exp(random.uniform(np.log(6), np.log(224), (400, 2))).astype(np.float32)
    shapes = cluster_sides(sides, 9, seed=seed)
    assert (np.diff(shapes.prod(axis=1)) >= 0).all(), "smallest area first"
    owner = np.array([max(range(9), key=lambda shape: overlap(box, shapes[shape])) for box in sides])
    for shape in range(9):
        mine = sides[owner == shape].astype(np.float64)
        assert np.allclose(shapes[shape], np.exp(np.log(mine).mean(axis=0)), rtol=1e-4)


def test_one_seed_gives_one_result() -> None:
    sides = planted([(20, 20), (40, 80), (150, 100)], each=30, spread=0.6)
    first = cluster_sides(sides, 6, seed=3)
    assert np.array_equal(first, cluster_sides(sides.copy(), 6, seed=3))
    assert np.array_equal(first, cluster_sides(sides.astype(np.float64), 6, seed=3))  # type: ignore[arg-type]


def test_as_many_shapes_as_different_boxes_are_those_boxes() -> None:
    sides = np.array([(9, 3), (3, 9), (40, 40), (9, 3), (40, 40), (9, 3)], np.float32)
    found = cluster_sides(sides, 3)
    assert sorted(map(tuple, found.round(3).tolist())) == [(3, 9), (9, 3), (40, 40)]


@pytest.mark.parametrize(
    ("sides", "count"),
    [(squares(5, 6), 3), (squares(5, 5, 5), 2), (np.zeros((0, 2), np.float32), 1)],
    ids=["too few", "too few different ones", "none"],
)
def test_too_few_boxes_are_refused(sides: Sides, count: int) -> None:
    with pytest.raises(ParameterError, match=f"{count} shapes"):
        cluster_sides(sides, count)


@pytest.mark.parametrize(
    ("shapes", "placed"),
    [
        pytest.param(
            squares(16, 32, 64, 128), [[16], [32], [64], [128]], id="exactly twice the stride is fine enough"
        ),
        pytest.param(
            squares(31, 63, 127, 255),
            [[31], [63], [127], [255]],
            id="just too small for the next coarser one",
        ),
        pytest.param(
            squares(4, 15, 40, 70, 130, 224),
            [[4, 15], [40], [70], [130, 224]],
            id="the finest takes the tiny",
        ),
        pytest.param(
            squares(200, 201, 202, 203),
            [[200], [201], [202], [203]],
            id="all large: the smallest go to grids that would be empty",
        ),
        pytest.param(
            squares(4, 5, 6, 7), [[4], [7], [6], [5]], id="all tiny: the largest go up, the rest stays"
        ),
        pytest.param(
            squares(10, 140, 150, 160),
            [[10], [140], [150], [160]],
            id="a grid is not emptied to fill another",
        ),
    ],
)
def test_which_grid_a_shape_goes_to(shapes: Sides, placed: list[list[float]]) -> None:
    assert [sides[:, 0].tolist() for sides in share_out(shapes, STRIDES)] == placed


def test_the_mean_side_decides_for_long_shapes() -> None:
    """8 x 128 has the area of a square of 32."""
    _, coarse = share_out(np.array([(10, 10), (8, 128)], np.float32), (8, 16))
    assert coarse.tolist() == [[8, 128]]


def test_the_finest_comes_first_whatever_their_order() -> None:
    shapes = squares(10, 40, 70, 150)
    forward, backward = (share_out(shapes, strides) for strides in (STRIDES, STRIDES[::-1]))
    assert [part.tolist() for part in forward] == [part.tolist() for part in backward]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [4, 5, 9, 28])
def test_every_shape_is_placed_once_and_no_grid_is_empty(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    shapes = np.exp(random.uniform(np.log(4), np.log(8 if seed == 0 else 224), (count, 2))).astype(np.float32)
    shared = share_out(shapes, STRIDES)
    assert len(shared) == len(STRIDES)
    assert all(len(sides) for sides in shared)
    assert sorted(np.concatenate(shared).tolist()) == sorted(shapes.tolist())


def test_fewer_shapes_than_grids_are_refused() -> None:
    with pytest.raises(ParameterError, match="4 grids need at least as many shapes, got 3"):
        share_out(squares(10, 20, 30), STRIDES)

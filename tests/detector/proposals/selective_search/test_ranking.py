"""The order of boxes against plain greedy coverage, and what every order must hold to."""

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.proposals.selective_search.ranking import rank_boxes

Boxes = NDArray[np.int32]


def hierarchies(seed: int, count: int, length: int) -> list[Boxes]:
    """Random boxes, many of them equal or nearly so; the last of each is the whole picture."""
    random = np.random.default_rng(seed)
    whole = [0, 0, 40, 30]
    found = []
    for _ in range(count):
        corners = random.integers(0, 20, (length, 2)) // 4 * 4
        sides = random.integers(2, 20, (length, 2))
        boxes = np.concatenate([corners, np.minimum(corners + sides, [40, 30])], axis=1)
        found.append(np.concatenate([boxes, [whole]]).astype(np.int32))
    return found


def plain_cover(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """How well a covers b: from 0 at an IoU of 0.4 to 255 at 0.8."""
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    area = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    # In the number format of the real one, as a degree may be on the edge of the next.
    overlap = np.float32(shared) / np.float32(sum(area) - shared)
    degree = overlap * np.float32(255 / (0.8 - 0.4)) - np.float32(255 * 0.4 / (0.8 - 0.4))
    return int(min(max(degree, 0), 255))


def plain_ranked(found: list[Boxes], min_side: int) -> list[tuple[int, ...]]:
    whole = tuple(found[0][-1].tolist())
    weight: dict[tuple[int, ...], int] = {}
    for boxes in found:
        for place, box in enumerate(reversed(boxes.tolist()), start=1):
            if tuple(box) == whole or min(box[2] - box[0], box[3] - box[1]) >= min_side:
                weight[tuple(box)] = weight.get(tuple(box), 0) + 4096 // (place + 5)
    left = sorted(weight, key=lambda box: (-weight[box], box))
    covered = {box: plain_cover(whole, box) for box in left}
    order = [whole]
    left.remove(whole)
    while left:
        # The first of equals: max keeps it.
        best = max(
            left,
            key=lambda box: sum(
                weight[other] * max(plain_cover(box, other) - covered[other], 0) for other in covered
            ),
        )
        covered = {other: max(covered[other], plain_cover(best, other)) for other in covered}
        order.append(best)
        left.remove(best)
    return order


@pytest.mark.parametrize(
    ("seed", "count", "length"), [(0, 1, 0), (1, 1, 1), (2, 1, 12), (3, 2, 20), (4, 4, 12), (5, 8, 5)]
)
def test_order_is_greedy_coverage(seed: int, count: int, length: int) -> None:
    found = hierarchies(seed, count, length)
    order = [tuple(box) for box in rank_boxes(found, min_side=4).tolist()]
    assert order == plain_ranked(found, 4)


def test_boxes_are_distinct_and_none_is_lost() -> None:
    found = hierarchies(6, 8, 400)
    order = rank_boxes(found, min_side=1)
    assert len(order) > 600, "the case is meant to go beyond the boxes placed by coverage"
    assert order[0].tolist() == [0, 0, 40, 30]
    assert {tuple(box) for box in order.tolist()} == {tuple(box) for boxes in found for box in boxes.tolist()}
    assert len(np.unique(order, axis=0)) == len(order)


def test_a_box_that_more_hierarchies_hold_comes_first() -> None:
    whole, rare, common = [0, 0, 100, 100], [0, 0, 30, 30], [60, 60, 90, 90]
    found = [[rare, common, whole], [common, whole], [common, whole]]
    order = rank_boxes([np.array(boxes, np.int32) for boxes in found], min_side=8)
    assert order.tolist() == [whole, common, rare]


def test_a_near_duplicate_comes_after_a_new_place() -> None:
    whole, box, shifted, elsewhere = [0, 0, 100, 100], [10, 10, 50, 50], [11, 10, 51, 50], [70, 70, 80, 80]
    found = np.array([elsewhere, shifted, box, whole], np.int32)
    assert rank_boxes([found], min_side=8).tolist() == [whole, box, elsewhere, shifted]


@pytest.mark.parametrize(("min_side", "left"), [(1, 3), (5, 2), (50, 1)])
def test_small_boxes_are_left_out_but_never_the_whole_picture(min_side: int, left: int) -> None:
    found = np.array([[3, 3, 20, 7], [0, 0, 6, 5], [0, 0, 30, 20]], np.int32)
    assert len(rank_boxes([found], min_side)) == left

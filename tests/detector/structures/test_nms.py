"""Suppression against a slow version that is plainly right, and against torchvision's."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchvision.ops import batched_nms, nms

from detector.structures.boxes import Boxes, as_boxes
from detector.structures.nms import suppress

Scores = NDArray[np.float32]


def plain(boxes: Boxes, scores: Scores, max_iou: float, labels: NDArray[np.integer] | None) -> list[int]:
    """Greedy, one pair of boxes at a time, in float32 as boxes are."""
    kept: list[int] = []
    for index in sorted(range(len(boxes)), key=lambda index: (-scores[index], index)):
        others = [other for other in kept if labels is None or labels[other] == labels[index]]
        if all(_iou(boxes[index], boxes[other]) <= np.float32(max_iou) for other in others):
            kept.append(index)
    return kept


def _iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def random_boxes(seed: int, count: int, *, whole: bool) -> Boxes:
    """Boxes that overlap a good deal; with whole corners many have the same IoU, and some are equal."""
    random = np.random.default_rng(seed)
    corner, sides = random.uniform(0, 40, (count, 2)), random.uniform(0, 30, (count, 2))
    boxes = np.concatenate([corner, corner + sides], axis=1)
    return (np.round(boxes / 4) * 4 if whole else boxes).astype(np.float32)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [0.0, 0.31, 0.5, 0.85, 1.0])
@pytest.mark.parametrize("whole", [False, True], ids=["any corners", "corners on a grid"])
@pytest.mark.parametrize("tied", [False, True], ids=["all scores differ", "many are equal"])
@pytest.mark.parametrize("classes", [None, 1, 3], ids=["no labels", "one label", "three labels"])
def test_random_boxes(seed: int, limit: float, whole: bool, tied: bool, classes: int | None) -> None:
    random = np.random.default_rng(seed + 100)
    boxes = random_boxes(seed, 60, whole=whole)
    scores = random.random(60, np.float32)
    if tied:
        scores = np.round(scores * 5) / np.float32(5)
    labels = random.integers(0, classes, 60) if classes is not None else None
    assert suppress(boxes, scores, limit, labels).tolist() == plain(boxes, scores, limit, labels)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("limit", [0.3, 0.5, 0.85])
@pytest.mark.parametrize("count", [1, 300])
def test_it_is_torchvisions(seed: int, limit: float, count: int) -> None:
    """With labels, whose boxes torchvision moves apart instead, to the rounding of that."""
    random = np.random.default_rng(seed + 200)
    boxes, scores = random_boxes(seed, count, whole=False), random.random(count, np.float32)
    labels = random.integers(0, 4, count)
    parts = torch.from_numpy(boxes), torch.from_numpy(scores)
    assert suppress(boxes, scores, limit).tolist() == nms(*parts, limit).tolist()
    expected = batched_nms(*parts, torch.from_numpy(labels), limit)
    assert suppress(boxes, scores, limit, labels).tolist() == expected.tolist()


A, NEAR_A, FAR = (0, 0, 40, 30), (0, 0, 40, 40), (100, 100, 140, 130)  # IoU of A and NEAR_A is 0.75


@pytest.mark.parametrize(
    ("boxes", "scores", "limit", "labels", "kept"),
    [
        pytest.param([], [], 0.5, None, [], id="none"),
        pytest.param([], [], 0.5, [], [], id="none, with labels"),
        pytest.param([A], [0], 0.5, None, [0], id="one, however unlikely"),
        pytest.param([FAR, A], [0.1, 0.9], 0.5, None, [1, 0], id="the best comes first"),
        pytest.param([A, NEAR_A], [0.1, 0.9], 0.5, None, [1], id="the better one stays"),
        pytest.param([A, NEAR_A], [0.9, 0.9], 0.5, None, [0], id="of two equally good ones the first"),
        pytest.param([FAR, A], [0.9, 0.9], 0.5, None, [0, 1], id="equally good ones keep their order"),
        pytest.param([A, NEAR_A], [0.9, 0.8], 0.75, None, [0, 1], id="as much as may be is not more"),
        pytest.param([A, NEAR_A], [0.9, 0.8], 0.74, None, [0], id="a little more is"),
        pytest.param([A, NEAR_A], [0.9, 0.8], 0.5, [0, 1], [0, 1], id="another label"),
        pytest.param([A, NEAR_A], [0.9, 0.8], 0.5, [7, 7], [0], id="the same label, whatever its number"),
        pytest.param([A, A, A], [0.7, 0.9, 0.8], 0.5, [0, 1, 0], [1, 2], id="of each label its best"),
        pytest.param([A, A], [0.9, 0.8], 1, None, [0, 1], id="a limit of 1 keeps all"),
        pytest.param([A, (40, 0, 80, 30)], [0.9, 0.8], 0, None, [0, 1], id="an edge in common is no overlap"),
        pytest.param([A, (39, 0, 80, 30)], [0.9, 0.8], 0, None, [0], id="a limit of 0 bears none"),
        pytest.param(
            [(5, 5, 5, 5), (5, 5, 5, 5), A], [0.9, 0.8, 0.7], 0.5, None, [0, 1, 2],
            id="boxes without area overlap nothing, not even their like",
        ),
        pytest.param([(0, 5, 40, 5), A], [0.9, 0.8], 0, None, [0, 1], id="a line"),
        pytest.param(
            [(0, 0, 10, 10), (6, 0, 16, 10), (12, 0, 22, 10)], [0.9, 0.8, 0.7], 0.2, None, [0, 2],
            id="one that was suppressed suppresses none",
        ),
        pytest.param([(-40, -30, 0, 0), (-40, -30, 0, 0)], [0.9, 0.8], 0.5, None, [0], id="negative corners"),
        pytest.param([A, A], [-0.5, -0.2], 0.5, None, [1], id="scores below zero"),
    ],
)  # fmt: skip
def test_by_hand(
    boxes: list[tuple[float, ...]],
    scores: list[float],
    limit: float,
    labels: list[int] | None,
    kept: list[int],
) -> None:
    given = None if labels is None else np.array(labels, np.int64)
    found = suppress(as_boxes(boxes), np.array(scores, np.float32), limit, given)
    assert found.dtype == np.int64
    assert found.tolist() == kept
    assert plain(as_boxes(boxes), np.array(scores, np.float32), limit, given) == kept


@pytest.mark.parametrize("kind", [np.int8, np.int32, np.int64, np.uint8])
def test_labels_of_any_whole_kind(kind: type) -> None:
    boxes, scores = as_boxes([A, NEAR_A, A]), np.array([0.9, 0.8, 0.7], np.float32)
    assert suppress(boxes, scores, 0.5, np.array([1, 2, 1], kind)).tolist() == [0, 1]


def test_nothing_that_is_read_is_changed() -> None:
    boxes, scores = random_boxes(0, 50, whole=False), np.random.default_rng(0).random(50, np.float32)
    before = boxes.copy(), scores.copy()
    suppress(boxes[::2], scores[::2], 0.5)
    assert np.array_equal(boxes, before[0])
    assert np.array_equal(scores, before[1])

"""What scoring changes about the selection: factors, voting, which regions are looked at again."""

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.inference.postprocess import (
    RegionScores,
    class_scores,
    select,
    vote,
)
from detector.inference.scoring import Scoring
from detector.structures.boxes import as_boxes
from detector.structures.proposals import Proposals, Source

A, NEAR_A, FAR = (0, 0, 100, 100), (20, 0, 120, 100), (200, 200, 260, 260)  # IoU of A and NEAR_A is 2/3


def _regions(boxes: list, scores: list, **known: object) -> RegionScores:
    return RegionScores(as_boxes(boxes), np.array(scores, np.float32).reshape(-1, 2), **known)  # type: ignore[arg-type]


# Boxes, their weights for the class, IoU to vote from, and where the first box comes to lie.
VOTES = [
    ("alone it stays", [A], [0.9], 0.5, A),
    ("two equal ones meet in the middle", [A, NEAR_A], [0.5, 0.5], 0.5, (10, 0, 110, 100)),
    ("by their scores", [A, NEAR_A], [0.75, 0.25], 0.5, (5, 0, 105, 100)),
    ("what overlaps too little has no vote", [A, NEAR_A], [0.5, 0.5], 0.7, A),
    ("nor has what lies elsewhere", [A, FAR], [0.5, 0.5], 0.5, A),
    ("nor has another class", [A, NEAR_A], [0.5, 0], 0.5, A),
    ("no votes at all", [A, NEAR_A], [0, 0], 0.5, A),
]


@pytest.mark.parametrize(
    ("boxes", "weights", "iou", "expected"), [v[1:] for v in VOTES], ids=[v[0] for v in VOTES]
)
def test_voting_moves_a_box_to_the_weighted_mean(
    boxes: list, weights: list, iou: float, expected: tuple
) -> None:
    got = vote(as_boxes([A]), as_boxes(boxes), np.array([weights], np.float32), iou)
    assert np.allclose(got, [expected])


def test_suppressed_boxes_vote_whatever_the_threshold() -> None:
    """The box that is left is moved towards the one it suppressed, and keeps its own score."""
    regions = _regions([A, NEAR_A], [(0.6, 0), (0.2, 0)])
    for threshold in (0.1, 0.5):
        found = select(regions, score_threshold=threshold, max_detections=9, scoring=Scoring(vote_iou=0.5))
        assert np.allclose(found.boxes, [(5, 0, 105, 100)])
        assert np.allclose(found.scores, [0.6])


FACTORS = [
    ("probability", Scoring(), 0),
    ("the tighter box", Scoring(fit_power=1), 1),
    ("what MultiBox is surer of", Scoring(objectness_power=1), 1),
]


@pytest.mark.parametrize(("scoring", "best"), [f[1:] for f in FACTORS], ids=[f[0] for f in FACTORS])
def test_the_best_of_two_boxes_is_that_of(scoring: Scoring, best: int) -> None:
    boxes = as_boxes([A, NEAR_A])
    proposals = Proposals(boxes, np.zeros(2, np.int8), np.array([0.2, 0.9], np.float32))
    regions = _regions(
        [A, NEAR_A], [(0.6, 0), (0.5, 0)], proposals=proposals, predicted_iou=np.array([0.4, 0.8], np.float32)
    )
    found = select(regions, score_threshold=0.05, max_detections=9, scoring=scoring)
    assert found.boxes.tolist() == [list(map(float, (A, NEAR_A)[best]))]


@pytest.mark.parametrize(("nms_iou", "left"), [(0.3, 1), (0.7, 2)])
def test_suppression_goes_by_the_setting(nms_iou: float, left: int) -> None:
    regions = _regions([A, NEAR_A], [(0.6, 0), (0.5, 0)])
    found = select(regions, score_threshold=0.1, max_detections=9, scoring=Scoring(nms_iou=nms_iou))
    assert len(found) == left


# Scores of two classes for A, NEAR_A and FAR; classes, how many at most; boxes and labels found.
FILTERS = [
    ("all", [(0.9, 0), (0, 0.8), (0, 0.7)], None, 9, [(A, 0), (NEAR_A, 1), (FAR, 1)]),
    ("one class", [(0.9, 0), (0, 0.8), (0, 0.7)], [1], 9, [(NEAR_A, 1), (FAR, 1)]),
    ("filtered before the best are taken", [(0.9, 0), (0, 0.8), (0, 0.7)], [1], 1, [(NEAR_A, 1)]),
    ("both, in any order", [(0.9, 0), (0, 0.8), (0, 0.7)], (1, 0), 1, [(A, 0)]),
    ("one that is not there", [(0.9, 0), (0.8, 0), (0.7, 0)], [1], 9, []),
    ("none", [(0.9, 0), (0, 0.8), (0, 0.7)], [], 9, []),
]


@pytest.mark.parametrize(
    ("scores", "classes", "most", "expected"), [f[1:] for f in FILTERS], ids=[f[0] for f in FILTERS]
)
def test_only_some_classes(scores: list, classes: list | None, most: int, expected: list) -> None:
    found = select(
        _regions([A, NEAR_A, FAR], scores), score_threshold=0.1, max_detections=most, classes=classes
    )
    assert [
        (tuple(box), label) for box, label in zip(found.boxes.tolist(), found.labels, strict=True)
    ] == expected


@pytest.mark.parametrize("most", [1, 30, 700, 5000])
def test_the_best_are_those_of_all_pairs(most: int) -> None:
    """Suppression looks at the best pairs first; what it gives is the beginning of what all pairs give."""
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 60, (150, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(30, 90, (150, 2))], axis=1).astype(np.float32)
    scores = rng.permutation(np.linspace(0, 1, 150 * 40, dtype=np.float32)).reshape(150, 40)
    regions = RegionScores(boxes, scores)
    settings = Scoring(objectness_power=0, fit_power=0, context_power=0, vote_iou=None)
    everything = select(regions, score_threshold=0, max_detections=10**6, scoring=settings)
    best = select(regions, score_threshold=0, max_detections=most, scoring=settings)
    assert len(best) == min(most, len(everything))
    assert np.array_equal(best.labels, everything.labels[:most])
    assert np.array_equal(best.boxes, everything.boxes[:most])


def test_a_filter_leaves_scores_and_boxes_as_they_are() -> None:
    """Context and votes weigh all classes and all boxes, whichever are asked for."""
    regions = _regions(
        [A, NEAR_A, FAR], [(0.5, 0.2), (0.3, 0.1), (0, 0.6)], image=np.array([1, 0.2], np.float32)
    )
    settings = {
        "score_threshold": 0.1,
        "max_detections": 9,
        "scoring": Scoring(context_power=1, vote_iou=0.5),
    }
    every, some = select(regions, **settings), select(regions, classes=[0], **settings)
    mine = every.labels == 0
    assert mine.any()
    assert not mine.all()
    assert some.boxes.tolist() == every.boxes[mine].tolist()
    assert some.scores.tolist() == every.scores[mine].tolist()


@pytest.mark.parametrize(
    ("least", "labels"),
    [
        pytest.param([0.1, 0.1], [1, 0, 0], id="the same for both is one threshold"),
        pytest.param([0.5, 0.6], [1, 0], id="each class by its own, itself included"),
        pytest.param([0.1, np.inf], [0, 0], id="a class that no score makes sure of is never shown"),
    ],
)
def test_thresholds_of_each_class(least: list[float], labels: list[int]) -> None:
    regions = _regions([A, FAR], [(0.5, 0), (0.2, 0.6)])
    found = select(regions, score_threshold=np.float32(least).astype(float), max_detections=9)
    assert found.labels.tolist() == labels


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_none(label: int) -> None:
    with pytest.raises(ParameterError, match=rf"0\.\.1, got {label}"):
        select(_regions([A], [(0.9, 0)]), score_threshold=0.1, max_detections=9, classes=[0, label])


def test_context_lowers_what_the_picture_does_not_show() -> None:
    regions = _regions([A, FAR], [(0.5, 0), (0, 0.6)], image=np.array([1, 0], np.float32))
    scores = class_scores(regions, Scoring(context_power=1, context_floor=0.5))
    assert np.allclose(scores, [(0.5, 0), (0, 0.3)])


def test_rows_keep_everything_together() -> None:
    boxes = as_boxes([A, NEAR_A, FAR])
    proposals = Proposals(boxes, np.full(3, Source.MULTIBOX, np.int8), np.array([0.1, 0.2, 0.3], np.float32))
    predicted_iou, image = np.array([0.4, 0.5, 0.6], np.float32), np.array([0.7, 0.3], np.float32)
    regions = _regions(
        [A, NEAR_A, FAR],
        [(1, 0), (0, 1), (0, 0)],
        proposals=proposals,
        predicted_iou=predicted_iou,
        image=image,
    )
    some = regions.rows(np.array([2, 0]))
    assert some.boxes.tolist() == as_boxes([FAR, A]).tolist()
    assert some.probabilities.tolist() == [[0, 0], [1, 0]]
    assert some.proposals is not None
    assert np.allclose(some.proposals.objectness, [0.3, 0.1])
    assert some.predicted_iou is not None
    assert np.allclose(some.predicted_iou, [0.6, 0.4])
    assert some.image is image

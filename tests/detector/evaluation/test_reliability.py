"""Reliability of scores: bins and intervals worked out by hand, and scores whose truth is known."""

import numpy as np
import pytest

from detector.evaluation.average_precision import PrecisionRecall, precision_recall
from detector.evaluation.reliability import counts_from, reliability, wilson_interval


def curve(*detections: tuple[float, bool]) -> PrecisionRecall:
    scores, correct = zip(*detections, strict=True) if detections else ((), ())
    return precision_recall(np.array(scores, float), np.array(correct, bool), 4)


@pytest.mark.parametrize(
    "truth", [[], [True], [False], [True, False, True], [False, False, True] * 400], ids=len
)
def test_a_curve_knows_which_detections_are_right(truth: list[bool]) -> None:
    """Its precision is a float: the last case has a thousand of them."""
    scores = np.linspace(1, 0.1, len(truth))
    measured = precision_recall(scores, np.array(truth, bool), 3)
    assert measured.correct.tolist() == truth


def test_bins_by_hand() -> None:
    """Two classes in bins of 0.1..0.55..1: what scores less is left out, 1 belongs to the last bin."""
    curves = [curve((0.9, True), (0.5, False), (0.05, True)), curve((1.0, False), (0.1, True)), curve()]
    measured = reliability(curves, bins=2)
    assert measured.shown.tolist() == [2, 2]
    assert measured.right.tolist() == [1, 1]
    assert measured.share.tolist() == [0.5, 0.5]
    assert measured.score == pytest.approx([0.3, 0.95])
    assert measured.expected_calibration_error == pytest.approx((0.2 * 2 + 0.45 * 2) / 4)


def test_nothing_detected_has_no_reliability() -> None:
    measured = reliability([curve()], bins=3)
    assert measured.shown.tolist() == [0, 0, 0]
    assert np.isnan(measured.share).all()
    assert np.isnan(measured.expected_calibration_error)


@pytest.mark.parametrize(
    ("tell", "error"),
    [(lambda score: score, 0.0), (lambda score: score**2, 0.18)],
    ids=["what comes true as often as it says", "what says too much"],
)
def test_the_error_of_scores_whose_truth_is_known(tell, error: float) -> None:  # type: ignore[no-untyped-def]
    """Scores are even in 0.1..1; the mean of s - s**2 over them is 0.18."""
    random = np.random.default_rng(0)
    scores = random.uniform(0.1, 1, 100_000)
    right = random.random(len(scores)) < tell(scores)
    measured = reliability([precision_recall(scores, right, 1)])
    assert measured.expected_calibration_error == pytest.approx(error, abs=0.01)


@pytest.mark.parametrize(
    ("least", "counts"),
    [(0.95, (0, 0)), (0.9, (1, 1)), (0.6, (3, 2)), (0.59, (4, 2)), (0, (4, 2))],
    ids=["above all", "a score itself counts", "equal scores of two classes", "one more", "all"],
)
def test_counts_of_two_classes_from_a_score_on(least: float, counts: tuple[int, int]) -> None:
    """How many are shown, and how many of these are right."""
    curves = [curve((0.9, True), (0.6, True)), curve((0.6, False), (0.59, False))]
    shown, right = counts_from(curves, np.array([least]))
    assert (shown.tolist(), right.tolist()) == ([counts[0]], [counts[1]])


def test_counts_at_many_scores_are_those_at_each() -> None:
    random = np.random.default_rng(1)
    scores, right = random.integers(0, 20, 300) / 20, random.random(300) < 0.4
    measured = precision_recall(scores, right, 10)
    asked = np.arange(21) / 20
    shown, correct = counts_from([measured], asked)
    assert shown.tolist() == [int((scores >= one).sum()) for one in asked]
    assert correct.tolist() == [int(right[scores >= one].sum()) for one in asked]


@pytest.mark.parametrize(
    ("right", "shown", "low", "high"),
    [
        pytest.param(0, 0, 0.0, 1.0, id="of nothing nothing is known"),
        pytest.param(3, 3, 0.4385, 1.0, id="three of three"),
        pytest.param(0, 10, 0.0, 0.2775, id="none of ten"),
        pytest.param(81, 100, 0.7222, 0.8749, id="81 of 100"),
    ],
)
def test_wilsons_interval(right: int, shown: int, low: float, high: float) -> None:
    """Values of 95 % as statistical tables have them (scipy's ``proportion_ci`` among them)."""
    got = wilson_interval(np.array([right]), np.array([shown]))
    assert (got[0][0], got[1][0]) == pytest.approx((low, high), abs=1e-4)


def test_wilsons_interval_is_scipys() -> None:
    from scipy.stats import binomtest

    for right, shown in ((1, 7), (40, 50), (999, 1000)):
        low, high = wilson_interval(np.array([right]), np.array([shown]), 1.959963984540054)
        expected = binomtest(right, shown).proportion_ci(0.95, "wilson")
        assert (low[0], high[0]) == pytest.approx((expected.low, expected.high))

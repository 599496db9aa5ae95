"""Thresholds for a wanted precision: what few objects change, what many do, whether they keep their word."""

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.evaluation.class_match import match_classes
from detector.evaluation.det_evaluation import DetEvaluation, figures
from detector.evaluation.tables import thresholds_table
from detector.evaluation.thresholds import measure_thresholds, threshold_figures
from detector.evaluation.voc import VOC
from detector.inference.thresholds import Thresholds
from detector.structures.classes import ClassList

Detection = tuple[int, float, bool]


def evaluation(detections: list[Detection], objects: list[int]) -> DetEvaluation:
    labels, scores, correct = zip(*detections, strict=True) if detections else ((), (), ())
    return figures(
        np.array(labels, np.int64), np.array(scores), np.array(correct, bool), np.array(objects), VOC
    )


def many(label: int, score: float, right: int, wrong: int) -> list[Detection]:
    return [(label, score, True)] * right + [(label, score, False)] * wrong


# Class 0 has a thousand detections: 90 % right at 0.8, 30 % at 0.5. Class 1 is the one that is asked about.
CROWD = many(0, 0.8, 450, 50) + many(0, 0.5, 150, 350)


def test_the_lowest_score_that_reaches_the_share() -> None:
    """60 % of all are right: enough for 0.55; for 0.7 those at 0.5 must go, and one can go no further."""
    measured = evaluation(CROWD, [1000])
    assert measure_thresholds(measured, 0.55).scores == (0.001,)
    assert measure_thresholds(measured, 0.7).scores == (0.501,)
    assert measure_thresholds(measured, 0.95).scores == (None,)


@pytest.mark.parametrize("right", [1, 2, 3])
def test_a_few_that_are_right_do_not_make_a_threshold(right: int) -> None:
    """A tiny set proves no precision of 0.7, however well it went."""
    thresholds = measure_thresholds(evaluation(many(0, 0.9, right, 0), [right]), 0.7)
    assert thresholds.common is None
    assert not thresholds.reached


@pytest.mark.parametrize(
    ("mine", "moves"),
    [
        pytest.param([], "same", id="no detections of its own: the common threshold"),
        pytest.param(
            many(1, 0.5, 2, 0), "same", id="two right ones among hundreds are no reason to lower it"
        ),
        pytest.param(many(1, 0.5, 300, 20), "lower", id="hundreds that are right are one"),
        pytest.param(many(1, 0.8, 0, 9), "higher", id="nine wrong ones above it raise it"),
        pytest.param(many(1, 0.97, 0, 30), "none", id="thirty that are wrong above all others: never shown"),
    ],
)
def test_how_a_class_moves_its_threshold(mine: list[Detection], moves: str) -> None:
    thresholds = measure_thresholds(evaluation([*CROWD, *many(0, 0.95, 100, 2), *mine], [700, 300]), 0.7)
    common, own = thresholds.common, thresholds.scores[1]
    assert common is not None
    if moves == "none":
        assert own is None
        assert thresholds.least[1] == np.inf
        return
    assert own is not None
    assert {"same": own == common, "lower": own < common, "higher": own > common}[moves]


def test_thresholds_keep_their_word_on_other_pictures() -> None:
    """Forty classes, half of which say 0.2 too much, with 2 to 60 detections each in the set measured: 0.7 is
    wanted, and kept in the mean of ten such sets. Their own shares alone would give 0.65."""
    precisions = []
    for seed in range(10):
        random = np.random.default_rng(seed)

        def sample(counts: np.ndarray, random: np.random.Generator = random) -> DetEvaluation:
            labels = np.repeat(np.arange(40), counts)
            scores = random.uniform(0.05, 1, len(labels))
            right = random.random(len(labels)) < scores - 0.2 * (labels % 2)
            return figures(labels, scores, right, counts, VOC)

        thresholds = measure_thresholds(sample(random.integers(2, 60, 40)), 0.7)
        later = threshold_figures(sample(np.full(40, 500)), thresholds)
        shown = sum(one.shown for one in later)
        assert shown > 3000, "they do not get there by showing nothing"
        precisions.append(sum(one.right for one in later) / shown)
    assert np.mean(precisions) > 0.69


def test_what_a_threshold_shows() -> None:
    measured = evaluation([(0, 0.9, True), (0, 0.7, False), (0, 0.2, True), (1, 0.9, False)], [3, 0])
    shown = threshold_figures(measured, Thresholds(0.7, 0.7, (0.7, None), ""))
    assert [(one.shown, one.right, one.objects) for one in shown] == [(2, 1, 3), (0, 0, 0)]
    table = thresholds_table(shown, Thresholds(0.7, 0.7, (0.7, None), ""), ClassList.of(["a", "b"]))
    assert table.splitlines()[1].split() == ["a", "0.700", "2", "1", "50", "3", "33"]
    assert len(table.splitlines()) == 3, "a class that neither is nor is shown has no line"


def test_classes_that_the_data_lacks_have_the_common_threshold() -> None:
    match = match_classes(ClassList.of(["cup", "b", "a"]), ClassList.of(["a", "b"]))
    own = match.thresholds(Thresholds(0.7, 0.5, (0.3, None), "x"))
    assert own == Thresholds(0.7, 0.5, (0.5, None, 0.3), "x")


@pytest.mark.parametrize("precision", [0, 1, -0.5, 70, float("nan"), True])
def test_a_precision_that_is_none(precision: float) -> None:
    with pytest.raises(ParameterError, match="must lie between 0 and 1"):
        measure_thresholds(evaluation([], [1]), precision)

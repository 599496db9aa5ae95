import numpy as np
import pytest

from detector.errors import ParameterError
from detector.evaluation.classification import top_k_error

SCORES = np.array([[0.1, 0.6, 0.3], [0.5, 0.2, 0.3], [0.4, 0.4, 0.2]])


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        pytest.param([1, 0, 0], {1: 0, 2: 0, 3: 0}, id="always the best"),
        pytest.param([2, 2, 0], {1: 2 / 3, 2: 0, 3: 0}, id="twice the second"),
        pytest.param([0, 1, 2], {1: 1, 2: 1, 3: 0}, id="always the last"),
        pytest.param([1, 0, 1], {1: 1 / 3, 2: 0, 3: 0}, id="of equal scores the lower label ranks first"),
    ],
)
def test_errors(labels: list[int], expected: dict[int, float]) -> None:
    assert top_k_error(SCORES, np.array(labels), ks=(1, 2, 3)) == pytest.approx(expected)


def test_against_sorting() -> None:
    random = np.random.default_rng(0)
    scores = random.integers(0, 5, (200, 20)).astype(np.float32)  # ties everywhere
    labels = random.integers(0, 20, 200)
    best = np.argsort(-scores, axis=1, kind="stable")
    expected = {k: float(np.mean(~(best[:, :k] == labels[:, None]).any(axis=1))) for k in (1, 5)}
    assert top_k_error(scores, labels) == pytest.approx(expected)


def test_a_network_that_says_the_same_of_every_class_gains_nothing() -> None:
    assert top_k_error(np.ones((4, 4)), np.arange(4), ks=(1,)) == {1: 0.75}


def test_more_than_there_are_classes_is_always_right() -> None:
    assert top_k_error(SCORES, np.array([0, 1, 2]))[5] == 0


def test_no_pictures() -> None:
    errors = top_k_error(np.zeros((0, 3)), np.zeros(0, np.int64))
    assert np.isnan(list(errors.values())).all()


@pytest.mark.parametrize(
    ("scores", "labels", "ks"),
    [
        pytest.param(SCORES[0], [1], (1,), id="one picture without its axis"),
        pytest.param(SCORES, [1, 1], (1,), id="fewer labels than pictures"),
        pytest.param(SCORES, [1, 1, 3], (1,), id="a label that is no class"),
        pytest.param(SCORES, [1, 1, -1], (1,), id="a label below 0 would index from the end"),
        pytest.param(SCORES * np.nan, [1, 1, 1], (1,), id="NaN"),
        pytest.param(SCORES, [1, 1, 1], (0,), id="k of 0"),
    ],
)
def test_refused(scores: np.ndarray, labels: list[int], ks: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError):
        top_k_error(scores, np.array(labels), ks)

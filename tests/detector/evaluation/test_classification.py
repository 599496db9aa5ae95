import numpy as np
import pytest

from detector.errors import ParameterError
from detector.evaluation.classification import (
    ClassificationFigures,
    label_ranks,
    rank_error,
    top_k_error,
)
from detector.evaluation.tables import classification_table

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
def test_top_k_errors_by_hand(labels: list[int], expected: dict[int, float]) -> None:
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
def test_what_makes_no_sense_is_refused(scores: np.ndarray, labels: list[int], ks: tuple[int, ...]) -> None:
    with pytest.raises(ParameterError):
        top_k_error(scores, np.array(labels), ks)


def test_ranks_of_pictures_one_by_one_give_the_error_of_all() -> None:
    """An evaluation keeps a rank a picture, not a score a class."""
    random = np.random.default_rng(1)
    scores = random.integers(0, 5, (50, 20)).astype(np.float32)
    labels = random.integers(0, 20, 50)
    ranks = [label_ranks(scores[[row]], labels[[row]])[0] for row in range(50)]
    assert rank_error(np.array(ranks)) == top_k_error(scores, labels)


PAPER = [
    # networks, crops, cost, top-5 error %, compared to base: arXiv 1409.4842, table 3
    (1, 1, 1, 10.07, "+0.00"),
    (1, 10, 10, 9.15, "-0.92"),
    (1, 144, 144, 7.89, "-2.18"),
    (7, 1, 7, 8.09, "-1.98"),
    (7, 10, 70, 7.62, "-2.45"),
    (7, 144, 1008, 6.67, "-3.40"),
]


def test_the_table_has_the_columns_of_the_paper() -> None:
    figures = [
        ClassificationFigures("GoogLeNet", networks, crops, 0.3, error / 100)
        for networks, crops, _, error, _ in PAPER
    ]
    head, *lines = classification_table(figures).splitlines()
    assert "precision" not in head
    for (networks, crops, cost, error, to_base), line in zip(PAPER, lines, strict=True):
        cells = [str(networks), str(crops), str(cost), "30.00", f"{error:.2f}", to_base, "70.00"]
        assert line.split()[1:] == [*cells, f"{100 - error:.2f}", "-"]


def test_the_table_names_precisions_where_there_are_several() -> None:
    figures = [
        ClassificationFigures("net", 1, 1, 0.5, 0.25, precision, seconds)
        for precision, seconds in (("float32", 0.0421), ("bfloat16", 0.02))
    ]
    head, first, second = classification_table(figures).splitlines()
    assert head.split()[:3] == ["classifier", "precision", "networks"]
    assert first.split() == [
        "net",
        "float32",
        "1",
        "1",
        "1",
        "50.00",
        "25.00",
        "+0.00",
        "50.00",
        "75.00",
        "0.042",
    ]
    assert second.split()[1] == "bfloat16"

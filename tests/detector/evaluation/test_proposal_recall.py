import json
from pathlib import Path

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.evaluation.proposal_recall import proposal_recall
from detector.structures.boxes import as_boxes

TRUTH = [as_boxes([(0, 0, 10, 10), (50, 50, 60, 60)]), as_boxes([(0, 0, 20, 20)]), as_boxes([])]
# best overlaps, first to last proposal: 0.4 and 0, then 1 and 0; 0, then 0.5; nothing to find
PROPOSALS = [
    as_boxes([(0, 0, 10, 4), (0, 0, 10, 10)]),
    as_boxes([(80, 80, 90, 90), (0, 0, 20, 10)]),
    as_boxes([(0, 0, 5, 5)]),
]


def test_by_hand() -> None:
    result = proposal_recall(TRUTH, PROPOSALS, budgets=(1, 2, 500))
    assert result.budgets.tolist() == [1, 2, 500]
    np.testing.assert_allclose(result.proposals, [1, 5 / 3, 5 / 3])
    np.testing.assert_allclose(result.recall, [0, 2 / 3, 2 / 3])
    np.testing.assert_allclose(result.mabo, [0.4 / 3, 1.5 / 3, 1.5 / 3])


def test_with_labels_the_mean_is_over_classes() -> None:
    labels = [np.array([7, 7]), np.array([3]), np.zeros(0, np.int64)]
    result = proposal_recall(TRUTH, PROPOSALS, budgets=(2,), labels=labels)
    np.testing.assert_allclose(result.mabo, [(np.mean([1, 0]) + 0.5) / 2])
    np.testing.assert_allclose(result.recall, [2 / 3])


@pytest.mark.parametrize(("iou", "recall"), [(0.4, 1 / 3), (0.41, 0)])
def test_the_threshold_counts_itself(iou: float, recall: float) -> None:
    assert proposal_recall(TRUTH, PROPOSALS, iou=iou, budgets=(1,)).recall[0] == pytest.approx(recall)


def test_nothing_proposed_finds_nothing() -> None:
    result = proposal_recall(TRUTH, [as_boxes([])] * 3, budgets=(10,))
    assert (result.recall[0], result.mabo[0], result.proposals[0]) == (0, 0, 0)


@pytest.mark.parametrize("images", [0, 2])
def test_nothing_to_find_is_not_a_number(images: int) -> None:
    result = proposal_recall([as_boxes([])] * images, [PROPOSALS[0]] * images, budgets=(1, 2))
    assert np.isnan(result.recall).all()
    assert np.isnan(result.mabo).all()


@pytest.mark.parametrize(
    ("proposals", "budgets", "labels"),
    [
        pytest.param(PROPOSALS[:2], (1,), None, id="a picture without proposals"),
        pytest.param(PROPOSALS, (0,), None, id="a budget of 0"),
        pytest.param(PROPOSALS, (1,), [np.array([0])] * 3, id="labels of other pictures"),
    ],
)
def test_what_makes_no_sense_is_refused(
    proposals: list, budgets: tuple[int, ...], labels: list | None
) -> None:
    with pytest.raises(ParameterError):
        proposal_recall(TRUTH, proposals, budgets=budgets, labels=labels)


def test_a_regular_grid_over_real_pictures(shared: Path) -> None:
    """Coverage of 1,123 fully annotated pictures grows with the budget; the truth itself covers all."""
    images = list(json.loads((shared / "ilsvrc" / "agnostic_boxes.json").read_text()).values())
    truth = [as_boxes(image["boxes"]) for image in images]
    grids = [_grid(image["width"], image["height"]) for image in images]
    result = proposal_recall(truth, grids, budgets=(1, 10, 84))
    assert (np.diff(result.recall) > 0).all()
    assert (np.diff(result.mabo) > 0).all()
    assert 0 < result.recall[0] < result.recall[-1] < 1
    perfect = proposal_recall(truth, truth, budgets=(1000,))
    assert perfect.recall[0] == 1
    assert perfect.mabo[0] == pytest.approx(1)


def _grid(width: int, height: int) -> np.ndarray:
    """Squares of the picture's sides divided by 1, 2, 3 and 4, half overlapping, the largest first."""
    cells = [
        (x / (2 * n), y / (2 * n), (x + 2) / (2 * n), (y + 2) / (2 * n))
        for n in range(1, 5)
        for x in range(2 * n - 1)
        for y in range(2 * n - 1)
    ]
    return as_boxes(np.array(cells) * [width, height, width, height])


@pytest.mark.parametrize(
    ("height", "recall", "average_recall"),
    [
        pytest.param(10, 1, 1, id="exact: found at every IoU"),
        pytest.param(8, 1, 0.6, id="0.8: found from 0.5 to 0.8, 0.3 of 0.5"),
        pytest.param(5, 1, 0, id="0.5: found there and nowhere above"),
        pytest.param(4, 0, 0, id="below 0.5 counts nothing"),
    ],
)
def test_average_recall_of_one_object(height: int, recall: float, average_recall: float) -> None:
    result = proposal_recall(
        [as_boxes([(0, 0, 10, 10)])], [as_boxes([(0, 0, 10, height)])], budgets=(1,), iou=0.5
    )
    assert result.recall[0] == recall
    assert result.average_recall[0] == pytest.approx(average_recall)


def test_several_thresholds() -> None:
    result = proposal_recall(TRUTH, PROPOSALS, budgets=(1, 2))
    np.testing.assert_allclose(result.recall_at(0.4), [1 / 3, 2 / 3])
    np.testing.assert_allclose(result.recall_at(0.7), [0, 1 / 3])
    np.testing.assert_allclose(result.average_recall, [0, 1 / 3])


def slow_coverage(
    truth: list[np.ndarray], proposals: list[np.ndarray], labels: list[np.ndarray], budget: int
) -> tuple[float, float, float]:
    """Recall at 0.7, average recall summed in fine steps, and MABO over classes, word by word."""
    best: list[tuple[int, float]] = []
    for objects, boxes, classes in zip(truth, proposals, labels, strict=True):
        for g, label in zip(objects.tolist(), classes.tolist(), strict=True):
            overlaps = [0.0]
            for b in boxes[:budget].tolist():
                width = max(min(g[2], b[2]) - max(g[0], b[0]), 0)
                height = max(min(g[3], b[3]) - max(g[1], b[1]), 0)
                areas = (g[2] - g[0]) * (g[3] - g[1]) + (b[2] - b[0]) * (b[3] - b[1])
                overlaps.append(width * height / (areas - width * height))
            best.append((label, max(overlaps)))

    def recall(iou: float) -> float:
        return sum(overlap >= iou for _, overlap in best) / len(best)

    steps = 5000
    area = sum(recall(0.5 + 0.5 * (step + 0.5) / steps) for step in range(steps)) * 0.5 / steps
    by_class = {label: [overlap for one, overlap in best if one == label] for label, _ in best}
    return recall(0.7), 2 * area, float(np.mean([np.mean(overlaps) for overlaps in by_class.values()]))


@pytest.mark.parametrize("seed", range(20))
def test_against_a_slow_second_writing(seed: int) -> None:
    random = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corner = random.integers(0, 30, (count, 2))
        return np.concatenate([corner, corner + random.integers(5, 40, (count, 2))], axis=1).astype(
            np.float32
        )

    truth = [boxes(count) for count in (2, 0, 3)]
    proposals = [boxes(random.integers(0, 12)) for _ in truth]
    labels = [random.integers(0, 3, len(mine)) for mine in truth]
    budgets = (1, 4, 20)
    result = proposal_recall(truth, proposals, budgets=budgets, labels=labels)
    expected = np.array([slow_coverage(truth, proposals, labels, budget) for budget in budgets])
    np.testing.assert_allclose(result.recall_at(0.7), expected[:, 0])
    np.testing.assert_allclose(result.average_recall, expected[:, 1], atol=2e-4)
    np.testing.assert_allclose(result.mabo, expected[:, 2], rtol=1e-6)

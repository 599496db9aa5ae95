"""The rules of PASCAL VOC: cases worked out by hand, and the development kit's code written out once more."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from detector.datasets.annotated_image import AnnotatedImage
from detector.evaluation.det_evaluation import evaluate
from detector.evaluation.ilsvrc import ILSVRC
from detector.evaluation.voc import VOC, VOC_2007, match
from detector.structures.boxes import as_boxes
from detector.structures.detections import Detections
from tests.detector.evaluation.scenes import Box, contested, found, record

A: Box = (0, 0, 100, 100)
FAR: Box = (300, 300, 400, 400)
NAN = float("nan")

# ground truth, detections by picture, the area under the curve, the eleven points
CASES = [
    pytest.param([record("p", (0, A))], {"p": found((0, 0.9, A))}, 1, 1, id="found"),
    pytest.param([record("p", (0, A))], {}, 0, 0, id="missed"),
    pytest.param([record("p")], {"p": found((0, 0.9, A))}, NAN, NAN, id="no object of the class"),
    pytest.param(
        [record("p", (0, A))], {"p": found((0, 0.9, (0, 0, 100, 50)))}, 1, 1, id="an IoU of just 0.5 does"
    ),
    pytest.param([record("p", (0, A))], {"p": found((0, 0.9, (0, 0, 100, 49)))}, 0, 0, id="0.49 does not"),
    pytest.param(
        [record("p", (0, (5, 5, 15, 15)))],
        {"p": found((0, 0.9, (0, 0, 20, 20)))},
        0,
        0,
        id="small objects are asked for as large ones are, unlike by ILSVRC",
    ),
    pytest.param(
        [record("p", (0, A), (0, FAR))],
        {"p": found((0, 0.9, A), (0, 0.8, A), (0, 0.7, FAR))},
        1 / 2 + 1 / 2 * 2 / 3,
        (6 * 1 + 5 * 2 / 3) / 11,  # recalls 0 to 0.5 at precision 1, 0.6 to 1 at 2/3
        id="a duplicate is a false positive",
    ),
    pytest.param(
        [record("p", (0, A), (0, (0, 0, 100, 80)))],
        {"p": found((0, 0.9, (0, 0, 100, 79)), (0, 0.8, (0, 0, 100, 85)))},
        1 / 2,
        6 / 11,
        id="a duplicate of the object that it fits best, though the other one is free: unlike by ILSVRC",
    ),
    pytest.param(
        [record("p", (0, A), (0, FAR), difficult=(1,))],
        {"p": found((0, 0.9, A))},
        1,
        1,
        id="a difficult object need not be found",
    ),
    pytest.param(
        [record("p", (0, A), (0, FAR), difficult=(1,))],
        {"p": found((0, 0.9, FAR), (0, 0.8, FAR), (0, 0.7, A))},
        1,
        1,
        id="nor does finding it punish, were it twice",
    ),
    pytest.param(
        [record("p", (0, A), difficult=(0,))],
        {"p": found((0, 0.9, A))},
        NAN,
        NAN,
        id="a class of difficult objects only is not measured",
    ),
    pytest.param(
        [record("p", (0, A), (0, FAR), difficult=(1,))],
        {"p": found((0, 0.9, (300, 300, 400, 349)), (0, 0.7, A))},
        1 / 2,
        1 / 2,
        id="a detection beside the difficult object is false",
    ),
    pytest.param(
        [record("p", (1, A)), record("q", (0, A), partial=True)],
        {"p": found((1, 0.9, A)), "q": found((1, 0.95, A), (0, 0.9, A))},
        1,
        1,
        id="a partial picture says nothing of class 1",
    ),
]


@pytest.mark.parametrize(("ground_truth", "detections", "area", "eleven"), CASES)
def test_by_hand(
    ground_truth: list[AnnotatedImage], detections: dict[str, Detections], area: float, eleven: float
) -> None:
    for expected, eleven_points in ((area, False), (eleven, True)):
        result = evaluate(ground_truth, detections, 2, VOC_2007 if eleven_points else VOC)
        np.testing.assert_allclose(result.mean_ap, expected)


def test_difficult_objects_are_not_counted() -> None:
    truth = [record("p", (0, A), (0, FAR), difficult=(1,))]
    result = evaluate(truth, {"p": found((0, 0.9, FAR), (0, 0.8, A), (0, 0.7, A))}, 1, VOC)
    assert result.ground_truths.tolist() == [1]
    assert result.detections.tolist() == [2]
    assert result.recall.tolist() == [1]


def test_the_eleven_points_of_a_curve() -> None:
    """True, false, true, false, false, true, of four objects: precision 1, 2/3, 1/2 at 1, 2, 3 found."""
    places: list[Box] = [(120 * step, 0, 120 * step + 100, 100) for step in range(4)]
    truth = [record("p", *((0, place) for place in places))]
    boxes = [places[0], FAR, places[1], FAR, FAR, places[2]]
    detections = {"p": found(*((0, 0.9 - 0.1 * rank, box) for rank, box in enumerate(boxes)))}
    eleven = evaluate(truth, detections, 1, VOC_2007)
    np.testing.assert_allclose(eleven.mean_ap, (3 * 1 + 3 * 2 / 3 + 2 * 1 / 2) / 11)
    area = evaluate(truth, detections, 1, VOC)
    np.testing.assert_allclose(area.mean_ap, (1 + 2 / 3 + 1 / 2) / 4)


def test_match_says_which() -> None:
    truth = as_boxes([A, (0, 0, 100, 80), FAR])
    detections = as_boxes([(0, 0, 100, 79), FAR, (0, 0, 100, 85), FAR, A])
    marks = np.array([False, False, True])
    assert match(detections, truth, marks).tolist() == [1, 2, -1, 2, 0]
    assert match(detections, truth[:0], marks[:0]).tolist() == [-1] * 5
    assert match(detections[:0], truth, marks).tolist() == []


@pytest.mark.parametrize("seed", range(50))
def test_the_area_is_ilsvrcs_where_the_rules_coincide(seed: int) -> None:
    """Large objects, none difficult, and none near another: there the rules differ in nothing."""
    random = np.random.default_rng(seed)
    truth, detections = [], {}
    for number in range(6):
        places = [(x, y) for x in (0, 250) for y in (0, 250)]
        objects = [
            (int(random.integers(2)), (x, y, x + 100, y + 100)) for x, y in places if random.random() < 0.7
        ]
        truth.append(record(f"p{number}", *objects))
        guesses = []
        for _ in range(random.integers(0, 12)):
            x, y = places[random.integers(4)]
            dx, dy = random.integers(0, 70, 2)
            score = int(random.integers(20)) / 20
            guesses.append((int(random.integers(2)), score, (x + dx, y + dy, x + dx + 100, y + dy + 100)))
        detections[f"p{number}"] = found(*guesses)
    ours, ilsvrc = evaluate(truth, detections, 2, VOC), evaluate(truth, detections, 2, ILSVRC)
    np.testing.assert_array_equal(ours.ap, ilsvrc.ap)
    np.testing.assert_array_equal(ours.detections, ilsvrc.detections)


def devkit(
    truth: Sequence[AnnotatedImage], detections: dict[str, Detections], label: int, eleven_points: bool
) -> float:
    """``VOCevaldet.m`` line by line, in whole-pixel corners."""
    objects = {
        one.image_id: (one.boxes[one.labels == label] - [0, 0, 1, 1], one.difficult[one.labels == label])
        for one in truth
    }
    taken = {image_id: [False] * len(marks) for image_id, (_, marks) in objects.items()}
    positives = sum(int((~marks).sum()) for _, marks in objects.values())
    if not positives:
        return NAN
    ranked = []
    for place, one in enumerate(truth):
        mine = detections.get(one.image_id)
        for number in range(len(mine) if mine else 0):
            if mine.labels[number] == label:
                corners = mine.boxes[number] - [0, 0, 1, 1]
                ranked.append((-float(mine.scores[number]), place, number, one.image_id, tuple(corners)))
    true_positives, false_positives = [], []
    for *_, image_id, b in sorted(ranked):
        best, best_overlap = -1, -np.inf
        boxes, marks = objects[image_id]
        for j, g in enumerate(boxes):
            width = min(b[2], g[2]) - max(b[0], g[0]) + 1
            height = min(b[3], g[3]) - max(b[1], g[1]) + 1
            if width > 0 and height > 0:
                union = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
                union += (g[2] - g[0] + 1) * (g[3] - g[1] + 1) - width * height
                if width * height / union > best_overlap:
                    best, best_overlap = j, width * height / union
        hit = best_overlap >= 0.5
        ignored = hit and marks[best]
        first = hit and not ignored and not taken[image_id][best]
        if first:
            taken[image_id][best] = True
        true_positives.append(bool(first))
        false_positives.append(not first and not ignored)
    tp, fp = np.cumsum(true_positives), np.cumsum(false_positives)
    with np.errstate(invalid="ignore"):
        recall, precision = tp / positives, np.nan_to_num(tp / (fp + tp))
    if eleven_points:
        return sum(precision[recall >= step / 10].max(initial=0) for step in range(11)) / 11
    recall = np.concatenate([[0], recall, [1]])
    precision = np.concatenate([[0], precision, [0]])
    for i in range(len(precision) - 2, -1, -1):
        precision[i] = max(precision[i], precision[i + 1])
    steps = np.flatnonzero(recall[1:] != recall[:-1]) + 1
    return float(np.sum((recall[steps] - recall[steps - 1]) * precision[steps]))


@pytest.mark.parametrize("seed", range(200))
@pytest.mark.parametrize("eleven_points", [False, True])
def test_against_the_development_kit(seed: int, eleven_points: bool) -> None:
    truth, detections = contested(seed)
    result = evaluate(truth, detections, 3, VOC_2007 if eleven_points else VOC)
    expected = [devkit(truth, detections, label, eleven_points) for label in range(3)]
    np.testing.assert_allclose(result.ap, expected, rtol=1e-12)


def test_difficulty_matters_in_the_random_sets() -> None:
    """Else the comparison above would say nothing of it."""
    differs = []
    for seed in range(20):
        truth, detections = contested(seed)
        without = [replace(one, difficult=np.zeros(len(one.boxes), np.bool_)) for one in truth]
        marked, plain = evaluate(truth, detections, 3, VOC), evaluate(without, detections, 3, VOC)
        differs.append(not np.array_equal(marked.ap, plain.ap, equal_nan=True))
    assert any(differs)

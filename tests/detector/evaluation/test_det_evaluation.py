"""The rule of ILSVRC detection: cases worked out by hand, and a slow second writing of it on random sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.formats.ilsvrc import read_ilsvrc_det
from detector.errors import ParameterError
from detector.evaluation.det_evaluation import evaluate
from detector.evaluation.ilsvrc import ILSVRC, iou_thresholds, match
from detector.structures.boxes import as_boxes
from detector.structures.detections import Detections
from tests.detector.evaluation.scenes import Box, contested, found, record

A: Box = (0, 0, 100, 100)
FAR: Box = (300, 300, 400, 400)
NAN = float("nan")

# ground truth, detections by picture, blacklist, AP of classes 0 and 1
CASES = [
    pytest.param([record("p", (0, A))], {"p": found((0, 0.9, A))}, [], [1, NAN], id="found"),
    pytest.param([record("p", (0, A))], {}, [], [0, NAN], id="a picture without detections counts as missed"),
    pytest.param([record("p", (0, A))], {"p": found()}, [], [0, NAN], id="as does one with none"),
    pytest.param([], {}, [], [NAN, NAN], id="an empty set measures nothing"),
    pytest.param(
        [record("p")], {"p": found((0, 0.9, A))}, [], [NAN, NAN], id="detections but no object of the class"
    ),
    pytest.param(
        [record("p", (0, A))], {"p": found((1, 0.9, A))}, [], [0, NAN], id="the right box of the wrong class"
    ),
    pytest.param(
        [record("p", (0, A))], {"p": found((0, 0.9, (0, 0, 100, 50)))}, [], [1, NAN], id="IoU of just 0.5"
    ),
    pytest.param(
        [record("p", (0, A))], {"p": found((0, 0.9, (0, 0, 100, 49)))}, [], [0, NAN], id="IoU of 0.49"
    ),
    pytest.param(
        [record("p", (0, (5, 5, 15, 15)))],
        {"p": found((0, 0.9, (0, 0, 20, 20)))},
        [],
        [1, NAN],
        id="the kit's example: 10x10 in 20x20, IoU 0.25 is just its threshold",
    ),
    pytest.param(
        [record("p", (0, (5, 5, 15, 15)))],
        {"p": found((0, 0.9, (0, 0, 20, 21)))},
        [],
        [0, NAN],
        id="one row more is too much",
    ),
    pytest.param(
        [record("p", (0, A), (0, FAR))],
        {"p": found((0, 0.9, A), (0, 0.8, A), (0, 0.7, FAR))},
        [],
        [1 / 2 + 1 / 2 * 2 / 3, NAN],
        id="a duplicate is a false positive: true, false, true",
    ),
    pytest.param(
        [record("p", (0, A))],
        {"p": found((0, 0.7, A), (0, 0.8, (0, 0, 100, 60)))},
        [],
        [1, NAN],
        id="the better score takes it, not the better box",
    ),
    pytest.param(
        [record("p", (0, A), (0, (0, 0, 100, 80)))],
        {"p": found((0, 0.9, (0, 0, 100, 79)), (0, 0.8, (0, 0, 100, 85)))},
        [],
        [1, NAN],
        id="each takes its best: the second finds A still free, though it fits the other better",
    ),
    pytest.param(
        [record("p", (0, (0, 0, 12, 12)), (0, (0, 0, 30, 30)))],
        {"p": found((0, 0.9, (0, 0, 19, 20)))},
        [],
        [1 / 2, NAN],
        id="the best of those at their own threshold: 0.38 does for the small one, 0.42 not for the large",
    ),
    pytest.param(
        [record("p", (0, A), (1, A)), record("q", (0, A))],
        {"p": found((0, 0.9, FAR), (1, 0.9, A)), "q": found((0, 0.8, A))},
        [("p", 0)],
        [1, 1],
        id="blacklisted for class 0 only: neither its object nor its false positive counts",
    ),
    pytest.param(
        [record("p", (0, A))], {"p": found((0, 0.9, A))}, [("p", 0)], [NAN, NAN], id="all of it blacklisted"
    ),
    pytest.param(
        [record("p", (0, A), partial=True), record("q", (1, A))],
        {"p": found((1, 0.9, A), (0, 0.9, A)), "q": found((1, 0.8, A))},
        [],
        [1, 1],
        id="a partial picture says nothing of class 1",
    ),
    pytest.param(
        [record("p"), record("q", (0, A))],
        {"q": found((0, 0.5, A)), "p": found((0, 0.5, A))},
        [],
        [1 / 2, NAN],
        id="equal scores rank in the order of the pictures: false, true",
    ),
    pytest.param(
        [record("p", (0, A))],
        {"p": found((0, 0.5, FAR), (0, 0.5, A))},
        [],
        [1 / 2, NAN],
        id="equal scores in one picture keep the order of the detections",
    ),
    pytest.param(
        [record("p", (0, A)), record("q", (0, A)), record("r", (0, A)), record("s", (0, A))],
        {
            "p": found((0, 0.9, A)),
            "q": found((0, 0.8, FAR), (0, 0.7, FAR), (0, 0.6, A)),
            "r": found((0, 0.5, A)),
        },
        [],
        # true, false, false, true, true: precision 1, 1/2, 1/3, 2/4, 3/5; monotone 1, 3/5, 3/5; s never found
        [1 / 4 * 1 + 1 / 4 * 3 / 5 + 1 / 4 * 3 / 5, NAN],
        id="the area under a monotone curve",
    ),
]


@pytest.mark.parametrize(("ground_truth", "detections", "blacklist", "ap"), CASES)
def test_by_hand(
    ground_truth: list[AnnotatedImage],
    detections: dict[str, Detections],
    blacklist: list[tuple[str, int]],
    ap: list[float],
) -> None:
    result = evaluate(ground_truth, detections, 2, ILSVRC, blacklist=blacklist)
    np.testing.assert_allclose(result.ap, ap)
    known = [value for value in ap if value == value]
    np.testing.assert_allclose(result.mean_ap, np.mean(known) if known else NAN)


def test_counts_recall_and_curve() -> None:
    truth = [record("p", (0, A), (0, FAR), (2, A)), record("q", (0, A))]
    detections = {"p": found((0, 0.25, FAR), (0, 0.75, A), (1, 0.5, A)), "q": found((0, 0.5, FAR))}
    result = evaluate(truth, detections, 3, ILSVRC)
    assert result.ground_truths.tolist() == [3, 0, 1]
    assert result.detections.tolist() == [3, 1, 0]
    assert result.measured.tolist() == [True, False, True]
    np.testing.assert_allclose(result.recall, [2 / 3, NAN, 0])
    np.testing.assert_allclose(result.curves[0].recall, [1 / 3, 1 / 3, 2 / 3])
    np.testing.assert_allclose(result.curves[0].precision, [1, 1 / 2, 2 / 3])
    assert result.curves[0].scores.tolist() == [0.75, 0.5, 0.25]


@pytest.mark.parametrize(
    ("ground_truth", "detections", "message"),
    [
        pytest.param([record("p"), record("p")], {}, "stands twice", id="one picture twice"),
        pytest.param(
            [record("p")], {"q": found()}, "no ground truth, q first", id="a picture not in the set"
        ),
        pytest.param([record("p", (2, A))], {}, "labels 2..2", id="an object's label is too high"),
        pytest.param([record("p")], {"p": found((-1, 0.5, A))}, "labels -1..-1", id="a label is negative"),
        pytest.param([record("p")], {"p": found((0, NAN, A))}, "score NaN", id="a score is no number"),
    ],
)
def test_what_makes_no_sense_is_refused(
    ground_truth: list[AnnotatedImage], detections: dict[str, Detections], message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        evaluate(ground_truth, detections, 2, ILSVRC)


def test_thresholds() -> None:
    """0.5 from 24.2 pixels square up: side / (side + 10) squared is 1/2 there."""
    boxes = as_boxes([(0, 0, 1, 1), (0, 0, 10, 10), (0, 0, 24, 24), (0, 0, 25, 25), (0, 0, 5, 400)])
    expected = [1 / 121, 1 / 4, 576 / 34**2, 1 / 2, 5 * 400 / (15 * 410)]
    np.testing.assert_allclose(iou_thresholds(boxes), expected)


def test_match_says_which() -> None:
    detections = as_boxes([(0, 0, 100, 79), FAR, (0, 0, 100, 85), (0, 0, 100, 100)])
    assert match(detections, as_boxes([A, (0, 0, 100, 80)])).tolist() == [1, -1, 0, -1]
    assert match(detections, as_boxes([])).tolist() == [-1, -1, -1, -1]
    assert match(as_boxes([]), as_boxes([A])).tolist() == []


def test_the_truth_itself_on_real_pictures(shared: Path) -> None:
    """Every object found, whatever its size; without one picture in two, the recall of each class says so."""
    truth = read_ilsvrc_det(shared / "ilsvrc", "val").records
    perfect = {
        one.image_id: Detections(one.boxes, one.labels, np.ones(len(one.boxes), np.float32)) for one in truth
    }
    result = evaluate(truth, perfect, 200, ILSVRC)
    assert result.mean_ap == 1
    assert result.ground_truths.sum() == result.detections.sum() == 993

    half = {image_id: perfect[image_id] for image_id in list(perfect)[::2]}
    result = evaluate(truth, half, 200, ILSVRC)
    np.testing.assert_array_equal(
        result.recall,
        np.divide(result.detections, result.ground_truths, where=result.measured, out=np.full(200, NAN)),
    )
    np.testing.assert_allclose(result.ap, result.recall)


def slow_ap(
    ground_truth: Sequence[AnnotatedImage],
    detections: dict[str, Detections],
    label: int,
    blacklist: set[tuple[str, int]],
) -> float:
    """The rule once more, word by word, in whole-pixel corners as the development kit has it."""
    free = {}
    ranked = []
    for place, image in enumerate(ground_truth):
        if (image.image_id, label) in blacklist:
            continue
        objects = image.boxes[image.labels == label] - [0, 0, 1, 1]
        free[image.image_id] = [tuple(map(float, corners)) for corners in objects]
        if image.image_id in detections:
            mine = detections[image.image_id]
            for number in range(len(mine)):
                if mine.labels[number] == label:
                    corners = tuple(map(float, mine.boxes[number] - [0, 0, 1, 1]))
                    ranked.append((-float(mine.scores[number]), place, number, image.image_id, corners))
    positives = sum(len(objects) for objects in free.values())
    if positives == 0:
        return NAN
    true = 0
    points = []
    for rank, (_, _, _, image_id, b) in enumerate(sorted(ranked), start=1):
        best, best_iou = None, -1.0
        for g in free[image_id]:
            width = min(b[2], g[2]) - max(b[0], g[0]) + 1
            height = min(b[3], g[3]) - max(b[1], g[1]) + 1
            if width <= 0 or height <= 0:
                continue
            w, h = g[2] - g[0] + 1, g[3] - g[1] + 1
            iou = width * height / ((b[2] - b[0] + 1) * (b[3] - b[1] + 1) + w * h - width * height)
            if iou >= min(0.5, w * h / ((w + 10) * (h + 10))) and iou > best_iou:
                best, best_iou = g, iou
        if best is not None:
            free[image_id].remove(best)
            true += 1
        points.append((true / positives, true / rank))
    return sum(
        max((precision for recall, precision in points if recall >= step / positives), default=0) / positives
        for step in range(1, positives + 1)
    )


@pytest.mark.parametrize("seed", range(300))
def test_against_a_slow_second_writing(seed: int) -> None:
    """Whole-pixel boxes in few places and few distinct scores, so that ties and contests are common."""
    random = np.random.default_rng(seed)
    classes = 3

    ground_truth, detections = contested(seed, classes)
    blacklist = {(f"p{random.integers(6)}", int(random.integers(classes))) for _ in range(2)}

    result = evaluate(ground_truth, detections, classes, ILSVRC, blacklist)
    expected = [slow_ap(ground_truth, detections, label, blacklist) for label in range(classes)]
    np.testing.assert_allclose(result.ap, expected, rtol=1e-12)

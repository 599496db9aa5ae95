"""COCO's measures: cases by hand, and one IoU against our own curves."""

import numpy as np
import pytest

from detector.datasets.annotated_image import AnnotatedImage
from detector.evaluation.average_precision import PrecisionRecall
from detector.evaluation.coco import evaluate_coco
from detector.evaluation.det_evaluation import evaluate
from detector.evaluation.ilsvrc import ILSVRC
from detector.structures.boxes import as_boxes
from detector.structures.detections import Detections
from tests.detector.evaluation.scenes import Box, contested, found, record

A: Box = (0, 0, 100, 100)
SMALL: Box = (200, 200, 220, 220)
MEDIUM: Box = (300, 300, 350, 350)
NAN = float("nan")

# ground truth, detections, and of what is to be: AP, AP50, AP75, APs, APm, APl, AR1, AR10, AR100
CASES = [
    pytest.param(
        [record("p", (0, A))], {"p": found((0, 0.9, A))}, [1, 1, 1, NAN, NAN, 1, 1, 1, 1], id="found"
    ),
    pytest.param([record("p", (0, A))], {}, [0, 0, 0, NAN, NAN, 0, 0, 0, 0], id="missed"),
    pytest.param([record("p")], {"p": found((0, 0.9, A))}, [NAN] * 9, id="no object"),
    pytest.param([], {}, [NAN] * 9, id="no picture"),
    pytest.param(
        [record("p", (0, A))],
        {"p": found((0, 0.9, (0, 0, 100, 72)))},
        [0.5, 1, 0, NAN, NAN, 0.5, 0.5, 0.5, 0.5],
        id="an IoU of 0.72 does for five of the ten thresholds",
    ),
    pytest.param(
        [record("p", (0, A), (0, SMALL), (0, MEDIUM))],
        {"p": found((0, 0.9, SMALL), (0, 0.8, MEDIUM), (0, 0.7, A))},
        [1, 1, 1, 1, 1, 1, 1 / 3, 1, 1],
        id="sizes, and one detection a picture and class",
    ),
    pytest.param(
        [record("p", (0, A), partial=True), record("q", (1, A))],
        {"p": found((1, 0.9, A), (0, 0.9, A)), "q": found((1, 0.8, A))},
        [1, 1, 1, NAN, NAN, 1, 1, 1, 1],
        id="a partial picture says nothing of class 1",
    ),
    pytest.param(
        [record("p", (0, A), (0, MEDIUM), difficult=(1,))],
        {"p": found((0, 0.9, A))},
        # Precision 1 at the recalls 0, 0.01 ... 0.5 of the 101.
        [51 / 101, 51 / 101, 51 / 101, NAN, 0, 1, 1 / 2, 1 / 2, 1 / 2],
        id="a difficult object is an object",
    ),
]


@pytest.mark.parametrize(("ground_truth", "detections", "expected"), CASES)
def test_by_hand(
    ground_truth: list[AnnotatedImage],
    detections: dict[str, Detections],
    expected: list[float],
    capsys: pytest.CaptureFixture[str],
) -> None:
    figures = evaluate_coco(ground_truth, detections, num_classes=2)
    np.testing.assert_allclose(list(vars(figures).values()), expected, atol=1e-9)
    assert capsys.readouterr().out == "", "pycocotools must not print into a reader's table"


def test_the_blacklist_is_passed_over() -> None:
    truth = [record("p", (0, A)), record("q", (0, A))]
    detections = {"p": found((0, 0.9, SMALL)), "q": found((0, 0.8, A))}
    assert evaluate_coco(truth, detections, 1, blacklist={("p", 0)}).ap == pytest.approx(1)


def at_101_recalls(curve: PrecisionRecall) -> float:
    best = np.maximum.accumulate(curve.precision[::-1])[::-1]
    places = np.searchsorted(curve.recall, np.linspace(0, 1, 101))
    return float(np.mean(np.append(best, 0)[places]))


@pytest.mark.parametrize("seed", range(11))
def test_at_an_iou_of_a_half_it_is_our_matching(seed: int) -> None:
    """Ten times enlarged no object is small to ILSVRC, and what is left are 101 points for the area.

    Boxes differ in size, so that no detection overlaps two objects alike: of equals COCO takes the last.
    """
    truth, detections = contested(seed)
    random = np.random.default_rng(seed)

    def enlarged(boxes: np.ndarray) -> np.ndarray:
        return as_boxes(10 * boxes + random.integers(0, 5, boxes.shape))

    truth = [AnnotatedImage(r.image_id, r.path, 640, 640, enlarged(r.boxes), r.labels) for r in truth]
    detections = {
        image_id: Detections(enlarged(mine.boxes), mine.labels, mine.scores)
        for image_id, mine in detections.items()
    }
    ours = evaluate(truth, detections, 3, ILSVRC)
    expected = np.mean([at_101_recalls(ours.curves[label]) for label in np.flatnonzero(ours.measured)])
    np.testing.assert_allclose(evaluate_coco(truth, detections, 3).ap50, expected, atol=1e-9)

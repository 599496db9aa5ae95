from pathlib import Path

import numpy as np
import pytest

from detector.datasets.annotated_image import AnnotatedImage
from detector.evaluation.det_evaluation import evaluate
from detector.evaluation.ilsvrc import ILSVRC
from detector.evaluation.tables import det_summary, det_table
from detector.structures.boxes import as_boxes
from detector.structures.classes import ClassList
from detector.structures.detections import Detections

CLASSES = ClassList.of(["a", "b", "c"], ["ant", "golf ball", "cat"])
BOXES = as_boxes([(0, 0, 50, 50), (100, 100, 200, 200)])


def test_best_class_first_and_unmeasured_ones_absent() -> None:
    truth = [AnnotatedImage("p", Path("p"), 300, 300, BOXES, np.array([0, 1]))]
    detections = {"p": Detections(BOXES[1:], np.array([1]), np.array([0.5], np.float32))}
    evaluation = evaluate(truth, detections, len(CLASSES), ILSVRC)
    rows = [line.split() for line in det_table(evaluation, CLASSES).splitlines()]
    assert rows[1:] == [["golf", "ball", "100.00", "100.00", "1", "1"], ["ant", "0.00", "0.00", "1", "0"]]
    assert det_summary(evaluation) == (
        "mAP 50.00 % over the 2 of 3 classes that the set holds objects of, median AP 50.00 %; "
        "2 objects, 1 detections; from score 0.3 on 100.0 % of what is shown is right, and 50.0 % found"
    )


@pytest.mark.parametrize(
    ("least", "precision", "recall"),
    [
        pytest.param(0.0, 2 / 3, 1.0, id="all: one of three is wrong"),
        pytest.param(0.4, 1.0, 0.5, id="the best alone"),
        pytest.param(0.3, 0.5, 0.5, id="a score that is just reached counts"),
    ],
)
def test_what_is_seen_at_a_threshold(least: float, precision: float, recall: float) -> None:
    truth = [AnnotatedImage("p", Path("p"), 300, 300, BOXES, np.array([0, 1]))]
    boxes = as_boxes([(0, 0, 50, 50), (220, 220, 290, 290), (100, 100, 200, 200)])
    scores = np.array([0.5, 0.3, 0.2], np.float32)
    evaluation = evaluate(truth, {"p": Detections(boxes, np.array([0, 0, 1]), scores)}, len(CLASSES), ILSVRC)
    assert evaluation.at_score(np.float32(least)) == pytest.approx((precision, recall))


def test_nothing_is_shown() -> None:
    truth = [AnnotatedImage("p", Path("p"), 300, 300, BOXES, np.array([0, 1]))]
    shown, recall = evaluate(truth, {}, len(CLASSES), ILSVRC).at_score(0.3)
    assert np.isnan(shown)
    assert recall == 0


def test_a_set_without_objects() -> None:
    evaluation = evaluate([], {}, len(CLASSES), ILSVRC)
    assert len(det_table(evaluation, CLASSES).splitlines()) == 1
    assert det_summary(evaluation).startswith("mAP not measured")

from pathlib import Path

import numpy as np

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
        "2 objects, 1 detections"
    )


def test_a_set_without_objects() -> None:
    evaluation = evaluate([], {}, len(CLASSES), ILSVRC)
    assert len(det_table(evaluation, CLASSES).splitlines()) == 1
    assert det_summary(evaluation).startswith("mAP not measured")

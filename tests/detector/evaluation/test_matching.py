"""Detectors measured on data of other classes."""

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.evaluation.class_match import match_classes
from detector.structures.classes import ClassList, ilsvrc_det, voc
from tests.detector.evaluation.scenes import Box, found, record

A: Box = (0, 0, 100, 100)
NEAR_A: Box = (0, 0, 100, 90)
FAR: Box = (300, 300, 400, 400)


def test_the_same_classes_change_nothing() -> None:
    classes = ClassList.of(["a", "b"])
    detections = found((1, 0.9, A), (1, 0.8, NEAR_A))
    assert match_classes(classes, classes).detections(detections) is detections


def test_another_order() -> None:
    match = match_classes(ClassList.of(["cup", "b", "a"]), ClassList.of(["a", "b"]))
    assert match.labels.tolist() == [-1, 1, 0]
    assert match.detections(found((2, 0.9, A), (0, 0.8, A), (1, 0.7, A))).labels.tolist() == [0, 1]


def test_the_200_classes_on_pascal_voc() -> None:
    """By name, by alias, and several of the 200 for one of the 20: of overlapping ones the best is left."""
    match = match_classes(ilsvrc_det(), voc())
    assert match.unknown_names == []
    label = {name: number for number, name in enumerate(ilsvrc_det().names)}
    detections = found(
        (label["domestic cat"], 0.9, A),
        (label["water bottle"], 0.8, A),
        (label["wine bottle"], 0.7, NEAR_A),
        (label["wine bottle"], 0.6, FAR),
        (label["accordion"], 0.5, A),
        (label["dog"], 0.4, A),
    )
    mine = match.detections(detections)
    assert [voc().ids[number] for number in mine.labels] == ["cat", "bottle", "bottle", "dog"]
    np.testing.assert_allclose(mine.scores, [0.9, 0.8, 0.6, 0.4])


def test_objects_of_unknown_classes_are_not_asked_for() -> None:
    match = match_classes(ClassList.of(["a"]), ClassList.of(["x", "a"]))
    assert match.unknown_names == ["x"]
    truth = match.record(record("p", (0, A), (1, FAR), (1, A), difficult=(2,)))
    assert truth.labels.tolist() == [1, 1]
    assert truth.difficult.tolist() == [False, True]
    untouched = record("q", (1, A))
    assert match.record(untouched) is untouched


def test_classes_that_have_nothing_in_common() -> None:
    with pytest.raises(
        ParameterError, match="it has gizmo, the data widget, sprocket, flange, bracket and 1 more"
    ):
        match_classes(
            ClassList.of(["gizmo"]), ClassList.of(["widget", "sprocket", "flange", "bracket", "grommet"])
        )

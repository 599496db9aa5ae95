"""What a training report shows: which mistakes are picked, how they are named, charts of odd curves."""

import json
from pathlib import Path

import numpy as np
import pytest

from detector.datasets.annotated_image import AnnotatedImage
from detector.evaluation.average_precision import precision_recall
from detector.evaluation.reliability import reliability
from detector.evaluation.voc import VOC
from detector.structures.classes import ClassList
from detector.structures.detections import Detections
from tests.training.small_sets import write_image
from training.finetune.mistakes import cut_out, worst_false_positives, worst_missed
from training.finetune.report_charts import (
    curves_chart,
    precision_recall_chart,
    read_log,
    reliability_chart,
)

CLASSES = ClassList.of(["cat", "dog"])
CAT, DOG = (10, 10, 50, 50), (60, 10, 90, 70)


def record(tmp_path: Path, name: str = "p") -> AnnotatedImage:
    """A cat on the left, a dog on the right."""
    path = tmp_path / f"{name}.png"
    write_image(path, [CAT, DOG])
    return AnnotatedImage(name, path, 100, 80, np.array([CAT, DOG], np.float32), np.array([0, 1]))


def detections(*found: tuple[tuple[int, int, int, int], int, float]) -> Detections:
    boxes, labels, scores = zip(*found, strict=True)
    return Detections(np.array(boxes, np.float32), np.array(labels), np.array(scores, np.float32))


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param(((10, 10, 50, 52), 0, 0.5), "found a second time", id="a duplicate, after the better"),
        pytest.param(((10, 10, 30, 35), 0, 0.5), "box fits badly (IoU 0.31)", id="a part of the object"),
        pytest.param((CAT, 1, 0.5), "annotated as cat", id="another class"),
        pytest.param(((0, 70, 30, 80), 1, 0.5), "nothing annotated here", id="background"),
    ],
)
def test_why_a_detection_is_wrong(
    tmp_path: Path, found: tuple[tuple[int, int, int, int], int, float], says: str
) -> None:
    said = {"p": detections((CAT, 0, 0.9), (DOG, 1, 0.9), found)}
    (mistake,) = worst_false_positives([record(tmp_path)], said, CLASSES, VOC)
    assert (mistake.what, mistake.label) == (says, found[1])


@pytest.mark.parametrize(
    ("found", "says"),
    [
        pytest.param((DOG, 1, 0.1), "found, but only at 0.10", id="below the usual threshold"),
        pytest.param(
            ((60, 10, 90, 30), 1, 0.8), "best box of its class has IoU 0.33", id="a box that fits badly"
        ),
        pytest.param((DOG, 0, 0.8), "nothing of its class found here", id="called something else"),
    ],
)
def test_why_an_object_is_missed(
    tmp_path: Path, found: tuple[tuple[int, int, int, int], int, float], says: str
) -> None:
    said = {"p": detections((CAT, 0, 0.9), found)}
    (mistake,) = worst_missed([record(tmp_path)], said, CLASSES, VOC)
    assert (mistake.what, mistake.label) == (says, 1)
    assert np.isnan(mistake.score)


def test_the_worst_come_first_and_no_picture_fills_the_page(tmp_path: Path) -> None:
    records = [record(tmp_path, name) for name in ("a", "b")]
    wrong = [((0, 70, 10 + n, 80), 1, 0.2 + 0.1 * n) for n in range(5)]
    said = {"a": detections(*reversed(wrong)), "b": detections(((0, 70, 20, 80), 0, 0.55))}
    chosen = worst_false_positives(records, said, CLASSES, VOC)
    assert [(one.record.image_id, round(one.score, 2)) for one in chosen] == [
        ("a", 0.6),
        ("b", 0.55),
        ("a", 0.5),
    ]
    assert len(worst_false_positives(records, said, CLASSES, VOC, most=1)) == 1


def test_cut_outs_show_the_surroundings(tmp_path: Path) -> None:
    said = {"p": detections(((0, 0, 1, 1), 0, 0.9))}  # one pixel in the corner
    (wrong,) = worst_false_positives([record(tmp_path)], said, CLASSES, VOC)
    cat, _ = worst_missed([record(tmp_path)], {}, CLASSES, VOC)
    for mistake in (wrong, cat):
        image = cut_out(mistake, CLASSES)
        assert image.dtype == np.uint8
        assert max(image.shape) in (420, 720)  # drawing enlarges what is too small for its tags


def test_logs_and_their_curves(tmp_path: Path) -> None:
    lines = [{"iteration": i, "rate": 0.1, "total": 5.0 - i / 100} for i in range(450)]
    (tmp_path / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "held_out.jsonl").write_text('{"iteration": 9, "accuracy": 0.5}\n')
    ((name, (x, y)),) = read_log(tmp_path / "log.jsonl").items()
    assert (name, len(x), y[-1]) == ("total", 450, pytest.approx(0.51))
    chart = curves_chart({"run": tmp_path})
    assert chart.startswith("<svg")
    assert ">total<" in chart
    assert ">accuracy<" in chart
    assert "currentColor" in chart
    assert "#010203" not in chart
    assert curves_chart({"nothing yet": tmp_path / "none"}).startswith("<svg")


def test_the_reliability_of_many_and_of_no_detections() -> None:
    scores = np.linspace(0.1, 1, 200)
    many = precision_recall(scores, np.arange(200) % 3 > 0, 100)
    none = precision_recall(np.zeros(0), np.zeros(0, bool), 3)
    for curves in ([many, none], [none]):
        chart = reliability_chart(reliability(curves))
        assert ">share right, by score<" in chart
        assert ">detections (logarithmic), dark: right<" in chart
    assert reliability_chart(reliability([many])) != reliability_chart(reliability([none]))


def test_a_class_without_detections_has_an_empty_chart() -> None:
    empty = precision_recall(np.zeros(0), np.zeros(0, bool), 3)
    full = precision_recall(np.array([0.9, 0.8]), np.array([True, False]), 2)
    chart = precision_recall_chart([("seen", 0.5, full), ("never", 0.0, empty)])
    assert ">seen  50<" in chart
    assert ">never  0<" in chart

"""What a precision costs, on labelled pictures."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from detector.graphs.accuracy import classification_accuracy, detection_accuracy
from detector.models.weights import Weights
from detector.structures.classes import ClassList, ilsvrc_cls
from tests.detector.datasets.small_folders import picture
from tests.detector.graphs.random_weights import classifier_weights, detector_weights, with_ranges
from tests.training.labelled_sets import write_ilsvrc_cls
from tests.training.small_sets import rectangles, write_coco, write_voc

ENGINE = "onnxruntime"


@pytest.fixture
def detector() -> Weights:
    return detector_weights(multibox=True)


def test_a_labelled_set_gives_an_accuracy_for_each_precision(detector: Weights, tmp_path: Path) -> None:
    """Weights that were never trained find next to nothing."""
    write_voc(tmp_path, rectangles(4, seed=0))
    found = detection_accuracy(with_ranges(detector), tmp_path, 2, ENGINE, ["float32", "int8"])
    assert found is not None
    assert (found.measure, found.images) == ("mAP (VOC rule)", 2)
    assert list(found.values) == ["float32", "int8"]
    assert all(0 <= value < 0.5 for value in found.values.values())


@pytest.mark.parametrize(
    "damage", [lambda data: b"no picture", lambda data: data[:-100]], ids=["no picture", "cut off"]
)
def test_a_picture_that_cannot_be_read_is_passed_over(
    detector: Weights, tmp_path: Path, damage: Callable[[bytes], bytes]
) -> None:
    write_voc(tmp_path, rectangles(2, seed=0))
    [broken] = (tmp_path / "JPEGImages").glob("p00.*")
    broken.write_bytes(damage(broken.read_bytes()))
    found = detection_accuracy(detector, tmp_path, 10, ENGINE, ["float32"])
    assert found is not None
    assert found.images == 1


@pytest.mark.parametrize("kind", ["pictures alone", "other classes", "nowhere", "empty"])
def test_what_tells_nothing_gives_none(detector: Weights, tmp_path: Path, kind: str) -> None:
    """It is no error: verification goes on without."""
    if kind == "pictures alone":
        picture(tmp_path / "a.jpg")
    elif kind == "other classes":
        write_coco(tmp_path, "val", rectangles(1, seed=0))
        names = ClassList.of(["zebra", "dog", "cat"])
        detector = replace(detector, metadata=replace(detector.metadata, detection=names))
    place = tmp_path / "nowhere" if kind == "nowhere" else tmp_path
    assert detection_accuracy(detector, place, 2, ENGINE, ["float32"]) is None
    assert classification_accuracy(detector, place, 2, ENGINE, ["float32"]) is None


def _of_ilsvrc(sure_of: int) -> Weights:
    """A classifier that names one class whatever it sees."""
    weights, classes = classifier_weights(), ilsvrc_cls()
    bias = np.zeros(1000, np.float32)
    bias[sure_of] = 1000
    tensors = {"classifier.weight": np.zeros((1000, 1024), np.float32), "classifier.bias": bias}
    return replace(
        weights,
        metadata=replace(weights.metadata, classification=classes),
        tensors={**weights.tensors, **tensors},
    )


def test_whole_pictures_are_named_right_or_not(tmp_path: Path) -> None:
    """Half of them are of the one class that the network ever names; one cannot be read."""
    write_ilsvrc_cls(tmp_path, train=1, val=2)
    found = classification_accuracy(_of_ilsvrc(0), tmp_path, 4, ENGINE, ["float32"])
    assert found is not None
    assert (found.measure, found.images, found.values) == ("top-1 accuracy", 4, {"float32": 0.5})
    (broken,) = tmp_path.rglob("ILSVRC2012_val_00.JPEG")
    broken.write_bytes(b"no picture")
    found = classification_accuracy(_of_ilsvrc(1), tmp_path, 4, ENGINE, ["float32"])
    assert found is not None
    assert (found.images, found.values) == (3, {"float32": pytest.approx(2 / 3)})
    assert classification_accuracy(classifier_weights(), tmp_path, 4, ENGINE, ["float32"]) is None

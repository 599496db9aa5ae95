"""The JSON form of what was found."""

import numpy as np
import pytest

from detector.structures.classes import ClassList
from detector.structures.detections import Classification, Detections


@pytest.mark.parametrize(
    ("class_id", "key"),
    [
        pytest.param("n02121808", "wnid", id="ILSVRC"),
        pytest.param("cat", "class_id", id="a name"),
        pytest.param("17", "class_id", id="a number"),
        pytest.param("n0212180", "class_id", id="a digit less"),
        pytest.param("n021218080", "class_id", id="a digit more"),
        pytest.param("N02121808", "class_id", id="a capital"),
        pytest.param("n02121808\n", "class_id", id="a line break behind"),
        pytest.param("n٠٢١٢١٨٠٨", "class_id", id="other digits"),
    ],
)
def test_a_wordnet_id_is_called_so_and_nothing_else(class_id: str, key: str) -> None:
    classes = ClassList((class_id,), ("cat",))
    detections = Detections(np.array([[1, 2, 3, 4]], np.float32), np.array([0]), np.array([0.5], np.float32))
    classification = Classification(np.array([0]), np.array([0.5], np.float32))
    box = {"xmin": 1.0, "ymin": 2.0, "xmax": 3.0, "ymax": 4.0}
    about = {"label": "cat", key: class_id, "score": 0.5}
    assert detections.as_dicts(classes) == [about | {"box": box}]
    assert classification.as_dicts(classes) == [about]

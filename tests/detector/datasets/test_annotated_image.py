from pathlib import Path

import numpy as np
import pytest

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import ParameterError
from detector.structures.boxes import as_boxes

BOXES = as_boxes([(0, 0, 10, 10), (5, 5, 20, 20)])


def test_no_object_is_difficult_unless_it_is_said() -> None:
    record = AnnotatedImage("p", Path("p.jpg"), 30, 30, BOXES, np.array([0, 1]))
    assert record.difficult.tolist() == [False, False]


def test_a_mark_for_every_object() -> None:
    with pytest.raises(ParameterError, match="picture p has 2 boxes but 1 marks"):
        AnnotatedImage("p", Path("p.jpg"), 30, 30, BOXES, np.array([0, 1]), difficult=np.array([True]))

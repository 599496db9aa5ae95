"""The package from PyPI behind our result type."""

import builtins
from typing import Any

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.proposals.reference import reference_selective_search
from detector.structures.boxes import iou
from detector.structures.proposals import Source


def test_the_reference_finds_a_square() -> None:
    pytest.importorskip("selectivesearch", reason="the extra `reference` is not installed")
    image = np.full((60, 80, 3), (30, 60, 90), np.uint8)
    image[15:45, 20:60] = (200, 80, 10)
    proposals = reference_selective_search(image)
    assert (proposals.source == Source.REFERENCE).all()
    assert len(np.unique(proposals.boxes, axis=0)) == len(proposals)
    assert iou(np.array([[20, 15, 60, 45]], np.float32), proposals.boxes).max() > 0.9
    assert (proposals.boxes == [0, 0, 80, 60]).all(axis=1).any()


def test_the_whole_picture_is_one_box_of_its_own_size() -> None:
    pytest.importorskip("selectivesearch", reason="the extra `reference` is not installed")
    proposals = reference_selective_search(np.full((30, 40, 3), 90, np.uint8))
    assert proposals.boxes.tolist() == [[0, 0, 40, 30]]


def test_without_the_package_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real_import = builtins.__import__

    def absent(name: str, *rest: Any, **more: Any) -> Any:
        if name == "selectivesearch":
            raise ImportError(name)
        return real_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", absent)
    with pytest.raises(ParameterError, match=r"googlenet-detector\[reference\]"):
        reference_selective_search(np.zeros((5, 5, 3), np.uint8))


def test_a_grey_picture_is_refused() -> None:
    with pytest.raises(ParameterError, match="RGB"):
        reference_selective_search(np.zeros((5, 5), np.uint8))

from pathlib import Path

import pytest

from detector.structures.classes import ClassList
from tests.detector.datasets.ilsvrc_tree import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    """An official layout without pictures."""
    for part in ("Data", "Annotations", "ImageSets"):
        for task in ("DET", "CLS-LOC"):
            (tmp_path / "ILSVRC" / part / task).mkdir(parents=True)
    return Tree(tmp_path)


@pytest.fixture
def cat_and_dog() -> ClassList:
    return ClassList.of(["cat", "dog"])

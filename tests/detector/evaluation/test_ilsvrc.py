from pathlib import Path

import pytest

from detector.errors import DatasetError
from detector.evaluation.ilsvrc import read_blacklist
from detector.structures.classes import ClassList, ilsvrc_det


@pytest.fixture
def val_list(tmp_path: Path) -> Path:
    path = tmp_path / "val.txt"
    path.write_text("first 1\nsecond 2\nthird 3\n")
    return path


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        pytest.param(
            f"2 {ilsvrc_det().ids[58]}\n", {("second", 58)}, id="by WordNet id, as the kit's own file"
        ),
        pytest.param("1 1\n3 200\n", {("first", 0), ("third", 199)}, id="by number, from 1"),
        pytest.param("1 1\n1 1\n\n", {("first", 0)}, id="twice is once, blank lines are nothing"),
        pytest.param("1\t1\r\n3 200\r\n", {("first", 0), ("third", 199)}, id="tabs; Windows' ends of lines"),
        pytest.param("", set(), id="nothing blacklisted"),
    ],
)
def test_each_form_of_a_blacklists_line_is_read(
    tmp_path: Path, val_list: Path, text: str, pairs: set[tuple[str, int]]
) -> None:
    path = tmp_path / "blacklist.txt"
    path.write_text(text)
    assert read_blacklist(path, val_list) == pairs


def test_labels_are_those_of_the_given_classes(tmp_path: Path, val_list: Path) -> None:
    path = tmp_path / "blacklist.txt"
    path.write_text("1 1\n2 3\n")
    classes = ClassList.of(["something", ilsvrc_det().ids[2]])
    assert read_blacklist(path, val_list, classes=classes) == {("second", 1)}


@pytest.mark.parametrize(
    "line",
    ["4 1", "0 1", "-1 1", "1", "one 1", "1 201", "1 0", "1 n00000000", "1.5 1", "nan 1", "1 1e3"],
    ids=lambda line: f"line {line}",
)
def test_a_line_of_another_form_is_named(tmp_path: Path, val_list: Path, line: str) -> None:
    path = tmp_path / "blacklist.txt"
    path.write_text(f"1 1\n{line}\n")
    with pytest.raises(DatasetError, match=r"blacklist\.txt, line 2"):
        read_blacklist(path, val_list)

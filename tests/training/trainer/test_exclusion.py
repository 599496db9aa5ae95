"""Lists of pictures to leave out."""

from pathlib import Path

import pytest

from training.trainer.left_out import Exclusion


@pytest.mark.parametrize(
    ("line", "name"),
    [
        pytest.param("val_1", "val_1", id="the name alone"),
        pytest.param("val_1 17", "val_1", id="ImageSets, with its number"),
        pytest.param("n01440764/val_1.JPEG", "val_1", id="folder and suffix"),
        pytest.param("scan.2.left", "scan.2.left", id="dots that are no suffix"),
    ],
)
def test_a_listed_picture_is_left_out(tmp_path: Path, line: str, name: str) -> None:
    (listed := tmp_path / "list.txt").write_text(f"{line}\n")
    exclusion = Exclusion([listed])
    assert "other" not in exclusion
    assert name in exclusion
    assert exclusion.unused() == []


def test_a_list_that_meets_no_picture_is_told_by_its_name(tmp_path: Path) -> None:
    for name, text in (("met.txt", "a\n"), ("unmet.txt", "b\n"), ("empty.txt", "")):
        (tmp_path / name).write_text(text)
    exclusion = Exclusion([tmp_path / "met.txt", tmp_path / "unmet.txt", tmp_path / "empty.txt"])
    assert "a" in exclusion
    unmet, empty = exclusion.unused()
    assert "unmet.txt names no picture that is here" in unmet
    assert "empty.txt names no picture that is here" in empty

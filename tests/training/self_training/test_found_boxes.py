"""The file of found boxes: what is kept, and for which pictures it is used again."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.structures.classes import voc
from training.self_training.classified_pictures import ClassifiedPicture
from training.self_training.found_boxes import FoundBoxes, FoundFile

FOUND = FoundBoxes(40, 30, [[1.0, 2.0, 20.0, 25.0]], [0.75])


@pytest.mark.parametrize(
    ("change", "known"),
    [
        pytest.param(lambda path: None, True, id="as it was"),
        pytest.param(lambda path: path.write_bytes(b"longer than before"), False, id="another size"),
        pytest.param(lambda path: os.utime(path, ns=(0, 0)), False, id="another time of change"),
        pytest.param(lambda path: path.unlink(), False, id="gone"),
    ],
)
def test_a_picture_is_known_again(tmp_path: Path, change: Callable[[Path], None], known: bool) -> None:
    picture = ClassifiedPicture("dog/a.png", tmp_path / "a.png", 11)
    picture.path.write_bytes(b"before")
    FoundFile(tmp_path / "found.jsonl", {}, voc()).add(picture, FOUND)
    change(picture.path)
    again = FoundFile(tmp_path / "found.jsonl", {}, voc())
    assert again.get(picture) == (FOUND if known else None)


def test_what_a_vanished_picture_held_is_not_another_ones(tmp_path: Path) -> None:
    """It vanished while it was looked at; a second one is gone too."""
    gone, missing = (ClassifiedPicture(name, tmp_path / name, 11) for name in ("a.png", "b.png"))
    file = FoundFile(tmp_path / "found.jsonl", {}, voc())
    file.add(gone, FOUND)
    assert file.get(missing) is None
    assert FoundFile(tmp_path / "found.jsonl", {}, voc()).get(missing) is None

"""Images that a run leaves out: those of lists, and those that cannot be read."""

import os
from pathlib import Path

import pytest

from detector.datasets.load_image import tolerated
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError
from training.trainer.excluded_images import BrokenImages, Exclusion


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


CAFE = os.fsdecode(b"ant/caf\xe9.jpg")
NAMES = ["ant/\u2028 \x85.jpg", "ant/b.jpg"]


def test_names_are_kept_as_the_disk_has_them(tmp_path: Path) -> None:
    """Also those that are not UTF-8 or hold odd ends of lines; after a kill each is still one, and known."""
    path = tmp_path / "broken.txt"
    for _ in range(2):
        BrokenImages(path, limit=2).report(dict.fromkeys(NAMES, "no picture"))
    assert path.read_bytes() == "".join(f"{name}\n" for name in NAMES).encode()
    path.write_bytes(path.read_bytes() + os.fsencode(f"{CAFE}\n"))
    BrokenImages(path, limit=3).report({CAFE: "no picture"})
    assert path.read_bytes().count(b"caf\xe9") == 1
    with pytest.raises(DatasetError, match="4 pictures could not be read"):
        BrokenImages(path, limit=3).report({"ant/c.jpg": "no picture"})


@pytest.mark.parametrize(
    ("on_problem", "left_out", "advice"),
    [
        pytest.param(OnProblem.STOP, 0, "or give --on-problem report", id="the first one ends the run"),
        pytest.param(OnProblem.REPORT, tolerated(1000), "lists them", id="many, but not a whole disk"),
    ],
)
def test_how_many_a_run_leaves_out(tmp_path: Path, on_problem: OnProblem, left_out: int, advice: str) -> None:
    broken = BrokenImages.of_run(tmp_path, 1000, on_problem)
    broken.report({f"{number}.jpg": "no picture" for number in range(left_out)})
    assert len(broken) == left_out
    with pytest.raises(DatasetError, match=f"more than the {left_out} that .*{advice}"):
        broken.report({"one more.jpg": "no picture"})
    assert (tmp_path / "broken.txt").read_text().endswith("one more.jpg\n")


def test_of_several_processes_one_writes(tmp_path: Path) -> None:
    BrokenImages.of_run(tmp_path, 1000, OnProblem.REPORT, writes=False).report({"a.jpg": "no picture"})
    assert not (tmp_path / "broken.txt").exists()

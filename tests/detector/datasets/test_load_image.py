"""Pictures whose header is fine and whose pixels are not: told before a run begins, and left out."""

from collections.abc import Callable
from pathlib import Path

import pytest

from detector.datasets.annotated_image import Dataset
from detector.datasets.load_image import TOLERATED, load_image, without_unreadable
from detector.datasets.open import open_dataset
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError, ImageError
from tests.detector.datasets.small_folders import SIZE, instances, picture

Damage = Callable[[Path], object]


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def replaced_by_a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def link_to_itself(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


DAMAGES = [
    pytest.param(cut, id="cut off"),
    pytest.param(lambda path: path.write_bytes(b""), id="empty"),
    pytest.param(lambda path: path.write_bytes(b"<html>404"), id="a page in its place"),
    pytest.param(lambda path: path.unlink(), id="gone"),
    pytest.param(replaced_by_a_folder, id="a folder in its place"),
    pytest.param(link_to_itself, id="a link to itself"),
    pytest.param(lambda path: picture(path, (SIZE[0], SIZE[1] + 1)), id="another size"),
]


def set_of(root: Path, count: int) -> Dataset:
    for number in range(count):
        picture(root / f"{number}.jpg")
    instances(root / "labels.json", {f"{number}.jpg": [1] for number in range(count)})
    return open_dataset(root).read()


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_picture_that_breaks_is_left_out_and_named(tmp_path: Path, damage: Damage) -> None:
    dataset = set_of(tmp_path, 3)
    damage(tmp_path / "1.jpg")
    found = without_unreadable(dataset)
    assert [record.path.name for record in found.records] == ["0.jpg", "2.jpg"]
    assert [(problem.kind, "1.jpg" in problem.message) for problem in found.problems] == [
        ("unreadable_image", True)
    ]
    with pytest.raises(DatasetError, match=r"1\.jpg"):
        without_unreadable(dataset, OnProblem.STOP)
    with pytest.raises(ImageError, match=r"1\.jpg"):
        load_image(dataset.records[1])


def test_whole_pictures_stay(tmp_path: Path) -> None:
    dataset = set_of(tmp_path, 2)
    assert without_unreadable(dataset) == dataset


def test_most_of_many_are_no_matter_of_pictures(tmp_path: Path) -> None:
    """A disk that is gone must not end as a detector of the few pictures that were in memory."""
    dataset = set_of(tmp_path, 2 * TOLERATED + 2)
    for record in dataset.records[: TOLERATED + 1]:
        record.path.unlink()
    assert len(without_unreadable(dataset).records) == TOLERATED + 1
    dataset.records[-1].path.unlink()
    with pytest.raises(DatasetError, match=f"{TOLERATED + 2} of {2 * TOLERATED + 2} pictures cannot be read"):
        without_unreadable(dataset)

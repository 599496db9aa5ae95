from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from detector.datasets.formats.voc import read_voc
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError
from detector.structures.classes import ClassList, voc

CAT = ("cat", 1, 1, 10, 20, 0)


def write(home: Path, image_id: str, *objects: tuple, size: tuple[int, int] = (100, 80)) -> None:
    """A picture and its annotation: name, xmin, ymin, xmax, ymax counted from 1, difficult."""
    for folder in ("JPEGImages", "Annotations"):
        (home / folder).mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (100, 80)).save(home / f"JPEGImages/{image_id}.jpg")
    things = "".join(
        f"<object><name>{name}</name><difficult>{difficult}</difficult><bndbox><xmin>{x1}</xmin>"
        f"<ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2, difficult in objects
    )
    (home / f"Annotations/{image_id}.xml").write_text(
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{things}</annotation>"
    )


def write_list(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def test_pixels_count_from_one_and_difficult_objects_stay(tmp_path: Path) -> None:
    write(tmp_path, "b", ("dog", 1, 1, 100, 80, 0), ("cat", 11, 21, 30, 50, 1))
    write(tmp_path, "a")
    found = read_voc(tmp_path)
    empty, full = found.records
    assert (empty.image_id, full.image_id) == ("a", "b")
    assert full.boxes.tolist() == [[0, 0, 100, 80], [10, 20, 30, 50]]
    assert full.labels.tolist() == [voc().ids.index("dog"), voc().ids.index("cat")]
    assert full.difficult.tolist() == [False, True]
    assert not full.partial
    assert found.class_ids == list(voc().ids)
    assert found.problems == []


@pytest.mark.parametrize("below", [".", "VOC2007", "VOCdevkit/VOC2012"])
def test_the_folder_or_one_above_it(tmp_path: Path, below: str) -> None:
    write(tmp_path / below, "a", CAT)
    assert [record.image_id for record in read_voc(tmp_path).records] == ["a"]


def test_a_list_is_read_by_its_name_or_its_path(tmp_path: Path) -> None:
    for name in "abc":
        write(tmp_path, name, CAT)
    write_list(tmp_path / "ImageSets/Main/val.txt", "c", "a")
    mine = write_list(tmp_path / "mine.txt", "b  1", "", "a -1")
    assert [record.image_id for record in read_voc(tmp_path, "val").records] == ["c", "a"]
    for split in (mine, str(mine)):
        assert [record.image_id for record in read_voc(tmp_path, split).records] == ["b", "a"]


def test_the_mark_stays_with_its_object(tmp_path: Path) -> None:
    """Objects before it that are no objects, and one wholly outside, take none of the marks with them."""
    unknown, empty, outside = ("unicorn", 1, 1, 9, 9, 1), ("cat", 5, 5, 5, 9, 1), ("cat", 200, 1, 210, 9, 1)
    write(tmp_path, "a", unknown, empty, CAT, outside, ("dog", 1, 1, 50, 50, 1))
    (record,) = read_voc(tmp_path).records
    assert record.labels.tolist() == [voc().ids.index("cat"), voc().ids.index("dog")]
    assert record.difficult.tolist() == [False, True]


def test_classes_of_your_own_and_png(tmp_path: Path) -> None:
    write(tmp_path, "a", ("screw", 1, 1, 9, 9, 0))
    (tmp_path / "JPEGImages/a.jpg").unlink()
    Image.new("RGB", (100, 80)).save(tmp_path / "JPEGImages/a.png")
    found = read_voc(tmp_path, classes=ClassList.of(["nut", "screw"]))
    assert found.records[0].labels.tolist() == [1]
    assert found.records[0].path.suffix == ".png"


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        ("missing_image", lambda home: (home / "JPEGImages/bad.jpg").unlink()),
        ("unreadable_image", lambda home: (home / "JPEGImages/bad.jpg").write_bytes(b"")),
        ("missing_annotation", lambda home: (home / "Annotations/bad.xml").unlink()),
        ("unreadable_annotation", lambda home: (home / "Annotations/bad.xml").write_bytes(b"<annotation>")),
        ("unknown_class", lambda home: write(home, "bad", ("unicorn", 1, 1, 9, 9, 0))),
        ("box_outside", lambda home: write(home, "bad", ("cat", 0, 1, 9, 9, 0))),
        ("empty_box", lambda home: write(home, "bad", ("cat", 5, 5, 5, 9, 0))),
        ("size_mismatch", lambda home: write(home, "bad", CAT, size=(50, 40))),
    ],
)
def test_a_problem_is_named_and_costs_its_picture_alone(
    tmp_path: Path, kind: str, spoil: Callable[[Path], object]
) -> None:
    for name in ("bad", "sound"):
        write(tmp_path, name, CAT)
    write_list(tmp_path / "ImageSets/Main/val.txt", "bad", "sound")
    spoil(tmp_path)
    found = read_voc(tmp_path, "val")
    assert [(problem.image_id, problem.kind) for problem in found.problems] == [("bad", kind)]
    assert found.records[-1].image_id == "sound"
    with pytest.raises(DatasetError, match=r"^bad: "):
        read_voc(tmp_path, "val", on_problem=OnProblem.STOP)


def test_a_wrong_root_or_list_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="holds no JPEGImages/"):
        read_voc(tmp_path)
    for year in ("VOC2007", "VOC2012"):
        write(tmp_path / year, "a")
    with pytest.raises(DatasetError, match="2 data sets: give one of"):
        read_voc(tmp_path)
    with pytest.raises(DatasetError, match=r"Main/val\.txt cannot be read"):
        read_voc(tmp_path / "VOC2007", "val")


def test_the_real_pictures(shared: Path) -> None:
    found = read_voc(shared / "voc100", on_problem=OnProblem.STOP)
    assert (len(found.records), sum(len(record.boxes) for record in found.records)) == (100, 273)

"""Pictures of kinds that are not read, in each layout: the group is told once, a labelled one by itself."""

from collections.abc import Callable
from pathlib import Path

import pytest

from detector.datasets.formats.ilsvrc import read_ilsvrc_det
from detector.datasets.formats.ilsvrc_cls import read_ilsvrc_cls
from detector.datasets.open import open_dataset
from detector.datasets.train_validation import train_and_validation
from detector.errors import DatasetError, ImageError
from detector.io.image_header import read_header
from tests.detector.datasets.ilsvrc_tree import Tree
from tests.detector.datasets.small_folders import instances, picture, text, xml

LINE = "0 0.5 0.5 0.2 0.2"
CONVERT = "convert it to JPEG or PNG"


def heic(path: Path) -> Path:
    """A file that begins as those of telephones do."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    return path


def flat_voc(root: Path) -> None:
    for name in "ab":
        xml(root / f"{name}.xml", "cat")
    picture(root / "a.jpg")
    heic(root / "b.heic")


def official_voc(root: Path) -> None:
    for name in "ab":
        xml(root / f"Annotations/{name}.xml", "cat")
    picture(root / "JPEGImages/a.jpg")
    heic(root / "JPEGImages/b.HEIC")


def voc_by_name(root: Path) -> None:
    xml(root / "annotations/a.xml", "cat")
    xml(root / "annotations/1.xml", "cat", filename="b.heic")
    picture(root / "images/a.jpg")
    heic(root / "images/b.heic")


def voc_by_converted_name(root: Path) -> None:
    xml(root / "annotations/a.xml", "cat")
    xml(root / "annotations/b.xml", "cat", filename="b.jpg")
    picture(root / "images/a.jpg")
    heic(root / "images/b.heic")


def coco(root: Path) -> None:
    instances(root / "labels.json", {"a.jpg": [1], "b.heic": [1]})
    picture(root / "a.jpg")
    heic(root / "b.heic")


def coco_by_converted_name(root: Path) -> None:
    instances(root / "labels.json", {"a.jpg": [1], "b.jpg": [1]})
    picture(root / "a.jpg")
    heic(root / "b.heic")


def yolo(root: Path) -> None:
    text(root / "data.yaml", "names: [cat]")
    for name in "ab":
        text(root / f"labels/{name}.txt", LINE)
    picture(root / "images/a.jpg")
    heic(root / "images/b.heic")


def yolo_list(root: Path) -> None:
    yolo(root)
    text(root / "data.yaml", "names: [cat]", "train: train.txt")
    text(root / "train.txt", "images/a.jpg", "images/b.heic")


@pytest.mark.parametrize(
    "write",
    [
        flat_voc,
        official_voc,
        voc_by_name,
        voc_by_converted_name,
        coco,
        coco_by_converted_name,
        yolo,
        yolo_list,
    ],
)
def test_a_labelled_picture_of_another_kind_is_named_with_that_reason(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    write(tmp_path)
    found = open_dataset(tmp_path).read()
    assert [record.path.name for record in found.records] == ["a.jpg"]
    problem = next(one for one in found.problems if one.kind in ("missing_image", "unreadable_image"))
    assert problem.image_id.endswith(("b", "1"))  # COCO's id
    assert "(.heic)" in problem.message
    assert CONVERT in problem.message


def without_labels(root: Path, write: Callable[[Path], None]) -> None:
    """Pictures of other kinds, of which nothing is said; and files that are no pictures."""
    write(root)
    for name in ("x.avif", "y.NEF", "z.jp2", "mark.svg"):
        heic(root / "more" / name)
    picture(root / "more/labelled by nobody.jpg")
    for name in ("notes.txt", "readme.md", "a.csv", ".hidden.heic", "film.mp4"):
        heic(root / "more" / name)
    heic(root / "elsewhere/manual.pdf")


@pytest.mark.parametrize("write", [flat_voc, coco, yolo])
def test_the_others_are_told_once(tmp_path: Path, write: Callable[[Path], None]) -> None:
    without_labels(tmp_path, write)
    found = open_dataset(tmp_path).read()
    (told,) = [one.message for one in found.problems if one.kind == "unread_kind"]
    number, kinds = (5, ".avif, .heic, .jp2, .nef, .svg") if write is yolo else (4, ".avif, .jp2, .nef, .svg")
    assert f"{number} files are of kinds that are not read ({kinds}: " in told
    assert told.endswith(" more): convert them to JPEG or PNG")


def test_what_is_told_of_the_folder_is_told_once_of_two_splits(tmp_path: Path) -> None:
    for name in ("train/a", "val/b"):
        picture(tmp_path / f"{name}.jpg")
        xml(tmp_path / f"{name}.xml", "cat")
    heic(tmp_path / "c.heic")
    split = train_and_validation(open_dataset(tmp_path))
    assert [[one.kind for one in part.problems] for part in (split.train, split.validation)] == [
        ["unread_kind"],
        [],
    ]


def test_a_picture_that_only_has_the_wrong_name_is_read(tmp_path: Path) -> None:
    coco(tmp_path)
    picture(tmp_path / "c.jpg").rename(tmp_path / "b.heic")
    found = open_dataset(tmp_path).read()
    assert [len(record.boxes) for record in found.records] == [1, 1]
    assert found.problems == []


def test_a_set_of_which_no_picture_is_read_is_refused_with_that_reason(tmp_path: Path) -> None:
    coco_by_converted_name(tmp_path)
    (tmp_path / "a.jpg").rename(tmp_path / "a.heif")
    with pytest.raises(DatasetError, match=r"2 files are of kinds that are not read \(\.heic, \.heif: "):
        open_dataset(tmp_path)


def test_ilsvrc(tree: Tree) -> None:
    for task in ("DET", "CLS-LOC"):
        tree.list_file(f"{task}/val", ["a 1"])
        tree.annotation(f"{task}/val/a", [("n02084071", 1, 1, 20, 20)])
        heic(tree.root / f"ILSVRC/Data/{task}/val/a.heic")
    for read in (read_ilsvrc_det, read_ilsvrc_cls):
        (problem,) = read(tree.root, "val").problems
        assert problem.kind == "missing_image"
        assert f"a.heic is of a kind that is not read (.heic): {CONVERT}" in problem.message


@pytest.mark.parametrize("name", ["a.ppm", "a.jp2", "a.ico", "a.tga", "a.dib"])
def test_a_header_is_read_only_of_what_is_decoded(tmp_path: Path, name: str) -> None:
    """Pillow reads more: such a picture would be listed, and fail in training."""
    path = picture(tmp_path / name) if name != "a.jp2" else heic(tmp_path / name)
    with pytest.raises(ImageError, match="cannot be read") as raised:
        read_header(path)
    assert (CONVERT in str(raised.value)) == (name != "a.dib")

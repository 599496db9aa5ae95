"""Files as tools and systems write them: encodings, ids, lists and names that differ from the plain case."""

import codecs
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detector.datasets.annotated_image import Dataset
from detector.datasets.formats.agnostic import read_agnostic
from detector.datasets.formats.ilsvrc import read_ilsvrc_det
from detector.datasets.open import Format, open_dataset
from detector.datasets.train_validation import train_and_validation
from detector.errors import DatasetError
from detector.io.terminal_text import utf8_text
from tests.detector.datasets.ilsvrc_tree import Tree
from tests.detector.datasets.small_folders import instances, picture, text, xml

LINE = "0 0.5 0.5 0.2 0.2"


def boxes_of(found: Dataset) -> dict[str, list[list[float]]]:
    return {record.path.name: record.boxes.tolist() for record in found.records}


def pets(root: Path) -> Path:
    """Two pictures in COCO's layout, each with a cat in a place of its own."""
    for name in "ab":
        picture(root / f"{name}.jpg")
    path = instances(root / "annotations.json", {"a.jpg": [1], "b.jpg": [1]})
    return changed(path, lambda file: file["annotations"][1].update(bbox=[50, 40, 30, 20]))


def changed(path: Path, change: Callable[[Any], object]) -> Path:
    content = json.loads(path.read_text())
    change(content)
    return text(path, json.dumps(content))


CATS = {"a.jpg": [[10, 10, 40, 30]], "b.jpg": [[50, 40, 80, 60]]}


@pytest.mark.parametrize(
    ("mark", "encoding"),
    [
        pytest.param(codecs.BOM_UTF8, "utf-8", id="UTF-8 with a byte order mark: Windows"),
        pytest.param(codecs.BOM_UTF16_LE, "utf-16-le", id="UTF-16: PowerShell's redirection"),
        pytest.param(codecs.BOM_UTF16_BE, "utf-16-be", id="UTF-16, the other order"),
        pytest.param(b"", "utf-16-le", id="UTF-16 without a mark"),
        pytest.param(codecs.BOM_UTF32_LE, "utf-32-le", id="UTF-32"),
    ],
)
def test_json_in_every_encoding(tmp_path: Path, mark: bytes, encoding: str) -> None:
    path = pets(tmp_path)
    path.write_bytes(mark + path.read_text().encode(encoding))
    found = open_dataset(tmp_path).read()
    assert (boxes_of(found), found.problems) == (CATS, [])


@pytest.mark.parametrize("share", [0.3, 0.5, 0.7, 0.9, 0.99])
def test_json_that_is_cut_off_is_refused_with_its_place(tmp_path: Path, share: float) -> None:
    path = pets(tmp_path)
    whole = json.dumps(json.loads(path.read_text()), indent=1)
    path.write_text(whole[: int(share * len(whole))])
    with pytest.raises(DatasetError, match=r"annotations\.json cannot be read as JSON: line \d+, column \d+"):
        open_dataset(tmp_path)


def second_image(**fields: object) -> Callable[[Any], object]:
    return lambda file: file["images"][1].update(fields)


@pytest.mark.parametrize(
    ("change", "kept", "kinds"),
    [
        pytest.param(
            second_image(id=0),
            [],
            {"duplicate_id", "missing_image"},
            id="two pictures of one id: nobody knows whose boxes",
        ),
        pytest.param(
            second_image(id="0"), [], {"duplicate_id", "missing_image"}, id="and where one id is text"
        ),
        pytest.param(
            second_image(id=0.0),
            [],
            {"duplicate_id", "missing_image"},
            id="and where one is written with a point",
        ),
        pytest.param(second_image(file_name="a.jpg"), [], {"duplicate_id"}, id="two ids of one picture"),
        pytest.param(
            second_image(id=0, file_name="a.jpg"), ["a.jpg"], {"missing_image"}, id="one picture listed twice"
        ),
    ],
)
def test_pictures_of_one_id_or_file(
    tmp_path: Path, change: Callable[[Any], object], kept: list[str], kinds: set[str]
) -> None:
    changed(pets(tmp_path), change)
    found = open_dataset(tmp_path).read()
    assert list(boxes_of(found)) == kept
    assert {problem.kind for problem in found.problems} == kinds


@pytest.mark.parametrize("again", [1, "1", 1.0, " 1 "])
def test_two_categories_of_one_id_are_refused(tmp_path: Path, again: object) -> None:
    changed(pets(tmp_path), lambda file: file["categories"].append({"id": again, "name": "dog"}))
    with pytest.raises(DatasetError, match="'cat' and 'dog' both have the id 1"):
        open_dataset(tmp_path)


@pytest.mark.parametrize("image", [str, float, int], ids=lambda kind: f"image {kind.__name__}")
@pytest.mark.parametrize("category", [str, float, int], ids=lambda kind: f"category {kind.__name__}")
@pytest.mark.parametrize("part", ["images and categories", "annotations"])
def test_ids_as_text_and_as_numbers_are_one(
    tmp_path: Path, image: Callable[[int], object], category: Callable[[int], object], part: str
) -> None:
    def change(file: Any) -> None:
        if part == "annotations":
            for one in file["annotations"]:
                one.update(image_id=image(one["image_id"]), category_id=category(one["category_id"]))
        else:
            for name, kind in (("images", image), ("categories", category)):
                for one in file[name]:
                    one["id"] = kind(one["id"])

    changed(pets(tmp_path), change)
    found = open_dataset(tmp_path).read()
    assert (boxes_of(found), found.problems) == (CATS, [])


@pytest.mark.parametrize("crowd", [1, "1", True, "true"])
def test_a_crowd_is_neither_object_nor_background(tmp_path: Path, crowd: object) -> None:
    changed(pets(tmp_path), lambda file: file["annotations"][1].update(iscrowd=crowd))
    found = open_dataset(tmp_path).read()
    assert boxes_of(found) == {"a.jpg": CATS["a.jpg"], "b.jpg": []}
    assert [record.crowds.tolist() for record in found.records] == [[], CATS["b.jpg"]]
    assert found.problems == []


@pytest.mark.parametrize(
    ("xml_name", "filename", "folder", "kind"),
    [
        pytest.param("1.xml", "a.jpg", "", None, id="another name"),
        pytest.param("1.xml", "a", "", None, id="another name, without suffix"),
        pytest.param("1.xml", "C:\\photos\\a.jpg", "", None, id="a path of Windows"),
        pytest.param("1.xml", "/home/me/a.jpg", "", None, id="a path of another machine"),
        pytest.param("1.xml", "a.jpg", "VOC2007", None, id="a folder that is not there"),
        pytest.param("a.xml", "other.jpg", "", None, id="called like it, and names what is not there"),
        pytest.param("a.xml", "b.jpg", "", "filename_mismatch", id="called like it, and names another"),
        pytest.param("1.xml", "gone.jpg", "", "missing_image", id="neither is there"),
    ],
)
def test_the_picture_that_an_annotation_names(
    tmp_path: Path, xml_name: str, filename: str, folder: str, kind: str | None
) -> None:
    for name in "ab":
        picture(tmp_path / f"images/{name}.jpg")
    xml(tmp_path / f"annotations/{xml_name}", "cat", filename=filename, folder=folder)
    found = open_dataset(tmp_path).read()
    assert list(boxes_of(found)) == ([] if kind == "missing_image" else ["a.jpg"])
    assert [problem.kind for problem in found.problems] == ([kind] if kind else [])


@pytest.mark.parametrize(
    ("content", "names"),
    [
        pytest.param("a\nmy cat\n", ["a", "my cat"], id="spaces"),
        pytest.param("\"my cat\"\n'a'\n", ["my cat", "a"], id="quotes"),
        pytest.param("my cat\r\na\r\n", ["my cat", "a"], id="ends of lines as on Windows"),
        pytest.param("my cat\ra", ["my cat", "a"], id="as on old Macs, and no end"),
        pytest.param("a.jpg\nmy cat.JPG\n", ["a", "my cat"], id="suffixes"),
        pytest.param("JPEGImages/a.jpg\n/mnt/set/JPEGImages/my cat.jpg\n", ["a", "my cat"], id="paths"),
        pytest.param(
            "C:\\set\\JPEGImages\\a.jpg\nJPEGImages\\my cat\n", ["a", "my cat"], id="Windows' paths"
        ),
        pytest.param("a  1\nmy cat -1\n", ["a", "my cat"], id="marks of a class's list"),
        pytest.param('a.jpg 1\n"my cat" 0\n', ["a", "my cat"], id="marks after suffix and quotes"),
        pytest.param(
            "a\ta.xml\n\n  my cat  \n\n", ["a", "my cat"], id="further columns, blanks, empty lines"
        ),
        pytest.param("# mine\na\nmy cat\na\n", ["a", "my cat"], id="a comment; one twice"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_spellings_of_lists(tmp_path: Path, content: str, names: list[str], encoding: str) -> None:
    """As a list of ImageSets/Main and as a list file of one's own."""
    for name in ("a", "my cat", "other"):
        picture(tmp_path / f"JPEGImages/{name}.jpg")
        xml(tmp_path / f"Annotations/{name}.xml", "cat")
    official, mine = tmp_path / "ImageSets/Main/val.txt", tmp_path / "mine.txt"
    official.parent.mkdir(parents=True)
    for path in (official, mine):
        path.write_bytes(content.encode(encoding))
    folder = open_dataset(tmp_path)
    for found in (folder.read("val"), folder.read(mine)):
        assert [record.image_id for record in found.records] == names
        assert [len(record.boxes) for record in found.records] == [1, 1]
        assert found.problems == []


CAFE = os.fsdecode(b"caf\xe9")  # as a Latin-1 disk has it


def latin_voc(root: Path) -> None:
    xml(root / f"Annotations/{CAFE}.xml", "cat")
    picture(root / f"JPEGImages/{CAFE}.jpg")


def latin_voc_list(root: Path) -> None:
    latin_voc(root)
    path = root / "ImageSets/Main/train.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"caf\xe9\n")


def latin_yolo(root: Path) -> None:
    text(root / "data.yaml", "names: [cat]")
    picture(root / f"images/{CAFE}.jpg")
    text(root / f"labels/{CAFE}.txt", LINE)


def latin_yolo_list(root: Path) -> None:
    latin_yolo(root)
    text(root / "data.yaml", "names: [cat]", "train: train.txt")
    (root / "train.txt").write_bytes(b"images/caf\xe9.jpg\n")


def latin_coco(root: Path) -> None:
    picture(root / f"{CAFE}.jpg")
    path = instances(root / "labels.json", {"NAME.jpg": [1]})
    path.write_bytes(path.read_bytes().replace(b"NAME", b"caf\xe9"))


@pytest.mark.parametrize(
    ("write", "format"),
    [
        (latin_voc, Format.VOC),
        (latin_voc_list, Format.VOC),
        (latin_yolo, Format.YOLO),
        (latin_yolo_list, Format.YOLO),
        (latin_coco, Format.COCO),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_names_that_are_not_utf8(tmp_path: Path, write: Callable[[Path], None], format: Format) -> None:
    write(tmp_path)
    folder = open_dataset(tmp_path)
    assert folder.format is format
    for split in (None, *folder.splits):
        found = folder.read(split)
        assert {name: len(mine) for name, mine in boxes_of(found).items()} == {f"{CAFE}.jpg": 1}
        assert found.problems == []
    if write is not latin_coco:
        (tmp_path / "mine.txt").write_bytes(b"caf\xe9.jpg\n")
        assert len(folder.read(tmp_path / "mine.txt").records) == 1


def test_a_set_with_names_that_are_not_utf8_is_split(tmp_path: Path) -> None:
    latin_voc(tmp_path)
    for name in "abcdefgh":
        picture(tmp_path / f"JPEGImages/{name}.jpg")
        xml(tmp_path / f"Annotations/{name}.xml", "cat")
    split = train_and_validation(open_dataset(tmp_path))
    assert len(split.train.records) + len(split.validation.records) == 9


def test_ilsvrc_with_names_that_are_not_utf8_and_a_mark(tree: Tree) -> None:
    tree.list_file("DET/val", [])
    (tree.root / "ILSVRC/ImageSets/DET/val.txt").write_bytes(codecs.BOM_UTF8 + b"caf\xe9 1\r\n")
    (problem,) = read_ilsvrc_det(tree.root, "val").problems
    assert (problem.image_id, problem.kind) == (CAFE, "missing_annotation")
    assert "caf\\udce9.xml" in utf8_text(problem.message)


def test_boxes_of_a_name_that_several_pictures_have_are_nobodys(tree: Tree) -> None:
    """Boxes without a class are given by names alone: of n0/x and n1/x neither gets those of x."""
    tree.list_file("DET/train", ["n0/x 1", "n1/x 2", "n1/y 3"])
    tree.list_file("CLS-LOC/train_cls", ["n2/x 1"])
    for name in ("DET/train/n0/x", "DET/train/n1/x", "DET/train/n1/y", "CLS-LOC/train/n2/x"):
        tree.image(name)
    entry = {"width": 100, "height": 80, "boxes": [[0, 0, 9, 9]]}
    text(tree.root / "agnostic_boxes.json", "\ufeff" + json.dumps({"x": entry, "y": entry}))
    found = read_agnostic(tree.root)
    assert [record.image_id for record in found.records] == ["y"]
    (problem,) = found.problems
    assert (problem.image_id, problem.kind) == ("x", "duplicate_id")
    assert "n0/x.JPEG" in problem.message
    assert "n1/x.JPEG" in problem.message


def test_what_belongs_to_no_picture_is_told_with_a_list_too(tmp_path: Path) -> None:
    """An object without a picture's id may be of a listed picture, and so may labels that lie elsewhere."""
    changed(pets(tmp_path / "coco"), lambda file: file["annotations"][1].pop("image_id"))
    text(tmp_path / "yolo/data.yaml", "names: [cat]")
    for name in "ab":
        picture(tmp_path / f"yolo/images/{name}.jpg")
    text(tmp_path / "yolo/labels/a.txt", LINE)
    text(tmp_path / "yolo/elsewhere/c.txt", LINE)
    mine = text(tmp_path / "mine.txt", "b.jpg")
    for folder, kind in (("coco", "unreadable_object"), ("yolo", "missing_image")):
        found = open_dataset(tmp_path / folder).read(mine)
        assert boxes_of(found) == {"b.jpg": []}
        assert found.records[0].partial == (folder == "coco")
        assert [problem.kind for problem in found.problems] == [kind]


def test_pictures_beside_the_folders_of_splits_are_of_the_whole_set(tmp_path: Path) -> None:
    """And labels that lie where those of another split do are told where they have no picture."""
    text(tmp_path / "data.yaml", "names: [cat]")
    for name in ("train/a", "s"):
        picture(tmp_path / f"images/{name}.jpg")
    for name in ("a", "s"):
        text(tmp_path / f"labels/{name}.txt", LINE)
    found = open_dataset(tmp_path).read()
    assert {name: len(boxes) for name, boxes in boxes_of(found).items()} == {"s.jpg": 1}
    assert ["a.txt is called like it" in problem.message for problem in found.problems] == [True]

"""Odd values in every field, and odd spellings of files and lines: each costs what is said, and no more."""

import json
from pathlib import Path

import pytest

from detector.datasets.open import open_dataset
from detector.errors import DatasetError
from tests.detector.datasets.small_folders import instances, picture, text, xml

LINE = "0 0.5 0.5 0.2 0.2"

ODD = (None, "", "NaN", "10,5", [], [1], {}, True, -5, 1e400, 1e300, "x", "1.5", float("nan"), 10**30)


@pytest.mark.parametrize("odd", ODD, ids=repr)
def test_an_odd_value_in_any_field_of_coco_is_no_traceback(tmp_path: Path, odd: object) -> None:
    """And costs no more than it says: the other picture keeps its box, unless the file is refused."""
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    path = instances(tmp_path / "labels.json", {"a.jpg": [1], "b.jpg": [1]})
    sound = path.read_text()
    for part in ("images", "annotations", "categories"):
        for field in json.loads(sound)[part][0]:
            content = json.loads(sound)
            content[part][0][field] = odd
            path.write_text(json.dumps(content))
            try:
                found = open_dataset(tmp_path).read()
            except DatasetError:
                continue  # refused, in a line
            boxes = {record.path.name: len(record.boxes) for record in found.records}
            assert boxes.get("b.jpg") == 1 or found.problems
            assert boxes.get("a.jpg", 0) == 1 or found.problems, f"{part} {field}: lost in silence"


@pytest.mark.parametrize("odd", ["", "NaN", "10,5", "inf", "1e300", "x", "-5", "None", "<b/>", "é"])
def test_an_odd_value_in_any_field_of_voc_is_no_traceback(tmp_path: Path, odd: str) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
        xml(tmp_path / f"{name}.xml", "cat")
    path = tmp_path / "a.xml"
    sound = path.read_text()
    for value in ("<width>100<", "<height>80<", "<name>cat<", "<xmin>1<", "<xmax>20<", "<ymax>20<"):
        tag = value[: value.index(">") + 1]
        path.write_text(sound.replace(value, f"{tag}{odd}<"))
        found = open_dataset(tmp_path).read()
        boxes = {record.path.name: len(record.boxes) for record in found.records}
        assert boxes["b.jpg"] == 1
        assert boxes.get("a.jpg") == 1 or found.problems, f"{tag}: lost in silence"


@pytest.mark.parametrize(
    ("image", "label"),
    [
        pytest.param("images/a.jpg", "labels/a.TXT", id="suffix in capitals"),
        pytest.param("Images/a.jpg", "Labels/a.txt", id="folders in capitals"),
        pytest.param("images/a.jpg", "images/a.txt", id="beside the picture, while labels/ exists"),
        pytest.param("images/a.jfif", "labels/a.txt", id="JPEG as Windows saves it"),
        pytest.param("images/a.jpe", "labels/a.txt", id="JPEG by its oldest name"),
        pytest.param("images/a.jpg", "labels/A.txt", id="another name: told, and not background"),
        pytest.param("images/a.jpg", "elsewhere/a.txt", id="elsewhere: told"),
        pytest.param("photos/a.jpg", "labels/photos/a.txt", id="folders that do not mirror: told"),
        pytest.param("a.jpg", "annotations/a.txt", id="in a folder of another name: told"),
    ],
)
def test_labels_are_not_lost_in_silence(tmp_path: Path, image: str, label: str) -> None:
    text(tmp_path / "data.yaml", "names: [cat]")
    source = picture(tmp_path / "source.jpg")
    (tmp_path / image).parent.mkdir(exist_ok=True)
    source.rename(tmp_path / image)
    picture(tmp_path / "images/@eaDir/a.jpg/THUMB.jpg")
    picture(tmp_path / "images/sound.jpg")
    for path in (label, "labels/sound.txt"):
        text(tmp_path / path, LINE)
    found = open_dataset(tmp_path).read()
    boxes = {record.path.stem: len(record.boxes) for record in found.records}
    assert "THUMB" not in boxes
    assert boxes["sound"] == 1
    told = any("a.txt" in problem.message.lower() for problem in found.problems)
    assert boxes.get("a") == 1 or (told and "a" not in boxes), "without its object it is no background"


def test_two_pictures_of_one_label_file_get_it_neither(tmp_path: Path) -> None:
    text(tmp_path / "data.yaml", "names: [cat]")
    for name in ("a.jpg", "a.png", "b.jpg"):
        picture(tmp_path / f"images/{name}")
    for name in "ab":
        text(tmp_path / f"labels/{name}.txt", LINE)
    found = open_dataset(tmp_path).read()
    assert [record.path.name for record in found.records] == ["b.jpg"]
    assert len(found.problems) == 2


@pytest.mark.parametrize(
    ("line", "boxes"),
    [
        ("0,0.5,0.5,0.2,0.2", 1),
        ("0\t0.5\t0.5\t0.2\t0.2", 1),
        ("cat 0.5 0.5 0.2 0.2", 1),
        ("0 0,5 0,5 0,2 0,2", 0),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_spellings_of_lines(tmp_path: Path, line: str, boxes: int, encoding: str) -> None:
    text(tmp_path / "data.yaml", "names: [cat]")
    picture(tmp_path / "a.jpg")
    (tmp_path / "a.txt").write_bytes(f"{line}\r\n".encode(encoding))
    found = open_dataset(tmp_path).read()
    assert sum(len(record.boxes) for record in found.records) == boxes
    assert bool(found.problems) == (not boxes)


@pytest.mark.parametrize("odd", [-1, 0.5, 2, "2", "perhaps", [1]])
def test_a_crowd_that_is_neither_yes_nor_no_is_told(tmp_path: Path, odd: object) -> None:
    """Taken for a crowd, the object would be neither learnt nor measured."""
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    path = instances(tmp_path / "labels.json", {"a.jpg": [1, 1], "b.jpg": [1]})
    content = json.loads(path.read_text())
    content["annotations"][0]["iscrowd"] = odd
    path.write_text(json.dumps(content))
    found = open_dataset(tmp_path).read()
    assert any("neither 0 nor 1" in problem.message for problem in found.problems)
    assert [record.partial for record in found.records] == [True, False]


@pytest.mark.parametrize(
    "corners",
    [
        pytest.param((40, 1, 10, 20), id="left and right exchanged"),
        pytest.param((1, 40, 20, 10), id="top and bottom exchanged"),
        pytest.param((500, 500, 520, 520), id="wholly outside"),
    ],
)
def test_where_an_object_was_lost_is_no_background(tmp_path: Path, corners: tuple[int, ...]) -> None:
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
        xml(tmp_path / f"{name}.xml", "cat", corners=(1, 1, 20, 20) if name == "b" else corners)
    found = open_dataset(tmp_path).read()
    assert found.problems
    assert {record.path.stem: record.partial for record in found.records} == {"a": True, "b": False}

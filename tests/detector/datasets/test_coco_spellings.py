"""Other spellings of COCO's keys and other forms of boxes: read where one thing only is meant, else named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detector.datasets.open import open_dataset
from detector.errors import DatasetError
from tests.detector.datasets.small_folders import instances, picture

Change = Callable[[dict[str, Any]], object]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Two pictures, each with a cat at 10, 10, 40, 30."""
    for name in "ab":
        picture(tmp_path / f"{name}.jpg")
    return instances(tmp_path / "labels.json", {"a.jpg": [1], "b.jpg": [1]})


def changed(path: Path, change: Change) -> None:
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def renamed(part: str, **names: str) -> Change:
    """Keys of every entry of a part, under new names."""

    def change(content: dict[str, Any]) -> None:
        for entry in content[part]:
            for old, new in names.items():
                entry[new] = entry.pop(old)

    return change


def boxed(bbox: object) -> Change:
    return lambda content: content["annotations"][0].update(bbox=bbox)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda all: all.update(Annotations=all.pop("annotations")), id="Annotations"),
        pytest.param(
            lambda all: all.update(IMAGES=all.pop("images"), Categories=all.pop("categories")),
            id="IMAGES, Categories",
        ),
        pytest.param(renamed("annotations", bbox="bBox"), id="bBox"),
        pytest.param(renamed("annotations", image_id="Image_ID", category_id="CategoryId"), id="Image_ID"),
        pytest.param(renamed("annotations", image_id="imageId", category_id="category-id"), id="imageId"),
        pytest.param(renamed("images", file_name="fileName", id="ID", width="Width"), id="fileName"),
        pytest.param(renamed("categories", id="Id", name="Name"), id="Id, Name of categories"),
        pytest.param(boxed({"x": 10, "y": 10, "width": 30, "height": 20}), id="x, y, width, height"),
        pytest.param(boxed({"X": "10", "Y": 10, "w": 30, "h": 20}), id="x, y, w, h"),
        pytest.param(boxed({"left": 10, "top": 10, "width": 30, "height": 20}), id="left, top"),
        pytest.param(boxed({"xmin": 10, "ymin": 10, "xmax": 40, "ymax": 30}), id="corners"),
        pytest.param(boxed({"x1": 10, "y1": 10, "x2": 40, "y2": 30}), id="corners by number"),
        pytest.param(
            lambda all: all["annotations"][0].update(image_id="a.jpg"), id="the file's name for its id"
        ),
        pytest.param(
            lambda all: all["images"][0].update(annotations=[0]), id="a picture with the ids of its objects"
        ),
    ],
)
def test_one_thing_only_is_meant(path: Path, change: Change) -> None:
    changed(path, change)
    found = open_dataset(path.parent).read()
    assert {record.path.name: record.boxes.tolist() for record in found.records} == {
        "a.jpg": [[10, 10, 40, 30]],
        "b.jpg": [[10, 10, 40, 30]],
    }
    assert found.problems == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        pytest.param(boxed({"x": 10, "y": 10}), "no four numbers", id="half a box"),
        pytest.param(
            boxed({"x": 1, "y": 1, "width": 3, "height": 3, "x1": 1, "y1": 1, "x2": 3, "y2": 3}),
            "no four numbers",
            id="a box in two forms",
        ),
        pytest.param(boxed({"x": 1, "y": 1, "w": 3, "h": None}), "no four numbers", id="a side that is none"),
        pytest.param(boxed("10 10 30 20"), "no four numbers", id="a box as text"),
        pytest.param(
            lambda all: all["annotations"][0].update(
                BBOX=[1, 1, 9, 9], bBox=all["annotations"][0].pop("bbox")
            ),
            "the bbox None",
            id="two spellings that differ",
        ),
        pytest.param(
            lambda all: all["annotations"][0].update(
                bbox=None, segmentation={"counts": "abc", "size": [9, 9]}
            ),
            "no outline to take its place",
            id="a mask alone",
        ),
        pytest.param(
            lambda all: all["images"][0].update(annotations=[all["annotations"].pop(0)]),
            "holds its objects itself",
            id="objects within their picture",
        ),
    ],
)
def test_what_may_mean_two_things_is_named(path: Path, change: Change, said: str) -> None:
    changed(path, change)
    found = open_dataset(path.parent).read()
    assert [record.path.name for record in found.records] == ["b.jpg"]
    assert said in found.problems[0].message


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        pytest.param("val.json", lambda all: all.pop("categories"), "'categories'", id="no categories"),
        pytest.param("val.json", lambda all: all.pop("images"), "'images'", id="no images"),
        pytest.param("val.json", lambda all: all.update(annotations={}), "'annotations'", id="no list"),
        pytest.param("instances_val.json", lambda all: all.pop("annotations"), "'annotations'", id="none"),
    ],
)
def test_a_second_file_that_lacks_a_part_is_refused(path: Path, name: str, change: Change, said: str) -> None:
    """It would be passed over, and its split with it."""
    second = path.with_name(name)
    second.write_bytes(path.read_bytes())
    path.rename(path.with_name(name.replace("val", "train")))
    changed(second, change)
    with pytest.raises(DatasetError, match=said):
        open_dataset(path.parent)


def test_a_key_that_stands_twice_is_refused(path: Path) -> None:
    """The first list of annotations would be dropped, and its objects with it."""
    path.write_text(path.read_text().replace('"categories"', '"annotations": [], "categories"'))
    with pytest.raises(DatasetError, match="the key 'annotations' twice"):
        open_dataset(path.parent)

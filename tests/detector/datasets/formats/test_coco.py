import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detector.datasets.formats.coco import read_coco
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError
from detector.structures.classes import ClassList


def instance(image_id: int, category: int, *bbox: float, iscrowd: int = 0) -> dict[str, Any]:
    return {"image_id": image_id, "category_id": category, "bbox": bbox, "iscrowd": iscrowd}


def a_file(folder: Path) -> dict[str, Any]:
    """Two pictures, 7 before 3, and what an instances file says of them."""
    for name in ("bad", "sound"):
        Image.new("RGB", (100, 80)).save(folder / f"{name}.jpg")
    return {
        "images": [
            {"id": 7, "file_name": "bad.jpg", "width": 100, "height": 80},
            {"id": 3, "file_name": "sound.jpg", "width": 100, "height": 80},
        ],
        "categories": [{"id": 90, "name": "dog"}, {"id": 2, "name": "cat"}],
        "annotations": [
            instance(3, 90, 10.5, 20, 30, 40),
            instance(7, 2, 0, 0, 100, 80),
            instance(3, 2, 0, 0, 0.5, 8),
            instance(3, 2, 0, 0, 50, 50, iscrowd=1),
        ],
    }


def read(folder: Path, content: object, **options: Any) -> Any:
    path = folder / "instances.json"
    path.write_text(json.dumps(content))
    return read_coco(path, folder, **options)


def test_boxes_and_labels(tmp_path: Path) -> None:
    found = read(tmp_path, a_file(tmp_path))
    assert [record.image_id for record in found.records] == ["7", "3"]
    assert found.class_ids == ["cat", "dog"]  # in the order of their ids
    assert found.records[1].boxes.tolist() == [[10.5, 20, 40.5, 60], [0, 0, 0.5, 8]]  # no crowd
    assert found.records[1].labels.tolist() == [1, 0]
    assert found.problems == []


@pytest.mark.parametrize(
    ("mark", "partial", "problems"),
    [
        pytest.param({}, False, [], id="COCO's own files have no mark"),
        pytest.param({"partial": True}, True, [], id="objects may be unlabelled"),
        pytest.param({"partial": 1}, True, [], id="marks are numbers too, as iscrowd is"),
        pytest.param({"partial": False}, False, [], id="all is labelled"),
        pytest.param({"partial": None}, False, [], id="nothing is said"),
        pytest.param({"Partial": "true"}, True, [], id="another spelling"),
        pytest.param({"partial": "in part"}, True, ["odd_value"], id="told, and taken for a doubt"),
    ],
)
def test_partial_pictures(tmp_path: Path, mark: dict[str, Any], partial: bool, problems: list[str]) -> None:
    content = a_file(tmp_path)
    content["images"][0].update(mark)
    found = read(tmp_path, content)
    assert [record.partial for record in found.records] == [partial, False]
    assert [problem.kind for problem in found.problems] == problems


def test_classes_of_your_own(tmp_path: Path) -> None:
    found = read(tmp_path, a_file(tmp_path), classes=ClassList.of(["dog"]))
    assert [record.labels.tolist() for record in found.records] == [[], [0]]
    assert [problem.kind for problem in found.problems] == ["unknown_class", "unknown_class"]


@pytest.mark.parametrize(
    ("kind", "spoil"),
    [
        pytest.param(
            "missing_image", lambda file: file["images"][0].update(file_name="no.jpg"), id="no file"
        ),
        pytest.param("size_mismatch", lambda file: file["images"][0].update(width=200), id="another size"),
        pytest.param("odd_value", lambda file: file["images"][0].update(width=-1), id="no such size"),
        pytest.param(
            "unknown_class", lambda file: file["annotations"][1].update(category_id=5), id="no such category"
        ),
        pytest.param(
            "box_outside", lambda file: file["annotations"][1].update(bbox=[1, 0, 100, 9]), id="cut"
        ),
        pytest.param("empty_box", lambda file: file["annotations"][1].update(bbox=[1, 1, 0, 9]), id="a line"),
        pytest.param(
            "missing_image", lambda file: file["images"].pop(0), id="objects of an unlisted picture"
        ),
    ],
)
def test_a_problem_is_named_and_costs_its_picture_alone(
    tmp_path: Path, kind: str, spoil: Callable[[dict], object]
) -> None:
    content = a_file(tmp_path)
    spoil(content)
    found = read(tmp_path, content)
    assert [(problem.image_id, problem.kind) for problem in found.problems] == [("7", kind)]
    assert found.records[-1].image_id == "3"
    with pytest.raises(DatasetError, match=r"^7: "):
        read(tmp_path, content, on_problem=OnProblem.STOP)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param({"images": [], "annotations": []}, "'categories'", id="captions"),
        pytest.param([], "no instances file", id="a list"),
    ],
)
def test_another_file_is_refused(tmp_path: Path, content: object, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(tmp_path, content)


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="cannot be read"):
        read_coco(tmp_path / "absent.json", tmp_path)

import json
from pathlib import Path

import pytest

from detector.datasets.formats.agnostic import read_agnostic
from detector.datasets.formats.ilsvrc import read_ilsvrc_det
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError
from tests.detector.datasets.ilsvrc_tree import Tree


def entry(*boxes: tuple[int, int, int, int], width: int = 100, height: int = 80) -> dict:
    return {"width": width, "height": height, "boxes": boxes}


def write(tree: Tree, entries: object) -> None:
    (tree.root / "agnostic_boxes.json").write_text(json.dumps(entries))


@pytest.fixture
def images(tree: Tree) -> Tree:
    """One picture in each of the four places; ``everywhere`` is in two of them."""
    for name, lines in {
        "DET/val": ["v 1", "everywhere 2"],
        "CLS-LOC/val": ["everywhere 1", "c 2"],
        "DET/train": ["folder/t 1"],
        "CLS-LOC/train_cls": ["n01/s 1"],
    }.items():
        tree.list_file(name, lines)
        for line in lines:
            tree.image(f"{name.removesuffix('_cls')}/{line.split()[0]}")
    return tree


def test_pictures_are_found_in_both_tasks_and_corners_become_boxes(images: Tree) -> None:
    write(images, {name: entry((0, 0, 99, 79), (5, 6, 7, 8)) for name in ("s", "t", "c", "everywhere")})
    for root in (images.root, images.root / "ILSVRC"):
        found = read_agnostic(root)
        assert [record.image_id for record in found.records] == ["s", "t", "c", "everywhere"]
        assert found.records[0].boxes.tolist() == [[0, 0, 100, 80], [5, 6, 8, 9]]
        assert found.records[0].labels.tolist() == [0, 0]
        assert [record.path.parent.name for record in found.records] == ["n01", "folder", "val", "val"]
        assert "DET" in found.records[3].path.parts
        assert (found.class_ids, found.problems) == (["object"], [])


@pytest.mark.parametrize(
    ("kind", "bad"),
    [
        pytest.param("unreadable_annotation", {"width": 100, "height": 80}, id="no boxes"),
        pytest.param("unreadable_annotation", {"boxes": {"a": [1, 2, 3, 4]}}, id="boxes that are no list"),
        pytest.param("unreadable_annotation", [[1, 2, 3, 4]], id="a list for the entry"),
        pytest.param("unreadable_annotation", None, id="nothing for the entry"),
        pytest.param("unreadable_annotation", entry() | {"w": entry()}, id="an entry in another"),
        pytest.param("odd_value", entry((1, 2, 3, 4)) | {"width": "broad"}, id="a size that is none"),
        pytest.param("odd_value", entry((1, 2, 3, 4)) | {"height": 1e400}, id="a size without end"),
        pytest.param("size_mismatch", entry((1, 2, 3, 4), width=50, height=40), id="another size"),
        pytest.param("box_outside", entry((1, 2, 100, 4)), id="one pixel too far"),
        pytest.param("empty_box", entry((1, 2, 1, 4)), id="no width"),
    ],
)
def test_a_problem_is_named_and_costs_its_picture_alone(images: Tree, kind: str, bad: dict) -> None:
    write(images, {"v": bad, "c": entry()})
    found = read_agnostic(images.root)
    assert [(problem.image_id, problem.kind) for problem in found.problems] == [("v", kind)]
    assert found.records[-1].image_id == "c"
    with pytest.raises(DatasetError, match=r"^v: "):
        read_agnostic(images.root, on_problem=OnProblem.STOP)


@pytest.mark.parametrize("size", [{}, {"width": 0, "height": 0}, {"width": None, "height": 80}])
def test_a_size_that_is_not_stated_is_that_of_the_picture(images: Tree, size: dict) -> None:
    write(images, {"v": {"boxes": [[0, 0, 9, 9]], **size}})
    found = read_agnostic(images.root)
    assert [(one.width, one.height, one.boxes.tolist()) for one in found.records] == [
        (100, 80, [[0, 0, 10, 10]])
    ]
    assert found.problems == []


@pytest.mark.parametrize(
    "odd",
    [
        [1, 2, 3],
        [1, 2, 3, None],
        [1, 2, 3, "x"],
        [1, 2, 3, True],
        [1, 2, 3, 1e400],
        [1, 2, 3, float("nan")],
        [1, 2, 3, 10**400],
        [1, 2, 3, [4]],
        [[1, 2, 3, 4]],
        {},
        "1 2 3 4",
        None,
        7,
    ],
    ids=lambda odd: repr(odd)[:30],
)
def test_one_odd_box_costs_itself_alone(images: Tree, odd: object) -> None:
    """Where it is, is no background; a picture with none that can be read is left out."""
    write(images, {"v": {"width": 100, "height": 80, "boxes": [odd, [0, 0, 9, 9]]}, "c": {"boxes": [odd]}})
    found = read_agnostic(images.root)
    assert [(one.image_id, one.boxes.tolist(), one.partial) for one in found.records] == [
        ("v", [[0, 0, 10, 10]], True)
    ]
    assert [(one.image_id, one.kind) for one in found.problems] == [
        ("v", "unreadable_object"),
        ("c", "unreadable_object"),
        ("c", "unreadable_annotation"),
    ]
    assert "where four finite numbers belong" in found.problems[0].message


def test_a_picture_that_stands_twice_with_other_boxes_is_refused(images: Tree) -> None:
    text = json.dumps({"v": entry((0, 0, 9, 9)), "w": entry()}).replace('"w"', '"v"')
    (images.root / "agnostic_boxes.json").write_text(text)
    with pytest.raises(DatasetError, match="the key 'v' twice"):
        read_agnostic(images.root)


def test_a_picture_in_no_list(images: Tree) -> None:
    write(images, {"nowhere": entry()})
    assert [problem.kind for problem in read_agnostic(images.root).problems] == ["missing_image"]


def test_a_wrong_root_or_file(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"agnostic_boxes\.json cannot be read"):
        read_agnostic(tree.root)
    write(tree, [])
    with pytest.raises(DatasetError, match="must map the name of a picture"):
        read_agnostic(tree.root)
    with pytest.raises(DatasetError, match="give the folder that holds ILSVRC/"):
        read_agnostic(tmp_path / "elsewhere")


def test_the_real_pictures(shared: Path) -> None:
    """Where a picture has its classes too, the boxes are the same; one without objects has no entry."""
    found = read_agnostic(shared / "ilsvrc", on_problem=OnProblem.STOP)
    assert len(found.records) == 1123
    boxes = {record.image_id: record.boxes for record in found.records}
    for record in read_ilsvrc_det(shared / "ilsvrc", "val").records:
        mine = boxes.get(record.image_id, record.boxes[:0])
        assert sorted(mine.tolist()) == sorted(record.boxes.tolist())

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from detector.datasets.formats.ilsvrc import read_ilsvrc_det
from detector.datasets.open import open_dataset
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError, ParameterError
from detector.structures.classes import ClassList
from tests.detector.datasets.ilsvrc_tree import Tree


def test_corners_become_continuous_boxes_in_list_order(tree: Tree, cat_and_dog: ClassList) -> None:
    tree.list_file("DET/val", ["b 1", "a 2"])
    for name, objects in {"a": [("dog", 0, 0, 99, 79), ("cat", 10, 20, 29, 49)], "b": []}.items():
        tree.image(f"DET/val/{name}")
        tree.annotation(f"DET/val/{name}", objects)
    found = read_ilsvrc_det(tree.root, "val", classes=cat_and_dog)
    empty, full = found.records
    assert (empty.image_id, len(empty.boxes), empty.partial) == ("b", 0, False)
    assert (full.width, full.height) == (100, 80)
    assert full.boxes.tolist() == [[0, 0, 100, 80], [10, 20, 30, 50]]
    assert full.labels.tolist() == [1, 0]
    assert full.path.is_file()
    assert found.class_ids == ["cat", "dog"]
    assert found.problems == []


PROBLEMS: list[tuple[str, str, Callable[[Tree], object], list[list[float]] | None]] = [
    (
        "missing_image",
        "no picture file",
        lambda tree: (tree.root / "ILSVRC/Data/DET/val/bad.JPEG").unlink(),
        None,
    ),
    ("unreadable_image", "0 bytes", lambda tree: tree.bytes("Data/DET/val/bad.JPEG", b""), None),
    ("unreadable_image", "no picture", lambda tree: tree.bytes("Data/DET/val/bad.JPEG", b"<html>"), None),
    (
        "missing_annotation",
        "every val picture has a file, if only an empty one",
        lambda tree: (tree.root / "ILSVRC/Annotations/DET/val/bad.xml").unlink(),
        None,
    ),
    (
        "unreadable_annotation",
        "cut off",
        lambda tree: tree.bytes("Annotations/DET/val/bad.xml", b"<annotation>"),
        None,
    ),
    (
        "unknown_class",
        "the other object stays",
        lambda tree: tree.annotation("DET/val/bad", [("unicorn", 1, 1, 9, 9), ("cat", 0, 0, 9, 9)]),
        [[0, 0, 10, 10]],
    ),
    (
        "box_outside",
        "cut at the edge",
        lambda tree: tree.annotation("DET/val/bad", [("cat", -5, 50, 20, 80)]),
        [[0, 50, 21, 80]],
    ),
    (
        "box_outside",
        "nothing is left of it",
        lambda tree: tree.annotation("DET/val/bad", [("cat", 100, 0, 120, 20), ("dog", 0, 0, 9, 9)]),
        [[0, 0, 10, 10]],
    ),
    (
        "empty_box",
        "equal corners",
        lambda tree: tree.annotation("DET/val/bad", [("cat", 5, 5, 5, 9), ("dog", 0, 0, 9, 9)]),
        [[0, 0, 10, 10]],
    ),
    (
        "empty_box",
        "corners exchanged",
        lambda tree: tree.annotation("DET/val/bad", [("cat", 5, 20, 15, 9), ("dog", 0, 0, 9, 9)]),
        [[0, 0, 10, 10]],
    ),
    (
        "size_mismatch",
        "annotated at half size: boxes double",
        lambda tree: tree.annotation("DET/val/bad", [("cat", 5, 10, 14, 19)], size=(50, 40)),
        [[10, 20, 30, 40]],
    ),
    (
        "size_mismatch",
        "width and height exchanged in the statement only: boxes stay",
        lambda tree: tree.annotation("DET/val/bad", [("cat", 5, 10, 94, 19)], size=(80, 100)),
        [[5, 10, 95, 20]],
    ),
]
PROBLEM_CASES = [
    pytest.param(kind, spoil, boxes, id=f"{kind}: {why}") for kind, why, spoil, boxes in PROBLEMS
]


@pytest.fixture
def sound_and_bad(tree: Tree) -> Tree:
    tree.list_file("DET/val", ["sound 1", "bad 2", "late 3"])
    for name in ("sound", "bad", "late"):
        tree.image(f"DET/val/{name}")
        tree.annotation(f"DET/val/{name}", [("cat", 0, 0, 9, 9)])
    return tree


@pytest.mark.parametrize(("kind", "spoil", "boxes"), PROBLEM_CASES)
def test_report_names_the_problem_and_goes_on(
    sound_and_bad: Tree,
    cat_and_dog: ClassList,
    kind: str,
    spoil: Callable[[Tree], object],
    boxes: list[list[float]] | None,
) -> None:
    spoil(sound_and_bad)
    found = read_ilsvrc_det(sound_and_bad.root, "val", classes=cat_and_dog, on_problem=OnProblem.REPORT)
    assert [(problem.image_id, problem.kind) for problem in found.problems] == [("bad", kind)]
    assert found.problems[0].message
    records = {record.image_id: record for record in found.records}
    assert list(records) == (["sound", "late"] if boxes is None else ["sound", "bad", "late"])
    if boxes is not None:
        assert records["bad"].boxes.tolist() == boxes
        assert len(records["bad"].labels) == len(boxes)


@pytest.mark.parametrize(("kind", "spoil", "boxes"), PROBLEM_CASES)
def test_stop_names_the_picture_and_what_to_do(
    sound_and_bad: Tree,
    cat_and_dog: ClassList,
    kind: str,
    spoil: Callable[[Tree], object],
    boxes: list[list[float]] | None,
) -> None:
    spoil(sound_and_bad)
    with pytest.raises(DatasetError, match=r"^bad: .*Correct the file or take the picture off the list"):
        read_ilsvrc_det(sound_and_bad.root, "val", classes=cat_and_dog, on_problem=OnProblem.STOP)


@pytest.mark.parametrize(
    ("stated", "expected"),
    [
        pytest.param((100, 80), [[40, 0, 50, 10]], id="drawn on the stored pixels: turns with them"),
        pytest.param((80, 100), [[0, 30, 10, 40]], id="drawn on the upright picture: stays"),
        pytest.param(None, [[40, 0, 50, 10]], id="not said: taken as stored, like all official ones"),
    ],
)
def test_boxes_are_those_of_the_upright_picture(
    tree: Tree, cat_and_dog: ClassList, stated: tuple[int, int] | None, expected: list[list[float]]
) -> None:
    tree.list_file("DET/val", ["a 1"])
    tree.image("DET/val/a", size=(100, 80), orientation=6)  # a quarter turn clockwise makes it upright
    tree.annotation("DET/val/a", [("cat", 0, 30, 9, 39)], size=stated)
    found = read_ilsvrc_det(tree.root, "val", classes=cat_and_dog)
    assert (found.records[0].width, found.records[0].height) == (80, 100)
    assert found.records[0].boxes.tolist() == expected
    assert found.problems == []


def test_without_the_check_the_annotation_is_believed(tree: Tree, cat_and_dog: ClassList) -> None:
    tree.list_file("DET/val", ["absent 1", "unstated 2"])
    tree.annotation("DET/val/absent", [("cat", 0, 0, 9, 9)], size=(640, 480))
    tree.annotation("DET/val/unstated", [("cat", 0, 0, 9, 9)], size=None)
    tree.image("DET/val/unstated", size=(30, 20))
    found = read_ilsvrc_det(tree.root, "val", classes=cat_and_dog, check_images=False)
    assert [(record.width, record.height) for record in found.records] == [(640, 480), (30, 20)]
    assert found.problems == []


@pytest.mark.parametrize(
    ("image_id", "has_file", "partial"),
    [
        pytest.param("n02084071/n02084071_1", True, True, id="annotated with one class"),
        pytest.param("ILSVRC2014_train_0000/ILSVRC2014_train_00000001", True, False, id="with all, in 2014"),
        pytest.param("ILSVRC2013_train_extra0/ILSVRC2013_train_00000001", False, True, id="a negative"),
    ],
)
def test_train_pictures(
    tree: Tree, cat_and_dog: ClassList, image_id: str, has_file: bool, partial: bool
) -> None:
    tree.list_file("DET/train", [f"{image_id} 1"])
    tree.image(f"DET/train/{image_id}")
    if has_file:
        tree.annotation(f"DET/train/{image_id}", [("dog", 0, 0, 9, 9)])
    found = read_ilsvrc_det(tree.root, "train", classes=cat_and_dog)
    assert found.problems == []
    assert [(record.image_id, record.partial, len(record.boxes)) for record in found.records] == [
        (image_id, partial, int(has_file))
    ]


def test_lists_by_class_give_every_positive_once(tree: Tree, cat_and_dog: ClassList) -> None:
    """1 positive, 0 partly annotated, -1 negative; ``both`` is positive for two classes."""
    tree.list_file("DET/train", ["a 1", "negative 2", "part 3", "both 4", "z 5"])
    tree.list_file("DET/train_1", ["z 1", "part 0", "both 1", "negative -1"])
    tree.list_file("DET/train_2", ["both 1", "a 1", "z -1"])
    for number in range(3, 201):
        tree.list_file(f"DET/train_{number}", [])
    for name in ("a", "both", "z"):
        tree.image(f"DET/train/{name}")
        tree.annotation(f"DET/train/{name}", [("cat", 0, 0, 9, 9)])
    found = read_ilsvrc_det(tree.root, "train", classes=cat_and_dog)
    assert [record.image_id for record in found.records] == ["z", "both", "a"]
    assert found.problems == []


def by_class(tree: Tree, *lines: str) -> None:
    tree.list_file("DET/train_1", lines)
    for number in range(2, 201):
        tree.list_file(f"DET/train_{number}", [])


@pytest.mark.parametrize("line", ["a", "a 2", "a 1.0", "a 1,", "a one"])
def test_a_mark_that_is_none_is_refused(tree: Tree, line: str) -> None:
    """The picture would be taken for a negative one, and passed over."""
    by_class(tree, "b 1", line)
    with pytest.raises(DatasetError, match=rf"train_1\.txt: '{line}' does not end with 1 \(positive\)"):
        read_ilsvrc_det(tree.root, "train")


def test_lists_without_a_positive_picture_are_refused(tree: Tree) -> None:
    by_class(tree, "a 0", "b -1")
    with pytest.raises(DatasetError, match=r"train_1\.txt and .* train_200\.txt name no positive picture"):
        read_ilsvrc_det(tree.root, "train")


@pytest.mark.parametrize("line", ["a 1b 2", "a 1;b 2", "a b c"])
def test_a_line_of_more_than_a_picture_is_refused(tree: Tree, line: str) -> None:
    """An end of line is lost: the second picture would be passed over."""
    tree.list_file("DET/val", [line])
    with pytest.raises(DatasetError, match=rf"val\.txt: '{line}' is more than a picture and its number"):
        read_ilsvrc_det(tree.root, "val")
    by_class(tree, "c 1", line)
    with pytest.raises(DatasetError, match=rf"train_1\.txt: '{line}' is more than a picture"):
        read_ilsvrc_det(tree.root, "train")


@pytest.mark.parametrize("content", ["", "\r\n\r\n", " \t\n"])
def test_an_empty_list_is_refused(tree: Tree, content: str) -> None:
    tree.bytes("ImageSets/DET/val.txt", content.encode())
    with pytest.raises(DatasetError, match=r"list file .*val\.txt is empty"):
        read_ilsvrc_det(tree.root, "val")


@pytest.mark.parametrize(
    "content", ["a 1\r\nb 2\r\n", "a\t1\nb\t2", "a 1\n\nb 2\n\n", "\ufeffa 1\nb 2\n", "a 1\nb 2\na 3\n"]
)
def test_spellings_of_a_list(tree: Tree, cat_and_dog: ClassList, content: str) -> None:
    """And a picture that is listed twice is one."""
    tree.bytes("ImageSets/DET/val.txt", content.encode())
    for name in "ab":
        tree.image(f"DET/val/{name}")
        tree.annotation(f"DET/val/{name}", [("cat", 0, 0, 9, 9)])
    found = read_ilsvrc_det(tree.root, "val", classes=cat_and_dog)
    assert [record.image_id for record in found.records] == ["a", "b"]
    assert found.problems == []


@pytest.mark.parametrize("part", ["Data", "Annotations"])
@pytest.mark.parametrize("inside", [True, False])
def test_lists_without_pictures_or_annotations_are_no_other_layout(
    tree: Tree, part: str, inside: bool
) -> None:
    """With its ImageSets and Annotations the folder also looks like PASCAL VOC's."""
    tree.list_file("DET/val", ["a 1"])
    tree.annotation("DET/val/a", [("cat", 0, 0, 9, 9)])
    shutil.rmtree(tree.root / "ILSVRC" / part)
    with pytest.raises(DatasetError, match=rf"ILSVRC/{part}/DET is missing: give the folder"):
        open_dataset(tree.root / "ILSVRC" if inside else tree.root)


@pytest.mark.parametrize(("width", "height"), [(0, 0), (0, 80), (-100, 80)])
def test_a_size_of_nothing_is_that_of_the_picture(
    tree: Tree, cat_and_dog: ClassList, width: int, height: int
) -> None:
    tree.list_file("DET/val", ["a 1"])
    tree.image("DET/val/a")
    tree.annotation("DET/val/a", [("cat", 0, 0, 9, 9)], size=(width, height))
    found = read_ilsvrc_det(tree.root, "val", classes=cat_and_dog)
    assert [(one.width, one.height, one.boxes.tolist()) for one in found.records] == [
        (100, 80, [[0, 0, 10, 10]])
    ]
    assert [one.kind for one in found.problems] == (["odd_value"] if width < 0 else [])


def test_a_part_of_val_has_its_own_list_and_the_pictures_of_val(tree: Tree, cat_and_dog: ClassList) -> None:
    tree.list_file("DET/val2", ["a 1"])
    tree.image("DET/val/a")
    tree.annotation("DET/val/a")
    assert len(read_ilsvrc_det(tree.root / "ILSVRC", "val2", classes=cat_and_dog).records) == 1


def test_a_wrong_root_or_split_says_what_to_give(tree: Tree, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="give the folder that holds ILSVRC/"):
        read_ilsvrc_det(tmp_path / "elsewhere", "val")
    with pytest.raises(DatasetError, match=r"val\.txt cannot be read"):
        read_ilsvrc_det(tree.root, "val")
    tree.list_file("DET/test", ["a 1"])
    with pytest.raises(ParameterError, match="split must be train or val"):
        read_ilsvrc_det(tree.root, "test")


@pytest.mark.parametrize(
    ("split", "images", "boxes", "partial"), [("train", 1745, 2524, True), ("val", 366, 993, False)]
)
def test_the_real_pictures(shared: Path, split: str, images: int, boxes: int, partial: bool) -> None:
    found = read_ilsvrc_det(shared / "ilsvrc", split, on_problem=OnProblem.STOP)
    assert len(found.records) == images
    assert sum(len(record.boxes) for record in found.records) == boxes
    assert {record.partial for record in found.records} == {partial}
    assert len(found.class_ids) == 200

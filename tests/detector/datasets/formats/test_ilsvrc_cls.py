from collections.abc import Callable
from pathlib import Path

import pytest

from detector.datasets.formats.ilsvrc_cls import read_ilsvrc_cls, read_ilsvrc_loc
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError
from detector.structures.classes import ClassList
from tests.detector.datasets.ilsvrc_tree import Tree


def solution(tree: Tree, text: str) -> None:
    (tree.root / "LOC_val_solution.csv").write_text(text)


def test_the_class_of_a_train_picture_is_its_folder(tree: Tree, cat_and_dog: ClassList) -> None:
    tree.list_file("CLS-LOC/train_cls", ["dog/1 1", "cat/2 2"])
    for name in ("dog/1", "cat/2"):
        tree.image(f"CLS-LOC/train/{name}")
    found = read_ilsvrc_cls(tree.root, "train", classes=cat_and_dog)
    assert [(image.image_id, image.label) for image in found.images] == [("dog/1", 1), ("cat/2", 0)]
    assert all(image.path.is_file() for image in found.images)
    assert found.problems == []


def test_the_class_of_a_val_picture(tree: Tree, cat_and_dog: ClassList) -> None:
    """From the solution, which goes first, or from the annotation."""
    tree.list_file("CLS-LOC/val", ["solved 1", "annotated 2"])
    solution(tree, "ImageId,PredictionString\nsolved,dog 1 2 3 4 dog 5 6 7 8 \n")
    for name in ("solved", "annotated"):
        tree.image(f"CLS-LOC/val/{name}")
        tree.annotation(f"CLS-LOC/val/{name}", [("cat", 0, 0, 9, 9)])
    found = read_ilsvrc_cls(tree.root, "val", classes=cat_and_dog)
    assert [(image.image_id, image.label) for image in found.images] == [("solved", 1), ("annotated", 0)]


PROBLEM_CASES = [
    pytest.param(
        "missing_image", lambda tree: (tree.root / "ILSVRC/Data/CLS-LOC/val/bad.JPEG").unlink(), id="no file"
    ),
    pytest.param(
        "unreadable_image", lambda tree: tree.bytes("Data/CLS-LOC/val/bad.JPEG", b""), id="zero bytes"
    ),
    pytest.param(
        "missing_annotation",
        lambda tree: (tree.root / "ILSVRC/Annotations/CLS-LOC/val/bad.xml").unlink(),
        id="its class stands nowhere",
    ),
    pytest.param(
        "missing_annotation", lambda tree: tree.annotation("CLS-LOC/val/bad"), id="an annotation of nothing"
    ),
    pytest.param(
        "unreadable_annotation", lambda tree: tree.bytes("Annotations/CLS-LOC/val/bad.xml", b""), id="empty"
    ),
    pytest.param(
        "unreadable_annotation",
        lambda tree: solution(tree, "ImageId,PredictionString\nbad,cat 1 2 3 4 dog 1 2 3 4\n"),
        id="two classes",
    ),
    pytest.param(
        "unreadable_annotation",
        lambda tree: solution(tree, "ImageId,PredictionString\nbad,cat 1 2 3 4\nbad,dog 1 2 3 4\n"),
        id="two lines that differ",
    ),
    pytest.param(
        "unreadable_annotation",
        lambda tree: solution(tree, "ImageId,PredictionString\nbad,cat 1 2 3 4 5 cat 1 2 3 4\n"),
        id="a number too many: what is a class and what is not",
    ),
    pytest.param(
        "unreadable_annotation",
        lambda tree: tree.annotation("CLS-LOC/val/bad", [("cat", 0, 0, 9, 9), ("dog", 0, 0, 9, 9)]),
        id="an annotation of two classes",
    ),
    pytest.param(
        "unknown_class",
        lambda tree: solution(tree, "ImageId,PredictionString\nbad,ca"),
        id="a solution that is cut off in a class",
    ),
    pytest.param(
        "unknown_class",
        lambda tree: solution(tree, "ImageId,PredictionString\nbad,unicorn 1 2 3 4\n"),
        id="a class not in the list",
    ),
]


@pytest.mark.parametrize(("kind", "spoil"), PROBLEM_CASES)
def test_problems(tree: Tree, cat_and_dog: ClassList, kind: str, spoil: Callable[[Tree], object]) -> None:
    tree.list_file("CLS-LOC/val", ["bad 1", "sound 2"])
    for name in ("bad", "sound"):
        tree.image(f"CLS-LOC/val/{name}")
        tree.annotation(f"CLS-LOC/val/{name}", [("cat", 0, 0, 9, 9)])
    spoil(tree)
    found = read_ilsvrc_cls(tree.root, "val", classes=cat_and_dog)
    assert [(problem.image_id, problem.kind) for problem in found.problems] == [("bad", kind)]
    assert [image.image_id for image in found.images] == ["sound"]
    with pytest.raises(DatasetError, match=r"^bad: "):
        read_ilsvrc_cls(tree.root, "val", classes=cat_and_dog, on_problem=OnProblem.STOP)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param("a,dog 1 2 3 4", id="no end of the line"),
        pytest.param("a,dog 1 2", id="cut off in a box"),
        pytest.param("a,dog nan -5 1e400 x", id="odd numbers: the class is all that is wanted"),
        pytest.param("a,dog", id="no box"),
        pytest.param("b,cat 1 2 3 4\r\na,dog 1 2 3 4\r\n", id="ends of lines as on Windows"),
        pytest.param("a,dog 1 2 3 4\na,dog 5 6 7 8\n", id="two lines that agree"),
        pytest.param("a", id="cut off before the class: its annotation has it"),
        pytest.param("a,\n", id="no class: its annotation has it"),
        pytest.param("", id="no line at all"),
    ],
)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["", "byte order mark"])
def test_odd_solutions(tree: Tree, cat_and_dog: ClassList, rows: str, mark: str) -> None:
    tree.list_file("CLS-LOC/val", ["a 1"])
    tree.image("CLS-LOC/val/a")
    tree.annotation("CLS-LOC/val/a", [("dog", 0, 0, 9, 9)])
    (tree.root / "LOC_val_solution.csv").write_bytes(f"{mark}ImageId,PredictionString\n{rows}".encode())
    found = read_ilsvrc_cls(tree.root, "val", classes=cat_and_dog)
    assert [(image.image_id, image.label) for image in found.images] == [("a", 1)]
    assert found.problems == []


@pytest.mark.parametrize("text", ["", "ImageId;PredictionString\na;dog\n", "a,dog 1 2 3 4\n"])
def test_a_solution_without_its_columns_is_refused(tree: Tree, text: str) -> None:
    tree.list_file("CLS-LOC/val", ["a 1"])
    solution(tree, text)
    with pytest.raises(DatasetError, match="ImageId and PredictionString"):
        read_ilsvrc_cls(tree.root, "val")


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("read", [read_ilsvrc_cls, read_ilsvrc_loc])
def test_an_empty_list_is_refused(tree: Tree, split: str, read: Callable[..., object]) -> None:
    for name in ("train_cls", "val"):
        tree.list_file(f"CLS-LOC/{name}", ["", "  "])
    with pytest.raises(DatasetError, match=r"list file .*\.txt is empty"):
        read(tree.root, split)


def test_a_picture_that_is_listed_twice_is_one(tree: Tree, cat_and_dog: ClassList) -> None:
    tree.list_file("CLS-LOC/val", ["a 1", "a 2"])
    tree.image("CLS-LOC/val/a")
    tree.annotation("CLS-LOC/val/a", [("dog", 0, 0, 9, 9)])
    assert len(read_ilsvrc_cls(tree.root, "val", classes=cat_and_dog).images) == 1
    assert len(read_ilsvrc_loc(tree.root, "val", classes=cat_and_dog).records) == 1


def test_a_solution_with_other_columns_is_refused(tree: Tree) -> None:
    tree.list_file("CLS-LOC/val", ["a 1"])
    solution(tree, "picture,class\na,dog\n")
    with pytest.raises(DatasetError, match="ImageId and PredictionString"):
        read_ilsvrc_cls(tree.root, "val")


@pytest.mark.parametrize(
    ("lists", "problems"),
    [
        pytest.param(["train_cls", "train_loc"], [], id="train_loc lists those with boxes"),
        pytest.param(["train_cls"], ["cat/plain"], id="train_cls lists all: those without boxes are named"),
    ],
)
def test_train_pictures_with_boxes(
    tree: Tree, cat_and_dog: ClassList, lists: list[str], problems: list[str]
) -> None:
    lines = {"train_cls": ["cat/plain 1", "cat/boxed 2"], "train_loc": ["cat/boxed 1"]}
    for name in lists:
        tree.list_file(f"CLS-LOC/{name}", lines[name])
    for name in ("plain", "boxed"):
        tree.image(f"CLS-LOC/train/cat/{name}")
    tree.annotation("CLS-LOC/train/cat/boxed", [("cat", 0, 0, 9, 9), ("cat", 20, 20, 39, 39)])
    found = read_ilsvrc_loc(tree.root, "train", classes=cat_and_dog)
    assert [problem.image_id for problem in found.problems] == problems
    assert [(record.image_id, record.labels.tolist(), record.partial) for record in found.records] == [
        ("cat/boxed", [0, 0], True)
    ]


@pytest.mark.exhaustive
@pytest.mark.parametrize(("split", "images"), [("train", 3634), ("val", 1000)])
def test_the_real_pictures(shared: Path, split: str, images: int) -> None:
    """Both readers, by two ways: from folder or solution, and from the annotations."""
    found = read_ilsvrc_cls(shared / "ilsvrc", split, on_problem=OnProblem.STOP)
    boxed = read_ilsvrc_loc(shared / "ilsvrc", split, on_problem=OnProblem.STOP)
    assert len(found.images) == images
    assert [(record.image_id, set(record.labels.tolist())) for record in boxed.records] == [
        (image.image_id, {image.label}) for image in found.images
    ]

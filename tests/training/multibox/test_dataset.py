"""Pictures of several data sets become one list: each picture once, with the boxes of all sets."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.datasets.formats.ilsvrc import read_ilsvrc_det
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError
from detector.structures.boxes import as_boxes
from detector.structures.classes import ilsvrc_cls, ilsvrc_det
from tests.training.small_sets import write_agnostic, write_coco, write_ilsvrc, write_image, write_voc
from training.multibox.dataset import SAME_IOU, merged, read_object_images

A, B, C = (10, 10, 60, 60), (50, 20, 95, 70), (5, 50, 40, 78)
NEAR_A = (10, 10, 60, 50)  # IoU with A is 0.8
NOT_A = (10, 10, 60, 40)  # 0.6

write_det = partial(write_ilsvrc, task="DET", wnid=ilsvrc_det().ids[3])
write_loc = partial(write_ilsvrc, task="CLS-LOC", wnid=ilsvrc_cls().ids[3])


def read(*roots: Path, exclude: tuple[str, ...] = (), **settings: Any) -> Dataset:
    return read_object_images(roots, frozenset(exclude), **settings)


def boxes_of(dataset: Dataset) -> dict[str, list[tuple[float, ...]]]:
    return {record.path.stem: list(map(tuple, record.boxes.tolist())) for record in dataset.records}


def voc_below(folder: str) -> Callable[[Path], None]:
    return lambda root: write_voc(root / folder, {"v": [A, B]})


def write_yolo(root: Path) -> None:
    write_image(root / "images/v.jpg", [A, B])
    write_image(root / "images/negative.jpg", [])
    (root / "data.yaml").write_text("names: [cat]\n")
    (root / "labels").mkdir()
    lines = (
        f"0 {(x1 + x2) / 200} {(y1 + y2) / 160} {(x2 - x1) / 100} {(y2 - y1) / 80}\n"
        for x1, y1, x2, y2 in (A, B)
    )
    (root / "labels/v.txt").write_text("".join(lines))


def coco_with_a_crowd(root: Path) -> None:
    write_coco(root, "train", {"v": [A, B, C]})
    path = root / "annotations/instances_train.json"
    content = json.loads(path.read_text())
    content["annotations"][2]["iscrowd"] = 1
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("write", "name", "is_partial"),
    [
        pytest.param(
            lambda root: write_det(root, split="train", images={"n0/v": [A, B]}), "v", True, id="ILSVRC DET"
        ),
        pytest.param(
            lambda root: write_det(root, split="train", images={"ILSVRC2014_train_0001/v": [A, B]}),
            "v", False, id="ILSVRC DET of 2014, where all classes are labelled",
        ),
        pytest.param(
            lambda root: write_loc(
                root, split="train", list_name="train_loc", images={"n0/v": [A, B]}
            ), "v", True, id="ILSVRC CLS-LOC",
        ),
        pytest.param(voc_below("."), "v", False, id="PASCAL VOC"),
        pytest.param(voc_below("VOCdevkit/VOC2007"), "v", False, id="PASCAL VOC as it is unpacked"),
        pytest.param(lambda root: write_coco(root, "train2017", {"v": [A, B]}), "v", False, id="COCO"),
        pytest.param(write_yolo, "v", False, id="YOLO"),
        pytest.param(coco_with_a_crowd, "v", True, id="COCO with a crowd: not every object has a box"),
    ],
)  # fmt: skip
def test_one_set_of_each_kind(
    tmp_path: Path, write: Callable[[Path], None], name: str, is_partial: bool
) -> None:
    write(tmp_path)
    found = read(tmp_path)
    [record] = found.records
    assert record.path.stem == name
    np.testing.assert_allclose(record.boxes, [A, B], atol=1e-4)
    assert record.labels.tolist() == [0, 0], "labels mean nothing"
    assert record.partial is is_partial
    assert (record.width, record.height) == (100, 80)
    assert (found.class_ids, found.problems) == (["object"], [])


@pytest.fixture
def ilsvrc(tmp_path: Path) -> Path:
    """Both tasks and the class-agnostic file, which also labels pictures of val."""
    write_det(tmp_path, split="train", images={"n0/one": [A], "n0/two": [B]})
    write_det(tmp_path, split="val", images={"val1": [A, B]})
    write_loc(tmp_path, split="train", list_name="train_loc", images={"n1/two": [C], "n1/three": [A]})
    write_agnostic(tmp_path, {"one": [NEAR_A, B], "val1": [A, B, C]})
    return tmp_path


def test_all_parts_of_ilsvrc_are_read(ilsvrc: Path) -> None:
    """``one``: fully labelled by the file, so its box is taken for A. ``two``: in both tasks."""
    for root in (ilsvrc, ilsvrc / "ILSVRC"):
        found = read(root)
        assert boxes_of(found) == {"one": [NEAR_A, B], "two": [B, C], "three": [A], "val1": [A, B, C]}
        assert {r.path.stem: r.partial for r in found.records} == {
            "one": False, "two": True, "three": True, "val1": False,
        }  # fmt: skip


@pytest.mark.parametrize(
    ("absent", "left"),
    [
        pytest.param(["ImageSets/DET/train.txt"], {"two", "three", "val1"}, id="DET val alone"),
        pytest.param(["ImageSets/CLS-LOC/train_loc.txt"], {"one", "two", "val1"}, id="no train of CLS-LOC"),
        pytest.param(["../agnostic_boxes.json"], {"one", "two", "three"}, id="no class-agnostic file"),
        pytest.param(
            ["ImageSets/DET/train.txt", "ImageSets/CLS-LOC/train_loc.txt"], {"val1"}, id="that file alone"
        ),
    ],
)
def test_ilsvrc_is_read_as_far_as_it_is_there(ilsvrc: Path, absent: list[str], left: set[str]) -> None:
    for name in absent:
        (ilsvrc / "ILSVRC" / name).unlink()
    assert set(boxes_of(read(ilsvrc))) == left


def test_the_official_lists_by_class_are_read(tmp_path: Path) -> None:
    """The real download has no train.txt in DET but one list a class, and train_cls.txt in CLS-LOC."""
    write_det(tmp_path, split="train", images={"n0/one": [A]})
    lists = tmp_path / "ILSVRC" / "ImageSets" / "DET"
    (lists / "train.txt").unlink()
    for number in range(1, 201):
        (lists / f"train_{number}.txt").write_text("n0/one 1\n" if number == 3 else "n0/one -1\n")
    write_loc(tmp_path, split="train", list_name="train_cls", images={"n1/two": [B]})
    assert boxes_of(read(tmp_path)) == {"one": [A], "two": [B]}


def test_several_sets_are_one_list(ilsvrc: Path, tmp_path: Path) -> None:
    """In the order of the folders; a picture that two sets hold has the boxes of both."""
    write_voc(tmp_path / "voc", {"two": [C, A], "dog": [B]})
    image = ilsvrc / "ILSVRC/Data/DET/train/n0/two.JPEG"
    (tmp_path / "voc/JPEGImages/two.jpg").write_bytes(image.read_bytes())
    write_coco(tmp_path / "coco", "train", {"kite": [A]})
    write_coco(tmp_path / "coco", "val", {"kite2": [B], "empty": []})
    found = read(ilsvrc, tmp_path / "voc", tmp_path / "coco")
    assert list(boxes_of(found)) == ["one", "two", "three", "val1", "dog", "kite", "kite2"]
    assert boxes_of(found)["two"] == [C, A, B]
    assert not next(r for r in found.records if r.path.stem == "two").partial


@pytest.mark.parametrize(
    ("first", "second"),
    [
        pytest.param("ilsvrc", "voc", id="ILSVRC and VOC"),
        pytest.param("voc", "voc", id="two sets of VOC"),
        pytest.param("voc", "coco", id="VOC and COCO"),
        pytest.param("coco", "coco", id="two sets of COCO"),
    ],
)
def test_files_that_share_only_their_name_stay_two_pictures(tmp_path: Path, first: str, second: str) -> None:
    """Each with its own box: 000001.jpg stands in every second set."""
    writers: dict[str, Callable[[Path, Any], None]] = {
        "ilsvrc": lambda root, images: write_det(root, split="train", images=images),
        "voc": write_voc,
        "coco": lambda root, images: write_coco(root, "train", images),
    }
    for number, (kind, box) in enumerate(((first, A), (second, C))):
        writers[kind](tmp_path / str(number), {"000001": [box]})
    found = read(tmp_path / "0", tmp_path / "1")
    assert [record.boxes.tolist() for record in found.records] == [[list(A)], [list(C)]]
    assert len({record.path for record in found.records}) == 2


def test_equal_names_in_folders_of_one_set(tmp_path: Path) -> None:
    write_coco(tmp_path, "train", {"x/a": [A], "y/a": [C]})
    assert [record.boxes.tolist() for record in read(tmp_path).records] == [[list(A)], [list(C)]]


def test_only_what_is_measured_is_held_out_and_not_what_is_called_like_it(
    ilsvrc: Path, tmp_path: Path
) -> None:
    write_voc(tmp_path / "voc", {"val1": [C]})
    measured = read_ilsvrc_det(ilsvrc, "val").records
    found = read(ilsvrc, tmp_path / "voc", validation=measured)
    assert [record.path.stem for record in found.records] == ["one", "two", "three", "val1"]
    assert "voc" in str(found.records[-1].path)
    copy = tmp_path / "voc/JPEGImages/val1.jpg"
    copy.write_bytes(measured[0].path.read_bytes())
    found = read(ilsvrc, tmp_path / "voc", validation=measured)
    assert [record.path.stem for record in found.records] == ["one", "two", "three"]


def test_excluded_pictures_are_left_out_of_every_set(ilsvrc: Path, tmp_path: Path) -> None:
    write_voc(tmp_path / "voc", {"two": [A], "dog": [B]})
    found = read(ilsvrc, tmp_path / "voc", exclude=("two", "val1", "elsewhere"))
    assert list(boxes_of(found)) == ["one", "three", "dog"]


def test_pictures_without_an_object_are_left_out(tmp_path: Path) -> None:
    write_voc(tmp_path, {"a": [], "b": [A]})
    assert list(boxes_of(read(tmp_path))) == ["b"]


def test_problems_of_all_sets_are_reported(ilsvrc: Path, tmp_path: Path) -> None:
    write_voc(tmp_path / "voc", {"dog": [B], "gone": [A]})
    (tmp_path / "voc" / "JPEGImages" / "gone.jpg").unlink()
    (ilsvrc / "ILSVRC" / "Data" / "DET" / "train" / "n0" / "one.JPEG").write_bytes(b"nothing")
    found = read(ilsvrc, tmp_path / "voc")
    assert {(p.image_id, p.kind) for p in found.problems} == {
        ("n0/one", "unreadable_image"), ("one", "unreadable_image"), ("gone", "missing_image"),
    }  # fmt: skip
    assert set(boxes_of(found)) == {"two", "three", "val1", "dog"}
    with pytest.raises(DatasetError, match="one"):
        read(ilsvrc, on_problem=OnProblem.STOP)


def empty(root: Path) -> None:
    root.mkdir()


def only_lists(root: Path) -> None:
    """An ILSVRC folder in which nothing of train is listed."""
    write_det(root, split="val", images={"val1": [A]})


@pytest.mark.parametrize(
    ("write", "message"),
    [
        pytest.param(lambda root: None, "odd is no folder", id="absent"),
        pytest.param(empty, "odd holds no data set", id="empty"),
        pytest.param(only_lists, "odd is an ILSVRC download that lists no training", id="val alone"),
    ],
)
def test_a_folder_that_holds_nothing_to_learn_from(
    tmp_path: Path, write: Callable[[Path], None], message: str
) -> None:
    write_voc(tmp_path / "voc", {"a": [A]})
    write(tmp_path / "odd")
    with pytest.raises(DatasetError, match=message):
        read(tmp_path / "voc", tmp_path / "odd")


def one(
    boxes: list[tuple[int, ...]], is_partial: bool, folder: str = "x", size: tuple[int, int] = (100, 80)
) -> AnnotatedImage:
    found = as_boxes(boxes)
    return AnnotatedImage(folder, Path(folder) / "p.jpg", *size, found, np.arange(len(found)), is_partial)


@pytest.mark.parametrize(
    ("first", "second", "boxes", "folder", "is_partial"),
    [
        pytest.param(one([A], True, "a"), one([B], True, "b"), [A, B], "a", True, id="both in part"),
        pytest.param(one([A], True, "a"), one([B], False, "b"), [B, A], "b", False, id="the second in full"),
        pytest.param(one([A], False, "a"), one([B], True, "b"), [A, B], "a", False, id="the first in full"),
        pytest.param(one([A], False, "a"), one([B], False, "b"), [A, B], "a", False, id="both in full"),
        pytest.param(one([A], True, "a"), one([NEAR_A, C], True, "b"), [A, C], "a", True, id="one object"),
        pytest.param(
            one([A], True, "a"), one([NEAR_A, C], False, "b"), [NEAR_A, C], "b", False,
            id="the box of the set that labelled all",
        ),
        pytest.param(one([A], True, "a"), one([NOT_A], True, "b"), [A, NOT_A], "a", True, id="two objects"),
        pytest.param(
            one([A], True, "a"), one([(0, 0, 50, 40), (100, 20, 190, 140)], True, "b", (200, 160)),
            [A, (0, 0, 25, 20), (50, 10, 95, 70)], "a", True, id="a larger copy: boxes shrink with it",
        ),
        pytest.param(
            one([A], True, "a"), one([(20, 20, 120, 120)], False, "b", (200, 160)),
            [(20, 20, 120, 120)], "b", False, id="the same box in a larger copy",
        ),
        pytest.param(
            one([A, NEAR_A], True, "a"), one([], False, "b"), [A, NEAR_A], "b", False,
            id="what one set says is not doubted",
        ),
    ],
)  # fmt: skip
def test_merging_by_hand(
    first: AnnotatedImage, second: AnnotatedImage, boxes: list[tuple[int, ...]], folder: str, is_partial: bool
) -> None:
    [found] = merged([first, second], [0, 0])
    assert found.boxes.tolist() == [list(box) for box in boxes]
    assert found.boxes.dtype == np.float32
    assert found.labels.tolist() == [0] * len(boxes)
    assert (found.path.parent.name, found.partial) == (folder, is_partial)
    assert (found.width, found.height) == (
        (100, 80) if folder == first.image_id else (second.width, second.height)
    )


def test_three_sets_of_one_picture() -> None:
    [found] = merged([one([A], True), one([B, NEAR_A], True), one([C, B], True)], [0, 0, 0])
    assert found.boxes.tolist() == [list(A), list(B), list(C)]
    assert SAME_IOU == 0.7

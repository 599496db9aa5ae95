"""Which layout a folder is in, which classes and splits it has, and which pictures are read of it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from detector.datasets.open import Format, open_dataset
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError, ParameterError
from detector.structures.classes import ilsvrc_det, voc
from tests.detector.datasets.small_folders import instances, picture, text, xml

YOLO_LINE = "0 0.5 0.5 0.2 0.2"


def ilsvrc(root: Path) -> None:
    for split in ("train", "val", "val1"):
        text(root / f"ILSVRC/ImageSets/DET/{split}.txt", "a 1")
    text(root / "ILSVRC/ImageSets/DET/test.txt", "t 1")  # its annotations were never published
    for split in ("train", "val"):
        picture(root / f"ILSVRC/Data/DET/{split}/a.JPEG")
        xml(root / f"ILSVRC/Annotations/DET/{split}/a.xml", "n02121808")


def voc_official(root: Path) -> None:
    for name in "ab":
        picture(root / f"VOC2007/JPEGImages/{name}.jpg")
        xml(root / f"VOC2007/Annotations/{name}.xml", "cat", "dog")
    for split, name in (("train", "a"), ("val", "b")):
        text(root / f"VOC2007/ImageSets/Main/{split}.txt", name)
        text(root / f"VOC2007/ImageSets/Main/cat_{split}.txt", f"{name} 1")  # by class: no split


def voc_flat(root: Path) -> None:
    for name in ("a.jpg", "b.jpeg"):
        picture(root / name)
        xml((root / name).with_suffix(".xml"), "screw")
    picture(root / "unlabelled.png")  # no annotation: nothing is known of it


def voc_flat_in_splits(root: Path) -> None:
    for split in ("test", "train", "valid"):
        picture(root / f"images/{split}/a.jpg")
        xml(root / f"images/{split}/a.xml", "screw")
        text(root / f"images/{split}/classes.txt", "screw")  # labelImg leaves it there in either format


def voc_in_two_folders(root: Path) -> None:
    picture(root / "images/a.png")
    xml(root / "annotations/a.xml", "nut")


def coco_official(root: Path) -> None:
    for split in ("train2017", "val2017"):
        picture(root / f"{split}/{split}.jpg")
        instances(root / f"annotations/instances_{split}.json", {f"{split}.jpg": [1]})
        text(root / f"annotations/captions_{split}.json", '{"images": [], "annotations": []}')
        keypoints = root / f"annotations/person_keypoints_{split}.json"
        instances(keypoints, {f"{split}.jpg": []}, [{"id": 1, "name": "person"}])


def coco_roboflow(root: Path) -> None:
    """Its first category is the project, which stands above the others and differs from split to split."""
    for split in ("train", "valid"):
        picture(root / f"{split}/{split}.jpg")
        instances(
            root / f"{split}/_annotations.coco.json",
            {f"{split}.jpg": [1]},
            [
                {"id": 0, "name": f"pets-{split}", "supercategory": "none"},
                {"id": 1, "name": "cat", "supercategory": f"pets-{split}"},
            ],
        )


def coco_of_one_piece(root: Path) -> None:
    picture(root / "pictures/a.jpg")
    picture(root / "pictures/below/b.jpg")
    instances(root / "labels.json", {"a.jpg": [1], "below/b.jpg": []})


def yolo_ultralytics(root: Path) -> None:
    text(
        root / "data.yaml",
        "path: /another/machine",
        "train: images/train",
        "val: images/val",
        "names: {0: nut}",
    )
    for split in ("train", "val"):
        picture(root / f"images/{split}/a.jpg")
        text(root / f"labels/{split}/a.txt", YOLO_LINE)
        picture(root / f"images/{split}/negative.jpg")  # no label file: nothing in it


def yolo_roboflow(root: Path) -> None:
    text(
        root / "data.yaml",
        *("train: ../train/images", "val: ../valid/images", "test: ../test/images", "nc: 1", "names: [nut]"),
    )
    for split in ("train", "valid"):
        picture(root / f"{split}/images/a.jpg")
        text(root / f"{split}/labels/a.txt", YOLO_LINE)


def yolo_by_list(root: Path) -> None:
    text(root / "data.yaml", "train: train.txt", "names: [nut]")
    text(root / "train.txt", "./images/a.jpg")
    for name in "ab":
        picture(root / f"images/{name}.jpg")
        text(root / f"labels/{name}.txt", YOLO_LINE)


def yolo_by_labelimg(root: Path) -> None:
    text(root / "classes.txt", "nut", "bolt")
    picture(root / "a.jpg")
    text(root / "a.txt", YOLO_LINE)


LAYOUTS: list[tuple[Callable[[Path], None], Format, tuple[str, ...], list[str], list[str]]] = [
    (ilsvrc, Format.ILSVRC, ("train", "val", "val1"), list(ilsvrc_det().ids), ["a", "a"]),
    (voc_official, Format.VOC, ("train", "val"), ["cat", "dog"], ["a", "b"]),
    (voc_flat, Format.VOC, (), ["screw"], ["a", "b"]),
    (
        voc_flat_in_splits,
        Format.VOC,
        ("train", "valid", "test"),
        ["screw"],
        ["images/train/a", "images/valid/a", "images/test/a"],
    ),
    (voc_in_two_folders, Format.VOC, (), ["nut"], ["images/a"]),
    (coco_official, Format.COCO, ("train2017", "val2017"), ["cat"], ["0", "0"]),
    (coco_roboflow, Format.COCO, ("train", "valid"), ["cat"], ["0", "0"]),
    (coco_of_one_piece, Format.COCO, (), ["cat"], ["0", "1"]),
    (
        yolo_ultralytics,
        Format.YOLO,
        ("train", "val"),
        ["nut"],
        ["images/train/a", "images/train/negative", "images/val/a", "images/val/negative"],
    ),
    (yolo_roboflow, Format.YOLO, ("train", "val"), ["nut"], ["train/images/a", "valid/images/a"]),
    (yolo_by_list, Format.YOLO, ("train",), ["nut"], ["images/a"]),
    (yolo_by_labelimg, Format.YOLO, (), ["nut", "bolt"], ["a"]),
]


@pytest.mark.parametrize(
    ("write", "format", "splits", "classes", "ids"), LAYOUTS, ids=[row[0].__name__ for row in LAYOUTS]
)
@pytest.mark.parametrize("said", [False, True], ids=["by looking", "by format"])
def test_each_layout_is_found_and_read(
    tmp_path: Path,
    write: Callable[[Path], None],
    format: Format,
    splits: tuple[str, ...],
    classes: list[str],
    ids: list[str],
    said: bool,
) -> None:
    write(tmp_path)
    folder = open_dataset(tmp_path, format if said else None)
    assert (folder.format, folder.splits, list(folder.classes.ids)) == (format, splits, classes)
    everything = folder.read(on_problem=OnProblem.STOP)
    assert [record.image_id for record in everything.records] == ids
    assert everything.class_ids == classes
    assert all(record.path.is_file() for record in everything.records)
    parts = {split: folder.read(split, on_problem=OnProblem.STOP).records for split in splits}
    assert all(parts.values())
    if splits:
        read_apart = {record.path for records in parts.values() for record in records}
        assert read_apart == {record.path for record in everything.records}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(voc().ids, voc().ids, id="all of VOC: in official order"),
        pytest.param(voc().ids[5:], voc().ids, id="most of VOC and nothing else: a part of it"),
        pytest.param(("dog", "cat"), ("cat", "dog"), id="two of VOC: a set of one's own"),
        pytest.param((*voc().ids, "nut"), tuple(sorted((*voc().ids, "nut"))), id="VOC and more: by name"),
    ],
)
def test_classes_of_voc_come_from_the_annotations(
    tmp_path: Path, names: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    picture(tmp_path / "a.jpg")
    xml(tmp_path / "a.xml", *names)
    assert open_dataset(tmp_path).classes.ids == expected


@pytest.mark.parametrize(
    ("write", "format", "message"),
    [
        pytest.param(
            [],
            None,
            r"(?s)no data set of a known layout.*--format ilsvrc:.*--format yolo:",
            id="empty",
        ),
        pytest.param([voc_flat], Format.COCO, r"(?s)--format coco: JSON files(?!.*--format)", id="not that"),
        pytest.param([voc_flat], Format.ILSVRC, "--format ilsvrc: ILSVRC/ImageSets", id="not that either"),
        pytest.param([voc_flat, coco_of_one_piece], None, "--format voc or --format coco", id="two layouts"),
        pytest.param([yolo_by_labelimg, voc_in_two_folders], None, "--format voc or --format yolo", id="two"),
        pytest.param(
            [yolo_by_labelimg, lambda root: (root / "classes.txt").unlink()],
            None,
            "classes.txt; none lies",
            id="numbers without names",
        ),
        pytest.param(
            [yolo_by_labelimg, lambda root: text(root / "below/classes.txt", "nut")],
            None,
            "differ",
            id="names",
        ),
        pytest.param(
            [yolo_ultralytics, lambda root: text(root / "data.yaml", "val: nowhere", "names: [nut]")],
            None,
            "val: nowhere is not there",
            id="a split that is not there",
        ),
        pytest.param(
            [yolo_ultralytics, lambda root: text(root / "data.yaml", "names: {0: nut, 2: bolt}")],
            None,
            "lacks number 1",
            id="a class left out",
        ),
        pytest.param(
            [yolo_ultralytics, lambda root: text(root / "data.yaml", "names: [nut, nut]")],
            None,
            "name of its own",
            id="a name twice",
        ),
        pytest.param(
            [yolo_ultralytics, lambda root: text(root / "data.yaml", "names: [nut")],
            None,
            "data.yaml cannot be read",
            id="broken YAML",
        ),
        pytest.param(
            [yolo_ultralytics, lambda root: text(root / "other.yaml", "names: [bolt]")],
            None,
            "all describe a data set",
            id="two YAML files",
        ),
        pytest.param(
            [coco_official, lambda root: instances(root / "annotations/instances_val2017_2.json", {})],
            None,
            "are both the split 'val2017'",
            id="a split twice",
        ),
        pytest.param(
            [lambda root: instances(root / "a/labels.json", {"x.jpg": [1]})],
            None,
            "none of the first 1 pictures.*x.jpg",
            id="pictures nowhere",
        ),
    ],
)
def test_what_cannot_be_told_says_what_to_do(
    tmp_path: Path, write: list[Callable[[Path], object]], format: Format | None, message: str
) -> None:
    for one in write:
        one(tmp_path)
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path, format)


def test_an_ambiguous_folder_is_read_as_said(tmp_path: Path) -> None:
    voc_flat(tmp_path)
    coco_of_one_piece(tmp_path)
    assert open_dataset(tmp_path, Format.VOC).classes.ids == ("screw",)
    assert open_dataset(tmp_path, Format.COCO).classes.ids == ("cat",)


def test_no_folder(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is no folder"):
        open_dataset(tmp_path / "absent")


@pytest.mark.parametrize(
    ("lines", "ids"),
    [
        pytest.param(
            ["images/valid/a", "images/train/a"], ["images/valid/a", "images/train/a"], id="ids, in order"
        ),
        pytest.param(["./images/test/a.jpg"], ["images/test/a"], id="path with suffix"),
        pytest.param(["/somewhere/images/test/b c.jpg"], ["images/test/b c"], id="unique name with a space"),
        pytest.param(["b 1", "", "b -1"], [], id="no picture of that name"),
        pytest.param(
            ["images/train/a 1", "images/train/a 1"], ["images/train/a"], id="columns; listed twice"
        ),
    ],
)
def test_list_files(tmp_path: Path, lines: list[str], ids: list[str]) -> None:
    voc_flat_in_splits(tmp_path)
    picture(tmp_path / "images/test/b c.jpg")
    xml(tmp_path / "images/test/b c.xml", "screw")
    found = open_dataset(tmp_path).read(text(tmp_path / "list.txt", *lines))
    assert [record.image_id for record in found.records] == ids
    assert {problem.kind for problem in found.problems} == (set() if ids else {"missing_image"})


def test_where_a_list_file_is_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the current folder, as every path is, or else in that of the data, where others keep theirs."""
    data, other = tmp_path / "data", tmp_path / "other"
    voc_flat_in_splits(data)
    text(data / "mine.txt", "images/valid/a")
    other.mkdir()
    monkeypatch.chdir(other)
    folder = open_dataset(data)
    assert [record.image_id for record in folder.read("mine.txt").records] == ["images/valid/a"]
    text(other / "mine.txt", "images/test/a")
    assert [record.image_id for record in folder.read("mine.txt").records] == ["images/test/a"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        pytest.param(["a"], "give more of its path", id="three pictures of that name"),
        pytest.param([], "is empty", id="nothing"),
        pytest.param(None, "its splits are train, valid, test", id="no such list, no such split"),
    ],
)
def test_list_files_that_name_nothing(tmp_path: Path, lines: list[str] | None, message: str) -> None:
    voc_flat_in_splits(tmp_path)
    path = tmp_path / "list.txt"
    if lines is not None:
        text(path, *lines)
    with pytest.raises(DatasetError, match=message):
        open_dataset(tmp_path).read(path)


def test_a_long_list_is_read_in_its_order(tmp_path: Path) -> None:
    """Pictures are read on threads, some at a time: their order and that of their problems is the list's."""
    for number in range(300):
        xml(tmp_path / f"{number:03}.xml", "nut", corners=(1, 1, 101 if number % 7 == 0 else 50, 50))
    picture(tmp_path / "000.jpg")
    folder = open_dataset(tmp_path)
    found = folder.read(text(tmp_path / "list.txt", *(f"{number:03}" for number in reversed(range(300)))))
    assert [problem.image_id for problem in found.problems] == [
        *(f"{number:03}" for number in range(299, -1, -1)),
    ]
    assert [record.image_id for record in found.records] == ["000"]
    with pytest.raises(DatasetError, match=r"^000: box"):
        folder.read(on_problem=OnProblem.STOP)


@pytest.mark.parametrize(
    ("write", "stray", "message"),
    [
        pytest.param(
            yolo_by_labelimg, lambda root: text(root / "b.txt", YOLO_LINE), "b.txt has no picture", id="YOLO"
        ),
        pytest.param(voc_flat, lambda root: xml(root / "c.xml", "screw"), "c.jpg is missing", id="VOC"),
        pytest.param(
            coco_official,
            lambda root: text(
                root / "annotations/instances_val2017.json",
                '{"images": [], "categories": [{"id": 1, "name": "cat"}], '
                '"annotations": [{"image_id": 5, "category_id": 1, "bbox": [1, 1, 2, 2]}]}',
            ),
            "does not list",
            id="COCO",
        ),
    ],
)
def test_annotations_without_a_picture_are_problems(
    tmp_path: Path, write: Callable[[Path], None], stray: Callable[[Path], object], message: str
) -> None:
    write(tmp_path)
    stray(tmp_path)
    problems = open_dataset(tmp_path).read().problems
    assert [problem.kind for problem in problems] == ["missing_image"]
    assert message in problems[0].message


@pytest.mark.parametrize(
    ("folder", "format", "splits", "classes", "images"),
    [("ilsvrc", Format.ILSVRC, ("train", "val"), 200, 2111), ("voc100", Format.VOC, (), 20, 100)],
)
def test_the_real_sets(
    shared: Path, folder: str, format: Format, splits: tuple[str, ...], classes: int, images: int
) -> None:
    found = open_dataset(shared / folder)
    assert (found.format, found.splits, len(found.classes)) == (format, splits, classes)
    assert len(found.read(check_images=False, on_problem=OnProblem.STOP).records) == images


@pytest.mark.parametrize("format", list(Format), ids=str)
def test_a_layout_may_be_named_by_its_text(tmp_path: Path, format: Format) -> None:
    """What is said of a folder without it is the same as for the member of the enumeration."""
    told = []
    for named in (format, str(format)):
        with pytest.raises(DatasetError) as caught:
            open_dataset(tmp_path, named)
        told.append(str(caught.value))
    assert told[0] == told[1]


def test_a_layout_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"format must be one of ilsvrc, voc, .*, got 'pascal'"):
        open_dataset(tmp_path, "pascal")

"""What the field's annotation tools export, one small set of each."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detector.datasets.open import Format, open_dataset
from detector.errors import DatasetError
from tests.detector.datasets.small_folders import instances, picture, text, xml

LINE = "0 0.5 0.5 0.2 0.2"


def cvat_yolo(root: Path) -> None:
    text(root / "obj.names", "cat")
    text(root / "obj.data", "classes = 1", "train = data/train.txt", "names = data/obj.names", "backup = b/")
    text(root / "train.txt", "data/obj_train_data/a.jpg", "data/obj_train_data/my b.jpg")
    for name in ("a", "my b"):
        picture(root / f"obj_train_data/{name}.jpg")
        text(root / f"obj_train_data/{name}.txt", LINE)


def cvat_ultralytics(root: Path) -> None:
    text(root / "data.yaml", "names:", "  0: cat", "path: .", "train: train.txt")
    text(root / "train.txt", "data/images/train/a.jpg", "data/images/train/b.jpg")
    for name in "ab":
        picture(root / f"images/train/{name}.jpg")
        text(root / f"labels/train/{name}.txt", LINE)


def cvat_voc(root: Path) -> None:
    text(root / "labelmap.txt", "# label:color_rgb:parts:actions", "cat:::")
    text(root / "ImageSets/Main/train.txt", '"my a"', "sub/b")
    for name in ("my a", "sub/b"):
        picture(root / f"JPEGImages/{name}.jpg")
        xml(root / f"Annotations/{name}.xml", "cat")


def vott_voc(root: Path) -> None:
    for name, split in (("a", "train"), ("b", "val")):
        picture(root / f"JPEGImages/{name}.jpg")
        xml(root / f"Annotations/{name}.xml", "cat")
        text(root / f"ImageSets/Main/cat_{split}.txt", f"{name}.jpg 1")


def cvat_coco(root: Path) -> None:
    for name in "ab":
        picture(root / f"images/{name}.jpg")
    instances(root / "annotations/instances_default.json", {"a.jpg": [1], "b.jpg": [1]})


def label_studio_coco(root: Path) -> None:
    for name in "ab":
        picture(root / f"images/{name}.jpg")
    instances(root / "result.json", {"images\\a.jpg": [1], "images\\b.jpg": [1]})


def label_studio_yolo(root: Path) -> None:
    text(root / "classes.txt", "cat")
    text(root / "notes.json", '{"categories": [{"id": 0, "name": "cat"}], "info": {"year": 2024}}')
    for name in "ab":
        picture(root / f"images/{name}.jpg")
        text(root / f"labels/{name}.txt", LINE)


def coco_annotator(root: Path) -> None:
    for name in "ab":
        picture(root / f"{name}.jpg")
    path = instances(root / "pets-1.json", {"a.jpg": [1], "b.jpg": [1]})
    content = json.loads(path.read_text())
    for image in content["images"]:
        image.update(path=f"/datasets/pets/{image['file_name']}", coco_url=None)
    for annotation in content["annotations"]:
        annotation.update(iscrowd=False, metadata={}, isbbox=True)
    path.write_text(json.dumps(content))


def roboflow_voc(root: Path) -> None:
    for name, split in (("a_jpg.rf.1", "train"), ("b_jpg.rf.2", "valid")):
        picture(root / f"{split}/{name}.jpg")
        xml(root / f"{split}/{name}.xml", "cat")


def x_anylabeling_voc(root: Path) -> None:
    for name in "ab":
        picture(root / f"{name}.jpg")
        text(root / f"{name}.json", json.dumps({"shapes": [], "imagePath": f"{name}.jpg"}))
        xml(root / f"Annotations/{name}.xml", "cat")


def labelimg_voc(root: Path) -> None:
    for name in "ab":
        picture(root / f"{name}.jpg")
        xml(root / f"{name}.xml", "cat", filename=f"{name}.jpg", folder="photos of mine")


def labelimg_yolo(root: Path) -> None:
    text(root / "classes.txt", "cat")
    for name in "ab":
        picture(root / f"{name}.jpg")
        text(root / f"{name}.txt", LINE)


def roboflow_coco(root: Path) -> None:
    categories = [
        {"id": 0, "name": "pets", "supercategory": "none"},
        {"id": 1, "name": "cat", "supercategory": "pets"},
    ]
    for name, split in (("a_jpg.rf.1", "train"), ("b_jpg.rf.2", "valid")):
        picture(root / f"{split}/{name}.jpg")
        instances(root / f"{split}/_annotations.coco.json", {f"{name}.jpg": [1]}, categories)
    text(root / "README.roboflow.txt", "pets - v1")


def roboflow_yolov8(root: Path) -> None:
    text(
        root / "data.yaml",
        *(
            "train: ../train/images",
            "val: ../valid/images",
            "test: ../test/images",
            "nc: 1",
            "names: ['cat']",
        ),
    )
    text(root / "README.dataset.txt", "# pets > 2024")
    for name, split in (("a_jpg.rf.1", "train"), ("b_jpg.rf.2", "valid")):
        picture(root / f"{split}/images/{name}.jpg")
        text(root / f"{split}/labels/{name}.txt", LINE)


def roboflow_darknet(root: Path) -> None:
    for name, split in (("a_jpg.rf.1", "train"), ("b_jpg.rf.2", "valid")):
        picture(root / f"{split}/{name}.jpg")
        text(root / f"{split}/{name}.txt", LINE)
        text(root / f"{split}/_darknet.labels", "cat")


def label_studio_voc(root: Path) -> None:
    for name in "ab":
        picture(root / f"images/{name}.jpg")
        xml(root / f"Annotations/{name}.xml", "cat", filename=name)  # without suffix


def x_anylabeling_yolo(root: Path) -> None:
    """Labels go into a folder beside that of the pictures, whatever this is called."""
    text(root / "classes.txt", "cat")
    for name in "ab":
        picture(root / f"photos/{name}.jpg")
        text(
            root / f"photos/{name}.json",
            json.dumps({"version": "2.4.0", "shapes": [], "imagePath": f"{name}.jpg"}),
        )
        text(root / f"labels/{name}.txt", LINE)


@pytest.mark.parametrize(
    ("write", "format"),
    [
        (cvat_yolo, Format.YOLO),
        (cvat_ultralytics, Format.YOLO),
        (cvat_voc, Format.VOC),
        (vott_voc, Format.VOC),
        (cvat_coco, Format.COCO),
        (label_studio_coco, Format.COCO),
        (label_studio_yolo, Format.YOLO),
        (coco_annotator, Format.COCO),
        (roboflow_voc, Format.VOC),
        (x_anylabeling_voc, Format.VOC),
        (labelimg_voc, Format.VOC),
        (labelimg_yolo, Format.YOLO),
        (roboflow_coco, Format.COCO),
        (roboflow_yolov8, Format.YOLO),
        (roboflow_darknet, Format.YOLO),
        (label_studio_voc, Format.VOC),
        (x_anylabeling_yolo, Format.YOLO),
    ],
    ids=lambda value: getattr(value, "__name__", str(value)),
)
def test_two_pictures_of_one_cat_each(tmp_path: Path, write: Callable[[Path], None], format: Format) -> None:
    write(tmp_path)
    folder = open_dataset(tmp_path)
    assert (folder.format, folder.classes.ids) == (format, ("cat",))
    for found in (folder.read(), *([folder.read(split) for split in folder.splits])):
        assert found.problems == []
        assert [len(record.boxes) for record in found.records] == [1] * len(found.records)
    assert len(folder.read().records) == 2
    assert sum(len(folder.read(split).records) for split in folder.splits) in (0, 2)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", [{"image": "a.jpg", "annotations": [{"label": "cat"}]}], "CreateML"),
        ("a.json", {"shapes": [], "imagePath": "a.jpg"}, "labelme and X-AnyLabeling"),
        ("pets.vott", {"assets": {}}, "VoTT"),
        ("a.json", [{"data": {}, "annotations": []}], "Label Studio"),
        ("via.json", {"a.jpg1": {"filename": "a.jpg", "regions": []}}, "VIA"),
        ("pets.csv", "image,xmin,ymin,xmax,ymax,label", "a table"),
    ],
)
def test_a_layout_that_is_not_read_is_named(tmp_path: Path, name: str, content: Any, message: str) -> None:
    picture(tmp_path / "a.jpg")
    text(tmp_path / name, json.dumps(content))
    with pytest.raises(DatasetError, match=f"{message}.*export it as"):
        open_dataset(tmp_path)

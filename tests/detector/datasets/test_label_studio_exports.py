"""What Label Studio exports is a data set to train on.

The files are those that Label Studio 1.23.2 wrote for two pictures with three boxes. The pictures are noise,
the JSON has other line breaks, and the folder before "media" had another name.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from detector.datasets.open import open_dataset
from tests.detector.datasets.small_folders import picture, text

CAT, BEE = "03183181-cat", "7b6fd621-bee"

COCO = r"""{
  "images": [
    {"width": 451, "height": 300, "id": 0, "file_name": "..\/data\/media\/upload\/3\/03183181-cat.jpg"},
    {"width": 640, "height": 506, "id": 1, "file_name": "..\/data\/media\/upload\/3\/7b6fd621-bee.jpg"}
  ],
  "categories": [{"id": 0, "name": "Bee"}, {"id": 1, "name": "Cat"}, {"id": 2, "name": "Gadget"}],
  "annotations": [
    {"id": 0, "image_id": 0, "category_id": 1, "segmentation": [], "bbox": [42.2, 12.7, 336.8, 275.5],
     "ignore": 0, "iscrowd": 0, "area": 92788.40000000001},
    {"id": 1, "image_id": 1, "category_id": 0, "segmentation": [], "bbox": [96.1, 104.4, 465.6, 373.5],
     "ignore": 0, "iscrowd": 0, "area": 173901.6},
    {"id": 2, "image_id": 1, "category_id": 0, "segmentation": [], "bbox": [82.5, 103.8, 271.2, 233.8],
     "ignore": 0, "iscrowd": 0, "area": 63406.56}
  ],
  "info": {"year": 2026, "version": "1.0", "description": "", "contributor": "Label Studio", "url": "",
           "date_created": "2026-11-27 02:24:10.712812"}
}"""

YOLO_NOTES = """{
  "categories": [{"id": 0, "name": "Bee"}, {"id": 1, "name": "Cat"}, {"id": 2, "name": "Gadget"}],
  "info": {"year": 2026, "version": "1.0", "contributor": "Label Studio"}
}"""

VOC_HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotation>
<folder>images</folder>
<filename>{name}.jpg</filename>
<source>
<database>MyDatabase</database>
<annotation>COCO2017</annotation>
<image>flickr</image>
<flickrid>NULL</flickrid>
<annotator>1</annotator>
</source>
<owner>
<flickrid>NULL</flickrid>
<name>Label Studio</name>
</owner>
<size>
<width>{width}</width>
<height>{height}</height>
<depth>3</depth>
</size>
<segmented>0</segmented>"""

VOC_OBJECT = """<object>
<name>{}</name>
<pose>Unspecified</pose>
<truncated>0</truncated>
<difficult>0</difficult>
<bndbox>
<xmin>{}</xmin>
<ymin>{}</ymin>
<xmax>{}</xmax>
<ymax>{}</ymax>
</bndbox>
</object>"""


def pictures(root: Path) -> None:
    picture(root / f"images/{CAT}.jpg", (451, 300))
    picture(root / f"images/{BEE}.jpg", (640, 506))


def coco(root: Path) -> None:
    """ "COCO with images"."""
    pictures(root)
    text(root / "result.json", COCO)


def yolo(root: Path) -> None:
    """ "YOLO with images"."""
    pictures(root)
    text(root / "classes.txt", "Bee", "Cat", "Gadget")
    text(root / "notes.json", YOLO_NOTES)
    text(root / f"labels/{CAT}.txt", "1 0.46696230598669625 0.5015 0.7467849223946784 0.9183333333333333")
    text(
        root / f"labels/{BEE}.txt",
        "0 0.51390625 0.5753952569169961 0.7275 0.7381422924901186",
        "0 0.34078125 0.4361660079051384 0.42375 0.46205533596837944",
    )


def voc(root: Path) -> None:
    """ "Pascal VOC XML"."""
    pictures(root)
    cat, bee = ("Cat", 42, 12, 378, 287), [("Bee", 96, 104, 561, 477), ("Bee", 82, 103, 353, 336)]
    for name, size, objects in ((CAT, (451, 300), [cat]), (BEE, (640, 506), bee)):
        head = VOC_HEAD.format(name=name, width=size[0], height=size[1])
        lines = [VOC_OBJECT.format(*one) for one in objects]
        text(root / f"Annotations/{name}.xml", head, *lines, "</annotation>")


BOXES = {
    CAT: [("Cat", 42.2, 12.7, 379.0, 288.2)],
    BEE: [("Bee", 96.1, 104.4, 561.7, 477.9), ("Bee", 82.5, 103.8, 353.7, 337.6)],
}


@pytest.mark.parametrize(
    ("export", "layout", "classes", "exact_to"),
    [
        (coco, "coco", ["Bee", "Cat", "Gadget"], 1e-4),
        (yolo, "yolo", ["Bee", "Cat", "Gadget"], 1e-4),
        (voc, "voc", ["Bee", "Cat"], 2.0),  # it has whole pixels, rounded down, and the classes that occur
    ],
    ids=["COCO", "YOLO", "Pascal VOC"],
)
def test_an_export_is_read(
    tmp_path: Path, export: Callable[[Path], None], layout: str, classes: list[str], exact_to: float
) -> None:
    export(tmp_path)
    folder = open_dataset(tmp_path)
    assert (folder.format, list(folder.classes.ids)) == (layout, classes)
    dataset = folder.read()
    assert dataset.problems == []
    assert {record.path.stem for record in dataset.records} == set(BOXES)
    for record in dataset.records:
        expected = BOXES[record.path.stem]
        assert [classes[label] for label in record.labels] == [name for name, *_ in expected]
        np.testing.assert_allclose(record.boxes, [corners for _, *corners in expected], atol=exact_to)
        assert not record.partial

"""What was found as JSON, as COCO's data set, and drawn."""

import contextlib
import io
from io import BytesIO

import numpy as np
import orjson
import pytest
from PIL import Image
from pycocotools.coco import COCO

from api.frontend.schemas import DetectedObject
from api.worker.rendering import as_coco, as_image, as_json
from detector.io.decoding import decode
from detector.io.visualization import draw
from detector.structures.boxes import as_boxes
from detector.structures.classes import ClassList, ilsvrc_det
from detector.structures.detections import Detections

CLASSES = ilsvrc_det()
FOUND = Detections(
    as_boxes([(10.04, 20.06, 110.33, 70.52), (0, 0, 451, 300), (5, 5, 9, 9)]),
    np.array([58, 0, 58], np.int64),
    np.array([0.987654, 0.5, 0.25], np.float32),
)
NOTHING = Detections(as_boxes([]), np.array([], np.int64), np.array([], np.float32))


def test_json_is_what_the_library_says() -> None:
    rng = np.random.default_rng(0)
    many = Detections(
        rng.uniform(0, 500, (100, 4)).astype(np.float32),
        rng.integers(0, len(CLASSES), 100),
        rng.random(100).astype(np.float32),
    )
    for found in (FOUND, NOTHING, many):
        entries = orjson.loads(as_json(found, CLASSES))
        assert entries == found.as_dicts(CLASSES)
        for entry in entries:
            DetectedObject.model_validate(entry)


def test_json_of_one_object() -> None:
    assert orjson.loads(as_json(FOUND, CLASSES))[0] == {
        "label": "domestic cat",
        "wnid": "n02121808",
        "score": 0.9877,
        "box": {"xmin": 10.0, "ymin": 20.1, "xmax": 110.3, "ymax": 70.5},
    }


def test_json_takes_names_as_they_are() -> None:
    classes = ClassList.of(['a "quoted" name', "日本\n", "plain"])
    found = Detections(FOUND.boxes, np.array([0, 1, 2]), FOUND.scores)
    assert [entry["label"] for entry in orjson.loads(as_json(found, classes))] == list(classes.names)


def test_coco() -> None:
    assert orjson.loads(as_coco(FOUND, CLASSES, "cat.jpg", 451, 300)) == {
        "images": [{"id": 1, "file_name": "cat.jpg", "width": 451, "height": 300}],
        "categories": [{"id": 1, "name": "accordion"}, {"id": 59, "name": "domestic cat"}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 59,
                "category_name": "domestic cat",
                "bbox": [10.0, 20.1, 100.3, 50.4],
                "area": 5055.1,
                "score": 0.9877,
                "iscrowd": 0,
            },
            {
                "id": 2,
                "image_id": 1,
                "category_id": 1,
                "category_name": "accordion",
                "bbox": [0.0, 0.0, 451.0, 300.0],
                "area": 135300.0,
                "score": 0.5,
                "iscrowd": 0,
            },
            {
                "id": 3,
                "image_id": 1,
                "category_id": 59,
                "category_name": "domestic cat",
                "bbox": [5.0, 5.0, 4.0, 4.0],
                "area": 16.0,
                "score": 0.25,
                "iscrowd": 0,
            },
        ],
    }


@pytest.mark.parametrize(("found", "name"), [(FOUND, "cat.jpg"), (FOUND, None), (NOTHING, "cat.jpg")])
def test_pycocotools_loads_it(found: Detections, name: str | None) -> None:
    """As a data set, and its annotations as results for that data set."""
    with contextlib.redirect_stdout(io.StringIO()):
        data = COCO()
        data.dataset = orjson.loads(as_coco(found, CLASSES, name, 451, 300, image_id=7))
        data.createIndex()
        assert data.getImgIds() == [7]
        assert [one["bbox"] for one in data.loadAnns(data.getAnnIds(imgIds=[7]))] == [
            one["bbox"] for one in data.dataset["annotations"]
        ]
        assert {one["id"] for one in data.loadCats(data.getCatIds())} == set((found.labels + 1).tolist())
        if len(found):
            results = data.loadRes(data.dataset["annotations"])
            assert len(results.getAnnIds(catIds=[59])) == 2


@pytest.mark.parametrize(("media_type", "tolerance"), [("image/png", 0), ("image/jpeg", 12)])
def test_a_drawn_picture(media_type: str, tolerance: float) -> None:
    image = np.full((300, 451, 3), (90, 140, 200), np.uint8)
    data = as_image(image, FOUND, CLASSES, media_type)
    with Image.open(BytesIO(data)) as picture:
        assert Image.MIME[picture.format or ""] == media_type
    drawn = draw(image, FOUND, CLASSES)
    assert np.abs(decode(data).astype(int) - drawn).mean() <= tolerance
    assert (drawn != drawn[-1, -1]).any(), "something is drawn"

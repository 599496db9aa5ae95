"""What was found, as values: indexing, filters, and the forms that others read."""

import json
from contextlib import nullcontext
from dataclasses import replace
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.errors import ParameterError
from detector.structures.classes import ClassList
from detector.structures.detections import Classification, Detection, Detections
from detector.structures.explanation import Explanation, Factor

CLASSES = ClassList(("n02084071", "n02121808", "17"), ("dog", "domestic cat", "crab, small"))
FOUND = Detections(
    np.array([[10, 20, 30.5, 40], [0, 0, 5, 5], [-3, 8, 60, 90], [7, 7, 7, 7]], np.float32),
    np.array([1, 0, 1, 2]),
    np.array([0.9, 0.8, 0.5, 0.25], np.float32),
    CLASSES,
)
NOTHING = FOUND[:0]
UNNAMED = Detections(FOUND.boxes, FOUND.labels, FOUND.scores)


@pytest.mark.parametrize(
    ("class_id", "key"),
    [
        pytest.param("n02121808", "wnid", id="ILSVRC"),
        pytest.param("cat", "class_id", id="a name"),
        pytest.param("17", "class_id", id="a number"),
        pytest.param("n0212180", "class_id", id="a digit less"),
        pytest.param("n021218080", "class_id", id="a digit more"),
        pytest.param("N02121808", "class_id", id="a capital"),
        pytest.param("n02121808\n", "class_id", id="a line break behind"),
        pytest.param("n٠٢١٢١٨٠٨", "class_id", id="other digits"),
    ],
)
def test_a_wordnet_id_is_called_so_and_nothing_else(class_id: str, key: str) -> None:
    classes = ClassList((class_id,), ("cat",))
    detections = Detections(np.array([[1, 2, 3, 4]], np.float32), np.array([0]), np.array([0.5], np.float32))
    classification = Classification(np.array([0]), np.array([0.5], np.float32))
    box = {"xmin": 1.0, "ymin": 2.0, "xmax": 3.0, "ymax": 4.0}
    about = {"label": "cat", key: class_id, "score": 0.5}
    assert detections.as_dicts(classes) == [about | {"box": box}]
    assert classification.as_dicts(classes) == [about]


@pytest.mark.parametrize(
    ("index", "rows"),
    [
        pytest.param(slice(2), [0, 1], id="the best two"),
        pytest.param(slice(None, None, 2), [0, 2], id="every other"),
        pytest.param(FOUND.scores > 0.4, [0, 1, 2], id="a mask"),
        pytest.param([True, False, False, True], [0, 3], id="a list as a mask"),
        pytest.param(np.zeros(4, bool), [], id="a mask of none"),
        pytest.param([3, 0], [3, 0], id="numbers, in their order"),
        pytest.param([], [], id="no numbers"),
        pytest.param(np.array([1, 1]), [1, 1], id="one twice"),
    ],
)
def test_some_of_them(index: object, rows: list[int]) -> None:
    some = FOUND[index]  # type: ignore[call-overload]
    assert np.array_equal(some.boxes, FOUND.boxes[rows])
    assert some.labels.tolist() == FOUND.labels[rows].tolist()
    assert some.scores.tolist() == FOUND.scores[rows].tolist()
    assert some.classes is CLASSES


@pytest.mark.parametrize("index", [0, np.int64(0), -4])
def test_one_of_them(index: int) -> None:
    assert FOUND[index] == Detection("domestic cat", "n02121808", 1, pytest.approx(0.9), (10, 20, 30.5, 40))


def test_all_of_them() -> None:
    names = ["domestic cat", "dog", "domestic cat", "crab, small"]
    assert [found.name for found in FOUND] == FOUND.names == names
    assert (len(FOUND), len(NOTHING), list(NOTHING)) == (4, 0, [])
    with pytest.raises(IndexError):
        FOUND[4]


@pytest.mark.parametrize(
    ("names", "rows"),
    [
        pytest.param(("dog",), [1], id="a name"),
        pytest.param(("17", "Domestic Cat"), [0, 2, 3], id="an id, and a name in capitals"),
        pytest.param(("crab, small",), [3], id="a name with a comma"),
    ],
)
def test_of_classes(names: tuple[str, ...], rows: list[int]) -> None:
    assert FOUND.of_classes(*names).scores.tolist() == FOUND.scores[rows].tolist()


def test_above() -> None:
    assert FOUND.above(0.5).labels.tolist() == [1, 0, 1], "0.5 itself is kept"


def test_unnamed_ones_can_do_what_needs_no_name() -> None:
    assert len(UNNAMED[1:].above(0.3)) == 2
    assert UNNAMED.to_coco()[0]["category_id"] == 2
    assert repr(UNNAMED) == "<4 detections of unnamed classes>"
    assert UNNAMED.as_dicts(CLASSES) == FOUND.as_dicts()
    for ask in (
        lambda: UNNAMED.names,
        lambda: UNNAMED[0],
        lambda: UNNAMED.as_dicts(),
        lambda: UNNAMED.of_classes("dog"),
        lambda: UNNAMED.draw(np.zeros((9, 9, 3), np.uint8)),
        lambda: Classification(np.array([0]), np.array([1.0])).names,
    ):
        with pytest.raises(ParameterError, match="classes="):
            ask()
    with pytest.raises(ParameterError, match="no class 'dgo': is dog meant"):
        FOUND.of_classes("dgo")


def test_they_print_themselves() -> None:
    assert str(FOUND).splitlines()[1] == " 80.0%  dog               0.0      0.0      5.0      5.0"
    assert (str(NOTHING), repr(NOTHING)) == ("", "<0 detections>")
    assert repr(FOUND[:2]) == "<2 detections: domestic cat 0.90, dog 0.80>"
    many = FOUND[[0] * 11]
    assert repr(many).endswith("domestic cat 0.90, and 3 more>")


def test_to_coco_is_what_pycocotools_loads() -> None:
    from pycocotools.coco import COCO

    truth = COCO()
    truth.dataset = {
        "images": [{"id": 7, "width": 100, "height": 100}],
        "categories": [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES.names)],
        "annotations": [],
    }
    truth.createIndex()
    loaded = truth.loadRes(FOUND.to_coco(7))
    assert loaded.anns[1]["bbox"] == [10, 20, 20.5, 20]
    assert [entry["category_id"] for entry in loaded.anns.values()] == [2, 1, 2, 3]


def test_to_df() -> None:
    frame = FOUND.to_df()
    assert list(frame.columns) == ["name", "class_id", "score", "xmin", "ymin", "xmax", "ymax"]
    assert frame[frame.score > 0.4].name.tolist() == ["domestic cat", "dog", "domestic cat"]
    assert frame.loc[0, ["xmin", "ymax"]].tolist() == [10, 40]
    assert len(NOTHING.to_df()) == 0
    assert NOTHING.to_df().dtypes.tolist() == frame.dtypes.tolist(), "so that both can be put together"


def test_to_supervision() -> None:
    theirs = FOUND.to_supervision()
    assert np.array_equal(theirs.xyxy, FOUND.boxes)
    assert theirs.confidence.tolist() == FOUND.scores.tolist()
    assert theirs[theirs.confidence > 0.6].data["class_name"].tolist() == ["domestic cat", "dog"]
    assert len(NOTHING.to_supervision()) == 0


def test_crops_are_cut_out_in_whole_pixels() -> None:
    image = np.arange(50 * 40 * 3, dtype=np.uint8).reshape(50, 40, 3)
    crops = FOUND.crops(image)
    assert [crop.shape[:2] for crop in crops] == [(20, 21), (5, 5), (42, 40), (1, 1)]
    assert np.array_equal(crops[0], image[20:40, 10:31])
    beside = Detections(np.array([[90, 90, 99, 99]], np.float32), np.array([0]), np.array([1.0]), CLASSES)
    assert np.array_equal(beside.crops(image)[0], image[49:, 39:]), "one pixel at least"


EXPLANATION = Explanation(
    (Factor("probability", 0.81, 0.5), Factor("context", 0.5, 1.0)),
    (-1.04, 2, 3, 4),
    np.array([[0.126, 1], [2, -3]], np.float32),
    0.5,
)


def test_explanations_stay_with_their_objects() -> None:
    some = replace(FOUND, explanations=(EXPLANATION, None, None, None), regions=np.array([7, 5, 3, 1]))
    assert some[0].explanation is EXPLANATION
    assert some[1].explanation is None
    turned = some[[3, 0]]
    assert turned.explanations == (None, EXPLANATION)
    assert turned.regions is not None
    assert turned.regions.tolist() == [1, 7]
    assert some.above(0.85).explanations == (EXPLANATION,)
    assert FOUND[[3, 0]].explanations == ()


def test_an_explanation_as_json_knows_it() -> None:
    some = replace(FOUND, explanations=(EXPLANATION, None, None, None))
    first, second, *_ = some.as_dicts()
    assert "explanation" not in second
    assert json.loads(json.dumps(first["explanation"])) == {
        "factors": [
            {"name": "probability", "value": 0.81, "power": 0.5, "contribution": 0.9},
            {"name": "context", "value": 0.5, "power": 1.0, "contribution": 0.5},
        ],
        "region": [-1.0, 2, 3, 4],
        "activation": [[0.13, 1], [2, -3]],
    }
    assert EXPLANATION.score == pytest.approx(0.45)
    assert EXPLANATION.line == "probability 0.81^0.5 x context 0.5"


def test_drawing_leaves_the_image_as_it_is() -> None:
    image = np.zeros((100, 500, 3), np.uint8)
    drawn = FOUND.draw(image)
    assert drawn.shape == image.shape
    assert drawn.any()
    assert not image.any(), "a copy"


def test_the_image_in_every_form_that_a_detector_takes(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (50, 40, 3), np.uint8)
    explained = replace(FOUND, explanations=(EXPLANATION, None, None, None))
    path = tmp_path / "a.png"
    Image.fromarray(pixels).save(path)
    for image in (path, str(path), path.read_bytes(), Image.open(path), path.open("rb")):
        with image if isinstance(image, BufferedReader) else nullcontext():
            crops = FOUND.crops(image)  # of an open file there is one reading
        assert all(np.array_equal(*pair) for pair in zip(crops, FOUND.crops(pixels), strict=True))
    for image in (path, path.read_bytes(), Image.open(path)):
        assert np.array_equal(FOUND.draw(image), FOUND.draw(pixels))
        assert np.array_equal(explained.draw_explanation(image, 0), explained.draw_explanation(pixels, 0))


@pytest.mark.parametrize(
    ("image", "says"),
    [
        pytest.param(np.zeros((50, 40), np.uint8), "make it RGB", id="grey"),
        pytest.param(np.zeros((50, 40, 4), np.uint8), "alpha channel", id="RGBA"),
        pytest.param(np.zeros((50, 40, 3)), "convert it", id="floats"),
        pytest.param(np.zeros((0, 0, 3), np.uint8), "no pixels", id="nothing"),
        pytest.param(None, "got NoneType", id="what OpenCV gives for a file that is not there"),
    ],
)
def test_what_is_no_image_is_told_with_advice(image: Any, says: str) -> None:
    explained = replace(FOUND, explanations=(EXPLANATION, None, None, None))
    for use in (FOUND.draw, FOUND.crops, lambda image: explained.draw_explanation(image, 0)):
        with pytest.raises(ParameterError, match=says):
            use(image)

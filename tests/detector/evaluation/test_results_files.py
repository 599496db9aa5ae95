"""Detections written in the forms of ILSVRC and COCO, and read back."""

import json
from pathlib import Path

import numpy as np
import pytest

from detector.errors import DatasetError, ParameterError
from detector.evaluation.coco import read_coco_results, write_coco_results
from detector.evaluation.det_evaluation import evaluate
from detector.evaluation.ilsvrc import ILSVRC, read_ilsvrc_results, write_ilsvrc_results
from detector.structures.detections import Detections
from tests.detector.evaluation.scenes import Box, found, record

A: Box = (0, 0, 100, 100)
B: Box = (10, 20, 30, 50)
LIST = ["p", "q", "r"]
DETECTIONS = {"r": found((1, 0.1, B), (0, 1 / 3, A)), "p": found((1, 0.9, A)), "q": found()}


def assert_same(read: dict[str, Detections], written: dict[str, Detections]) -> None:
    assert set(read) == {image_id for image_id, mine in written.items() if len(mine)}
    for image_id, mine in read.items():
        for part in ("boxes", "labels", "scores"):
            before, after = getattr(written[image_id], part), getattr(mine, part)
            np.testing.assert_array_equal(before, after)
            assert before.dtype == after.dtype


def test_ilsvrcs_lines(tmp_path: Path) -> None:
    """Pictures in the order of the list and numbered from 1, classes from 1, the last pixel inside."""
    path = tmp_path / "out" / "det.txt"
    write_ilsvrc_results(path, DETECTIONS, LIST)
    assert path.read_text() == "1 2 0.9 0 0 99 99\n3 2 0.1 10 20 29 49\n3 1 0.33333334 0 0 99 99\n"
    assert_same(read_ilsvrc_results(path, LIST, 2), DETECTIONS)


def test_cocos_objects(tmp_path: Path) -> None:
    path = tmp_path / "out.json"
    write_coco_results(path, {"139": found((1, 0.9, B)), "007": found((0, 0.5, A))}, [7, 90])
    assert json.loads(path.read_text()) == [
        {"image_id": 139, "category_id": 90, "bbox": [10, 20, 20, 30], "score": 0.9},
        {"image_id": "007", "category_id": 7, "bbox": [0, 0, 100, 100], "score": 0.5},
    ]
    write_coco_results(path, DETECTIONS, [7, 90])
    assert_same(read_coco_results(path, [7, 90]), DETECTIONS)


def test_what_was_written_measures_as_before(tmp_path: Path) -> None:
    """Boxes between pixels: COCO's form keeps them (but for a float32's last bit), ILSVRC's rounds them."""
    random = np.random.default_rng(0)
    corners = random.random((30, 2)) * 200
    boxes = np.concatenate([corners, corners + 5 + random.random((30, 2)) * 200], axis=1).astype(np.float32)
    mine = Detections(boxes, random.integers(0, 2, 30), random.random(30).astype(np.float32))
    truth = [
        record("p", *((int(label), tuple(box)) for label, box in zip(mine.labels, boxes + 3, strict=True)))
    ]
    before = evaluate(truth, {"p": mine}, 2, ILSVRC)

    write_coco_results(tmp_path / "p.json", {"p": mine}, [1, 2])
    after = read_coco_results(tmp_path / "p.json", [1, 2])
    np.testing.assert_allclose(after["p"].boxes, boxes, rtol=1e-6)
    np.testing.assert_array_equal(after["p"].scores, mine.scores)
    assert evaluate(truth, after, 2, ILSVRC).mean_ap == before.mean_ap

    write_ilsvrc_results(tmp_path / "p.txt", {"p": mine}, ["p"])
    after = read_ilsvrc_results(tmp_path / "p.txt", ["p"], 2)
    assert np.abs(after["p"].boxes - boxes).max() <= 0.5


def test_no_detections_at_all(tmp_path: Path) -> None:
    write_ilsvrc_results(tmp_path / "none.txt", {"p": found()}, LIST)
    write_coco_results(tmp_path / "none.json", {"p": found()}, [1])
    assert read_ilsvrc_results(tmp_path / "none.txt", LIST, 2) == {}
    assert read_coco_results(tmp_path / "none.json", [1]) == {}


def test_what_does_not_fit_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="stand in no line of the list, x first"):
        write_ilsvrc_results(tmp_path / "a.txt", {"x": found()}, LIST)
    with pytest.raises(ParameterError, match="label 1, but there are 1 category ids"):
        write_coco_results(tmp_path / "a.json", DETECTIONS, [7])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("1 1 0.5 0 0 9", "6 columns", id="a column is missing"),
        pytest.param("4 1 0.5 0 0 9 9", "numbered 1 to 3", id="more pictures than the list has"),
        pytest.param("0 1 0.5 0 0 9 9", "numbered 1 to 3", id="pictures count from 1"),
        pytest.param("1 3 0.5 0 0 9 9", "numbered 1 to 2", id="more classes than there are"),
        pytest.param("1 0 0.5 0 0 9 9", "numbered 1 to 2", id="classes count from 1"),
        pytest.param("1.5 1 0.5 0 0 9 9", "whole numbers", id="half a picture"),
        pytest.param("1 1 nan 0 0 9 9", "'nan' is no finite number", id="a confidence that is no number"),
        pytest.param("p 1 0.5 0 0 9 9", "'p' is no finite number", id="a picture by its name"),
    ],
)
def test_foreign_lines(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "foreign.txt"
    path.write_text(f"1 1 0.5 0 0 9 9\n{line}\n")
    with pytest.raises(DatasetError, match=rf"line 2: .*{message}"):
        read_ilsvrc_results(path, LIST, 2)


@pytest.mark.parametrize(
    ("image_id", "known", "read"),
    [
        pytest.param(1, [], "1", id="a number"),
        pytest.param("1", [], "1", id="its text"),
        pytest.param(1.0, [], "1", id="with a point"),
        pytest.param("1.0", [], "1", id="text with a point"),
        pytest.param("1.0", ["1.0"], "1.0", id="a picture that is called so"),
        pytest.param("001", [], "001", id="zeros before it: another"),
        pytest.param("a b", [], "a b", id="a name"),
    ],
)
@pytest.mark.parametrize(("category", "ids"), [(7, ["7"]), ("7", [7]), (7.0, [7]), ("cat", ["cat"])])
def test_ids_are_read_as_those_of_annotations(
    tmp_path: Path, image_id: object, known: list[str], read: str, category: object, ids: list[int | str]
) -> None:
    path = tmp_path / "results.json"
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps([{**ENTRY, "image_id": image_id, "category_id": category}]).encode()
    )
    (found,) = read_coco_results(path, ids, known).items()
    assert (found[0], found[1].labels.tolist()) == (read, [0])


ENTRY = {"image_id": 1, "category_id": 7, "bbox": [0, 0, 9, 9], "score": 0.5}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("{}", "no file of results", id="an instances file"),
        pytest.param("[", "line 1, column 2", id="half a file"),
        pytest.param(
            json.dumps([ENTRY, {**ENTRY, "category_id": 8}]),
            "detection 2: .*category_id is 8",
            id="category",
        ),
        pytest.param(json.dumps([{**ENTRY, "bbox": [0, 0, 9]}]), "detection 1", id="three numbers"),
        pytest.param(json.dumps([{**ENTRY, "bbox": [0, 0, 9, float("inf")]}]), "four finite", id="infinite"),
        pytest.param(json.dumps([{**ENTRY, "score": float("nan")}]), "score", id="a score that is no number"),
        pytest.param(json.dumps(["x"]), "detection 1", id="no object"),
        pytest.param(json.dumps([{**ENTRY, "bbox": [0, 0, -9, 9]}]), "four finite", id="a negative width"),
        pytest.param(json.dumps([{**ENTRY, "bbox": [0, 0, 10**400, 9]}]), "four finite", id="far too large"),
        pytest.param(json.dumps([{**ENTRY, "score": 10**400}]), "detection 1: .*score", id="a huge score"),
        pytest.param(json.dumps([{**ENTRY, "score": True}]), "score is True", id="a score of true"),
        pytest.param(json.dumps([{**ENTRY, "score": None}]), "score is None", id="a score of nothing"),
        pytest.param(json.dumps([{**ENTRY, "image_id": None}]), "image_id is None", id="no picture"),
        pytest.param(json.dumps([{**ENTRY, "category_id": True}]), "category_id is True", id="a boolean"),
    ],
)
def test_foreign_json(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "foreign.json"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_coco_results(path, [7])

"""Messages about odd input speak of fields and values, never of what the program is made of."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from api.frontend.uploads.body import UploadLimits
from api.frontend.uploads.json_body import parse_json
from api.protocol.errors import ApiError
from detector.datasets.formats.agnostic import read_agnostic
from detector.datasets.formats.text_files import read_json
from detector.datasets.problems import OnProblem
from detector.errors import DetectorError
from detector.evaluation.coco import read_coco_results
from detector.evaluation.ilsvrc import read_blacklist, read_ilsvrc_results
from detector.inference.scoring import Scoring
from detector.models.convert_bvlc import read_bvlc
from detector.models.torchvision_googlenet import read_torchvision
from detector.structures.classes import ilsvrc_det
from training.evaluating.configurations import parse_scoring
from training.finetune.training_data import further_data
from training.rcnn.sampling import SamplingSettings
from training.trainer.run_state import load_state

INSIDES = re.compile(
    r"object is not|object has no|indices must|invalid literal|could not convert|argument must be|Errno"
    r"|\(char \d|out of range|is not a valid|expected str|inhomogeneous|allow_pickle|Traceback|Expecting"
)
"""What Python, NumPy and their like say."""

GOOD = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}


def _check(call: Callable[[], object], says: str) -> None:
    with pytest.raises((DetectorError, ApiError)) as raised:
        call()
    message = str(raised.value)
    assert says in message
    assert not INSIDES.search(message)
    assert "\n" not in message
    assert len(message) < 1000


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (1, "it is 1, where an object with image_id, category_id, bbox, score belongs"),
        (None, "it is None, where an object"),
        ("a", "it is 'a', where an object"),
        ([], "it is [], where an object"),
        ({}, "it lacks image_id, category_id, bbox, score"),
        ({**GOOD, "image_id": None}, "image_id is None, where a number or a text belongs"),
        ({**GOOD, "category_id": {}}, "category_id is {}; known categories are 1, 2"),
        ({**GOOD, "category_id": 3}, "category_id is 3; known categories are 1, 2"),
        ({**GOOD, "bbox": None}, "bbox is None, where four finite numbers belong"),
        ({**GOOD, "bbox": [1, 2, 3, None]}, "bbox is [1, 2, 3, None], where four finite numbers belong"),
        ({**GOOD, "score": "x"}, "score is 'x', where a finite number belongs"),
        ({**GOOD, "score": 10**400}, "score is 1000"),
    ],
)
def test_detections_in_cocos_form(tmp_path: Path, entry: object, says: str) -> None:
    path = tmp_path / "found.json"
    path.write_text(json.dumps([GOOD, entry]))
    _check(lambda: read_coco_results(path, [1, 2]), f"{path}, detection 2: {says}")


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("1 1 a 1 1 2 2", "('a' is no finite number)"),
        ("1 1 1e999 1 1 2 2", "('1e999' is no finite number)"),
        ("1 1 nan 1 1 2 2", "('nan' is no finite number)"),
        ("1 1 1_0 1 1 2 2", "('1_0' is no finite number)"),
        ("1 1", "(2 columns)"),
        ("9 1 .5 1 1 2 2", "(pictures are numbered 1 to 2)"),
    ],
)
def test_detections_in_ilsvrcs_form(tmp_path: Path, line: str, says: str) -> None:
    path = tmp_path / "found.txt"
    path.write_text(f"1 1 .5 1 1 2 2\n{line}\n")
    _check(lambda: read_ilsvrc_results(path, ["a", "b"], 3), says)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a 1", "pictures are numbered 1 to 2, and 'a' is none of these"),
        ("-1 1", "pictures are numbered 1 to 2, and '-1' is none of these"),
        ("3 1", "pictures are numbered 1 to 2, and '3' is none of these"),
        ("1", "the class is missing"),
        ("1 x", "classes are numbered 1 to 200, and 'x' is none of these"),
        ("1 " + "9" * 5000, "classes are numbered 1 to 200, and '999"),
    ],
)
def test_a_blacklist(tmp_path: Path, line: str, says: str) -> None:
    (tmp_path / "val.txt").write_text("a 1\nb 2\n")
    path = tmp_path / "black.txt"
    path.write_text(f"{line}\n")
    with pytest.raises(DetectorError) as raised:
        read_blacklist(path, tmp_path / "val.txt")
    assert says in str(raised.value)
    assert not INSIDES.search(str(raised.value))


@pytest.mark.parametrize(
    ("entry", "says", "boxes"),
    [
        (None, "is None, where an object with width, height and a list of boxes belongs", None),
        ({"width": 100, "height": 80}, "'height': 80}, where an object with width, height and", None),
        ({"width": 100, "height": 80, "boxes": {}}, "'boxes': {}}, where an object with width", None),
        ({"width": "x", "height": 80, "boxes": [[1, 1, 5, 5]]}, "states the size 'x' x 80", 1),
        ({"width": float("inf"), "height": 80, "boxes": [[1, 1, 5, 5]]}, "states the size inf x 80", 1),
        ({"width": 100, "height": 80, "boxes": [[1, 1, 5, 5], [1, None, 2, 3]]}, "box 2 is [1, None, 2,", 1),
        ({"width": 100, "height": 80, "boxes": [[1, 1, 5, 5], 7]}, "box 2 is 7, where four finite", 1),
        ({"width": 100, "height": 80, "boxes": ["a"]}, "box 1 is 'a', where four finite numbers", None),
    ],
)
def test_boxes_without_class(tmp_path: Path, entry: object, says: str, boxes: int | None) -> None:
    """One bad box of several costs itself alone; the size of the picture stands for one that is odd."""
    home = tmp_path / "ILSVRC"
    for part in ("ImageSets", "Annotations", "Data"):
        (home / part / "DET").mkdir(parents=True)
    (home / "ImageSets" / "DET" / "val.txt").write_text("p 1\n")
    (tmp_path / "agnostic_boxes.json").write_text(json.dumps({"p": entry}))
    found = read_agnostic(tmp_path, check_images=False)
    messages = [problem.message for problem in found.problems]
    assert any(says in message for message in messages), messages
    assert not any(INSIDES.search(message) for message in messages)
    if boxes is not None and isinstance(entry, dict) and entry["width"] == 100:
        assert [len(record.boxes) for record in found.records] == [boxes]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "line 1, column 1: no value stands where one belongs: the file is cut off"),
        ("x", "line 1, column 1: no value stands where one belongs"),
        ("{'a': 1}", "line 1, column 2: no name in double quotes stands where one belongs"),
        ('{"a" 1}', "line 1, column 6: no colon stands where one belongs"),
        ("[1 2]", "line 1, column 4: no comma stands where one belongs"),
        ("[1]\n]", "line 2, column 1: something follows where the content has ended"),
        ('"a', "line 1, column 1: the text that begins here has no end"),
        ('"\n"', "line 1, column 2: a line feed or another control character stands in a text"),
        ("9" * 5000, "a number has thousands of digits"),
        ("[" * 100_000, "its brackets are nested too deeply"),
    ],
)
def test_json_files(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(text)
    _check(lambda: read_json(path), f"{path} cannot be read as JSON: {says}")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a:nms_iou=", "nms_iou must lie in 0..1, got ''"),
        ("a:nms_iou=1" + "0" * 400, "nms_iou must lie in 0..1, got 1000"),
        ("a:nms_iou=" + "9" * 5000, "nms_iou must lie in 0..1, got '999"),
        ("a:nms_iou=" + "[" * 100_000, "nms_iou must lie in 0..1, got '[[["),
        (
            "a:nms_iuo=1",
            "scoring has the settings 'nms_iuo', of which this version knows none",
        ),
        ("a:flip=2", "flip must be true or false, got 2"),
    ],
)
def test_a_wrong_scoring_says_what_is_wrong(text: str, says: str) -> None:
    _check(lambda: parse_scoring(text, Scoring()), says)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "--also '': names no folder"),
        (":weight=2", "names no folder"),
        ("d:weight=x", "weight must be a number over 0, got 'x'"),
        ("d:weight=nan", "weight must be a number over 0, got 'nan'"),
        ("d:weight=0", "weight must be a number over 0, got '0'"),
        ("d:positives=1.5", "positives must be a whole number from 1, got '1.5'"),
        ("d:background=-1", "background must be a whole number from 1, got '-1'"),
        ("d:background=" + "9" * 200, "background must be a whole number from 1, got '999"),
        ("d:format=x", "format must be one of ilsvrc, voc, coco, yolo, ilsvrc-loc, agnostic, got 'x'"),
    ],
)
def test_further_data(text: str, says: str) -> None:
    _check(lambda: further_data(text, SamplingSettings(), OnProblem.REPORT), says)


def test_a_further_folder_with_a_name_that_no_file_has() -> None:
    with pytest.raises(DetectorError, match="background must be a whole number"):
        further_data("d:background=" + "9" * 5000, SamplingSettings(), OnProblem.REPORT)


def _npz(path: Path) -> Path:
    with path.open("wb") as file:
        np.savez(file, a=np.zeros(3))
    return path


def _objects(path: Path) -> Path:
    with path.open("wb") as file:
        np.savez(file, a=np.array([object()], dtype=object))
    return path


def _array(path: Path) -> Path:
    with path.open("wb") as file:
        np.save(file, np.zeros(3))
    return path


def _text(path: Path) -> Path:
    path.write_text("text")
    return path


def _saved(value: object) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        torch.save(value, path)
        return path

    return write


@pytest.mark.parametrize(
    ("read", "make", "says"),
    [
        pytest.param(read_bvlc, lambda path: path, "does not exist", id="bvlc: nothing"),
        pytest.param(read_bvlc, lambda path: path.parent, "is a folder: name a file", id="bvlc: a folder"),
        pytest.param(read_bvlc, _text, "is no whole .npz archive", id="bvlc: text"),
        pytest.param(read_bvlc, _array, "is no whole .npz archive", id="bvlc: one array"),
        pytest.param(read_bvlc, _objects, "'conv1_7x7_s2_w' is missing", id="bvlc: objects"),
        pytest.param(read_bvlc, _npz, "'conv1_7x7_s2_w' is missing", id="bvlc: another network"),
        pytest.param(read_torchvision, lambda path: path, "does not exist", id="nothing"),
        pytest.param(read_torchvision, _text, "is no whole file of tensors", id="text"),
        pytest.param(read_torchvision, _saved([1]), "holds no state dict", id="a list"),
        pytest.param(read_torchvision, _saved(3), "holds no state dict", id="a number"),
        pytest.param(read_torchvision, _saved({"fc.weight": 1}), "holds no state dict", id="numbers by name"),
        pytest.param(read_torchvision, _saved({1: torch.ones(1)}), "holds no state dict", id="no names"),
        pytest.param(
            read_torchvision, _saved({"fc.weight": torch.ones(())}), "no matrix 'fc.weight'", id="a scalar"
        ),
        pytest.param(
            read_torchvision, _saved(torch.nn.Linear(1, 1)), "is no whole file of tensors", id="code"
        ),
        pytest.param(
            read_torchvision, _saved({"fc.weight": torch.ones(3, 1024)}), "does not fit", id="one tensor"
        ),
    ],
)
def test_foreign_weights(
    tmp_path: Path, read: Callable[[Path], object], make: Callable[[Path], Path], says: str
) -> None:
    path = make(tmp_path / "weights")
    _check(lambda: read(path), says)


@pytest.mark.parametrize("array", ["text", "nan", "whole numbers"])
def test_bvlc_arrays_that_are_no_weights(tmp_path: Path, array: str) -> None:
    values = {"text": np.array(["a"]), "nan": np.array([np.nan]), "whole numbers": np.array([1])}
    np.savez(tmp_path / "a.npz", conv1_7x7_s2_w=values[array])
    says = "holds values that are not finite" if array == "nan" else "must hold numbers with a fraction"
    _check(lambda: read_bvlc(tmp_path / "a.npz"), f"'conv1_7x7_s2_w' {says}")


@pytest.mark.parametrize("header", [None, {"state": "x"}, {"state": "[]"}, {"state": "1"}, {"state": "{}"}])
def test_training_states(tmp_path: Path, header: dict[str, str] | None) -> None:
    path = tmp_path / "state.safetensors"
    save_file({"a": torch.zeros(1)}, path, metadata=header)
    _check(lambda: load_state(path, "run"), "is no training state that this version wrote (its header is")


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "used: the body is empty."),
        (b" \n", "used: the body is empty."),
        (b"{", "used: unexpected end of data in line 1, column 2."),
        (b"\xff", "used: it is not UTF-8."),
        (b'{"image": "\xed\xa0\x80"}', "used: it is not UTF-8."),
        (b"\xef\xbb\xbf{}", "used: it begins with a byte order mark"),
        (b"[]", "used: it is not an object with exactly one key."),
        (b'{"image": 1}', "used: 'image' must be a text, and is a number."),
        (b'{"file": null}', "used: 'file' must be a text, and is null."),
        (b'{"url": {}}', "used: 'url' must be a text, and is an object."),
        (b'{"image": true}', "used: 'image' must be a text, and is true or false."),
        (
            b'{"images": []}',
            "used: 'images' must be a list of texts, one picture or more, and is an empty",
        ),
        (
            b'{"files": [1]}',
            "must be a list of texts, one picture or more, and is a list with something",
        ),
        (b'{"images": "a"}', "'images' must be a list of texts, one picture or more, and is a text."),
    ],
)
def test_json_bodies(body: bytes, says: str) -> None:
    limits = UploadLimits(max_bytes=1000, max_pictures=4)
    _check(lambda: parse_json(body, limits), f"The JSON cannot be {says}" if says[:4] == "used" else says)


def test_the_pattern_knows_what_python_says() -> None:
    """Else the tests above say nothing."""
    for broken in (lambda: int("x"), lambda: json.loads(""), lambda: ilsvrc_det().ids["a"], lambda: [][1]):
        with pytest.raises(Exception, match=INSIDES):
            broken()

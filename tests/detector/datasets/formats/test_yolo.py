import re
from pathlib import Path

import numpy as np
import pytest

from detector.datasets.formats.yolo import yolo_entry
from detector.datasets.formats.yolo_labels import parse_yolo
from detector.datasets.layout import read_entries
from detector.datasets.problems import OnProblem, ProblemLog
from detector.structures.classes import ClassList
from tests.detector.datasets.small_folders import picture, text


@pytest.mark.parametrize(
    ("line", "keypoints", "number", "box"),
    [
        pytest.param("2 0.5 0.25 0.5 0.5", False, 2, [0.25, 0, 0.75, 0.5], id="centre and size"),
        pytest.param("0.0 .5 .5 1 1", False, 0, [0, 0, 1, 1], id="a class written as a float"),
        pytest.param("1 0.1 0.2 0.5 0.9 0.3 0.1", False, 1, [0.1, 0.1, 0.5, 0.9], id="outline: its box"),
        pytest.param(
            "1 0.5 0.5 0.2 0.2 0.4 0.4 2", True, 1, [0.4, 0.4, 0.6, 0.6], id="keypoints: passed over"
        ),
    ],
)
def test_each_form_of_a_line_is_read(
    tmp_path: Path, line: str, keypoints: bool, number: int, box: list[float]
) -> None:
    found = parse_yolo(text(tmp_path / "a.txt", "", line, ""), keypoints)
    assert found.numbers == [number]
    assert np.allclose(found.boxes, [box])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param("0 0.5 0.5 0.2", "3 numbers after the class", id="too few"),
        pytest.param("0", "0 numbers after the class", id="a class alone"),
        pytest.param(
            "0 0.5 0.5 0.2 0.2 0.9", "5 numbers after the class", id="a score at the end: a prediction"
        ),
        pytest.param("cat 0.5 0.5 0.2 0.2", "something else where a number belongs", id="a name"),
        pytest.param("0.5 0.5 0.5 0.2 0.2", "no whole number", id="half a class"),
        pytest.param("nan 0.5 0.5 0.2 0.2", "no whole number", id="no class"),
        pytest.param("0 nan 0.5 0.2 0.2", "not finite", id="no number"),
        pytest.param("0 320 240 100 50", "not pixels", id="pixels"),
    ],
)
def test_lines_that_say_something_else(tmp_path: Path, line: str, message: str) -> None:
    found = parse_yolo(text(tmp_path / "a.txt", "0 0.5 0.5 0.2 0.2", line))
    assert found.numbers == [0], "the sound line stays"
    (said,) = found.unreadable
    assert re.search(f"a.txt, line 2: .*{message}", said)


@pytest.mark.parametrize(
    ("lines", "orientation", "boxes", "kinds"),
    [
        pytest.param(["1 0.5 0.5 1 1"], 1, [[0, 0, 100, 80]], [], id="the whole picture"),
        pytest.param(["1 0.5 0.25 1 0.5"], 6, [[0, 0, 80, 50]], [], id="shares are of the upright picture"),
        pytest.param([], 1, [], [], id="an empty file: nothing in the picture"),
        pytest.param(None, 1, [], [], id="no file: nothing in the picture"),
        pytest.param(["0 0.501 0.5 1 1"], 1, [[0.1, 0, 100, 80]], [], id="outside by rounding: to the edge"),
        pytest.param(["0 0.6 0.5 1 1"], 1, [[10, 0, 100, 80]], ["box_outside"], id="outside in part"),
        pytest.param(["0 1.5 0.5 0.2 0.2"], 1, [], ["box_outside"], id="outside wholly"),
        pytest.param(["0 0.5 0.5 0 0.1"], 1, [], ["empty_box"], id="a line"),
        pytest.param(["2 0.5 0.5 0.2 0.2"], 1, [], ["unknown_class"], id="no third class"),
        pytest.param(["-1 0.5 0.5 0.2 0.2"], 1, [], ["unknown_class"], id="nor one before the first"),
        pytest.param(
            ["0 0.5"], 1, None, ["unreadable_object", "unreadable_annotation"], id="only a bad line"
        ),
        pytest.param(
            ["1 0.5 0.5 1 1", "0 0.5"],
            1,
            [[0, 0, 100, 80]],
            ["unreadable_object"],
            id="a bad line beside one",
        ),
    ],
)
@pytest.mark.parametrize("check_images", [True, False])
def test_records_of_label_files_and_pictures(
    tmp_path: Path,
    lines: list[str] | None,
    orientation: int,
    boxes: list[list[float]] | None,
    kinds: list[str],
    check_images: bool,
) -> None:
    path = picture(tmp_path / "a.jpg", orientation=orientation)
    labels = tmp_path / "a.txt"
    if lines is not None:
        text(labels, *lines)
    log = ProblemLog(OnProblem.REPORT)
    records = read_entries([yolo_entry("a", path, labels, ClassList.of(["nut", "bolt"]))], log, check_images)
    assert [problem.kind for problem in log.problems] == kinds
    if boxes is None:
        assert records == []
        return
    (record,) = records
    assert (record.width, record.height) == ((80, 100) if orientation == 6 else (100, 80))
    assert np.allclose(record.boxes, np.array(boxes).reshape(-1, 4), atol=1e-3)
    numbers = [int(line.split()[0]) for line in (lines or [])]
    assert [int(label) for label in record.labels] == numbers[: len(boxes)]


@pytest.mark.parametrize(
    ("content", "kind"), [(None, "missing_image"), (b"", "unreadable_image"), (b"<html>", "unreadable_image")]
)
def test_broken_pictures(tmp_path: Path, content: bytes | None, kind: str) -> None:
    path = tmp_path / "a.jpg"
    if content is not None:
        path.write_bytes(content)
    log = ProblemLog(OnProblem.REPORT)
    assert read_entries([yolo_entry("a", path, tmp_path / "a.txt", ClassList.of(["nut"]))], log, True) == []
    assert [problem.kind for problem in log.problems] == [kind]

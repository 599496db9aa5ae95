"""Files of results, read again by who reads such files: this project's readers, pycocotools, csv, json."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.datasets.open import open_dataset
from detector.errors import ParameterError, WriteError
from detector.io.result_files import Format, JsonLines, Result, format_of, open_result_file
from detector.structures.classes import ClassList

CLASSES = ClassList(("n02084071", "n02121808", "crab"), ("dog", "domestic cat", "crab, <small>"))


def entry(label: int, score: float, *box: float) -> dict[str, object]:
    class_id = CLASSES.ids[label]
    key = "wnid" if class_id.startswith("n0") else "class_id"
    corners = dict(zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
    return {"label": CLASSES.names[label], key: class_id, "score": score, "box": corners}


def result(image: str, *entries: dict[str, object], **more: object) -> Result:
    return {"image": image, "width": 80, "height": 60, "frames": 1, "detections": list(entries), **more}


RESULTS = [
    result("pictures/a.jpg", entry(1, 0.9, 10.4, 20.2, 30.5, 40.0), entry(2, 0.4, 0.0, 0.0, 80.0, 60.0)),
    result("pictures/deep/b.jpg"),
    result("pictures/c.jpg", entry(0, 0.5, 70.2, 50.5, 79.6, 59.9)),
]
BELOW = [Path("a.jpg"), Path("deep/b.jpg"), Path("c.jpg")]
BOXES = {
    "a": [("domestic cat", (10.4, 20.2, 30.5, 40.0)), ("crab, <small>", (0, 0, 80, 60))],
    "b": [],
    "c": [("dog", (70.2, 50.5, 79.6, 59.9))],
}


def write(path: Path, form: Format) -> None:
    file = open_result_file(path, form, CLASSES)
    for one, below in zip(RESULTS, BELOW, strict=True):
        file.add(one, below)
    file.close()


def pictures(folder: Path) -> None:
    for below in BELOW:
        (folder / below).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60)).save(folder / below)


def test_json(tmp_path: Path) -> None:
    write(tmp_path / "a.json", Format.JSON)
    assert json.loads((tmp_path / "a.json").read_text()) == RESULTS


def test_json_lines_are_there_as_they_come(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.jsonl"
    file = open_result_file(path, Format.JSONL, CLASSES)
    for number, one in enumerate(RESULTS, start=1):
        file.add(one, BELOW[0])
        assert [json.loads(line) for line in path.read_text().splitlines()] == RESULTS[:number]
    file.close()


def test_csv(tmp_path: Path) -> None:
    write(tmp_path / "a.csv", Format.CSV)
    rows = list(csv.DictReader((tmp_path / "a.csv").open()))
    assert [row["label"] for row in rows] == ["domestic cat", "crab, <small>", "dog"]
    assert rows[0] == {
        "image": "pictures/a.jpg", "frame": "", "label": "domestic cat", "class_id": "n02121808",
        "score": "0.9", "xmin": "10.4", "ymin": "20.2", "xmax": "30.5", "ymax": "40.0",
    }  # fmt: skip


def test_csv_of_whole_pictures(tmp_path: Path) -> None:
    file = open_result_file(tmp_path / "a.csv", Format.CSV, CLASSES)
    file.add({"image": "a.jpg", "classes": [{"label": "dog", "class_id": "x", "score": 0.5}]}, BELOW[0])
    file.close()
    assert (tmp_path / "a.csv").read_text().splitlines()[1] == "a.jpg,,dog,x,0.5,,,,"


def test_coco_is_what_pycocotools_loads(tmp_path: Path) -> None:
    from pycocotools.coco import COCO

    write(tmp_path / "a.json", Format.COCO)
    coco = COCO(str(tmp_path / "a.json"))
    assert [image["file_name"] for image in coco.loadImgs(coco.getImgIds())] == [
        one["image"] for one in RESULTS
    ]
    first = coco.anns[1]
    assert (first["category_id"], first["bbox"], first["score"]) == (2, [10.4, 20.2, 20.1, 19.8], 0.9)
    assert coco.loadCats([3])[0]["name"] == "crab, <small>"


@pytest.mark.parametrize(
    ("form", "most"),
    [
        pytest.param(Format.COCO, 0.06, id="coco"),
        pytest.param(Format.YOLO, 0.06, id="yolo"),
        pytest.param(Format.VOC, 1.0, id="voc, in whole pixels"),
    ],
)
def test_what_was_found_can_be_learned_from(tmp_path: Path, form: Format, most: float) -> None:
    """Layouts of labels: corrected by hand, they are what training reads."""
    if form is Format.COCO:
        pictures(tmp_path / "pictures")
        write(tmp_path / "annotations.json", form)
    elif form is Format.YOLO:
        pictures(tmp_path / "images")
        write(tmp_path / "labels", form)
    else:
        pictures(tmp_path)
        write(tmp_path, form)
    folder = open_dataset(tmp_path)
    dataset = folder.read()
    assert not dataset.problems
    found = {}
    for image in dataset.records:
        names = [folder.classes.names[label] for label in image.labels]
        found[image.path.stem] = list(zip(names, image.boxes.tolist(), strict=True))
    assert found.keys() == BOXES.keys()
    for name, expected in BOXES.items():
        assert [label for label, _ in found[name]] == [label for label, _ in expected]
        for (_, box), (_, wanted) in zip(found[name], expected, strict=True):
            assert np.abs(np.subtract(box, wanted)).max() <= most


@pytest.mark.parametrize("form", [Format.YOLO, Format.VOC])
def test_pictures_of_one_name_do_not_share_a_file(tmp_path: Path, form: Format) -> None:
    file = open_result_file(tmp_path, form, CLASSES)
    file.add(RESULTS[0], Path("a.jpg"))
    with pytest.raises(WriteError, match="another picture of the same name"):
        file.add(RESULTS[1], Path("a.png"))
    file.add(RESULTS[1], Path("other/a.png"))
    file.add(result("a.mp4", frame=30), Path("a.mp4"))
    suffix = {"yolo": "txt", "voc": "xml"}[form]
    assert (tmp_path / f"a-000030.{suffix}").is_file()


@pytest.mark.parametrize("below", ["/pictures/a.jpg", "../a.jpg"])
def test_files_of_pictures_stay_within_the_folder(tmp_path: Path, below: str) -> None:
    file = open_result_file(tmp_path / "labels", Format.YOLO, CLASSES)
    with pytest.raises(ValueError, match="below a folder"):
        file.add(RESULTS[0], Path(below))


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("a.json", "json"),
        ("a.JSONL", "jsonl"),
        ("a.ndjson", "jsonl"),
        ("a.csv", "csv"),
        ("a.txt", None),
        ("a", None),
    ],
)
def test_the_name_says_the_form(name: str, form: str | None) -> None:
    if form is not None:
        assert format_of(Path(name)) == form
        return
    with pytest.raises(ParameterError, match=r"--format json\|jsonl\|csv"):
        format_of(Path(name))


def lines_of(path: Path, *, resume: bool) -> list[Result]:
    file = JsonLines(path, resume=resume)
    earlier = list(file.earlier("detections"))
    file.close()
    return earlier


WHOLE = [json.dumps(one) for one in RESULTS]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        pytest.param("", 0, id="an empty file"),
        pytest.param(WHOLE[0] + "\n", 1, id="a line"),
        pytest.param(WHOLE[0] + "\n" + WHOLE[1], 1, id="a line without its end is done again"),
        pytest.param("\n".join(WHOLE) + "\n" + WHOLE[0][:20], 3, id="half a line behind whole ones"),
        pytest.param(WHOLE[0][:20], 0, id="half a line alone"),
        pytest.param(
            (WHOLE[0] + "\n") * 900 + WHOLE[0][:20] + "x" * 70_000, 900, id="half a line, longer than a block"
        ),
    ],
)
def test_resumed_lines(tmp_path: Path, text: str, kept: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(text)
    assert len(lines_of(path, resume=True)) == kept
    assert path.read_text() == "".join(f"{line}\n" for line in text.splitlines()[:kept])


@pytest.mark.parametrize(
    "text",
    [
        *(b"no results\n", b'{"a": 1}\n', b"[]\n", b"7\n", b"\xff\n"),
        pytest.param(b'{"image": "a.jpg"}\n', id="names a picture, and says nothing of it"),
        pytest.param(
            b'{"image": "a.jpg", "width": 1, "height": 1, "classes": []}\n', id="of detector classify"
        ),
    ],
)
def test_lines_of_others_are_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(text)
    with pytest.raises(ParameterError, match=r"line 1 of .* holds no detections"):
        lines_of(tmp_path / "a.jsonl", resume=True)
    assert (tmp_path / "a.jsonl").read_bytes() == text


@pytest.mark.parametrize("text", ["my notes", "first\nsecond", WHOLE[0] + "\nmine", '{"name": "a"}'])
def test_of_a_file_of_others_nothing_is_cut_off(tmp_path: Path, text: str) -> None:
    """Also where it ends without a newline."""
    (tmp_path / "a.jsonl").write_text(text)
    with pytest.raises(ParameterError, match="ends in something that is no result"):
        lines_of(tmp_path / "a.jsonl", resume=True)
    assert (tmp_path / "a.jsonl").read_text() == text


def test_a_full_disk_is_told_once() -> None:
    file = JsonLines(Path("/dev/full"), resume=False)
    with pytest.raises(WriteError, match="the disk is full"):
        file.add(RESULTS[0], Path("a.jpg"))
    file.close()


def test_a_file_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(WHOLE[0] + "\n")
    with pytest.raises(ParameterError, match="--resume, or delete it"):
        lines_of(tmp_path / "a.jsonl", resume=False)
    (tmp_path / "a.jsonl").write_text("")
    assert lines_of(tmp_path / "a.jsonl", resume=False) == []

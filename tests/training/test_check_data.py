"""What check_data finds: each kind on a data set that is sound but for one thing."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.datasets.open import open_dataset
from tests.run_command import run_command
from training.check_data import main
from training.checking.check import check_data, whole_splits
from training.checking.findings import LEFT_OUT, TITLES
from training.checking.images import Seen, near_duplicates, same_bytes, scan_images

SIZE = (100, 80)
OBJECT = ("nut", 11, 11, 50, 60)
Object = tuple[str, int, int, int, int]


def write_image(path: Path, seed: int) -> None:
    """Grey blots: no two seeds look alike."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = np.random.default_rng(seed).integers(0, 256, (9, 10, 3), dtype=np.uint8)
    Image.fromarray(cells).resize(SIZE).save(path, quality=95)


def annotate(path: Path, *objects: Object, size: tuple[int, int] = SIZE) -> None:
    things = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
        f"<ymax>{y2}</ymax></bndbox></object>"
        for name, x1, y1, x2, y2 in objects
    )
    stated = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
    path.write_text(f"<annotation>{stated}{things}</annotation>")


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    """Flat VOC, pictures of nuts: twenty to learn from, two to measure by."""
    root = tmp_path / "data"
    for split, count in (("train", 20), ("val", 2)):
        for number in range(count):
            path = root / f"{split}/{number:02}.jpg"
            write_image(path, seed=100 * len(split) + number)
            annotate(path.with_suffix(".xml"), OBJECT)
    return root


def recompress(root: Path, source: str, copy: str) -> None:
    Image.open(root / source).resize((150, 120)).save(root / copy, quality=70)


def cut_off(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-400])


def stray_image(root: Path) -> None:
    write_image(root / "train/stray.png", seed=7)


CASES: list[tuple[str, str, Callable[[Path], object]]] = [
    ("missing_image", "an annotation without picture", lambda root: (root / "train/03.jpg").unlink()),
    ("unreadable_image", "no picture at all", lambda root: (root / "train/03.jpg").write_text("<html>")),
    ("unreadable_image", "a sound header, pixels cut off", lambda root: cut_off(root / "train/03.jpg")),
    ("unreadable_annotation", "XML cut off", lambda root: (root / "train/03.xml").write_text("<annotation>")),
    ("empty_box", "a click", lambda root: annotate(root / "train/03.xml", OBJECT, ("nut", 9, 9, 9, 9))),
    (
        "box_wholly_outside",
        "below the picture",
        lambda root: annotate(root / "train/03.xml", OBJECT, ("nut", 10, 200, 50, 230)),
    ),
    ("box_outside", "over the edge", lambda root: annotate(root / "train/03.xml", ("nut", 60, 1, 140, 60))),
    ("size_mismatch", "another size", lambda root: annotate(root / "train/03.xml", OBJECT, size=(200, 160))),
    (
        "duplicate_box",
        "drawn twice, a pixel apart",
        lambda root: annotate(root / "train/03.xml", OBJECT, ("nut", 11, 12, 50, 60)),
    ),
    ("tiny_box", "a speck", lambda root: annotate(root / "train/03.xml", OBJECT, ("nut", 70, 1, 76, 20))),
    ("no_objects", "all deleted", lambda root: annotate(root / "val/01.xml")),
    ("unlisted_picture", "not annotated", stray_image),
    ("unread_kind", "as telephones save it", lambda root: (root / "train/a.heic").write_bytes(b"")),
    (
        "duplicate_picture",
        "the same file twice",
        lambda root: shutil.copy(root / "train/01.jpg", root / "train/02.jpg"),
    ),
    (
        "duplicate_across_splits",
        "learnt and measured",
        lambda root: shutil.copy(root / "train/01.jpg", root / "val/01.jpg"),
    ),
    (
        "near_duplicate",
        "a copy compressed anew",
        lambda root: recompress(root, "train/01.jpg", "train/02.jpg"),
    ),
    (
        "near_duplicate_across_splits",
        "a copy of another size",
        lambda root: recompress(root, "train/01.jpg", "val/01.jpg"),
    ),
]
BESIDES = {"few_objects", "size_mismatch"}  # what follows of a case: one object less, a copy of another size


def test_a_sound_set_has_no_findings(sound: Path) -> None:
    checked = check_data(open_dataset(sound))
    assert checked.findings == []
    assert not checked.leaves_out
    assert {split: counts.objects.tolist() for split, counts in checked.counts.items()} == {
        "train": [20],
        "val": [2],
    }


@pytest.mark.parametrize(
    ("kind", "spoil"), [(kind, spoil) for kind, _, spoil in CASES], ids=[c[1] for c in CASES]
)
def test_each_kind(sound: Path, kind: str, spoil: Callable[[Path], object]) -> None:
    spoil(sound)
    checked = check_data(open_dataset(sound))
    kinds = [finding.kind for finding in checked.findings]
    assert kinds.count(kind) == 1
    assert set(kinds) <= {kind, *BESIDES}
    assert checked.leaves_out == (kind in LEFT_OUT)


CLASSES: list[tuple[str, dict[str, list[str]], set[tuple[str, str]]]] = [
    ("sound", {"train": ["nut"] * 20, "val": ["nut"]}, set()),
    ("few to learn from", {"train": ["nut"] * 19, "val": ["nut"]}, {("few_objects", "nut")}),
    (
        "only in val",
        {"train": ["nut"] * 20, "val": ["nut", "bolt"]},
        {("class_not_trained", "bolt")},
    ),
    (
        "only in train",
        {"train": ["nut", "bolt"] * 20, "val": ["nut"]},
        {("class_not_measured", "bolt")},
    ),
    (
        "spelt in two ways",
        {"train": ["hex nut", "Hex-Nut"] * 20, "val": ["hex nut", "Hex-Nut"]},
        {("similar_classes", "hex nut")},
    ),
    ("of one piece: nothing to measure by is no finding", {"all": ["nut"] * 20}, set()),
]


@pytest.mark.parametrize(("splits", "found"), [row[1:] for row in CLASSES], ids=[row[0] for row in CLASSES])
def test_classes_that_cannot_be_learnt_or_measured(
    tmp_path: Path, splits: dict[str, list[str]], found: set[tuple[str, str]]
) -> None:
    for split, names in splits.items():
        write_image(tmp_path / f"{split}/0.jpg", seed=len(split))
        boxes = [(name, 1 + number, 1, 20 + 2 * number, 30) for number, name in enumerate(names)]
        annotate(tmp_path / f"{split}/0.xml", *boxes)
    findings = check_data(open_dataset(tmp_path)).findings
    about_classes = {
        "few_objects",
        "class_not_trained",
        "class_not_measured",
        "class_unused",
        "similar_classes",
    }
    assert {(one.kind, one.where) for one in findings if one.kind in about_classes} == found


def test_an_unknown_class_and_a_class_without_objects(tmp_path: Path) -> None:
    (tmp_path / "data.yaml").write_text("names: [nut, bolt]")
    write_image(tmp_path / "images/a.jpg", seed=1)
    (tmp_path / "labels").mkdir()
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0.4 0.4\n5 0.2 0.2 0.3 0.3\n")
    findings = check_data(open_dataset(tmp_path)).findings
    assert {(one.kind, one.where) for one in findings} == {
        ("unknown_class", "images/a"),
        ("class_unused", "bolt"),
        ("few_objects", "nut"),
    }


def test_without_decoding_a_cut_picture_passes(sound: Path) -> None:
    cut_off(sound / "train/03.jpg")
    recompress(sound, "train/01.jpg", "train/02.jpg")
    shutil.copy(sound / "train/04.jpg", sound / "val/01.jpg")
    kinds = {finding.kind for finding in check_data(open_dataset(sound), decoded=False).findings}
    assert kinds == {"duplicate_across_splits", "size_mismatch"}


def test_one_picture_in_two_lists(sound: Path, tmp_path: Path) -> None:
    lists = [tmp_path / "learn.txt", tmp_path / "measure.txt"]
    for path, names in zip(lists, (["train/00", "train/01"], ["train/01"]), strict=True):
        path.write_text("\n".join(names))
    found = check_data(open_dataset(sound), [str(path) for path in lists]).findings
    assert [one.where for one in found if one.kind == "duplicate_across_splits"] == ["train/01"]


@pytest.mark.parametrize(
    ("splits", "whole"),
    [
        ("train val", "train val"),
        ("train trainval val test", "train val test"),
        ("trainval test", "trainval test"),
        ("train val val1 val2", "train val"),
    ],
)
def test_unions_and_parts_of_splits_are_not_checked_again(sound: Path, splits: str, whole: str) -> None:
    home = sound / "JPEGImages"
    home.mkdir()
    (sound / "Annotations").mkdir()
    write_image(home / "a.jpg", seed=1)
    annotate(sound / "Annotations/a.xml", OBJECT)
    (sound / "ImageSets/Main").mkdir(parents=True)
    for split in splits.split():
        (sound / f"ImageSets/Main/{split}.txt").write_text("a\n")
    assert whole_splits(open_dataset(sound)) == whole.split()


def thumbnail(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (16, 16), dtype=np.uint8)


def test_duplicates_among_many() -> None:
    """Three copies are named twice, plain pictures never, and what only has the same hash is no copy."""
    rng = np.random.default_rng(0)
    seen = [Seen(bytes([number]), thumbnail(number)) for number in range(100)]
    noisy = np.clip(thumbnail(5).astype(int) + rng.integers(-2, 3, (16, 16)), 0, 255).astype(np.uint8)
    plain = np.full((16, 16), 128, np.uint8)
    ramp = np.tile(np.arange(16, dtype=np.uint8), (16, 1))
    seen += [Seen(b"x", noisy), Seen(b"y", noisy), Seen(bytes([7]), thumbnail(7))]
    seen += [Seen(b"p", plain), Seen(b"q", plain)]
    seen += [Seen(b"r", ramp * 2), Seen(b"s", ramp * 16)]  # brighter to the right, both, and no copies
    seen += [Seen(b"", error="gone"), Seen(b"", error="gone")]
    assert list(same_bytes(seen)) == [(7, 102)]
    assert list(near_duplicates(seen)) == [(5, 100), (5, 101)]


def test_a_picture_that_vanishes_is_seen_as_unreadable(tmp_path: Path) -> None:
    write_image(tmp_path / "a.jpg", seed=1)
    whole, gone = scan_images([tmp_path / "a.jpg", tmp_path / "b.jpg"])
    assert whole.error == ""
    assert "No such file" in gone.error


def test_the_command_prints_writes_and_says_by_its_status_whether_something_is_lost(
    sound: Path, tmp_path: Path
) -> None:
    chart = tmp_path / "chart.png"
    status, output = run_command(main, sound, "--chart", chart)
    assert status == 0
    assert "Nothing has to be left out" in output
    assert Image.open(chart).format == "PNG"

    (sound / "train/03.jpg").unlink()
    annotate(sound / "val/01.xml")
    for report in (tmp_path / "report.json", tmp_path / "report.csv"):
        status, output = run_command(main, sound, "--report", report)
        assert status == 1
        assert TITLES["missing_image"] in output
        assert "Problems that leave something out: 1." in output
    content = json.loads((tmp_path / "report.json").read_text())
    rows = list(csv.DictReader((tmp_path / "report.csv").open()))
    assert [one["kind"] for one in content["findings"]] == [row["kind"] for row in rows]
    assert {one["kind"]: one["leaves_out"] for one in content["findings"]} == {
        "missing_image": True,
        "no_objects": False,
        "few_objects": False,
    }
    assert content["splits"]["train"]["objects_by_class"] == [19]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report", "problems.txt"], "must end in .json or .csv"),
        (["--split", "test"], "its splits are train, val"),
        (["--format", "coco"], "--format coco"),
    ],
)
def test_the_command_refuses(sound: Path, arguments: list[str], message: str) -> None:
    status, output = run_command(main, sound, *arguments)
    assert status == 1
    assert output.startswith("error: ")
    assert message in output

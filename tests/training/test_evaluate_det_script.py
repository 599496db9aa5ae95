"""The command that measures detectors, on small sets with detectors that learned nothing."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detector.datasets.open import Format, open_dataset
from detector.datasets.problems import OnProblem
from detector.errors import ParameterError
from detector.evaluation.coco import write_coco_results
from detector.evaluation.ilsvrc import write_ilsvrc_results
from detector.inference.scoring import Scoring
from detector.models.checkpoint import load_checkpoint, save_checkpoint
from detector.models.region_network import RegionNetwork
from detector.models.weights import read_metadata
from detector.options import Profile
from detector.pretrained import SHIPPED
from detector.structures.classes import ilsvrc_det
from detector.structures.detections import Detections
from tests.training.small_sets import rectangles, write_coco, write_ilsvrc, write_voc
from training.evaluate_det import main
from training.evaluating.configurations import parse_scoring
from training.evaluating.data import open_measured
from training.evaluating.figures import RuleName, usual_rules

Printed = pytest.CaptureFixture[str]


@pytest.fixture(scope="module")
def ilsvrc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three pictures of accordions in the official layout."""
    root = tmp_path_factory.mktemp("ilsvrc")
    write_ilsvrc(root, "DET", "val", rectangles(3, seed=1), wnid=ilsvrc_det().ids[0])
    return root


@pytest.fixture
def mine(checkpoint_path: Path, tmp_path: Path) -> Path:
    path = tmp_path / "mine.safetensors"
    path.write_bytes(checkpoint_path.read_bytes())
    return path


def perfect(root: Path, split: str | None = None) -> dict[str, Detections]:
    """The objects themselves as detections."""
    records = open_dataset(root).read(split).records
    return {
        one.image_id: Detections(one.boxes, one.labels, np.ones(len(one.boxes), np.float32))
        for one in records
    }


def last_line(printed: Printed) -> list[str]:
    return printed.readouterr().out.splitlines()[-1].split()


def test_it_measures_and_records(ilsvrc: Path, mine: Path, tmp_path: Path, capsys: Printed) -> None:
    figures = tmp_path / "figures.json"
    main(ilsvrc, [mine], max_proposals=5, device="cpu", record=True, every=2, json_file=figures)
    printed = capsys.readouterr().out
    assert "2 pictures of DET/val" in printed
    assert "where mAP is lost" in printed
    assert read_metadata(mine).metrics.keys() == {"DET/val mAP, search, 5 proposals, 2 pictures"}

    written = json.loads(figures.read_text())
    (run,) = written["runs"]
    assert (written["data"], written["pictures"]) == ("DET/val", 2)
    assert run["speed"]["proposals"] == 5
    assert run["settings"]["weights"] == [str(mine)]
    assert run["rules"]["ilsvrc"]["classes"][0]["objects"] == 2
    assert run["errors"]["objects"] == 2
    assert 0 <= run["coco"]["ap"] <= 1
    assert run["coco"]["ap_large"] is None, "no object is that large, and JSON knows no NaN"


def test_thresholds_go_into_other_weights(ilsvrc: Path, mine: Path, tmp_path: Path, capsys: Printed) -> None:
    """Of a detector that calls everything an accordion one in fifty is right, and not seven of ten."""
    checkpoint = load_checkpoint(mine)
    assert isinstance(checkpoint.network, RegionNetwork)
    checkpoint.backbone.classifier.bias.data[checkpoint.network.pooling.labels == 0] += 1000
    scoring = Scoring(box_regression=False, nms_iou=0.95)
    save_checkpoint(mine, replace(checkpoint, metadata=replace(checkpoint.metadata, scoring=scoring)))
    target, before = tmp_path / "thresholds.safetensors", mine.read_bytes()
    options = {"max_proposals": 20, "device": "cpu", "thresholds_to": target}
    main(ilsvrc, [mine], precision_wanted=0.02, **options)
    printed = capsys.readouterr().out
    assert mine.read_bytes() == before
    thresholds = read_metadata(target).thresholds
    assert thresholds is not None
    assert (thresholds.precision, len(thresholds.scores)) == (0.02, 200)
    assert thresholds.measured_on == "DET/val, ilsvrc rule, search, 3 pictures"
    assert "found %" in printed
    assert f"{target}: thresholds for" in printed
    assert replace(read_metadata(target), thresholds=None) == read_metadata(mine)

    target.unlink()
    with pytest.raises(SystemExit, match=r"a precision of 0\.7 on these pictures: want less with"):
        main(ilsvrc, [mine], precision_wanted=0.7, **options)
    assert not target.exists()


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"precision_wanted": 70.0}, "the precision wanted must lie between 0 and 1, got 70"),
        ({"weights": [SHIPPED, SHIPPED]}, "one --weights"),
        ({"ensemble": True}, "no --ensemble"),
        ({"scoring": ["own:"]}, "no --ensemble, --scoring"),
        ({"profile": [Profile.FAST, Profile.SEARCH]}, "one --profile at most"),
        ({"rule": [RuleName.COCO]}, "a rule that says what is right"),
    ],
    ids=lambda value: str(value)[:24],
)
def test_thresholds_that_cannot_be_measured(
    ilsvrc: Path, mine: Path, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    """Said before any picture is looked at."""
    given = {"weights": [mine], **options}
    with pytest.raises(SystemExit, match=says):
        main(ilsvrc, thresholds_to=tmp_path / "new.safetensors", device="cpu", **given)


@pytest.mark.exhaustive
def test_scorings_ensemble_and_cache(ilsvrc: Path, mine: Path, tmp_path: Path, capsys: Printed) -> None:
    """One and two networks as one under two scorings; once more, every picture comes out of the cache."""
    other = tmp_path / "other.safetensors"
    save_checkpoint(other, load_checkpoint(mine))
    options = {
        "scoring": ["own:", "far: nms_iou=0.9, box_regression=false"],
        "ensemble": True,
        "max_proposals": 4,
        "device": "cpu",
        "every": 3,
        "rule": [RuleName.ILSVRC],
        "cache": tmp_path / "cache",
    }
    main(ilsvrc, [mine, other], **options)
    first = capsys.readouterr().out
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")}
    assert len(kept) == 4
    main(ilsvrc, [mine, other], **options)
    assert capsys.readouterr().out == first, "to the last digit of the seconds"
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "cache").rglob("*.safetensors")} == kept
    rows = [line.split(", ") for line in first.splitlines()[-4:]]
    sizes = ["1 of 2: untrained-folded", "ensemble of 2: untrained-folded"]
    assert [row[0] for row in rows] == sizes * 2
    assert [row[2].split()[0] for row in rows] == ["own", "own", "far", "far"]


@pytest.mark.exhaustive
def test_what_is_saved_of_an_ensemble_is_of_all(ilsvrc: Path, mine: Path, tmp_path: Path) -> None:
    """And JSON says of every row which weights it is of."""
    other, figures, saved = (tmp_path / name for name in ("other.safetensors", "all.json", "det.json"))
    checkpoint = load_checkpoint(mine)
    with torch.no_grad():
        for value in checkpoint.network.parameters():
            value.mul_(0.8)
    save_checkpoint(other, checkpoint)
    options = {"max_proposals": 4, "device": "cpu", "every": 3, "rule": [RuleName.ILSVRC]}
    main(ilsvrc, [mine, other], ensemble=True, save_results=saved, json_file=figures, **options)
    rows = json.loads(figures.read_text())["runs"]
    assert [row["settings"]["weights"] for row in rows] == [[str(mine)], [str(mine), str(other)]]
    main(ilsvrc, results=[saved], json_file=figures, **options)
    (again,) = json.loads(figures.read_text())["runs"]
    assert again["errors"]["counts"] == rows[1]["errors"]["counts"] != rows[0]["errors"]["counts"]


def test_weights_of_one_name_are_told_apart_by_their_files(
    ilsvrc: Path, mine: Path, checkpoint_path: Path, capsys: Printed
) -> None:
    main(ilsvrc, [mine, checkpoint_path], max_proposals=1, device="cpu", every=3, rule=[RuleName.VOC])
    for line, path in zip(capsys.readouterr().out.splitlines()[-2:], (mine, checkpoint_path), strict=True):
        assert line.startswith(f"untrained-folded ({path}), search")


def test_files_of_detections(ilsvrc: Path, tmp_path: Path, capsys: Printed) -> None:
    """No network: what was found by somebody else is measured, both forms in one run."""
    detections = perfect(ilsvrc)
    ids = list(detections)
    write_ilsvrc_results(tmp_path / "det.txt", detections, ids)
    write_coco_results(tmp_path / "det.json", {ids[0]: detections[ids[0]]}, list(range(1, 201)))
    main(ilsvrc, results=[tmp_path / "det.txt", tmp_path / "det.json"])
    lines = [line.split()[:3] for line in capsys.readouterr().out.splitlines()[-2:]]
    assert lines[0] == ["det.txt", "100.00", "100.00"]
    assert lines[1][:2] == ["det.json", "33.33"]


def test_figures_are_printed_where_their_file_cannot_be_written(
    ilsvrc: Path, tmp_path: Path, capsys: Printed
) -> None:
    write_ilsvrc_results(tmp_path / "det.txt", perfect(ilsvrc), list(perfect(ilsvrc)))
    with pytest.raises(SystemExit, match="cannot write /dev/full: the disk is full"):
        main(ilsvrc, results=[tmp_path / "det.txt"], json_file=Path("/dev/full"))
    assert last_line(capsys)[:2] == ["det.txt", "100.00"]


@pytest.mark.parametrize("name", ["a.safetensors", "a.jpg", "folder"])
def test_where_figures_go_is_checked_first(ilsvrc: Path, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.mkdir() if name == "folder" else path.write_text("kept")
    with pytest.raises(SystemExit, match=r"is there, and no results|a folder is in the way"):
        main(ilsvrc, results=[tmp_path / "nowhere.txt"], json_file=path)


@pytest.mark.parametrize("name", ["out.txt", "out.json"])
def test_what_is_saved_measures_the_same(ilsvrc: Path, mine: Path, name: str, tmp_path: Path) -> None:
    """COCO's form keeps boxes as they are; ILSVRC's rounds corners, which may move a box over a threshold."""
    path, figures = tmp_path / name, tmp_path / "figures.json"
    options = {"rule": [RuleName.ILSVRC], "every": 3, "json_file": figures}
    main(ilsvrc, [mine], max_proposals=20, device="cpu", save_results=path, **options)
    own = json.loads(figures.read_text())["runs"][0]
    main(ilsvrc, results=[path], **options)
    again = json.loads(figures.read_text())["runs"][0]
    wrong = [sum(one["errors"]["counts"].values()) for one in (own, again)]
    assert wrong[0] == wrong[1] > 5
    if name.endswith("json"):
        assert again["rules"] == own["rules"]
        assert again["errors"]["counts"] == own["errors"]["counts"]


def test_pascal_voc_by_a_detector_of_the_200_classes(mine: Path, tmp_path: Path, capsys: Printed) -> None:
    """All objects are dogs, which the 200 classes know; by 2007's rule, that since 2010, and COCO's."""
    write_voc(tmp_path / "voc", rectangles(3, seed=2))
    listed = tmp_path / "list.txt"
    listed.write_text("p02\np00\n")
    main(tmp_path / "voc", [mine], split=str(listed), max_proposals=5, device="cpu")
    printed = capsys.readouterr().out
    assert "2 pictures of voc/list" in printed
    assert printed.splitlines()[-2].split()[:6] == ["voc07", "mAP", "%", "voc", "mAP", "%"]


def test_coco_numbers_its_categories(tmp_path: Path, capsys: Printed) -> None:
    write_coco(tmp_path, "val", rectangles(2, seed=3))
    data = open_measured(tmp_path, format=None, split=None, on_problem=OnProblem.REPORT, every=1)
    assert data.split == "val"
    path = tmp_path / "results.json"
    data.write_results(path, perfect(tmp_path, "val"))
    assert {entry["category_id"] for entry in json.loads(path.read_text())} == {7}
    main(tmp_path, results=[path])
    assert last_line(capsys)[:3] == ["results.json", "100.00", "100.00"]


def test_detections_in_pictures_that_are_left_out_are_told(tmp_path: Path, capsys: Printed) -> None:
    """One broken annotation costs its picture, not the measure; pictures that the data lacks are refused."""
    write_coco(tmp_path, "val", rectangles(3, seed=3))
    results = tmp_path / "results.json"
    write_coco_results(results, perfect(tmp_path, "val"), [7])
    instances = tmp_path / "annotations/instances_val.json"
    content = json.loads(instances.read_text())
    content["annotations"][0]["bbox"] = []
    instances.write_text(json.dumps(content))
    main(tmp_path, results=[results])
    printed = capsys.readouterr().out
    assert "results.json: 1 detections are not measured, being in 1 pictures that are left out: 1" in printed
    assert printed.splitlines()[-1].split()[:3] == ["results.json", "100.00", "100.00"]
    results.write_text(results.read_text().replace('"image_id": 2', '"image_id": 5'))
    with pytest.raises(SystemExit, match=r"1 pictures that are not of .*/val, 5 first"):
        main(tmp_path, results=[results])


def test_weights_that_cannot_serve_a_profile_say_so_at_once(ilsvrc: Path, checkpoint_path: Path) -> None:
    with pytest.raises(SystemExit, match="paper needs a MultiBox head"):
        main(ilsvrc, [checkpoint_path], [Profile.SEARCH, Profile.PAPER], device="cpu")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"save_results": Path("out.xml")}, "neither .txt", id="a form that is not known"),
        pytest.param(
            {"save_results": Path("out.txt"), "scoring": ["a:", "b:"]},
            "there are 2",
            id="two runs in one file",
        ),
        pytest.param({"record": True, "ensemble": True}, "one checkpoint as it is", id="whose figure is it"),
        pytest.param({"results": [Path("x.txt")]}, "leave out --weights", id="a file and weights"),
        pytest.param({"split": "nowhere"}, "has no split 'nowhere'", id="a split that is not there"),
        pytest.param({"blacklist": Path("none.txt")}, "cannot be read", id="no blacklist"),
        pytest.param({"scoring": ["a:nms=1"]}, "scoring 'a:nms=1'", id="a setting that is not known"),
    ],
)
def test_what_makes_no_sense_is_refused_before_any_work(
    ilsvrc: Path, checkpoint_path: Path, options: dict, message: str
) -> None:
    with pytest.raises(SystemExit, match=message):
        main(ilsvrc, [checkpoint_path], device="cpu", **options)


def test_results_of_other_pictures_are_refused(ilsvrc: Path, tmp_path: Path) -> None:
    write_coco_results(tmp_path / "x.json", {"stranger": perfect(ilsvrc)["p00"]}, list(range(1, 201)))
    with pytest.raises(SystemExit, match="1 pictures that are not of DET/val, stranger first"):
        main(ilsvrc, results=[tmp_path / "x.json"])


@pytest.mark.parametrize(
    ("text", "name", "scoring"),
    [
        pytest.param("own:", "own", Scoring(fit_power=0.5), id="nothing is changed"),
        pytest.param("flip=true", "flip=true", Scoring(fit_power=0.5, flip=True), id="named by its settings"),
        pytest.param(
            "all: fit_power=0, vote_iou=0.5,context=regions",
            "all",
            Scoring(fit_power=0, vote_iou=0.5, context="regions"),  # type: ignore[arg-type]
            id="several, a word among them",
        ),
        pytest.param("x:vote_iou=null", "x", Scoring(fit_power=0.5), id="none"),
    ],
)
def test_a_scoring_is_read_from_text(text: str, name: str, scoring: Scoring) -> None:
    assert parse_scoring(text, Scoring(fit_power=0.5)) == (name, scoring)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("x:flip", "'flip' is no key=value", id="no value"),
        pytest.param("x:flop=true", "of which this version knows", id="no such setting"),
        pytest.param("x:flip=maybe", "flip must be true or false", id="another kind of value"),
    ],
)
def test_scorings_that_make_no_sense(text: str, message: str) -> None:
    with pytest.raises(ParameterError, match=message):
        parse_scoring(text, Scoring())


def test_the_usual_rules() -> None:
    assert [usual_rules(format)[0] for format in Format] == ["ilsvrc", "voc07", "voc", "voc", "voc", "voc"]
    assert all(RuleName.COCO in usual_rules(format) for format in Format)


@pytest.mark.parametrize("kind", ["ilsvrc", "voc", "coco"])
@pytest.mark.parametrize("folders", [False, True], ids=["picture files absent", "and their folders"])
def test_results_are_measured_by_annotations_alone(
    tmp_path: Path, kind: str, folders: bool, capsys: Printed
) -> None:
    """The figures are those measured with the pictures there."""
    images = rectangles(4, seed=2)
    root = tmp_path / "set"
    if kind == "ilsvrc":
        write_ilsvrc(root, "DET", "val", images, wnid=ilsvrc_det().ids[0])
    elif kind == "voc":
        write_voc(root, images)
    else:
        write_coco(root, "val", images)
    path, detections = tmp_path / "theirs.txt", perfect(root)
    write_ilsvrc_results(path, detections, list(detections))
    main(root, results=[path])
    with_images = last_line(capsys)
    for image in root.rglob("*.[jJ]*[gG]"):
        image.unlink()
    if folders and kind != "ilsvrc":
        (root / ("JPEGImages" if kind == "voc" else "val")).rmdir()
        (root / "ImageSets").mkdir()
    main(root, results=[path])
    assert last_line(capsys) == with_images


def test_results_without_pictures_and_sizes_name_what_is_missing(tmp_path: Path, capsys: Printed) -> None:
    write_voc(tmp_path, rectangles(2, seed=2))
    detections = perfect(tmp_path)
    write_ilsvrc_results(tmp_path / "theirs.txt", detections, list(detections))
    for name in ("p00", "p01"):
        (tmp_path / f"JPEGImages/{name}.jpg").unlink()
        path = tmp_path / f"Annotations/{name}.xml"
        path.write_text(path.read_text().replace("<width>100</width>", "<width></width>"))
    with pytest.raises(SystemExit, match=r"p00\.jpg is missing, and its annotation states no size"):
        main(tmp_path, results=[tmp_path / "theirs.txt"])

"""The one command: from a small set in some layout to a detector of its classes, its figures, its report."""

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detector.datasets.open import Format
from detector.errors import DatasetError, DetectorError, ParameterError
from detector.models.checkpoint import load_checkpoint
from tests.detector.models.verified import verify_checkpoint
from tests.run_command import run_command
from tests.training.small_sets import write_image
from training.finetune.pipeline import FIGURES, REPORT, Plan, make_detector
from training.finetune.training_data import choose_data
from training.finetune_det import main
from training.rcnn.dataloader import BatchSettings
from training.rcnn.recipe import MINIBATCHES_AN_IMAGE, Recipe, suggested_iterations
from training.rcnn.sampling import SamplingSettings

pytestmark = pytest.mark.exhaustive

SMALL = Recipe(
    iterations=4,
    warmup=2,
    validate_every=2,
    save_every=2,
    batch=BatchSettings(4, 8, 2),
    sampling=SamplingSettings(3, 5),
)
NAMES = ("widget", "zebra")
PLACES = ((10, 10, 60, 60), (30, 20, 90, 70), (5, 25, 45, 75))


def flat_voc(root: Path, images: int = 6) -> Path:
    """Pictures and XML side by side, one object each, of two classes in turn."""
    for index in range(images):
        x1, y1, x2, y2 = PLACES[index % len(PLACES)]
        write_image(root / f"p{index}.jpg", [PLACES[index % len(PLACES)]])
        corners = f"<xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax>"
        (root / f"p{index}.xml").write_text(
            f"<annotation><filename>p{index}.jpg</filename><size><width>100</width><height>80</height>"
            f"<depth>3</depth></size><object><name>{NAMES[index % 2]}</name><bndbox>{corners}</bndbox>"
            "</object></annotation>"
        )
    return root


def yolo(root: Path) -> Path:
    """data.yaml, images/ and labels/ for train and val."""
    for index in range(6):
        split = "train" if index < 4 else "val"
        x1, y1, x2, y2 = PLACES[index % len(PLACES)]
        write_image(root / "images" / split / f"p{index}.jpg", [PLACES[index % len(PLACES)]])
        label = root / "labels" / split / f"p{index}.txt"
        label.parent.mkdir(parents=True, exist_ok=True)
        numbers = (x1 + x2) / 200, (y1 + y2) / 160, (x2 - x1) / 100, (y2 - y1) / 80
        label.write_text(f"{index % 2} {' '.join(f'{number:.6f}' for number in numbers)}\n")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [widget, zebra]\n")
    return root


def plan(root: Path, init_path: Path, output: Path, **changes: object) -> Plan:
    basic = Plan(
        data=choose_data(root),
        init=load_checkpoint(init_path),
        recipe=SMALL,
        output=output,
        cache=output / "cache",
        name="mine",
        measured_images=1,
        device="cpu",
    )
    return replace(basic, **changes)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def made(init_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """What two members on a flat VOC set leave behind."""
    folder = tmp_path_factory.mktemp("made")
    one = plan(flat_voc(folder / "shop"), init_path, folder / "run", members=2)
    make_detector(one)
    return one


def test_members_detect_the_classes_of_the_data(made: Plan) -> None:
    states = []
    for number in (1, 2):
        path = made.output / f"member-{number}" / "detector.safetensors"
        metadata = verify_checkpoint(path)
        assert metadata.detection is not None
        assert metadata.detection.names == NAMES
        assert metadata.name == f"mine-{number}"
        assert metadata.training["seed"] == number - 1
        (measure,) = metadata.metrics
        assert measure.startswith("held-out mAP by the VOC rule")
        states.append(load_checkpoint(path).backbone.classifier.weight)
    assert not torch.equal(*states)  # other seeds, other networks


def test_figures_and_report_tell_of_members_and_ensemble(made: Plan) -> None:
    figures = json.loads((made.output / FIGURES).read_text())
    assert list(figures) == ["mine-1", "mine-2", "all 2 together"]
    assert set(figures["mine-1"]["AP"]) <= set(NAMES)
    assert set(figures["mine-1"]["thresholds"]) == set(NAMES)
    assert figures["mine-1"]["precision wanted"] == 0.7
    page = (made.output / REPORT).read_text()
    for part in (
        "mine",
        "widget",
        "zebra",
        "all 2 together",
        "<svg",
        "make serve WEIGHTS=",
        "How far scores can be trusted",
        "Thresholds for 70 % right",
        "batch.positives",
    ):
        assert part in page, part
    weights = [str(made.output / f"member-{n}" / "detector.safetensors") for n in (1, 2)]
    assert ":".join(weights) in page
    assert "data:image/jpeg;base64," in page  # an untrained network's mistakes, drawn
    for fetched in ('src="http', "<script", "<link", "url(http", 'href="http'):
        assert fetched not in page


def test_the_same_command_again_changes_no_weights(made: Plan) -> None:
    """As after a kill at the very end: what is trained stays, what is measured is measured again."""
    path = made.output / "member-1" / "detector.safetensors"
    before = load_checkpoint(path).network.state_dict()
    (made.output / REPORT).unlink()
    make_detector(made)
    after = load_checkpoint(path).network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert (made.output / REPORT).exists()


@pytest.mark.parametrize(
    ("preset", "further", "profile"),
    [
        pytest.param("quick", [], "search", id="kept maps; the init has no MultiBox head"),
        pytest.param("joint", ["--shapes", "4"], "balanced", id="with the trunk and a new MultiBox head"),
    ],
)
def test_the_command_on_a_yolo_set(
    init_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    preset: str,
    further: list[str],
    profile: str,
) -> None:
    root = yolo(tmp_path / "shop")
    monkeypatch.chdir(tmp_path)
    options = ["--preset", preset, "--iterations", "2", "--batch-positives", "2", "--batch-background", "2"]
    options += ["--precision-wanted", "1e-9"]  # one detection of all that is right reaches it
    status, said = run_command(main, "--data", root, "--init", init_path, *options, *further)
    assert status == 0, said
    metadata = verify_checkpoint(tmp_path / "runs" / "shop" / "detector.safetensors")
    assert metadata.name == "shop"
    assert metadata.detection is not None
    assert metadata.detection.names == NAMES
    assert metadata.thresholds is not None
    assert metadata.thresholds.measured_on == f"2 pictures held out, VOC rule, {profile}"
    assert "found %" in (tmp_path / "runs" / "shop" / REPORT).read_text()


@pytest.mark.parametrize(
    ("images", "objects", "says"),
    [
        pytest.param(1, True, "measure", id="one picture: nothing to measure on"),
        pytest.param(0, True, "holds no data set", id="an empty folder"),
        pytest.param(4, False, "none has an object", id="no objects"),
    ],
)
def test_data_that_cannot_be_used(tmp_path: Path, images: int, objects: bool, says: str) -> None:
    tmp_path.joinpath("set").mkdir()
    root = flat_voc(tmp_path / "set", images)
    if not objects:
        for path in root.glob("*.xml"):
            text = path.read_text()
            path.write_text(text[: text.index("<object>")] + "</annotation>")
    with pytest.raises(DetectorError, match=says):
        choose_data(root)


def test_a_class_to_be_measured_that_nothing_knows(init_path: Path, tmp_path: Path) -> None:
    """The zebra may be missing among what is learned from, the init knows it; the widget may not."""
    root = flat_voc(tmp_path / "set")
    lists = {"zebras": (1, 3), "widgets": (0, 2), "both": (4, 5)}
    for name, numbers in lists.items():
        (tmp_path / f"{name}.txt").write_text("".join(f"p{number}\n" for number in numbers))

    def chosen(train: str) -> Plan:
        data = choose_data(root, train=str(tmp_path / f"{train}.txt"), validation=str(tmp_path / "both.txt"))
        return plan(root, init_path, tmp_path / "run", data=data)

    chosen("widgets").check()
    with pytest.raises(DatasetError, match="shows widget, which"):
        chosen("zebras").check()


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        pytest.param({"recipe": replace(SMALL, frozen_through="conv9")}, "conv9", id="no such stage"),
        pytest.param({"recipe": replace(SMALL, iterations=0)}, "--iterations", id="nothing to do"),
        pytest.param({"members": 0}, "--members", id="no member"),
        pytest.param(
            {"output": Path("taken") / "run"}, "cannot be written", id="a file where the folder goes"
        ),
    ],
)
def test_settings_are_checked_before_anything_is_computed(
    init_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, object], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").write_text("a file")
    one = replace(plan(flat_voc(tmp_path / "set"), init_path, tmp_path / "run"), **changes)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match=says):
        make_detector(one)
    assert not list((tmp_path / "run").rglob("*.npy"))


@pytest.mark.parametrize(
    ("recipe", "images", "iterations"),
    [
        pytest.param("default", 3, 150, id="a floor"),
        pytest.param("default", 160, 160, id="of some hundred each as often: four minutes for two hundred"),
        pytest.param("default", 1745, 1745, id="the small ILSVRC set"),
        pytest.param("default", 14_400, 13_680, id="many"),
        pytest.param("default", 4 * 14_400, 27_360, id="four times as many, twice as long"),
        pytest.param("default", 4_000_000, 50_000, id="a ceiling"),
        pytest.param("joint", 160, 150, id="the same floor"),
        pytest.param("joint", 3477, 869, id="PASCAL VOC 2007: each image once, four a minibatch"),
    ],
)
def test_length_of_a_run(made: Plan, recipe: str, images: int, iterations: int) -> None:
    records = made.data.train.records[:1] * images
    assert suggested_iterations(records, MINIBATCHES_AN_IMAGE[recipe]) == iterations


def test_the_layout_decides_the_rule(tmp_path: Path) -> None:
    assert choose_data(flat_voc(tmp_path / "set")).rule.name == "VOC"
    assert choose_data(yolo(tmp_path / "yolo"), format=Format.YOLO).rule.name == "VOC"


def test_pictures_of_the_report_are_small(made: Plan) -> None:
    """A page that is sent by mail: each of its cut-outs stays below 100 kB."""
    page = (made.output / REPORT).read_text()
    parts = page.split("data:image/jpeg;base64,")[1:]
    assert max(len(part.split('"')[0]) for part in parts) < 100_000


def test_an_output_whose_name_is_not_utf8_is_refused_at_once(init_path: Path, tmp_path: Path) -> None:
    output = tmp_path / os.fsdecode(b"caf\xe9")
    with pytest.raises(ParameterError, match=r"not UTF-8.*name another folder with --output"):
        make_detector(plan(flat_voc(tmp_path / "shop"), init_path, output))
    assert not output.exists()

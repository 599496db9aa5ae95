"""The script: what a class is named by, which boxes become labels, what is left out, and a second run."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detector.datasets.open import Format, open_dataset
from detector.datasets.problems import OnProblem, ProblemLog
from detector.errors import DatasetError
from detector.inference.executor import Executor, run_directly
from detector.inference.loading import load_detector
from detector.inference.scoring import Scoring
from detector.io.image_header import read_header
from detector.models.checkpoint import load_checkpoint, save_checkpoint
from detector.options import Engine, Precision, Profile
from detector.structures.boxes import as_boxes
from detector.structures.classes import ClassList, ilsvrc_det, voc
from training import pseudo_label
from training.finetune.training_data import further_data
from training.pseudo_label import FOUND, main
from training.rcnn.mixing import DatasetSpec, mix
from training.rcnn.sampling import SamplingSettings
from training.self_training.classified_pictures import ClassifiedPicture, read_classified
from training.self_training.found_boxes import FoundBoxes, find_boxes
from training.self_training.partial_labels import LabelledPicture

DOG, BIRD, BUS = (ilsvrc_det().names.index(name) for name in ("dog", "bird", "bus"))
SIZE = (100, 80)
EXAMPLES = Path(__file__).parents[2] / "examples"
BEST, AWAY, PART = [10.0, 10, 60, 60], [62.0, 5, 98, 70], [20.0, 20, 50, 50]


def picture(path: Path, size: tuple[int, int] = SIZE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, (90, 120, 40)).save(path)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two pictures of dogs, one of a bus."""
    for name in ("dog/a", "dog/b", "bus/a"):
        picture(tmp_path / f"pictures/{name}.png")
    return tmp_path / "pictures"


@pytest.mark.parametrize(
    ("name", "classes", "label"),
    [
        pytest.param("dog", ilsvrc_det(), DOG, id="by its name"),
        pytest.param("n02084071", ilsvrc_det(), DOG, id="by its id"),
        pytest.param("Dogs", ilsvrc_det(), DOG, id="case and a plural s do not matter"),
        pytest.param("hen", ilsvrc_det(), BIRD, id="a synset that belongs to a class"),
        pytest.param("n01514859", ilsvrc_det(), BIRD, id="the same by its id"),
        pytest.param("aeroplane", ilsvrc_det(), ilsvrc_det().names.index("airplane"), id="an alias"),
        pytest.param("n02084071", voc(), voc().ids.index("dog"), id="a detector of other classes"),
        pytest.param("widget", ClassList.of(["bolt", "Widget"]), 1, id="classes of one's own"),
    ],
)
def test_what_a_class_is_named_by(tmp_path: Path, name: str, classes: ClassList, label: int) -> None:
    path = picture(tmp_path / name / "more/a.png")
    found = read_classified(tmp_path, None, classes, ProblemLog(OnProblem.STOP))
    assert found == [ClassifiedPicture(f"{name}/more/a.png", path, label)]


def test_an_unknown_class_is_told_and_left_out(folder: Path) -> None:
    picture(folder / "dolphinarium/a.png")
    log = ProblemLog(OnProblem.REPORT)
    assert len(read_classified(folder, None, ilsvrc_det(), log)) == 3
    [problem] = log.problems
    assert (problem.image_id, problem.kind) == ("dolphinarium", "unknown_class")
    with pytest.raises(DatasetError, match="knows no class 'dolphinarium'"):
        read_classified(folder, None, ilsvrc_det(), ProblemLog(OnProblem.STOP))


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        pytest.param("bus/a.png\tbus\ndog/b.png\tdog\n", ["bus/a.png", "dog/b.png"], id="in its order"),
        pytest.param(
            "dog/a.png\thound dog\n\n#x\nbus/a.png\tbus", ["bus/a.png"], id="blank, comment, unknown"
        ),
        pytest.param("bus/a.png\tbus\nbus/a.png\tbus\n", ["bus/a.png"], id="twice the same"),
        pytest.param("./bus/a.png\tbus\n", ["bus/a.png"], id="another spelling of a path"),
        pytest.param("bus\\a.png\tbus\r\n", ["bus/a.png"], id="written on Windows"),
        pytest.param("bus/a.png\tdog\n", ["bus/a.png"], id="folders mean nothing beside a list"),
        pytest.param("bus/z.png\tbus\nbus/a.png\tbus\n", ["bus/a.png"], id="a picture that is not there"),
        pytest.param("dog\tdog\nbus/a.png\tbus\n", ["bus/a.png"], id="a folder is no picture"),
    ],
)
def test_list_files(folder: Path, tmp_path: Path, lines: str, names: list[str]) -> None:
    (listed := tmp_path / "list.txt").write_text(lines)
    found = read_classified(folder, listed, ilsvrc_det(), ProblemLog(OnProblem.REPORT))
    assert [one.name for one in found] == names


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        pytest.param("", "is empty", id="nothing"),
        pytest.param("# dogs\n", "is empty", id="comments alone"),
        pytest.param("dog/a.png dog\n", "line 1: a path, a tab and a class belong there", id="a space"),
        pytest.param("dog/a.png\tdog\ndog/b.png\t\n", "line 2: a path, a tab", id="no class"),
        pytest.param("dog/a.png\tdog\tbus\n", "line 1: a path, a tab", id="two classes in a line"),
        pytest.param("/etc/a.png\tdog\n", "line 1: .* leads out of", id="a path from the root"),
        pytest.param("dog/../../a.png\tdog\n", "line 1: .* leads out of", id="a path that leads up"),
        pytest.param(
            "dog/a.png\tdog\ndog/a.png\tbus\n", "line 2: .* but 'dog' in an earlier", id="two classes"
        ),
        pytest.param("dog/a.png\tgriffin\n", "list.txt has no picture with a class of", id="no known class"),
    ],
)
def test_errors_of_list_files(folder: Path, tmp_path: Path, lines: str, says: str) -> None:
    (listed := tmp_path / "list.txt").write_text(lines)
    with pytest.raises(DatasetError, match=says):
        read_classified(folder, listed, ilsvrc_det(), ProblemLog(OnProblem.REPORT))


@pytest.mark.parametrize(
    ("boxes", "scores", "sure", "doubtful"),
    [
        pytest.param([BEST], [0.7], [BEST], [], id="the best box is the label"),
        pytest.param([BEST], [0.4], [BEST], [], id="just sure enough"),
        pytest.param([BEST], [0.39], None, [], id="nothing sure: the picture is left out"),
        pytest.param([], [], None, [], id="nothing found"),
        pytest.param([BEST, AWAY], [0.8, 0.7], [BEST, AWAY], [], id="a further one that is as sure"),
        pytest.param([BEST, AWAY], [0.8, 0.5], [BEST], [AWAY], id="further ones must be surer than the best"),
        pytest.param([BEST, AWAY], [0.8, 0.13], [BEST], [AWAY], id="doubtful"),
        pytest.param([BEST, AWAY], [0.8, 0.11], [BEST], [], id="too bad to be doubtful: background"),
        pytest.param([BEST, PART], [0.8, 0.3], [BEST], [], id="part of a sure one: background beside it"),
        pytest.param([PART, BEST], [0.8, 0.3], [PART], [BEST], id="around a sure one: may be the whole"),
    ],
)
def test_which_boxes_are_labels(
    boxes: list[list[float]],
    scores: list[float],
    sure: list[list[float]] | None,
    doubtful: list[list[float]],
) -> None:
    one = ClassifiedPicture("dog/a.png", Path("a.png"), DOG)
    label = LabelledPicture.of(one, FoundBoxes(*SIZE, boxes, scores), 0.4)
    if sure is None:
        assert label is None
        return
    assert label is not None
    assert label.sure.tolist() == sure
    assert label.doubtful.tolist() == doubtful


class Finder:
    """What stands in for the detector's look at a picture: boxes by the picture's name."""

    def __init__(self, found: dict[str, tuple[list[list[float]], list[float]]]) -> None:
        self.found, self.seen = found, list[str]()

    def __call__(
        self, detector: Any, picture: ClassifiedPicture, *, executor: Executor = run_directly
    ) -> FoundBoxes:
        self.seen.append(picture.name)
        header = read_header(picture.path)
        return FoundBoxes(header.width, header.height, *self.found.get(picture.name, ([], [])))


@pytest.fixture
def finder(monkeypatch: pytest.MonkeyPatch) -> Finder:
    """A dog that is sure with a doubtful one beside it, a dog that is not sure, and a bus that is."""
    finder = Finder(
        {
            "dog/a.png": ([BEST, AWAY], [0.8, 0.2]),
            "dog/b.png": ([BEST], [0.2]),
            "bus/a.png": ([AWAY], [0.5]),
        }
    )
    monkeypatch.setattr(pseudo_label, "find_boxes", finder)
    return finder


def test_the_set_is_read_back(
    folder: Path, tmp_path: Path, checkpoint_path: Path, finder: Finder, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "labelled"
    main(folder, output, weights=checkpoint_path, device="cpu")
    opened = open_dataset(output)
    assert (opened.format, opened.splits) == (Format.COCO, ("train",))
    assert set(opened.classes.ids) == {"n02084071", "n02924116"}
    dataset = opened.read("train", on_problem=OnProblem.STOP)
    bus, dog = dataset.records
    assert (bus.partial, dog.partial) == (True, True)
    assert dog.path.samefile(folder / "dog/a.png")
    assert dog.path.is_symlink()
    assert dog.boxes.tolist() == [BEST]
    assert dog.crowds.tolist() == [AWAY]
    assert dataset.class_ids[int(dog.labels[0])] == "n02084071"
    printed = capsys.readouterr().out
    assert "2 of 3 pictures (66.7%) got a box, 2 boxes in all" in printed
    assert "dog           2           1" in printed


def test_training_learns_from_the_set(
    folder: Path, tmp_path: Path, checkpoint_path: Path, finder: Finder
) -> None:
    """Also in a list of other classes, where every picture stays partial."""
    main(folder, tmp_path / "labelled", weights=checkpoint_path, device="cpu")
    further = further_data(str(tmp_path / "labelled"), SamplingSettings(), OnProblem.STOP)
    mixed = mix([DatasetSpec(further.spec.dataset)], voc())
    assert [voc().ids[int(record.labels[0])] for record in mixed.records] == ["bus", "dog"]
    assert all(record.partial for record in mixed.records)


@pytest.mark.parametrize(
    "engine", [Engine.TORCH, pytest.param(Engine.OPENVINO, marks=pytest.mark.exhaustive)]
)
def test_pictures_beside_each_other_have_the_boxes_of_each_alone(tmp_path: Path, engine: Engine) -> None:
    for name, file in (("domestic cat", "cat.jpg"), ("bee", "bee.jpg")):
        (tmp_path / "pictures" / name).mkdir(parents=True)
        shutil.copy(EXAMPLES / file, tmp_path / "pictures" / name)
    options = {"engine": engine, "precision": Precision.FLOAT32, "profile": Profile.FAST, "device": "cpu"}
    main(tmp_path / "pictures", tmp_path / "labelled", **options)
    first, *lines = map(json.loads, (tmp_path / "labelled" / FOUND).read_text().splitlines())
    told = first["detector"]
    assert (told["engine"], told["precision"], told["profile"]) == (engine.value, "float32", "fast")
    alone = load_detector(**options)
    pictures = read_classified(tmp_path / "pictures", None, alone.classes, ProblemLog(OnProblem.STOP))
    for line, one in zip(lines, pictures, strict=True):  # in the order of the pictures
        expected = find_boxes(alone, one)
        assert line["key"].endswith(one.name)
        assert len(line["boxes"]) > 1
        assert np.allclose(line["boxes"], expected.boxes, atol=0.02)
        assert np.allclose(line["scores"], expected.scores, atol=2e-4)


def test_a_broken_picture_is_told_and_passed_over(
    folder: Path, tmp_path: Path, multibox_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With a detector that learned nothing: it finds boxes everywhere, whose scores a power lifts."""
    unsure = load_checkpoint(multibox_path)
    weights = tmp_path / "weights.safetensors"
    lifted = replace(unsure.metadata, scoring=Scoring(score_power=0.1))
    save_checkpoint(weights, replace(unsure, metadata=lifted))
    (folder / "dog/b.png").write_bytes((folder / "dog/b.png").read_bytes()[:60])
    main(folder, tmp_path / "labelled", weights=weights, score=0.05, device="cpu")
    printed = capsys.readouterr().out
    assert "dog/b.png: unreadable_image" in printed
    assert "1 pictures are left out for problems" in printed
    assert "dog/b.png" not in (tmp_path / "labelled" / FOUND).read_text()


RUNS: list[tuple[str, Callable[[Path], object], dict[str, Any], list[str]]] = [
    ("nothing is done twice", lambda _: None, {}, []),
    ("another score needs no further look", lambda _: None, {"score": 0.1}, []),
    ("a new picture is looked at", lambda home: picture(home / "dog/c.png"), {}, ["dog/c.png"]),
    ("a changed one again", lambda home: picture(home / "dog/a.png", (50, 40)), {}, ["dog/a.png"]),
    (
        "another class is another question",
        lambda home: shutil.move(home / "dog", home / "bird"),
        {},
        ["bird/a.png"],
    ),
]


@pytest.mark.parametrize(
    ("change", "options", "seen"), [one[1:] for one in RUNS], ids=[one[0] for one in RUNS]
)
def test_run_again(
    folder: Path,
    tmp_path: Path,
    checkpoint_path: Path,
    finder: Finder,
    change: Callable[[Path], object],
    options: dict[str, Any],
    seen: list[str],
) -> None:
    output = tmp_path / "labelled"
    main(folder, output, weights=checkpoint_path, device="cpu")
    first = (output / "annotations/instances_train.json").read_bytes()
    finder.seen.clear()
    change(folder)
    main(folder, output, weights=checkpoint_path, device="cpu", **options)
    assert [name for name in finder.seen if name != "bird/b.png"] == seen
    links = sorted(
        path.relative_to(output / "train").as_posix() for path in (output / "train").rglob("*.png")
    )
    content = json.loads((output / "annotations/instances_train.json").read_text())
    assert links == sorted(image["file_name"] for image in content["images"]), "no link is left over"
    if not seen and not options:
        assert (output / "annotations/instances_train.json").read_bytes() == first


def test_a_killed_run_goes_on(
    folder: Path, tmp_path: Path, checkpoint_path: Path, finder: Finder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a line was written when it ended: that picture is looked at again, the one before it is not."""
    output = tmp_path / "labelled"

    def die(detector: Any, picture: ClassifiedPicture, *, executor: Executor) -> FoundBoxes:
        if picture.name == "dog/b.png":
            raise KeyboardInterrupt
        return finder(detector, picture, executor=executor)

    monkeypatch.setattr(pseudo_label, "find_boxes", die)
    with pytest.raises(KeyboardInterrupt):
        main(folder, output, weights=checkpoint_path, device="cpu")
    monkeypatch.setattr(pseudo_label, "find_boxes", finder)
    assert not (output / "annotations").exists()
    os.truncate(output / FOUND, (output / FOUND).stat().st_size - 7)
    finder.seen.clear()
    main(folder, output, weights=checkpoint_path, device="cpu")
    assert sorted(finder.seen) == ["dog/a.png", "dog/b.png"]  # several are looked at at once
    assert len(open_dataset(output).read("train").records) == 2


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"profile": Profile.FAST}, id="profile"),
        pytest.param({"engine": Engine.TORCH}, id="engine"),
        pytest.param({"precision": Precision.BFLOAT16, "engine": Engine.TORCH}, id="precision"),
    ],
)
def test_what_was_found_otherwise_is_not_mixed_in(
    folder: Path, tmp_path: Path, multibox_path: Path, finder: Finder, other: dict[str, Any]
) -> None:
    given = {"engine": Engine.OPENVINO, "precision": Precision.FLOAT32, "weights": multibox_path}
    if "precision" in other:
        given["engine"] = Engine.TORCH  # that alone is another
    main(folder, tmp_path / "labelled", device="cpu", **given)
    with pytest.raises(SystemExit, match=r"error: .*holds what another detector found"):
        main(folder, tmp_path / "labelled", device="cpu", **given | other)


@pytest.mark.parametrize(
    ("prepare", "options", "says"),
    [
        pytest.param(lambda home: None, {"score": 0.9}, "in none of 3 pictures", id="nothing is sure"),
        pytest.param(lambda home: None, {"score": 1.5}, "--score must lie in", id="no such score"),
        pytest.param(
            lambda home: None,
            {"data": Path("nowhere")},
            "nowhere is no folder",
            id="no folder of pictures",
        ),
        pytest.param(
            lambda home: (home / "labelled").mkdir() or (home / "labelled" / FOUND).write_text("{}\n"),
            {},
            "holds what another detector found",
            id="what other weights found",
        ),
        pytest.param(
            lambda home: picture(home / "labelled/train/dog/a.png"),
            {},
            "is no link: delete it",
            id="a picture of somebody's is in the way",
        ),
        pytest.param(
            lambda home: None,
            {"output": Path("pictures/dog")},
            "is a folder of the data",
            id="labels among the pictures",
        ),
    ],
)
def test_what_is_wrong_is_said(
    folder: Path,
    tmp_path: Path,
    checkpoint_path: Path,
    finder: Finder,
    prepare: Callable[[Path], object],
    options: dict[str, Any],
    says: str,
) -> None:
    prepare(tmp_path)
    given = {"data": folder, "output": tmp_path / "labelled", **options}
    given["output"] = tmp_path / given["output"]
    with pytest.raises(SystemExit, match=f"error: .*{says}"):
        main(**given, weights=checkpoint_path, device="cpu")
    assert not (tmp_path / "labelled/annotations").exists()


def test_turned_pictures(tmp_path: Path, checkpoint_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes are found in the upright picture and come back in it, whichever of eight ways it is stored."""
    (tmp_path / "pictures/dog").mkdir(parents=True)
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[274] = orientation
        Image.new("RGB", SIZE).save(tmp_path / f"pictures/dog/{orientation}.jpg", exif=exif)
    upright = as_boxes([[3, 7, 40, 61]])

    def find(detector: Any, picture: ClassifiedPicture, *, executor: Executor) -> FoundBoxes:
        header = read_header(picture.path)
        return FoundBoxes(header.width, header.height, header.stored(upright).tolist(), [0.9])

    monkeypatch.setattr(pseudo_label, "find_boxes", find)
    main(tmp_path / "pictures", tmp_path / "out", weights=checkpoint_path, device="cpu")
    records = open_dataset(tmp_path / "out").read("train", on_problem=OnProblem.STOP).records
    assert len(records) == 8
    assert all(record.boxes.tolist() == upright.tolist() for record in records)

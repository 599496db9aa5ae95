"""A classifier of whole pictures, taught by another network on pictures without labels."""

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detector.errors import CheckpointError, DatasetError, ParameterError
from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.io.decoding import load
from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.models.convert_bvlc import PREPROCESSING
from detector.models.googlenet import GoogLeNet
from detector.models.metadata import Metadata
from detector.models.region_network import RegionNetwork
from detector.structures.boxes import as_boxes
from detector.structures.classes import ClassList
from tests.run_command import run_command
from tests.training.damage import DAMAGE, Damage
from training.classification import distillation
from training.classification.distillation import DistillationSettings, distil_classifier
from training.commands import train
from training.distil_classifier import main
from training.trainer.run_state import write_sealed

CLASSES = ClassList.of(["red", "green", "blue"])
SMALL = replace(PREPROCESSING, size=32, context=2)
"""Crops that a network is soon done with."""

COUNT, PIECE = 40, 8
SETTINGS = DistillationSettings(epochs=40, rate=0.001)
SHORT = DistillationSettings(epochs=1, rate=0.003)
"""With the same views, so that both find the same pieces."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Pictures of one colour each, with some noise."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(COUNT):
        colour = np.full(3, 60)
        colour[number % 3] = 200
        noise = rng.integers(-30, 30, (40, 48, 3))
        Image.fromarray((colour + noise).astype(np.uint8)).save(folder / f"{number:02d}.png")
    return sorted(folder.iterdir())


def crops_of(pictures: Sequence[Path]) -> torch.Tensor:
    pixels = np.stack([load(path) for path in pictures])[:, :32, :32]
    return torch.from_numpy(pixels - np.array(PREPROCESSING.mean)).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """Threads would wait for each other longer than there is work for them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def teacher(pictures: list[Path]) -> Checkpoint:
    """Knows a picture's class by the colour that is nearest to what its trunk sees."""
    torch.manual_seed(0)
    network = GoogLeNet(len(CLASSES)).eval()
    with torch.no_grad():
        seen = network.features(crops_of(pictures)).mean(dim=(2, 3))
        centres = torch.stack([seen[label::3].mean(dim=0) for label in range(3)])
        away = centres - seen.mean(dim=0)
        network.classifier.weight.copy_(10 * away / away.square().sum(dim=1, keepdim=True))
        network.classifier.bias.copy_(-network.classifier.weight @ seen.mean(dim=0))
    return Checkpoint(network, Metadata("teacher", "googlenet", SMALL, CLASSES))


def detector_of(teacher: Checkpoint) -> Checkpoint:
    """Begun with the teacher's trunk, which training for detection moved."""
    torch.manual_seed(1)
    backbone = GoogLeNet(len(CLASSES) + 2)
    backbone.features.load_state_dict(teacher.backbone.features.state_dict())
    with torch.no_grad():
        for parameter in backbone.features.inception_5b.parameters():  # type: ignore[union-attr]
            parameter.mul_(1.3)
    network = RegionNetwork(backbone, torch.tensor([1, 1, 1, 0, 1]), 1, box_regression=False)
    metadata = Metadata("mine", "googlenet", SMALL, CLASSES, ClassList.of(["dog"]), training={"pictures": 3})
    return Checkpoint(network.eval(), metadata)


def taught(
    teacher: Checkpoint, pictures: Sequence[Path], cache: Path, settings: DistillationSettings = SETTINGS
) -> Checkpoint:
    return distil_classifier(detector_of(teacher), teacher, pictures, cache, settings, device="cpu")


@pytest.fixture(scope="module")
def learnt(
    teacher: Checkpoint, pictures: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Checkpoint]:
    """The folder of features, in several pieces, and what came of them."""
    cache = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distillation, "_PIECE", PIECE)
        return cache, taught(teacher, pictures, cache)


@pytest.fixture
def pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Features are written in pieces of a few pictures."""
    monkeypatch.setattr(distillation, "_PIECE", PIECE)


def whole_of(checkpoint: Checkpoint) -> torch.Tensor:
    """The weights and biases [S,1025] of the classifier of whole pictures."""
    whole = checkpoint.backbone.whole
    assert whole is not None
    return torch.cat([whole.weight, whole.bias[:, None]], dim=1).detach()


@torch.no_grad()
def labels_of(checkpoint: Checkpoint, pictures: Sequence[Path]) -> list[int]:
    backbone = checkpoint.backbone
    logits = backbone.classify_whole(backbone.features(crops_of(pictures)))
    return logits[:, : len(CLASSES)].argmax(dim=1).tolist()


def test_it_comes_to_say_what_its_teacher_says(
    teacher: Checkpoint, learnt: tuple[Path, Checkpoint], pictures: list[Path]
) -> None:
    """By chance before, nearly always after; the classifier of whole pictures says so too."""
    wanted = labels_of(teacher, pictures)
    assert set(wanted) == {0, 1, 2}
    before, after = (
        np.mean(np.array(labels_of(checkpoint, pictures)) == wanted)
        for checkpoint in (detector_of(teacher), learnt[1])
    )
    assert before < 0.6
    assert after > 0.9
    classifier = Classifier(learnt[1], device="cpu")
    found = [int(classifier.probabilities(load(path)).argmax()) for path in pictures[:3]]
    assert found == wanted[:3]


def test_detection_stays_as_it_is(
    teacher: Checkpoint, learnt: tuple[Path, Checkpoint], pictures: list[Path]
) -> None:
    """Bit by bit, also what the file says of it; it says who taught what is new."""
    before, after = detector_of(teacher), learnt[1]
    state = after.network.state_dict()
    assert state.keys() - before.network.state_dict().keys() == {
        "backbone.whole.weight",
        "backbone.whole.bias",
    }
    for name, value in before.network.state_dict().items():
        assert torch.equal(state[name], value), name
    how = {"teacher": "teacher", "views": 2, "epochs": 40, "rate": 0.001, "dropout": 0.2, "seed": 0}
    assert after.metadata == replace(before.metadata, training={"pictures": 3, "whole": how})
    image, boxes = load(pictures[0]), as_boxes([(0, 0, 48, 40), (10, 10, 30, 40)])
    [ours], [theirs] = (Detector(one, device="cpu").predict(image, boxes) for one in (before, after))
    assert np.array_equal(ours.probabilities, theirs.probabilities)


def test_the_callers_random_numbers_decide_nothing(
    teacher: Checkpoint, learnt: tuple[Path, Checkpoint], pictures: list[Path], pieces: None
) -> None:
    detector = detector_of(teacher)
    torch.manual_seed(7)
    np.random.seed(7)  # noqa: NPY002 (the old generator of the whole process)
    result = distil_classifier(detector, teacher, pictures, learnt[0], SETTINGS, device="cpu")
    assert torch.equal(whole_of(result), whole_of(learnt[1]))


def test_a_run_that_was_killed_goes_on(
    teacher: Checkpoint,
    learnt: tuple[Path, Checkpoint],
    pictures: list[Path],
    pieces: None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With the first piece that is not there; what comes of it is the same."""

    def killed(path: Path, data: bytes) -> None:
        if len(list(tmp_path.iterdir())) == 2:
            raise KeyboardInterrupt
        write_sealed(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(distillation, "write_sealed", killed)
        with pytest.raises(KeyboardInterrupt):
            taught(teacher, pictures, tmp_path)
    left = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert len(left) == 2
    result = taught(teacher, pictures, tmp_path)
    assert torch.equal(whole_of(result), whole_of(learnt[1]))
    assert len(list(tmp_path.iterdir())) == COUNT / PIECE
    assert {path: path.stat().st_mtime_ns for path in left} == left


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_piece_is_made_again(
    teacher: Checkpoint,
    learnt: tuple[Path, Checkpoint],
    pictures: list[Path],
    pieces: None,
    tmp_path: Path,
    damage: Damage,
) -> None:
    cache = tmp_path / "cache"
    shutil.copytree(learnt[0], cache)
    before = {path: path.read_bytes() for path in cache.iterdir()}
    damaged = min(before)
    damaged.write_bytes(damage(before[damaged]))
    taught(teacher, pictures, cache, SHORT)
    assert {path: path.read_bytes() for path in cache.iterdir()} == before


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"seed": 1}, id="other parts of the pictures"),
        pytest.param({"views": 3}, id="more of them"),
    ],
)
def test_other_settings_find_no_pieces(
    teacher: Checkpoint, pictures: list[Path], tmp_path: Path, other: dict[str, int]
) -> None:
    few = pictures[:20]
    taught(teacher, few, tmp_path, SHORT)
    [first] = tmp_path.iterdir()
    taught(teacher, few, tmp_path, replace(SHORT, epochs=2, rate=0.1, dropout=0.5))
    assert list(tmp_path.iterdir()) == [first], "how views are learnt from changes nothing in them"
    taught(teacher, few, tmp_path, replace(SHORT, **other))
    assert len(list(tmp_path.iterdir())) == 2


def test_other_weights_find_no_pieces(teacher: Checkpoint, pictures: list[Path], tmp_path: Path) -> None:
    few = pictures[:20]
    taught(teacher, few, tmp_path, SHORT)
    moved = detector_of(teacher)
    with torch.no_grad():
        moved.backbone.features.conv1.conv.bias += 1  # type: ignore[union-attr,operator]
    distil_classifier(moved, teacher, few, tmp_path, SHORT, device="cpu")
    assert len(list(tmp_path.iterdir())) == 2


def test_a_detector_that_has_one_begins_with_it(
    teacher: Checkpoint, learnt: tuple[Path, Checkpoint], pictures: list[Path], tmp_path: Path
) -> None:
    detector = detector_of(teacher)
    detector.backbone.whole = torch.nn.Linear(1024, len(CLASSES))
    with torch.no_grad():
        detector.backbone.whole.weight.copy_(whole_of(learnt[1])[:, :-1])
        detector.backbone.whole.bias.copy_(whole_of(learnt[1])[:, -1])
    timid = replace(SHORT, rate=1e-9)
    result = distil_classifier(detector, teacher, pictures[:20], tmp_path, timid, device="cpu")
    assert torch.allclose(whole_of(result), whole_of(learnt[1]), atol=1e-6)


def test_what_another_detector_says_of_whole_pictures_can_be_learnt(
    teacher: Checkpoint, learnt: tuple[Path, Checkpoint], pictures: list[Path], tmp_path: Path
) -> None:
    """By its own classifier of them: the teacher's, on the teacher's trunk, teaches the same."""
    other = detector_of(teacher)
    other.backbone.features.load_state_dict(teacher.backbone.features.state_dict())
    other.backbone.whole = teacher.backbone.classifier
    result = distil_classifier(detector_of(teacher), other, pictures, tmp_path, SETTINGS, device="cpu")
    assert torch.equal(whole_of(result), whole_of(learnt[1]))


def test_pictures_that_cannot_be_read_are_left_out(
    teacher: Checkpoint,
    learnt: tuple[Path, Checkpoint],
    pictures: list[Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What is learnt from the others is the same, whether they are found broken or known to be."""
    broken = tmp_path / "broken.png"
    broken.write_bytes(pictures[0].read_bytes()[:60])
    text = tmp_path / "text.png"
    text.write_text("no picture")
    for first in (True, False):
        result = taught(teacher, [*pictures, broken, text], tmp_path / "cache")
        said = capsys.readouterr().out
        assert [f"left out {path}: " in said for path in (broken, text)] == [first, first]
        assert f"{COUNT} pictures; of {COUNT // 20} not learned from" in said
        assert torch.equal(whole_of(result), whole_of(learnt[1]))


@pytest.mark.parametrize(
    ("readable", "broken", "says"),
    [
        pytest.param(0, 2, "of 2 pictures 0 can be read", id="none that can be read"),
        pytest.param(19, 3, "of 22 pictures 19 can be read: too few to learn from", id="too few of them"),
    ],
)
def test_too_few_pictures(
    teacher: Checkpoint, pictures: list[Path], tmp_path: Path, readable: int, broken: int, says: str
) -> None:
    unreadable = [tmp_path / f"{number}.png" for number in range(broken)]
    for path in unreadable:
        path.write_text("no picture")
    with pytest.raises(DatasetError, match=says):
        taught(teacher, [*pictures[:readable], *unreadable], tmp_path / "cache")


def test_who_cannot_teach_whom(teacher: Checkpoint, pictures: list[Path], tmp_path: Path) -> None:
    detector = detector_of(teacher)

    def named(checkpoint: Checkpoint, classes: ClassList | None) -> Checkpoint:
        return replace(checkpoint, metadata=replace(checkpoint.metadata, classification=classes))

    other = ClassList.of(["a", "b", "c"])
    for pupil, master in [
        (detector, named(teacher, other)),
        (named(detector, other), teacher),
        (named(detector, None), teacher),
        (named(detector, None), named(teacher, None)),
        (teacher, teacher),
    ]:
        with pytest.raises(CheckpointError, match="teacher cannot teach "):
            distil_classifier(pupil, master, pictures, tmp_path / "cache", SHORT, device="cpu")
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"rate": float("nan")}, "rate must be"), ({"dropout": 1.0}, r"dropout must be in 0 to 0\.9")],
    ids=["no number", "everything left out"],
)
def test_settings_out_of_range(settings: dict[str, float], says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        DistillationSettings(**settings)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def files(teacher: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("weights")
    other = replace(teacher, metadata=replace(teacher.metadata, classification=ClassList.of(["a", "b", "c"])))
    checkpoints = {"MINE": detector_of(teacher), "TEACHER": teacher, "OTHER": other}
    paths = {name: folder / f"{name}.safetensors" for name in checkpoints}
    for name, checkpoint in checkpoints.items():
        save_checkpoint(paths[name], checkpoint)
    return paths


def test_the_command(
    files: dict[str, Path], pictures: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run again, it finds its features, and writes the same."""
    left_out = tmp_path / "measured.txt"
    left_out.write_text("".join(f"{path.stem}\n" for path in pictures[:7]))
    arguments = [
        "distil", "--weights", files["MINE"], "--teacher", files["TEACHER"], "--pictures", pictures[0].parent,
        "--output", tmp_path / "run", "--exclude", left_out, "--epochs", 2, "--views", 1, "--device", "cpu",
    ]  # fmt: skip
    result = tmp_path / "run/detector.safetensors"
    written = []
    for _ in range(2):
        assert train(list(map(str, arguments))) == 0
        said = capsys.readouterr().out
        assert (
            f"{COUNT - 7} pictures; of 1 not learned from the likeliest class is the teacher's for " in said
        )
        assert f"detector  {result}" in said
        written.append(result.read_bytes())
    assert written[0] == written[1]
    checkpoint = load_checkpoint(result)
    assert checkpoint.backbone.whole is not None
    assert checkpoint.metadata.training["whole"]["views"] == 1
    assert len(list((tmp_path / "run/cache").iterdir())) == 1


@pytest.mark.parametrize(
    ("weights", "teacher_file", "folder", "says"),
    [
        pytest.param("MINE", "OTHER", "PICTURES", "cannot teach", id="a teacher of other classes"),
        pytest.param("TEACHER", "TEACHER", "PICTURES", "a detector is needed", id="no detector"),
        pytest.param("MINE", "TEACHER", "EMPTY", "no pictures in ", id="no pictures"),
        pytest.param("MINE", "TEACHER", "OUT", "", id="the output among the pictures"),
        pytest.param("gone.safetensors", "TEACHER", "PICTURES", "does not exist", id="no weights"),
    ],
)
def test_errors_are_one_line(
    files: dict[str, Path],
    pictures: list[Path],
    tmp_path: Path,
    weights: str,
    teacher_file: str,
    folder: str,
    says: str,
) -> None:
    output = tmp_path / "out/run"
    folders = {"PICTURES": pictures[0].parent, "EMPTY": tmp_path / "empty", "OUT": output}
    for path in folders.values():
        path.mkdir(parents=True, exist_ok=True)
    if folder == "OUT":
        shutil.copy(pictures[0], output)
    status, said = run_command(
        main, "--weights", files.get(weights, weights), "--teacher", files[teacher_file],
        "--pictures", folders[folder], "--output", output, "--device", "cpu",
    )  # fmt: skip
    assert status == 1
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert says in line
    assert not (output / "detector.safetensors").exists()

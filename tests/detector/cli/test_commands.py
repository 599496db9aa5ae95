"""The commands detect, classify and weights, run as a user runs them."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.cli.entry import main
from detector.cli.image_run import ImageRun, Output
from detector.inference.loading import load_classifier, load_detector
from detector.inference.scoring import Scoring
from detector.inference.thresholds import Thresholds
from detector.io.decoding import load
from detector.io.result_files import Format
from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.models.weights import change_metadata
from detector.options import Profile
from detector.structures.classes import ilsvrc_det

Inside = Callable[..., int | str | None]
"""Arguments to what the command ends with: a status, or the text of an error."""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (60, 80)), ("b.png", (50, 40))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "detector.cli.entry", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def inside(monkeypatch: pytest.MonkeyPatch) -> Inside:
    """The command without a process of its own, which costs seconds to start."""

    def run(*arguments: object) -> int | str | None:
        monkeypatch.setattr(sys, "argv", ["detector", *map(str, arguments)])
        with pytest.raises(SystemExit) as done:
            main()
        return done.value.code

    return run


def test_detect_writes_json_and_drawings(images: Path, checkpoint_path: Path, tmp_path: Path) -> None:
    done = _run(
        "detect", images, "--weights", checkpoint_path, "--json", tmp_path / "found.json",
        "--draw", tmp_path / "drawn", "--score-threshold", 0, "--max-detections", 3, "--max-proposals", 4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = json.loads((tmp_path / "found.json").read_text())
    assert (first["image"], first["width"], first["height"]) == (str(images / "a.jpg"), 80, 60)
    assert first["frames"] == second["frames"] == 1
    assert (second["width"], second["height"]) == (40, 50)
    assert len(first["detections"]) == 3
    for entry in first["detections"]:
        assert set(entry) == {"label", "wnid", "score", "box"}
        assert dict(zip(ilsvrc_det().ids, ilsvrc_det().names, strict=True))[entry["wnid"]] == entry["label"]
        box = entry["box"]
        assert 0 <= box["xmin"] <= box["xmax"] <= 80
        assert 0 <= box["ymin"] <= box["ymax"] <= 60
    drawn = sorted((tmp_path / "drawn").iterdir())
    assert [path.name for path in drawn] == ["0001-a.png", "0002-b.png"]


def test_a_threshold_of_each_class(
    inside: Inside, images: Path, checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``auto`` goes by what was measured for the weights, and says what to do where nothing was."""
    measured = tmp_path / "measured.safetensors"
    never = (None,) * 199
    change_metadata(
        checkpoint_path, measured, thresholds=Thresholds(0.7, None, (0.0, *never), "two pictures")
    )
    auto = ("detect", images / "a.jpg", "--max-proposals", 4, "--score-threshold", "auto", "--weights")
    assert inside(*auto, measured, "--json", tmp_path / "auto.json") == 0
    [entry] = json.loads((tmp_path / "auto.json").read_text())
    assert {one["label"] for one in entry["detections"]} == {ilsvrc_det().names[0]}
    assert inside("weights", "show", measured) == 0
    assert "70 % right at no score (two pictures)" in capsys.readouterr().out
    assert "evaluate --thresholds-to" in str(inside(*auto, checkpoint_path))
    assert inside("detect", images / "a.jpg", "--score-threshold", "high") == 2


def test_classify_prints(
    inside: Inside, images: Path, checkpoint_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inside("classify", images / "a.jpg", "--weights", checkpoint_path, "--top", 2) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3


@pytest.mark.parametrize("crops", [1, 10, pytest.param(144, marks=pytest.mark.exhaustive)])
@pytest.mark.parametrize("networks", [1, 2])
def test_classify_averages_views_and_networks(
    inside: Inside,
    images: Path,
    checkpoint_path: Path,
    crops: int,
    networks: int,
    tmp_path: Path,
) -> None:
    """As the library does; JSON has an entry a picture, the likeliest classes first."""
    other = load_checkpoint(checkpoint_path)
    other.backbone.classifier.bias.data[3] += 5
    save_checkpoint(tmp_path / "other.safetensors", other)
    weights = [checkpoint_path, tmp_path / "other.safetensors"][:networks]
    options = [word for path in weights for word in ("--weights", path)]
    out = tmp_path / "classes.json"
    arguments = (images / "a.jpg", *options, "--crops", crops, "--top", 3, "--json", out, "--device", "cpu")
    assert inside("classify", *arguments) == 0
    [entry] = json.loads(out.read_text())
    classifier = load_classifier(weights, device="cpu")
    [expected] = classifier.classify([load(images / "a.jpg")], top=3, crops=crops)
    assert entry == {
        "image": str(images / "a.jpg"),
        "width": 80,
        "height": 60,
        "frames": 1,
        "classes": expected.as_dicts(classifier.classes),
    }
    assert all(set(one) == {"label", "wnid", "score"} for one in entry["classes"])


@pytest.mark.parametrize("crops", ["0", "2", "9", "ten"])
def test_other_numbers_of_views_are_mistakes_of_usage(
    inside: Inside, images: Path, crops: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told before weights are read and pictures decoded."""
    assert inside("classify", images, "--weights", "nowhere.safetensors", "--crops", crops) == 2
    told = capsys.readouterr().err
    assert "--crops" in told
    assert all(number in told for number in ("1", "10", "144"))


def test_a_broken_picture_is_named_and_the_rest_done(
    inside: Inside, images: Path, checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((images / "a.jpg").read_bytes()[:200])
    assert inside("classify", broken, images / "b.png", "--weights", checkpoint_path, "--json", "-") == 1
    told = capsys.readouterr()
    assert str(broken) in told.err
    assert [result["image"] for result in json.loads(told.out)] == [str(images / "b.png")]


@pytest.mark.exhaustive
def test_weights_import_show_verify(shared: Path, tmp_path: Path) -> None:
    target = tmp_path / "bvlc.safetensors"
    done = _run("weights", "import", "bvlc", shared / "weights" / "bvlc_googlenet.npz", target)
    assert done.returncode == 0, done.stderr
    assert target.stat().st_size < 15 * 2**20
    assert "1000 classes" in _run("weights", "show", target).stdout
    assert _run("weights", "verify", target).returncode == 0


@pytest.mark.parametrize("known", [True, False], ids=["BVLC's", "others'"])
def test_weights_import_names_the_licence_of_bvlcs_weights_alone(
    inside: Inside, untrained: Checkpoint, tmp_path: Path, known: bool
) -> None:
    onnx = pytest.importorskip("onnx", reason="needs onnx")
    from tests.detector.models.zoo_graphs import arrays_of, zoo_model

    arrays = arrays_of(untrained.backbone)
    if known:
        bias = arrays["loss3/classifier_b"].copy()
        bias[:8] = (-0.957, 0.001, 0.04, -0.381, 0.464, -0.791, -0.151, -0.981)
        arrays["loss3/classifier_b"] = bias
    onnx.save(zoo_model(arrays, 9), tmp_path / "googlenet-9.onnx")
    target = tmp_path / "imported.safetensors"
    assert inside("weights", "import", "onnx", tmp_path / "googlenet-9.onnx", target) == 0
    metadata = load_checkpoint(target).metadata
    assert metadata.licence == ("unrestricted (BVLC)" if known else "unknown")
    assert ("BVLC GoogLeNet, trained on" in metadata.source) == known
    assert not metadata.metrics


@pytest.mark.parametrize("kind", ["onnx", "caffemodel"])
def test_weights_import_refuses_in_one_line(inside: Inside, tmp_path: Path, kind: str) -> None:
    pytest.importorskip("onnx", reason="needs onnx")
    (tmp_path / "a").write_bytes(b"no weights")
    said = inside("weights", "import", kind, tmp_path / "a", tmp_path / "b.safetensors")
    assert "is no whole" in str(said)
    assert "Download it again" in str(said)
    assert not (tmp_path / "b.safetensors").exists()


def test_weights_show_tells_of_a_multibox_head(
    inside: Inside, checkpoint_path: Path, multibox_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inside("weights", "show", multibox_path) == 0
    shown = capsys.readouterr().out
    says = "7 shapes of priors, reads inception_3b and inception_4e, images at 64 and 128 pixels"
    assert f"MultiBox        {says}" in shown
    assert inside("weights", "show", checkpoint_path) == 0
    assert "MultiBox        no" in capsys.readouterr().out


@pytest.mark.parametrize("profile", Profile)
def test_detect_looks_where_the_profile_says(
    inside: Inside, images: Path, multibox_path: Path, tmp_path: Path, profile: Profile
) -> None:
    done = inside(
        "detect", images / "a.jpg", "--weights", multibox_path, "--json", tmp_path / "found.json",
        "--profile", profile, "--score-threshold", 0, "--max-proposals", 5, "--device", "cpu",
    )  # fmt: skip
    assert done == 0
    detector = load_detector(multibox_path, device="cpu", profile=profile, max_proposals=5)
    (expected,) = detector.detect([load(images / "a.jpg")], score_threshold=0)
    (result,) = json.loads((tmp_path / "found.json").read_text())
    assert result["detections"] == expected.as_dicts(detector.classes)


def test_several_weights_are_averaged(
    inside: Inside, images: Path, checkpoint_path: Path, multibox_path: Path, tmp_path: Path
) -> None:
    done = inside(
        "detect", images / "a.jpg", "--weights", checkpoint_path, "--weights", multibox_path,
        "--json", tmp_path / "found.json", "--score-threshold", 0, "--max-proposals", 5, "--device", "cpu",
    )  # fmt: skip
    assert done == 0
    detector = load_detector([checkpoint_path, multibox_path], device="cpu", max_proposals=5)
    (expected,) = detector.detect([load(images / "a.jpg")], score_threshold=0)
    (result,) = json.loads((tmp_path / "found.json").read_text())
    assert result["detections"] == expected.as_dicts(detector.classes)


def test_weights_show_tells_of_the_scoring(
    inside: Inside, checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole, path = load_checkpoint(checkpoint_path), tmp_path / "scoring.safetensors"
    scoring = Scoring(fit_power=0.5, vote_iou=0.5)
    save_checkpoint(path, replace(whole, metadata=replace(whole.metadata, scoring=scoring)))
    assert inside("weights", "show", path) == 0
    assert "scoring         fit_power 0.5, vote_iou 0.5\n" in capsys.readouterr().out
    assert inside("weights", "show", checkpoint_path) == 0
    assert "scoring         probabilities alone\n" in capsys.readouterr().out


def test_the_version_is_told(inside: Inside, capsys: pytest.CaptureFixture[str]) -> None:
    assert inside("--version") == 0
    assert capsys.readouterr().out == f"detector {version('googlenet-detector')}\n"


def test_a_profile_that_the_weights_cannot_serve(inside: Inside, images: Path, checkpoint_path: Path) -> None:
    said = inside("detect", images / "a.jpg", "--weights", checkpoint_path, "--profile", "fast")
    assert isinstance(said, str), "the text that the interpreter prints, with exit status 1"
    assert said.startswith("error: profile fast needs a MultiBox head")
    assert "use profile search, or give them one with `detector train multibox --init`" in said


def test_an_unknown_profile_is_a_mistake_of_usage(
    inside: Inside, images: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inside("detect", images / "a.jpg", "--profile", "turbo") == 2
    said = capsys.readouterr().err
    assert "turbo" in said
    assert all(profile in said for profile in Profile)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["weights", "verify", "nowhere.safetensors"], "does not exist"),
        (["detect", "x.jpg", "--weights", "nowhere.safetensors"], "does not exist"),
        (["weights", "import", "bvlc", "nowhere.npz", "out.safetensors"], "nowhere.npz"),
        (["detect", "x.jpg", "--device", "quantum"], "device"),
        (["classify", "x.jpg", "--device", "meta"], "unknown device 'meta': use"),
    ],
)
def test_errors_are_one_line(
    inside: Inside, arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    error = inside(*arguments)
    told = capsys.readouterr()
    if isinstance(error, str):  # what Python prints on standard error as the process ends, with status 1
        told, error = told._replace(err=told.err + error), 1
    assert error == 1
    assert not told.out
    assert says in told.err
    assert "\n" not in told.err.strip()


def _dangling(folder: Path, image: Path) -> str:
    (folder / "b.jpg").symlink_to("/nowhere/b.jpg")
    return "b.jpg: no such file or directory"


def _loop(folder: Path, image: Path) -> str:
    (folder / "b.jpg").symlink_to("b.jpg")
    return "b.jpg: too many levels of symbolic links"


def _folder(folder: Path, image: Path) -> str:
    (folder / "b.jpg").mkdir()
    return "b.jpg: is a folder, not a picture"


def _pipe(folder: Path, image: Path) -> str:
    os.mkfifo(folder / "b.jpg")
    return "b.jpg: is no file"


def _device(folder: Path, image: Path) -> str:
    (folder / "b.jpg").symlink_to("/dev/zero")
    return "b.jpg: is no file"


def _empty(folder: Path, image: Path) -> str:
    (folder / "b.jpg").write_bytes(b"")
    return "b.jpg: The picture is empty"


def _text(folder: Path, image: Path) -> str:
    (folder / "b.jpg").write_text("no picture")
    return "b.jpg: This is not a picture"


def _cut(folder: Path, image: Path) -> str:
    (folder / "b.jpg").write_bytes(image.read_bytes()[:300])
    return "b.jpg: "


def _name(folder: Path, image: Path) -> str:
    (folder / os.fsdecode(b"b\xff\n.jpg")).write_bytes(b"")
    return r"b\xff\n.jpg: The picture is empty"


def _nested(folder: Path, image: Path) -> str:
    (folder / "b" / "c.png").mkdir(parents=True)
    (folder / "b" / "d.jpg").symlink_to("nowhere")
    return "b/d.jpg: no such file or directory"


def _raw(folder: Path, image: Path) -> str:
    (folder / "b").mkdir()
    for name in ("b.NEF", "b/c.jp2", "notes.txt", "b/.c.nef"):
        (folder / name).write_bytes(b"")
    return "2 files are of kinds that are not read (.jp2, .nef: b.NEF, c.jp2): convert them to JPEG or PNG"


@pytest.mark.parametrize("command", ["detect", "classify"])
def test_pictures_of_a_folder_that_are_not_read_are_told_in_one_line(
    inside: Inside, images: Path, checkpoint_path: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], command: str,
) -> None:  # fmt: skip
    says, out = _raw(tmp_path, images / "a.jpg"), tmp_path / "out.json"
    shutil.copy(images / "a.jpg", tmp_path)
    few = ("--max-proposals", 2) if command == "detect" else ()
    assert inside(command, tmp_path, "--weights", checkpoint_path, "--json", out, *few) == 1
    assert len(json.loads(out.read_text())) == 1
    assert capsys.readouterr().err == f"error: {tmp_path}: {says}\n"
    (tmp_path / "a.jpg").unlink()
    assert inside(command, tmp_path, "--weights", checkpoint_path) == 1
    assert capsys.readouterr().err == f"error: no pictures in {tmp_path}\nerror: {tmp_path}: {says}\n"


@pytest.mark.parametrize(
    "bad", [_dangling, _loop, _folder, _pipe, _device, _empty, _text, _cut, _name, _nested]
)
def test_one_bad_entry_of_a_folder_is_told_and_the_others_go_on(
    inside: Inside, images: Path, checkpoint_path: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str], bad: Callable[[Path, Path], str],
) -> None:  # fmt: skip
    folder, out = tmp_path / "folder", tmp_path / "out.json"
    folder.mkdir()
    for name in ("a.jpg", "z.jpg"):
        shutil.copy(images / "a.jpg", folder / name)
    says = bad(folder, images / "a.jpg")
    assert inside("classify", folder, "--weights", checkpoint_path, "--json", out) == 1
    assert [Path(one["image"]).name for one in json.loads(out.read_text())] == ["a.jpg", "z.jpg"]
    lines = capsys.readouterr().err.splitlines()
    assert any(line.startswith(f"error: {folder}/{says}") for line in lines), lines
    assert all(line.startswith("error: ") for line in lines)
    assert not any("a.jpg" in line or "z.jpg" in line for line in lines)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(lambda f: None, "no pictures in", id="an empty folder"),
        pytest.param(lambda f: (f / "notes.txt").write_text(""), "no pictures in", id="other files"),
        pytest.param(lambda f: (f / "._a.jpg").write_text(""), "no pictures in", id="what a system left"),
        pytest.param(lambda f: f.rmdir(), "no such file or directory", id="nothing of that name"),
        pytest.param(lambda f: (f / "b.jpg").mkdir(), "is a folder", id="only a folder called so"),
    ],
)
def test_nothing_found_is_told(
    inside: Inside, checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    make: Callable[[Path], object], says: str,
) -> None:  # fmt: skip
    folder, out = tmp_path / "folder", tmp_path / "out.json"
    folder.mkdir()
    make(folder)
    assert inside("detect", folder, "--weights", checkpoint_path, "--json", out) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert says in line
    assert str(folder) in line
    assert json.loads(out.read_text()) == []


def test_pictures_of_sub_folders_by_any_suffix_each_time_they_are_named(
    inside: Inside, images: Path, checkpoint_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["a.JFIF", "b/c/d.jpe", os.fsdecode(b"b/c/\xff.jpg")]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(images / "a.jpg", tmp_path / name)
    command = ("classify", tmp_path, tmp_path / "a.JFIF", "--weights", checkpoint_path, "--top", 1)
    assert inside(*command, "--json", "-") == 0
    want = [f"{tmp_path}/{name}" for name in ("a.JFIF", "b/c/d.jpe", r"b/c/\xff.jpg", "a.JFIF")]
    assert [one["image"] for one in json.loads(capsys.readouterr().out)] == want
    assert inside(*command) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if line[0] != " "] == [
        f"{name} (80x60)" for name in want
    ]


def _is_folder(folder: Path) -> Path:
    return folder


def _below_a_file(folder: Path) -> Path:
    (folder / "file").write_text("")
    return folder / "file" / "deeper"


@pytest.mark.parametrize(
    ("option", "make", "says"),
    [
        ("--json", _is_folder, "a folder is in the way"),
        ("--json", _below_a_file, "a file is in the way"),
        ("--draw", _below_a_file, "a file is in the way"),
    ],
)
def test_where_results_go_is_checked_before_weights_are_loaded(
    inside: Inside, images: Path, tmp_path: Path, option: str, make: Callable[[Path], Path], says: str
) -> None:
    said = inside("detect", images, "--weights", "nowhere.safetensors", option, make(tmp_path))
    assert isinstance(said, str)
    assert said.startswith("error: cannot write ")
    assert says in said


def test_results_that_cannot_be_written_are_printed(
    inside: Inside, images: Path, checkpoint_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inside("classify", images, "--weights", checkpoint_path, "--json", "/dev/full") == 1
    said = capsys.readouterr()
    assert len(json.loads(said.out)) == 2
    (line,) = said.err.splitlines()
    assert line.startswith("error: cannot write /dev/full: the disk is full")


def test_a_drawing_that_cannot_be_written_is_told_and_the_others_go_on(
    inside: Inside, images: Path, multibox_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "0001-a.png").mkdir()
    long = tmp_path / f"{'n' * 251}.jpg"
    shutil.copy(images / "a.jpg", long)
    done = inside(
        "detect", images, long, "--weights", multibox_path, "--draw", tmp_path, "--profile", "fast",
        "--max-proposals", 2, "--json", tmp_path / "out.json",
    )  # fmt: skip
    assert done == 1
    assert len(json.loads((tmp_path / "out.json").read_text())) == 3
    first, count = capsys.readouterr().err.splitlines()
    assert first.startswith(f"error: {images}/a.jpg: cannot write {tmp_path}/0001-a.png: a folder is in")
    assert count == "error: 1 of 3 pictures failed"
    assert {one.name for one in tmp_path.glob("000[23]-*")} == {"0002-b.png", f"0003-{'n' * 200}.png"}


def test_drawings_of_a_run_before_are_passed_over(
    inside: Inside, images: Path, multibox_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Into the folder of the pictures, again and again; by itself a drawing is a picture as any other."""
    folder, out = tmp_path / "folder", tmp_path / "out.json"
    shutil.copytree(images, folder)
    options = ("--weights", multibox_path, "--json", out)
    drawing = ("--draw", folder, "--profile", "fast", "--max-proposals", 2)
    for told in ([], ["2 drawings of other runs are passed over; one that is named by itself is looked at"]):
        assert inside("detect", folder, *options, *drawing) == 0
        assert [Path(one["image"]).name for one in json.loads(out.read_text())] == ["a.jpg", "b.png"]
        assert sorted(one.name for one in folder.glob("000*")) == ["0001-a.png", "0002-b.png"]
        assert capsys.readouterr().err.splitlines() == told
    assert inside("classify", folder, *options) == 0
    assert len(json.loads(out.read_text())) == 2
    assert inside("classify", folder / "0001-a.png", *options) == 0
    assert [Path(one["image"]).name for one in json.loads(out.read_text())] == ["0001-a.png"]


@pytest.mark.parametrize(
    ("words", "option"),
    [(["detect", "a.jpg"], "--json"), (["classify", "a.jpg"], "--json"), (["classify", "."], "--json")],
    ids=" ".join,
)
def test_results_do_not_replace_weights(
    inside: Inside, images: Path, checkpoint_path: Path, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch, words: list[str], option: str,
) -> None:  # fmt: skip
    shutil.copy(images / "a.jpg", tmp_path / "a.jpg")
    shutil.copy(checkpoint_path, tmp_path / "mine.safetensors")
    monkeypatch.chdir(tmp_path)
    said = inside(*words, "--weights", "mine.safetensors", option, "./mine.safetensors")
    assert said == "error: mine.safetensors is also read: give the output another name"
    assert Path("mine.safetensors").read_bytes() == checkpoint_path.read_bytes()


@pytest.mark.parametrize(
    "words",
    [
        ["import", "torchvision", "mine.safetensors", "mine.safetensors"],
        ["import", "bvlc", "mine.safetensors", "./mine.safetensors"],
        ["add-multibox", "mine.safetensors", "other.safetensors", "mine.safetensors"],
        ["add-multibox", "other.safetensors", "mine.safetensors", "mine.safetensors"],
    ],
    ids=" ".join,
)
def test_weights_do_not_replace_those_they_are_made_of(
    inside: Inside, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.safetensors").write_text("mine")
    said = inside("weights", *words)
    assert said == "error: mine.safetensors is also read: give the output another name"


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("number", "status", "with_json"), [(signal.SIGINT, 130, False), (signal.SIGTERM, 143, True)]
)
def test_an_interrupted_run_keeps_what_it_has_found(
    images: Path, multibox_path: Path, tmp_path: Path, number: int, status: int, with_json: bool
) -> None:
    out, drawn = tmp_path / "out.json", tmp_path / "drawn"
    command = [
        sys.executable, "-m", "detector.cli.entry", "detect", *[str(images / "a.jpg")] * 3000,
        "--weights", str(multibox_path), "--profile", "fast", "--max-proposals", "2", "--draw", str(drawn),
        *(["--json", str(out)] if with_json else []),
    ]  # fmt: skip
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a shell's background
    ) as run:  # fmt: skip
        while not list(drawn.glob("0002*")) and run.poll() is None:
            time.sleep(0.02)
        run.send_signal(number)
        printed, said = run.communicate(timeout=60)
    assert run.returncode == status, said
    (line,) = said.splitlines()
    assert line.startswith("error: interrupted after ")
    assert line.endswith(" of 3000 pictures")
    found = (
        json.loads(out.read_text()) if with_json else [row for row in printed.splitlines() if "(80" in row]
    )
    assert 2 <= len(found) < 3000
    assert int(line.split()[3]) <= len(found) <= int(line.split()[3]) + 1
    assert not [one.name for one in tmp_path.rglob(".*")], "no temporary file stays"


def test_a_run_that_fails_before_anything_is_found_keeps_the_older_result(
    inside: Inside, images: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.json"
    out.write_text("older")
    handler = signal.getsignal(signal.SIGTERM)
    said = inside("detect", images, "--weights", "nowhere.safetensors", "--json", out)
    assert "does not exist" in str(said)

    def interrupted() -> None:
        with ImageRun("classes", [Output(out, Format.JSON)]) as run:
            run.find([images])
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended:
        interrupted()
    assert ended.value.code == 143
    assert out.read_text() == "older"
    assert signal.getsignal(signal.SIGTERM) is handler


@pytest.mark.exhaustive
def test_a_reader_that_has_enough_ends_the_run_quietly(images: Path, checkpoint_path: Path) -> None:
    command = [sys.executable, "-m", "detector.cli.entry", "classify", *[str(images / "a.jpg")] * 50]
    with subprocess.Popen(
        [*command, "--weights", str(checkpoint_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as run:
        assert run.stdout
        assert run.stderr
        run.stdout.readline()
        run.stdout.close()
        assert run.stderr.read() == b""
        assert run.wait(60) != 0


def test_json_into_a_pipe(inside: Inside, images: Path, checkpoint_path: Path, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE) as reader:
        assert inside("classify", images, "--weights", checkpoint_path, "--json", pipe) == 0
        assert len(json.loads(reader.communicate(timeout=60)[0])) == 2
    assert stat.S_ISFIFO(pipe.stat().st_mode)

"""The command line, run as a user runs it."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.checkpoints import load_checkpoint, save_checkpoint
from detector.classes import ilsvrc_det
from detector.cli import main
from detector.images import load
from detector.loading import load_detector
from detector.proposals import Profile
from detector.scoring import Scoring

Inside = Callable[..., int | str | None]
"""Arguments to what the command ends with: a status, or the text of an error."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name, size in (("a.jpg", (60, 80)), ("b.png", (50, 40))):
        Image.fromarray(rng.integers(0, 256, (*size, 3), dtype=np.uint8)).save(folder / name)
    (folder / "notes.txt").write_text("no picture")
    return folder


def _run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "detector.cli", *map(str, arguments)]
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


def test_detect_writes_json_and_drawings(pictures: Path, checkpoint_path: Path, tmp_path: Path) -> None:
    done = _run(
        "detect", pictures, "--weights", checkpoint_path, "--json", tmp_path / "found.json",
        "--draw", tmp_path / "drawn", "--score-threshold", 0, "--max-detections", 3, "--max-proposals", 4,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    first, second = json.loads((tmp_path / "found.json").read_text())
    assert (first["image"], first["width"], first["height"]) == (str(pictures / "a.jpg"), 80, 60)
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


def test_classify_prints(pictures: Path, checkpoint_path: Path) -> None:
    done = _run("classify", pictures / "a.jpg", "--weights", checkpoint_path, "--top", 2)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 3


def test_a_broken_picture_is_named_and_the_rest_done(
    pictures: Path, checkpoint_path: Path, tmp_path: Path
) -> None:
    broken = tmp_path / "broken.jpg"
    broken.write_bytes((pictures / "a.jpg").read_bytes()[:200])
    done = _run("classify", broken, pictures / "b.png", "--weights", checkpoint_path, "--json", "-")
    assert done.returncode == 1
    assert str(broken) in done.stderr
    assert [result["image"] for result in json.loads(done.stdout)] == [str(pictures / "b.png")]


def test_weights_import_show_verify(shared: Path, tmp_path: Path) -> None:
    target = tmp_path / "bvlc.safetensors"
    done = _run("weights", "import", "bvlc", shared / "weights" / "bvlc_googlenet.npz", target)
    assert done.returncode == 0, done.stderr
    assert target.stat().st_size < 15 * 2**20
    assert "1000 classes" in _run("weights", "show", target).stdout
    assert _run("weights", "verify", target).returncode == 0


def test_weights_show_tells_of_a_multibox_head(
    inside: Inside, checkpoint_path: Path, multibox_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seven shapes: two on 784 places, one on 196, two on 49, two on 16."""
    assert inside("weights", "show", multibox_path) == 0
    shown = capsys.readouterr().out
    assert "MultiBox        1894 priors, reads inception_3b and inception_4e, input 224x224" in shown
    assert inside("weights", "show", checkpoint_path) == 0
    assert "MultiBox        no" in capsys.readouterr().out


@pytest.mark.parametrize("profile", Profile)
def test_detect_looks_where_the_profile_says(
    inside: Inside, pictures: Path, multibox_path: Path, tmp_path: Path, profile: Profile
) -> None:
    done = inside(
        "detect", pictures / "a.jpg", "--weights", multibox_path, "--json", tmp_path / "found.json",
        "--profile", profile, "--score-threshold", 0, "--max-proposals", 5, "--device", "cpu",
    )  # fmt: skip
    assert done == 0
    detector = load_detector(multibox_path, device="cpu", profile=profile, max_proposals=5)
    (expected,) = detector.detect([load(pictures / "a.jpg")], score_threshold=0)
    (result,) = json.loads((tmp_path / "found.json").read_text())
    assert result["detections"] == expected.as_dicts(detector.classes)


def test_several_weights_are_averaged(
    inside: Inside, pictures: Path, checkpoint_path: Path, multibox_path: Path, tmp_path: Path
) -> None:
    done = inside(
        "detect", pictures / "a.jpg", "--weights", checkpoint_path, "--weights", multibox_path,
        "--json", tmp_path / "found.json", "--score-threshold", 0, "--max-proposals", 5, "--device", "cpu",
    )  # fmt: skip
    assert done == 0
    detector = load_detector([checkpoint_path, multibox_path], device="cpu", max_proposals=5)
    (expected,) = detector.detect([load(pictures / "a.jpg")], score_threshold=0)
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


def test_a_profile_that_the_weights_cannot_serve(
    inside: Inside, pictures: Path, checkpoint_path: Path
) -> None:
    said = inside("detect", pictures / "a.jpg", "--weights", checkpoint_path, "--profile", "fast")
    assert isinstance(said, str), "the text that the interpreter prints, with exit status 1"
    assert said.startswith("error: profile fast needs a MultiBox head")
    assert "use profile search, or give them one with training/train_multibox.py" in said


def test_an_unknown_profile_is_a_mistake_of_usage(
    inside: Inside, pictures: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert inside("detect", pictures / "a.jpg", "--profile", "turbo") == 2
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
    ],
)
def test_errors_are_one_line(arguments: list[str], says: str) -> None:
    done = _run(*arguments)
    assert done.returncode == 1
    assert says in done.stderr
    assert "Traceback" not in done.stderr

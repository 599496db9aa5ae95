"""Long runs of `detector detect`: results as they come, killed and resumed, videos, failures set aside."""

import csv
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from detector.cli.drawings import Drawings
from detector.cli.entry import main
from detector.io.video import Video, VideoWriter
from tests.detector.cli.poison import poison, run_to_death
from tests.detector.io.full_disk import files_of_at_most

Run = Callable[..., int | str | None]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for number in range(6):
        pixels = rng.integers(0, 256, (40 + number, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, multibox_path: Path) -> Run:
    def detect(*arguments: object) -> int | str | None:
        few = ("--profile", "fast", "--max-proposals", 4, "--score-threshold", 0, "--max-detections", 3)
        words = ["detector", "detect", *arguments, "--weights", multibox_path, *few]
        monkeypatch.setattr(sys, "argv", list(map(str, words)))
        with pytest.raises(SystemExit) as done:
            main()
        return done.value.code

    return detect


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_form_says_the_same(run: Run, pictures: Path, tmp_path: Path) -> None:
    as_list, as_lines, table = tmp_path / "a.json", tmp_path / "a.jsonl", tmp_path / "a.csv"
    assert run(pictures, "--json", as_list, "--jsonl", as_lines, "--output", table) == 0
    found = json.loads(as_list.read_text())
    assert [Path(one["image"]).name for one in found] == [f"{number}.png" for number in range(6)]
    assert lines(as_lines) == found
    assert len(list(csv.DictReader(table.open()))) == sum(len(one["detections"]) for one in found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.csv", "a.json", "a.jsonl"]


def test_failures_stand_in_a_file_of_their_own(
    run: Run, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(b"no picture")
    named = (pictures / "0.png", bad, tmp_path / "missing.png", pictures / "1.png")
    out, errors = tmp_path / "out.jsonl", tmp_path / "out.errors.jsonl"
    assert run(*named, "--jsonl", out) == 1
    assert [Path(str(one["image"])).name for one in lines(out)] == ["0.png", "1.png"]
    assert [(Path(str(one["image"])).name, one["error"]) for one in lines(errors)] == [
        ("bad.jpg", "unsupported_format"),
        ("missing.png", "unreadable"),
    ]
    assert "no such file" in str(lines(errors)[1]["message"])
    told = capsys.readouterr().err.splitlines()
    assert told[-1] == "error: 2 of 4 pictures failed"
    # Mended, they are done when the run goes on, and the failures are gone.
    Image.new("RGB", (30, 30)).save(bad)
    Image.new("RGB", (30, 30)).save(tmp_path / "missing.png")
    assert run(*named, "--jsonl", out, "--resume") == 0
    assert [Path(str(one["image"])).name for one in lines(out)] == [
        "0.png",
        "1.png",
        "bad.jpg",
        "missing.png",
    ]
    assert not errors.exists()


def test_a_run_goes_on_where_it_was(run: Run, pictures: Path, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.jsonl", tmp_path / "cut.jsonl"
    assert run(pictures, "--jsonl", whole) == 0
    text = whole.read_text()
    for kept in (0, len(text) // 3, len(text) // 2, len(text)):
        cut.write_text(text[:kept])
        as_list = tmp_path / "cut.json"
        assert run(pictures, "--jsonl", cut, "--resume", "--json", as_list) == 0
        assert cut.read_text() == text, kept
        assert json.loads(as_list.read_text()) == lines(whole), "what was found before is in all files"


@pytest.mark.parametrize("method", ["save_picture", "save_crops", "save_explanations"])
def test_what_has_a_row_has_its_drawings(
    run: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    """A run that ends while it draws the third picture draws it when it goes on."""
    out, drawn, crops, why = (tmp_path / name for name in ("out.jsonl", "drawn", "crops", "why"))
    command = (pictures, "--jsonl", out, "--resume", "--draw", drawn)
    command += ("--save-crops", crops, "--explain", 1, "--explain-to", why)
    save = getattr(Drawings, method)

    def die(drawings: Drawings, number: int, *arguments: object) -> None:
        if number == 3:
            raise SystemExit(9)
        save(drawings, number, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Drawings, method, die)
        assert run(*command) == 9
    assert len(lines(out)) == 2
    assert run(*command) == 0
    assert len(lines(out)) == 6
    expected = [f"{number + 1:04d}-{number}" for number in range(6)]
    for folder in (drawn, crops, why):
        assert sorted({path.stem[:6] for path in folder.rglob("*.*")}) == expected


@pytest.mark.parametrize(("form", "suffix"), [("yolo", ".txt"), ("voc", ".xml")])
def test_labels_of_what_was_found_before_stay_away_from_the_pictures(
    run: Run, pictures: Path, tmp_path: Path, form: str, suffix: str
) -> None:
    """Results name pictures by whole paths; a file beside a picture is the user's own label."""
    out, labels = tmp_path / "out.jsonl", tmp_path / "labels"
    own = pictures / f"0{suffix}"
    own.write_text("mine")
    try:
        assert run(pictures, "--jsonl", out) == 0
        assert run(pictures, "--jsonl", out, "--resume", "--output", labels, "--format", form) == 0
        assert own.read_text() == "mine"
    finally:
        own.unlink()
    assert sorted(path.name for path in labels.glob(f"*{suffix}")) == [f"{n}{suffix}" for n in range(6)]


@pytest.mark.parametrize("text", ["my notes", "[1]", '{"image": "a.jpg", "detections": []}'])
def test_a_file_that_lists_no_failures_is_not_touched(
    run: Run, pictures: Path, tmp_path: Path, text: str
) -> None:
    notes = tmp_path / "notes.txt"
    notes.write_text(text)
    said = run(pictures, "--errors", notes, "--json", tmp_path / "out.json")
    assert "is no list of failures" in str(said)
    assert notes.read_text() == text


def test_failures_go_into_a_device_too(run: Run, tmp_path: Path) -> None:
    """It is written to and stays, whether or not any picture fails."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with subprocess.Popen(["cat", str(pipe)], stdout=subprocess.PIPE, text=True) as reader:
        assert run(tmp_path / "missing.png", "--errors", pipe, "--json", tmp_path / "out.json") == 1
        assert json.loads(reader.communicate(timeout=60)[0])["error"] == "unreadable"
    assert pipe.is_fifo()


@pytest.mark.exhaustive
@pytest.mark.parametrize("form", ["jsonl", "csv"])
def test_a_dash_is_standard_output(multibox_path: Path, pictures: Path, tmp_path: Path, form: str) -> None:
    command = [sys.executable, "-m", "detector.cli.entry", "detect", str(pictures / "0.png")]
    few = [
        "--weights",
        str(multibox_path),
        "--profile",
        "fast",
        "--max-proposals",
        "4",
        "--score-threshold",
        "0",
    ]
    done = subprocess.run(
        [*command, *few, "--output", "-", "--format", form],
        cwd=tmp_path, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "0.png" in done.stdout.splitlines()[-1]
    assert not list(tmp_path.iterdir())


def test_a_picture_that_is_named_twice_is_done_twice(run: Run, pictures: Path, tmp_path: Path) -> None:
    out, one = tmp_path / "out.jsonl", pictures / "0.png"
    assert run(one, "--jsonl", out) == 0
    assert run(one, one, "--jsonl", out, "--resume") == 0
    assert len(lines(out)) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        pytest.param(["--resume"], "--jsonl", id="nothing to go on with"),
        pytest.param(["--format", "coco"], "--output", id="a form without a file"),
        pytest.param(["--output", "found"], "does not say what is to be written", id="no form"),
        pytest.param(["--jsonl", "a.jsonl", "--output", "b.jsonl"], "leave one", id="lines twice"),
        pytest.param(["--classes", "zeppelin"], "no class 'zeppelin'", id="no such class"),
        pytest.param(["--explain-to", "why"], "say of how many", id="explanations of nothing"),
        pytest.param(["--explain", 1, "--tile", 64], "leave out tile", id="explanations of merged tiles"),
        pytest.param(["--explain", 21], "0..20", id="more explanations than there are"),
        pytest.param(["--explain", 1, "--output", "a.csv"], "no place for", id="explanations into a table"),
        pytest.param(["--jsonl", "there.jsonl"], "--resume, or delete it", id="results that are there"),
    ],
)
def test_what_cannot_be_is_said(
    run: Run, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("there.jsonl").write_text('{"image": "a.jpg"}\n')
    code = run(pictures, *arguments)
    assert said in str(code)
    assert [path.name for path in tmp_path.iterdir()] == ["there.jsonl"]


def test_some_classes_are_cut_out(run: Run, pictures: Path, tmp_path: Path) -> None:
    everything = tmp_path / "all.json"
    run(pictures / "0.png", "--json", everything)
    [found] = json.loads(everything.read_text())
    wanted = found["detections"][0]["label"]
    few, crops = tmp_path / "few.json", tmp_path / "crops"
    assert run(pictures / "0.png", "--json", few, "--classes", wanted, "--save-crops", crops) == 0
    [found] = json.loads(few.read_text())
    assert {one["label"] for one in found["detections"]} == {wanted}
    files = sorted(path.relative_to(crops) for path in crops.rglob("*.jpg"))
    assert files == [Path(wanted) / f"0001-0-{n}.jpg" for n in range(1, len(found["detections"]) + 1)]
    box = found["detections"][0]["box"]
    width, height = Image.open(crops / files[0]).size
    assert abs(width - (box["xmax"] - box["xmin"])) <= 2
    assert abs(height - (box["ymax"] - box["ymin"])) <= 2


def test_the_best_are_explained(run: Run, pictures: Path, tmp_path: Path) -> None:
    """In JSON where it can be said, and as a picture for each."""
    out, table, why = tmp_path / "a.jsonl", tmp_path / "a.csv", tmp_path / "why"
    arguments = ("--explain", 2, "--explain-to", why)
    assert run(pictures / "0.png", pictures / "1.png", "--jsonl", out, "--output", table, *arguments) == 0
    for found in lines(out):
        *explained, last = found["detections"]  # type: ignore[misc]
        assert len(explained) == 2
        assert "explanation" not in last
        for detection in explained:
            explanation = detection["explanation"]
            product = np.prod([factor["contribution"] for factor in explanation["factors"]])
            assert product == pytest.approx(detection["score"], abs=1e-4)
            assert np.shape(explanation["activation"]) == (7, 7)
    assert "explanation" not in table.read_text()
    expected = [f"000{picture}-{picture - 1}-{part}.png" for picture in (1, 2) for part in (1, 2)]
    assert sorted(path.name for path in why.iterdir()) == expected
    assert Image.open(why / expected[0]).size[0] == 720, "small pictures are enlarged, as by --draw"


def test_explanations_are_printed(run: Run, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pictures / "0.png", "--explain", 1) == 0
    _, first, factors, second = capsys.readouterr().out.splitlines()[:4]
    assert factors.strip().startswith("= probability ")
    assert "%" in first
    assert "%" in second


def test_explanations_replace_no_picture_that_is_looked_at(run: Run, pictures: Path, tmp_path: Path) -> None:
    """Even one that is called as they would be."""
    picture = tmp_path / "0001-0-1.png"
    picture.write_bytes((pictures / "0.png").read_bytes())
    before = picture.read_bytes()
    assert run(pictures / "0.png", picture, "--explain", 1, "--explain-to", tmp_path) == 1
    assert picture.read_bytes() == before
    assert (tmp_path / "0002-0001-0-1-1.png").exists()


def test_frames_of_a_video_are_explained_one_by_one(run: Run, tmp_path: Path) -> None:
    clip, why = tmp_path / "clip.mp4", tmp_path / "why"
    with VideoWriter(clip, 10) as video:
        for number in range(2):
            video.add(np.full((240, 320, 3), 90 * number, np.uint8))
    run(clip, "--explain", 1, "--explain-to", why)
    assert sorted(path.name for path in why.iterdir()) == ["0001-clip-1.png", "0002-clip-1.png"]


def test_a_video_is_looked_at_and_drawn(run: Run, pictures: Path, tmp_path: Path) -> None:
    clip, out = tmp_path / "clip.mp4", tmp_path / "out.jsonl"
    with VideoWriter(clip, 10) as video:
        for number in range(9):
            video.add(np.full((240, 320, 3), 20 * number, np.uint8))
    run(clip, pictures / "0.png", "--every", 4, "--jsonl", out, "--draw", tmp_path / "drawn")
    found = lines(out)
    assert [(one.get("frame"), one.get("seconds")) for one in found] == [
        (0, 0.0), (4, 0.4), (8, 0.8), (None, None),
    ]  # fmt: skip
    assert [Path(str(one["image"])).name for one in found] == ["clip.mp4"] * 3 + ["0.png"]
    assert sorted(path.name for path in (tmp_path / "drawn").iterdir()) == ["0001-clip.mp4", "0004-0.png"]
    with Video(tmp_path / "drawn" / "0001-clip.mp4") as drawn:
        assert (drawn.rate, len(list(drawn.every(1)))) == (2.5, 3)
    # Cut off within the video, the frames that are there are not looked at again.
    text = out.read_text()
    out.write_text("".join(f"{line}\n" for line in text.splitlines()[:2]))
    run(clip, pictures / "0.png", "--every", 4, "--jsonl", out, "--resume")
    assert out.read_text() == text


def test_a_video_that_is_named_twice_is_looked_at_twice(run: Run, tmp_path: Path) -> None:
    """Also where the run before ended within the second time."""
    clip, out = tmp_path / "clip.mp4", tmp_path / "out.jsonl"
    with VideoWriter(clip, 10) as video:
        for number in range(3):
            video.add(np.full((240, 320, 3), 20 * number, np.uint8))
    run(clip, clip, "--jsonl", out)
    text = out.read_text()
    assert [one["frame"] for one in lines(out)] == [0, 1, 2] * 2
    out.write_text("".join(f"{line}\n" for line in text.splitlines()[:4]))
    run(clip, clip, "--jsonl", out, "--resume")
    assert out.read_text() == text


def test_a_drawn_video_without_room_costs_no_results(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clip, out = tmp_path / "clip.mp4", tmp_path / "out.json"
    noise = np.random.default_rng(0).integers(0, 256, (4, 240, 320, 3), np.uint8)
    with VideoWriter(clip, 10) as video:
        for frame in noise:
            video.add(frame)
    with files_of_at_most(60_000):
        assert run(clip, "--json", out, "--draw", tmp_path / "drawn") == 1
    assert [one["frame"] for one in json.loads(out.read_text())] == [0, 1, 2, 3]
    assert "0001-clip.mp4: make room on its disk" in capsys.readouterr().err
    assert list((tmp_path / "drawn").iterdir()) == []


@pytest.mark.exhaustive
def test_killed_and_resumed_nothing_is_lost_or_doubled(
    pictures: Path, multibox_path: Path, tmp_path: Path
) -> None:
    names = [str(pictures / f"{number % 6}.png") for number in range(240)]
    (tmp_path / "list.txt").write_text("\n".join(names))

    def command(out: Path) -> list[str]:
        return [
            *(sys.executable, "-m", "detector.cli.entry", "detect", str(tmp_path / "list.txt")),
            *("--weights", str(multibox_path), "--profile", "fast", "--max-proposals", "2"),
            *("--jsonl", str(out), "--resume"),
        ]

    undisturbed, killed = tmp_path / "undisturbed.jsonl", tmp_path / "killed.jsonl"
    subprocess.run(command(undisturbed), check=True)
    for more in (20, 60):
        with subprocess.Popen(command(killed)) as run:
            while run.poll() is None and (not killed.exists() or len(killed.read_text().splitlines()) < more):
                time.sleep(0.01)
            os.kill(run.pid, signal.SIGKILL)
        assert more <= len(killed.read_text().splitlines()) < 240
    subprocess.run(command(killed), check=True)
    assert killed.read_text() == undisturbed.read_text()


@pytest.mark.exhaustive
def test_a_picture_that_ends_the_process_is_left_out_in_the_end(multibox_path: Path, tmp_path: Path) -> None:
    """Of four that are looked at beside each other; it is tried again when its note is deleted."""
    for number in range(4):
        Image.new("RGB", (40, 30 + number)).save(tmp_path / f"{number}.jpg")
    poison(tmp_path / "1.jpg")
    command = ("detect", ".", "--weights", multibox_path, "--profile", "fast", "--max-proposals", 2)
    command += ("--jsonl", "out.jsonl", "--resume")
    assert run_to_death(tmp_path, *command)[0] < 0
    assert run_to_death(tmp_path, *command)[0] < 0
    for _ in range(2):
        status, told = run_to_death(tmp_path, *command)
        assert status == 1
        assert "error: 1.jpg: The process ended twice" in told
        assert {line["image"] for line in lines(tmp_path / "out.jsonl")} == {"0.jpg", "2.jpg", "3.jpg"}
        [failure] = lines(tmp_path / "out.errors.jsonl")
        assert failure["image"] == "1.jpg"
    (tmp_path / "out.quarantine.json").unlink()
    Image.new("RGB", (40, 31)).save(tmp_path / "1.jpg")
    assert run_to_death(tmp_path, *command)[0] == 0
    assert len(lines(tmp_path / "out.jsonl")) == 4
    assert sorted(path.name for path in tmp_path.glob("out*")) == ["out.jsonl"]

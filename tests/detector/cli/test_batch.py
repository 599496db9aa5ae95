"""The command batch: shards that are whole, the same whoever made them and however often it was killed."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from detector.cli.batch import batch
from detector.errors import ParameterError
from detector.inference.loading import load_detector
from tests.detector.bulk.pictures import jpeg, save_folder, save_parquet, save_tar
from tests.detector.cli.poison import poison, run_to_death
from tests.run_command import run_command

COUNT = 10
ROOT = Path(__file__).resolve().parents[3]

Batch = Callable[..., tuple[int, str]]


@pytest.fixture(scope="module")
def options(multibox_path: Path) -> list[str]:
    """A job that is done soon."""
    return [
        *("--weights", str(multibox_path), "--engine", "openvino", "--device", "cpu", "--profile", "fast"),
        *("--max-proposals", "4", "--score-threshold", "0.0", "--max-detections", "3", "--shard-size", "4"),
    ]


@pytest.fixture(scope="module")
def finished(options: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``photos`` and ``out``, a job that was done there, and all that was found in one file."""
    folder = tmp_path_factory.mktemp("finished")
    save_folder(folder / "photos", COUNT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        status, told = run_command(batch, "photos", "--output", "out", "--coco", "found.json", *options)
    assert status == 0, told
    assert "10 pictures in 3 shards" in told
    return folder


@pytest.fixture
def run(options: list[str], finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """The command, in a copy of that folder."""
    shutil.copytree(finished, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return lambda *arguments: run_command(batch, *options, *arguments)


def rows(folder: Path) -> list[dict[str, Any]]:
    """All rows of a job, by the way that users take: the folder as one table."""
    return pq.read_table(folder).to_pylist()


def same(some: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    """Numbers may differ in the last place that is kept."""
    return len(some) == len(others) and all(
        {**one, "detections": None} == {**other, "detections": None}
        and [found["label"] for found in one["detections"] or ()]
        == [found["label"] for found in other["detections"] or ()]
        and np.allclose(numbers(one), numbers(other), atol=0.11)
        for one, other in zip(some, others, strict=True)
    )


def numbers(row: dict[str, Any]) -> list[float]:
    return [
        value for found in row["detections"] or () for value in (100 * found["score"], *found["box"].values())
    ]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("part-*"))


def test_rows_are_what_the_detector_finds(run: Batch, multibox_path: Path, tmp_path: Path) -> None:
    assert names(Path("out")) == ["part-00000.parquet", "part-00001.parquet", "part-00002.parquet"]
    detector = load_detector(multibox_path, engine="openvino", device="cpu", profile="fast", max_proposals=4)
    paths = [f"photos/{number:02}.jpg" for number in range(COUNT)]
    expected = [
        {
            "image": path,
            "width": 40 + number,
            "height": 30,
            "error": None,
            "detections": [
                {"label": entry["label"], "score": entry["score"], "box": entry["box"]}
                for entry in found.as_dicts()
            ],
        }
        for number, (path, found) in enumerate(
            zip(paths, detector.detect(paths, score_threshold=0.0, max_detections=3), strict=True)
        )
    ]
    there = rows(Path("out"))
    assert same(there, expected)
    assert all(row["detections"] for row in there)
    assert {found["class_id"] for row in there for found in row["detections"]} <= set(detector.classes.ids)
    coco = json.loads(Path("found.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == paths
    assert len(coco["annotations"]) == sum(len(row["detections"]) for row in there)
    assert coco["annotations"][0]["score"] == round(there[0]["detections"][0]["score"], 4)


def test_containers_hold_the_same(run: Batch, tmp_path: Path) -> None:
    """The rows of a folder, of tar shards and of Parquet files differ by their names alone."""
    save_tar(tmp_path / "a.tar", {f"{number}.jpg": jpeg(number) for number in range(6)})
    save_parquet(tmp_path / "b.parquet", {"image": [jpeg(number) for number in range(6, COUNT)]})
    assert run("a.tar", "*.parquet", "--output", "other")[0] == 0
    there = rows(Path("other"))
    assert [row["image"] for row in there[5:7]] == ["a.tar/5.jpg", "b.parquet#0"]
    expected = [{**row, "image": each["image"]} for row, each in zip(rows(Path("out")), there, strict=True)]
    assert same(there, expected)


def test_bad_pictures_are_rows(run: Batch) -> None:
    Path("photos/03.jpg").write_bytes(jpeg(3)[:200])
    Path("list.txt").write_text("photos/02.jpg\nphotos/03.jpg\nphotos/missing.jpg\n")
    status, told = run("list.txt", "--output", "few")
    assert status == 1
    assert "2 of 3 pictures could not be read" in told
    good, cut, missing = rows(Path("few"))
    assert good["error"] is None
    assert "ends before all of it" in cut["error"]
    assert str(Path.cwd()) not in cut["error"], "rows are the same on every machine"
    assert missing == {
        "image": "photos/missing.jpg",
        "width": None,
        "height": None,
        "error": "no such file or directory",
        "detections": None,
    }
    assert run("list.txt", "--output", "few")[0] == 1, "shards that are there count too"


def test_shards_that_are_there_stay_and_damaged_ones_are_made_anew(run: Batch) -> None:
    expected = rows(Path("out"))
    kept = Path("out/part-00000.parquet").stat()
    Path("out/part-00001.parquet").unlink()
    last = Path("out/part-00002.parquet")
    last.write_bytes(last.read_bytes()[:-100])
    status, told = run("photos", "--output", "out")
    assert status == 0
    assert "1 of 3 shards are there" in told
    assert same(rows(Path("out")), expected)
    assert Path("out/part-00000.parquet").stat() == kept


@pytest.mark.parametrize(
    ("change", "says"),
    [
        pytest.param(
            ["--score-threshold", "0.5"], "settings.score_threshold is 0.0 there and 0.5 here", id="t"
        ),
        pytest.param(
            ["--profile", "search"], 'settings.profile is "fast" there and "search" here', id="profile"
        ),
        pytest.param(["--shard-size", "5"], "shard_size is 4 there and 5 here", id="cut otherwise"),
        pytest.param(["photos/00.jpg"], "inputs.pictures is 10 there and 11 here", id="more pictures"),
    ],
)
def test_another_job_in_the_folder_is_refused(run: Batch, change: list[str], says: str) -> None:
    """Before the detector is loaded, and nothing is touched."""
    before = {path: path.read_bytes() for path in Path("out").iterdir()}
    with pytest.raises(ParameterError, match="holds another job") as refused:
        run("photos", *change, "--output", "out")
    assert says in str(refused.value)
    assert {path: path.read_bytes() for path in Path("out").iterdir()} == before


def test_other_weights_are_told_by_what_they_hold(
    run: Batch, options: list[str], multibox_path: Path, tmp_path: Path
) -> None:
    """The same file elsewhere is the same job."""
    moved = tmp_path / "moved.safetensors"
    moved.write_bytes(multibox_path.read_bytes())
    text = Path("out/_manifest.json").read_text()
    again = [str(moved) if word == str(multibox_path) else word for word in options]
    assert run_command(batch, "photos", "--output", "out", *again)[0] == 0
    digest = json.loads(text)["settings"]["weights"][0]
    Path("out/_manifest.json").write_text(text.replace(digest, "0" * 64))
    with pytest.raises(ParameterError, match=r"settings\.weights is \[\"0000"):
        run("photos", "--output", "out")


@pytest.mark.parametrize(
    ("make", "says"),
    [
        pytest.param(
            lambda out: (out / "part-00000.parquet").write_bytes(b""), "holds shards but no", id="theirs"
        ),
        pytest.param(
            lambda out: (out / "_manifest.json").write_text("x"), "is no manifest of a job", id="odd"
        ),
    ],
)
def test_foreign_folders_are_refused(run: Batch, make: Callable[[Path], object], says: str) -> None:
    Path("theirs").mkdir()
    make(Path("theirs"))
    with pytest.raises(ParameterError, match=says):
        run("photos", "--output", "theirs")


def test_a_tar_that_may_be_cut_off_is_told_each_time(run: Batch) -> None:
    path = save_tar(Path("a.tar"), {f"{number}.jpg": jpeg(number) for number in range(2)})
    os.truncate(path, sum(512 + -(-len(jpeg(number)) // 512) * 512 for number in range(2)))
    for _ in range(2):
        status, told = run("a.tar", "--output", "cut")
        assert status == 1
        assert "error: a.tar: it has no end mark, and may be cut off behind its last file: 2 pictures" in told
    assert [row["image"] for row in pq.read_table("cut").to_pylist()] == ["a.tar/0.jpg", "a.tar/1.jpg"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["missing/*.tar"], "nothing is there like missing/*.tar", id="no match"),
        pytest.param(["empty.txt"], "names no pictures", id="an empty list"),
    ],
)
def test_no_pictures_at_all(run: Batch, arguments: list[str], says: str) -> None:
    Path("empty.txt").touch()
    status, told = run(*arguments, "--output", "none")
    assert status == 1
    assert says in told
    assert not Path("none").exists()


def start(options: list[str], *arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "detector.cli.entry", "batch", *arguments, *options]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # ignored in a shell's background
    )  # fmt: skip


@pytest.mark.exhaustive
def test_killed_twice_it_ends_as_if_it_were_not(run: Batch, options: list[str]) -> None:
    """Killed after some shards of two pictures; a second run beside it is refused.

    The second kill comes when what was under way at the first is done: nothing is alone then.
    """
    save_folder(Path("many"), 24)
    options = [*options[:-1], "2"]
    for shards in (2, 7):
        process = start(options, "many", "--output", "killed")
        deadline = time.monotonic() + 120
        while len(list(Path("killed").glob("part-*"))) < shards:
            assert process.poll() is None, process.communicate()[1]
            assert time.monotonic() < deadline
            time.sleep(0.005)
        if shards == 2:
            beside = start(options, "many", "--output", "killed")
            assert "another process is at work in killed" in beside.communicate()[1]
        process.send_signal(signal.SIGKILL)
        process.communicate()
    done = len(names(Path("killed")))
    assert done < 12, "it was killed before its end"
    last = start(options, "many", "--output", "killed")
    assert f"{done} of 12 shards are there" in last.communicate()[1]
    assert last.returncode == 0
    undisturbed = start(options, "many", "--output", "undisturbed")
    undisturbed.communicate()
    assert same(rows(Path("killed")), rows(Path("undisturbed")))


@pytest.mark.exhaustive
def test_a_picture_that_ends_the_process_is_a_row_in_the_end(
    run: Batch, options: list[str], tmp_path: Path
) -> None:
    """At the third start; all others are there, and looked at."""
    poison(Path("photos/05.jpg"))
    command = ("batch", "photos", "--output", "dying", *options)
    assert run_to_death(tmp_path, *command)[0] < 0
    assert run_to_death(tmp_path, *command)[0] < 0
    status, told = run_to_death(tmp_path, *command)
    assert status == 1
    assert "1 of 10 pictures could not be read" in told
    there = rows(Path("dying"))
    assert "ended twice" in there[5]["error"]
    assert "dying/_quarantine.json" in there[5]["error"]
    expected = rows(Path("out"))
    assert same(there[:5] + there[6:], expected[:5] + expected[6:])
    assert run("photos", "--output", "dying")[0] == 1, "what is finished stays so"


@pytest.mark.exhaustive
@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on(
    run: Batch, options: list[str], number: int, status: int
) -> None:
    """And no picture is suspected of having ended it."""
    save_folder(Path("many"), 24)
    process = start([*options[:-1], "1"], "many", "--output", "killed")
    while not Path("killed/part-00001.parquet").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)
    process.send_signal(number)
    told = process.communicate()[1]
    assert process.returncode == status
    assert not Path("killed/_quarantine.json").exists()
    assert re.search(r"interrupted after [0-9]+ of 24 pictures: the same command goes on", told)


@pytest.mark.exhaustive
def test_on_ray_the_rows_are_the_same(run: Batch) -> None:
    """And a shard that is there stays, whoever made it."""
    pytest.importorskip("ray", reason="of the extra 'ray'")
    shutil.copytree("out", "ray")
    Path("ray/part-00001.parquet").unlink()
    options = ("--runner", "ray", "--ray-address", "local", "--workers", "2", "--worker-cpus", "1")
    status, told = run("photos", "--output", "ray", *options)
    assert status == 0, told
    assert "2 of 3 shards are there" in told
    assert rows(Path("ray")) == rows(Path("out"))


def test_options_of_ray_need_it(run: Batch) -> None:
    with pytest.raises(ParameterError, match="are for --runner ray"):
        run("photos", "--output", "out", "--workers", "2")


@pytest.mark.parametrize(
    ("package", "arguments", "says"),
    [
        pytest.param("pyarrow", [], "detector batch needs the package 'pyarrow', {}[batch]'", id="pyarrow"),
        pytest.param(
            "ray",
            ["--runner", "ray"],
            "detector batch --runner ray needs the package 'ray', {}[ray]'",
            id="ray",
        ),
    ],
)
def test_without_a_package_the_extra_is_named(
    package: str, arguments: list[str], says: str, tmp_path: Path
) -> None:
    words = ["detector", "batch", "examples/cat.jpg", "--output", str(tmp_path / "out"), *arguments]
    code = f"import sys; sys.modules[{package!r}] = None; sys.argv = {words!r}\n"
    done = subprocess.run(
        [sys.executable, "-c", code + "from detector.cli.entry import main; main()"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert line == "error: " + says.format("which is not installed: pip install 'googlenet-detector")

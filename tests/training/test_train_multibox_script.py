"""The script that trains MultiBox, as its users call it: a checkpoint comes out, or one line of error."""

from pathlib import Path

import pytest

from detector.errors import DatasetError
from detector.inference.loading import load_detector
from detector.io.decoding import load
from detector.models.checkpoint import load_checkpoint
from detector.structures.classes import ilsvrc_det
from tests.detector.models.verified import verify_checkpoint
from tests.run_command import run_command
from tests.training.small_sets import rectangles, write_agnostic, write_ilsvrc, write_voc
from training.multibox.dataset import read_object_images
from training.multibox.task import MultiBoxRecipe
from training.multibox.training import add_multibox
from training.train_multibox import main


@pytest.fixture(scope="module")
def ilsvrc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pictures of DET/train and two of val; class-agnostic boxes of two of the first and all of val."""
    root = tmp_path_factory.mktemp("ilsvrc")
    train, val = rectangles(4, seed=1, prefix="t"), rectangles(2, seed=2, prefix="v")
    wnid = ilsvrc_det().ids[0]
    write_ilsvrc(root, "DET", "train", {f"n0/{name}": boxes for name, boxes in train.items()}, wnid=wnid)
    write_ilsvrc(root, "DET", "val", val, wnid=wnid)
    write_agnostic(root, {**dict(list(train.items())[:2]), **val})
    return root


def test_the_script_from_end_to_end(ilsvrc: Path, data: Path, init_path: Path, tmp_path: Path) -> None:
    """What it writes detects. Pictures of DET/val are measured, and not learnt."""
    status, said = run_command(main,
        "--data", ilsvrc, "--data", data, "--init", init_path, "--output", tmp_path,
        "--iterations", 2, "--batch", 2, "--shapes", 6, "--scales", 48, 96, "--zoom", 1.1, "--device", "cpu",
    )  # fmt: skip
    assert status == 0, said
    assert "16 pictures, 16 objects" in said, "four of DET/train and twelve of PASCAL VOC"
    assert "2: recall@0.5 of 10" in said
    assert str(tmp_path / "detector.safetensors") in said
    metadata = verify_checkpoint(tmp_path / "detector.safetensors")
    assert metadata.training["multibox"]["pictures"] == 16
    assert metadata.training["multibox"]["data"] == [ilsvrc.name, data.name]
    assert metadata.multibox is not None
    assert metadata.multibox.image.scales == (48, 96)
    assert metadata.training["multibox"]["zoom"] == 1.1
    detector = load_detector(tmp_path / "detector.safetensors", device="cpu", profile="fast", max_proposals=4)
    [found] = detector.detect([load(next((data / "JPEGImages").iterdir()))], score_threshold=0.0)
    assert len(found) > 0


def cut_short(path: Path) -> None:
    """Its header stays readable, so that reading the data set does not find it; its pixels do not."""
    path.write_bytes(path.read_bytes()[:-400])


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """PASCAL VOC pictures of which the fourth has no end, and a list that names it."""
    root = tmp_path / "broken"
    write_voc(root, rectangles(5, seed=3, prefix="a.b"))
    cut_short(root / "JPEGImages" / "a.b03.jpg")
    (tmp_path / "list.txt").write_text("elsewhere 1\nsome/folder/a.b03 2\n")
    (tmp_path / "with_suffix.txt").write_text("a.b03.jpg\n")
    return root


@pytest.mark.parametrize("name", ["list.txt", "with_suffix.txt"])
def test_excluded_pictures_are_not_read(broken: Path, init_path: Path, tmp_path: Path, name: str) -> None:
    status, said = run_command(main,
        "--data", broken, "--init", init_path, "--output", tmp_path / "out", "--exclude", tmp_path / name,
        "--iterations", 2, "--batch", 2, "--shapes", 4, "--scales", 32, 64, "--device", "cpu",
    )  # fmt: skip
    assert status == 0, said
    assert "4 pictures, 4 objects" in said


def test_a_broken_picture_is_left_out_and_named(
    broken: Path, init_path: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    records = read_object_images([broken], frozenset()).records
    recipe = MultiBoxRecipe(iterations=8, batch=1, warmup=2, shapes=4, scales=(32, 64), save_every=4)
    add_multibox(load_checkpoint(init_path), records, [], output, recipe, device="cpu")
    assert capsys.readouterr().out.count("left out a.b03: ") == 1
    assert (output / "broken.txt").read_text() == "a.b03\n"
    assert (output / "detector.safetensors").exists()


def test_a_failure_leaves_no_half_written_file(broken: Path, init_path: Path, tmp_path: Path) -> None:
    """Where no picture can be read there is no checkpoint that somebody could take for one."""
    output = tmp_path / "out"
    records = read_object_images([broken], frozenset()).records
    for record in records:
        cut_short(record.path)
    recipe = MultiBoxRecipe(iterations=8, batch=1, warmup=2, shapes=4, scales=(32, 64), save_every=4)
    with pytest.raises(DatasetError, match=r"5 of 5 pictures can no longer be read"):
        add_multibox(load_checkpoint(init_path), records, [], output, recipe, device="cpu")
    assert not list(output.glob("*.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        pytest.param(["--data", "nowhere"], "nowhere is no folder", id="no data"),
        pytest.param(
            ["--data", "DATA", "--format", "coco"],
            "holds no data set of a known",
            id="data of another layout",
        ),
        pytest.param(
            ["--data", "DATA", "--exclude", "absent.txt"],
            "list file absent.txt cannot be read",
            id="no such list",
        ),
        pytest.param(
            ["--data", "DATA", "--init", "absent.safetensors"],
            "absent.safetensors does not exist",
            id="no such weights",
        ),
        pytest.param(
            ["--data", "DATA", "--val", "DATA", "--val-format", "ilsvrc"],
            "holds no data set of a known layout",
            id="nothing to measure on",
        ),
        pytest.param(
            ["--data", "DATA", "--val", "DATA", "--val-split", "x"], "has no split 'x'", id="no such split"
        ),
        pytest.param(
            ["--data", "DATA", "--val", "DATA"],
            "no picture has an object to learn from",
            id="all of one piece, and measured",
        ),
        pytest.param(["--data", "DATA", "--val-split", "val"], "are of --val", id="a split of what"),
        pytest.param(
            ["--data", "DATA", "--shapes", "6", "--device", "quantum"],
            "unknown device 'quantum'",
            id="device",
        ),
        pytest.param(
            ["--data", "DATA", "--shapes", "3"],
            "4 grids need at least as many shapes, got 3",
            id="too few shapes",
        ),
    ],
)
def test_errors_are_one_line(
    data: Path, init_path: Path, tmp_path: Path, arguments: list[str], says: str
) -> None:
    given = [str(data) if one == "DATA" else one for one in arguments]
    init = [] if "--init" in given else ["--init", init_path]
    status, said = run_command(main, *given, *init, "--output", tmp_path)
    assert status == 1
    [line] = [line for line in said.splitlines() if line.startswith("error: ")]
    assert says in line
    assert not (tmp_path / "detector.safetensors").exists()


@pytest.mark.parametrize(
    ("option", "says"),
    [
        pytest.param(["--batch", 0], "--batch", id="no picture"),
        pytest.param(["--iterations", 0], "--iterations", id="no iteration"),
        pytest.param(["--shapes", 0], "--shapes", id="no shape"),
        pytest.param(["--scales", 96, 48], "scales must ascend", id="scales that descend"),
        pytest.param(["--scales", 4], "scales must be whole numbers in 16", id="a scale of less than a cell"),
        pytest.param(["--zoom", 0.5], "zoom must be in 1.0 to 4.0", id="no zoom"),
    ],
)
def test_settings_out_of_range_are_mistakes_of_usage(
    data: Path, tmp_path: Path, option: list[object], says: str
) -> None:
    status, said = run_command(main, "--data", data, "--output", tmp_path, *option)
    assert status == 2
    assert says in " ".join(said.replace("│", " ").split())

"""Training of the head that says where objects lie, on a detector that stays as it is."""

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from detector.datasets.annotated_image import Dataset
from detector.errors import ParameterError
from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.models.region_network import BoxHead, IoUHead, RegionNetwork
from tests.training.runs import small_set
from training.location.task import LocationRecipe, LocationTask
from training.location.training import train_location_head
from training.rcnn.dataloader import BatchSettings
from training.rcnn.mixing import DatasetSpec
from training.rcnn.recipe import SCORING
from training.rcnn.sampling import SamplingSettings
from training.train_location import main

SMALL = LocationRecipe(
    iterations=6,
    warmup=1,
    save_every=2,
    validate_every=3,
    batch=BatchSettings(positives=6, background=4, whole=0, unknown=2),
    sampling=SamplingSettings(positives=4, background=4),
)


def trained(
    data: Path,
    init: Checkpoint,
    output: Path,
    recipe: LocationRecipe = SMALL,
    *,
    classes: Sequence[str] = ("dog",),
    cache_gib: float = 1.0,
) -> Path:
    """Learn from three pictures, and be measured on another one."""
    output.mkdir(exist_ok=True)
    records = small_set(data).records
    return train_location_head(
        init,
        [DatasetSpec(Dataset(records[:3], list(classes)))],
        output,
        recipe,
        cache=output / "cache",
        data=["rectangles"],
        validation=Dataset(records[3:4], list(classes)),
        device="cpu",
        cache_gib=cache_gib,
        workers=0,
    )


@pytest.fixture(scope="module")
def init(init_path: Path) -> Checkpoint:
    return load_checkpoint(init_path)


@pytest.fixture(scope="module")
def result(data: Path, init: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained(data, init, tmp_path_factory.mktemp("location"))


def test_all_else_stays_as_it_was(result: Path, init_path: Path) -> None:
    """To the bit: class probabilities are those of before, and whole pictures are classified as before."""
    before, after = load_file(init_path), load_file(result)
    moved = {name for name in after if name.startswith("location_head.")}
    assert moved
    for name in after.keys() - moved:
        assert torch.equal(before[name], after[name]), name
    assert before.keys() - after.keys() == set()
    assert any(not torch.equal(before[name], after[name]) for name in moved)


def test_the_metadata_say_what_was_trained(result: Path) -> None:
    metadata = load_checkpoint(result).metadata
    assert metadata.training["location"]["data"] == ["rectangles"]
    assert metadata.training["location"]["pictures"] == 3
    assert metadata.training["iterations"] == 5, "how the rest was trained stays"
    assert metadata.source.endswith("; location head trained on rectangles")
    assert metadata.scoring == SCORING
    assert metadata.metrics == {}, "what was measured with other boxes is not true of these"


def test_regions_held_out_are_measured(result: Path) -> None:
    lines = [json.loads(line) for line in (result.parent / "held_out.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == [2, 5]
    for line in lines:
        assert 0.35 <= line["IoU proposed"] <= 1
        assert 0 <= line["0.5 moved"] <= 1


def test_a_run_that_stopped_goes_on_to_the_same_end(
    data: Path, init: Checkpoint, result: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stopped(Exception):
        """The end of a process."""

    losses, count = LocationTask.losses, 0

    def stopping(task: LocationTask, *arguments: object) -> object:
        nonlocal count
        count += 1
        if count > 3:
            raise Stopped
        return losses(task, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(LocationTask, "losses", stopping)
        with pytest.raises(Stopped):
            trained(data, init, tmp_path)
    again = trained(data, init, tmp_path)
    assert again.read_bytes() == result.read_bytes()
    assert (tmp_path / "log.jsonl").read_bytes() == (result.parent / "log.jsonl").read_bytes()


def test_it_learns(data: Path, init: Checkpoint, tmp_path: Path) -> None:
    """The same few regions again and again: their boxes move onto the rectangles."""
    recipe = replace(SMALL, iterations=60, rate=0.002, ema_decay=0.5, validate_every=60)
    trained(data, init, tmp_path, recipe)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    first, last = lines[0]["box"], sum(line["box"] for line in lines[-5:]) / 5
    assert last < 0.7 * first


@pytest.mark.parametrize(
    ("classes", "cache_gib"),
    [
        pytest.param(("thing that nobody knows",), 1.0, id="objects of no class that the detector knows"),
        pytest.param(("dog",), 0.0, id="pictures are streamed"),
    ],
)
def test_what_else_it_learns_from(
    data: Path, init: Checkpoint, tmp_path: Path, classes: tuple[str, ...], cache_gib: float
) -> None:
    path = trained(data, init, tmp_path, replace(SMALL, iterations=2), classes=classes, cache_gib=cache_gib)
    assert load_checkpoint(path).metadata.training["location"]["boxes"] >= 3


def test_heads_of_earlier_versions_make_room(data: Path, init: Checkpoint, tmp_path: Path) -> None:
    network = init.network
    assert isinstance(network, RegionNetwork)
    old = RegionNetwork(
        network.backbone, network.pooling.labels, network.pooling.num_classes, iou_prediction=True
    )
    assert isinstance(old.box_head, BoxHead)
    assert isinstance(old.fit_head, IoUHead)
    save_checkpoint(tmp_path / "old.safetensors", replace(init, network=old))
    path = trained(
        data, load_checkpoint(tmp_path / "old.safetensors"), tmp_path / "run", replace(SMALL, iterations=2)
    )
    names = {name.split(".")[0] for name in load_file(path)}
    assert "location_head" in names
    assert not {"box_head", "fit_head"} & names


def test_a_classifier_is_refused(data: Path, untrained: Checkpoint, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match="is no detector: train one first"):
        trained(data, untrained, tmp_path)


def test_the_command(data: Path, init_path: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    main([str(data)], tmp_path / "run", init_path, val=str(data), workers=0, device="cpu", recipe=SMALL)
    said = "".join(capfd.readouterr())
    path = tmp_path / "run" / "detector.safetensors"
    assert f"detector evaluate --data DATA --weights {path}" in said
    assert load_checkpoint(path).metadata.training["location"]["data"] == [data.name]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param(["nowhere"], "nowhere is no folder", id="no folder"),
        pytest.param(["DATA:splitt=train"], "splitt", id="a word that means nothing"),
    ],
)
def test_the_command_refuses(
    data: Path,
    init_path: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    texts = [text.replace("DATA", str(data)) for text in arguments]
    with pytest.raises(SystemExit, match=message):
        main(texts, tmp_path / "run", init_path, device="cpu", recipe=SMALL)
    assert not (tmp_path / "run" / "detector.safetensors").exists()

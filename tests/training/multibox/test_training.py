"""MultiBox trained for real, on a few pictures that the test makes: it learns, and a killed run goes on."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import CheckpointError, ParameterError
from detector.evaluation.proposal_recall import proposal_recall
from detector.inference.image_scales import ImageScales
from detector.inference.loading import load_detector
from detector.io.decoding import load
from detector.models.checkpoint import Checkpoint, Metadata, load_checkpoint
from detector.models.torchvision_googlenet import PREPROCESSING as TORCHVISION_PREPROCESSING
from detector.models.torchvision_googlenet import TorchvisionGoogLeNet
from detector.models.weights import read_metadata
from detector.structures.classes import ilsvrc_cls
from detector.structures.proposals import Source
from tests.detector.models.verified import verify_checkpoint
from training.multibox.cached_maps_loader import CachedMapsLoader
from training.multibox.dataset import read_object_images
from training.multibox.task import MultiBoxRecipe
from training.multibox.training import add_multibox
from training.scaled_images import _ScaledImages
from training.trainer.optimization import Averaging

SMALL = MultiBoxRecipe(iterations=8, batch=4, warmup=2, shapes=5, scales=(32, 64), zoom=1.2, save_every=4)
"""At scales that cost little."""


@pytest.fixture(scope="module")
def records(data: Path) -> list[AnnotatedImage]:
    return read_object_images([data], frozenset()).records


@pytest.fixture(scope="module")
def undisturbed(
    records: list[AnnotatedImage], init_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    output = tmp_path_factory.mktemp("undisturbed")
    add_multibox(load_checkpoint(init_path), records, records[:4], output, SMALL, device="cpu")
    return output


def log(output: Path, name: str = "log.jsonl") -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / name).read_text().splitlines()]


def test_the_result_is_the_checkpoint_with_a_head_inside(undisturbed: Path, init_path: Path) -> None:
    path = undisturbed / "detector.safetensors"
    before, after = load_checkpoint(init_path), load_checkpoint(path)
    assert type(after.network) is type(before.network)
    for name, value in before.network.state_dict().items():
        assert torch.equal(after.network.state_dict()[name], value), name
    metadata = verify_checkpoint(path)
    assert metadata.multibox is not None
    assert metadata.multibox.stages == ("inception_3b", "inception_4e")
    assert metadata.multibox.image == ImageScales((32, 64))
    assert [grid.stride for grid in metadata.multibox.grids] == [8, 16, 32, 64]
    assert sum(len(grid.sides) for grid in metadata.multibox.grids) == 5
    assert metadata.training["iterations"] == 5, "how the rest came about is kept"
    assert metadata.training["multibox"]["iterations"] == 8
    assert (metadata.training["multibox"]["pictures"], metadata.training["multibox"]["boxes"]) == (12, 12)
    assert metadata.metrics["mAP"] == 0.25
    assert 0 <= metadata.metrics["MultiBox recall@0.5 of 50"] <= 1
    source = f"{before.metadata.source}; MultiBox head trained on unnamed pictures"
    assert replace(metadata, multibox=None, training={}, metrics={}) == replace(
        before.metadata, training={}, metrics={}, source=source
    )


def test_a_detector_takes_it(undisturbed: Path, records: list[AnnotatedImage]) -> None:
    detector = load_detector(
        undisturbed / "detector.safetensors", device="cpu", profile="fast", max_proposals=5
    )
    image = load(records[0].path)
    assert set(detector.propose(image).source) == {Source.MULTIBOX}
    [found] = detector.detect([image], score_threshold=0.0, max_detections=3)
    assert len(found) == 3


def test_every_iteration_and_every_epoch_is_logged(undisturbed: Path) -> None:
    """Three minibatches of four are an epoch; the last one is measured as well."""
    lines = log(undisturbed)
    assert [line["iteration"] for line in lines] == list(range(8))
    assert all(np.isfinite([line["total"], line["confidence"], line["location"]]).all() for line in lines)
    assert lines[0]["rate"] == pytest.approx(SMALL.rate / 2), "a warm-up of two"
    assert lines[1]["rate"] == pytest.approx(SMALL.rate)
    assert lines[7]["rate"] < 0.1 * SMALL.rate
    measured = log(undisturbed, "recall.jsonl")
    assert [line["iteration"] for line in measured] == [3, 6, 8]
    metrics = read_metadata(undisturbed / "detector.safetensors").metrics
    for name, value in measured[-1].items():
        if name != "iteration":
            assert metrics[f"MultiBox {name}"] == pytest.approx(value, abs=1e-4)
    assert sorted(path.name for path in undisturbed.iterdir()) == [
        "detector.safetensors", "log.jsonl", "recall.jsonl", "state.safetensors", "tensorboard",
    ]  # fmt: skip


@pytest.mark.exhaustive
def test_it_learns(records: list[AnnotatedImage], init_path: Path, tmp_path: Path) -> None:
    """Bright rectangles on dark ground: an untrained head hits few of them with ten boxes."""
    recall = {}
    for iterations in (0, 40):
        recipe = replace(SMALL, iterations=iterations, batch=6, warmup=5, ema_decay=0.9, seed=1)
        recipe = replace(recipe, scales=(64,), zoom=1.0)
        path = add_multibox(
            load_checkpoint(init_path), records, [], tmp_path / str(iterations), recipe, device="cpu"
        )
        detector = load_detector(path, device="cpu")
        found = [detector.multibox(load(record.path), 10).boxes for record in records]
        measured = proposal_recall([record.boxes for record in records], found, iou=0.5, budgets=[10])
        recall[iterations] = measured.recall[0]
    loss = [line["total"] for line in log(tmp_path / "40")]
    assert np.mean(loss[-10:]) < 0.5 * np.mean(loss[:5])
    assert recall[40] >= recall[0] + 0.5


@pytest.mark.exhaustive
def test_killed_and_resumed_equals_undisturbed(
    data: Path, init_path: Path, undisturbed: Path, tmp_path: Path
) -> None:
    """kill -9 at some moment of the iterations, then the same command again."""
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[4]);"
        "from tests.training.multibox.test_training import SMALL;"
        "from training.multibox.training import add_multibox;"
        "from training.multibox.dataset import read_object_images;"
        "from detector.models.checkpoint import load_checkpoint;"
        "records = read_object_images([Path(sys.argv[1])], frozenset()).records;"
        "add_multibox(load_checkpoint(Path(sys.argv[2])), records, records[:4], Path(sys.argv[3]), SMALL, "
        "device='cpu')"
    )
    folder = str(Path(__file__).parents[3])
    command = [sys.executable, "-c", script, str(data), str(init_path), str(tmp_path), folder]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not (tmp_path / "state.safetensors").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "detector.safetensors").exists()
    subprocess.run(command, check=True, capture_output=True)
    assert_same_head(tmp_path, undisturbed)
    assert [line["iteration"] for line in log(tmp_path)] == list(range(8))


def assert_same_head(one: Path, other: Path) -> None:
    mine, expected = (load_checkpoint(path / "detector.safetensors").multibox for path in (one, other))
    assert mine is not None
    assert expected is not None
    assert mine.spec == expected.spec
    for name, value in expected.state_dict().items():
        assert torch.allclose(mine.state_dict()[name], value, rtol=1e-3, atol=1e-4), name


class Cut(Exception):
    """What ends a run in the middle."""


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    "after", [2, 5, 7], ids=["before its first state", "after it", "after an epoch that is measured again"]
)
def test_a_run_cut_off_anywhere_goes_on(
    records: list[AnnotatedImage],
    init_path: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: int,
) -> None:
    """From the state after four iterations; what is done twice is in the logs once."""
    made = _ScaledImages.__getitem__

    def make(self: _ScaledImages, iteration: int) -> object:
        if iteration == after:
            raise Cut
        return made(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(_ScaledImages, "__getitem__", make)
        with pytest.raises(Cut):
            add_multibox(load_checkpoint(init_path), records, records[:4], tmp_path, SMALL, device="cpu")
    assert not (tmp_path / "detector.safetensors").exists()
    add_multibox(load_checkpoint(init_path), records, records[:4], tmp_path, SMALL, device="cpu")
    assert_same_head(tmp_path, undisturbed)
    assert log(tmp_path) == log(undisturbed)
    assert log(tmp_path, "recall.jsonl") == log(undisturbed, "recall.jsonl")


def test_a_run_that_had_ended_is_only_measured_again(
    records: list[AnnotatedImage], init_path: Path, undisturbed: Path, tmp_path: Path
) -> None:
    for name in ("state.safetensors", "log.jsonl", "recall.jsonl"):
        shutil.copy(undisturbed / name, tmp_path)
    add_multibox(load_checkpoint(init_path), records, records[:4], tmp_path, SMALL, device="cpu")
    assert_same_head(tmp_path, undisturbed)
    assert log(tmp_path) == log(undisturbed)
    assert log(tmp_path, "recall.jsonl") == log(undisturbed, "recall.jsonl")


@pytest.mark.parametrize(
    ("change", "recipe"),
    [
        pytest.param(lambda records: records, replace(SMALL, rate=0.01), id="another rate"),
        pytest.param(lambda records: records, replace(SMALL, iterations=9), id="another length"),
        pytest.param(lambda records: records, replace(SMALL, scales=(32, 65)), id="another scale"),
        pytest.param(lambda records: records, replace(SMALL, zoom=1.3), id="another zoom"),
        pytest.param(lambda records: records[1:], SMALL, id="fewer pictures"),
        pytest.param(
            lambda records: [replace(records[0], boxes=records[0].boxes + 1), *records[1:]],
            SMALL,
            id="another box",
        ),
    ],
)
def test_the_state_of_another_run_is_refused(
    records: list[AnnotatedImage],
    init_path: Path,
    undisturbed: Path,
    tmp_path: Path,
    change: Callable[[list[AnnotatedImage]], list[AnnotatedImage]],
    recipe: MultiBoxRecipe,
) -> None:
    shutil.copy(undisturbed / "state.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match="other data or settings"):
        add_multibox(load_checkpoint(init_path), change(records), [], tmp_path, recipe, device="cpu")
    assert not (tmp_path / "detector.safetensors").exists()
    assert (tmp_path / "state.safetensors").read_bytes() == (undisturbed / "state.safetensors").read_bytes()


def test_the_state_of_another_trunk_is_refused(
    records: list[AnnotatedImage], init_path: Path, undisturbed: Path, tmp_path: Path
) -> None:
    other = load_checkpoint(init_path)
    with torch.no_grad():
        other.backbone.features.conv1.conv.bias += 1
    shutil.copy(undisturbed / "state.safetensors", tmp_path)
    with pytest.raises(CheckpointError, match="other data or settings"):
        add_multibox(other, records, [], tmp_path, SMALL, device="cpu")


ONCE = replace(SMALL, iterations=1)


@pytest.mark.parametrize("kind", ["classifier", "torchvision", "with a head"])
def test_what_a_head_can_be_added_to(
    records: list[AnnotatedImage],
    init_path: Path,
    undisturbed: Path,
    untrained: Checkpoint,
    tmp_path: Path,
    kind: str,
) -> None:
    """A mere classifier, the other architecture, and a detector whose head is replaced: its figures go."""
    if kind == "classifier":
        init = untrained
    elif kind == "torchvision":
        metadata = Metadata("tv", "torchvision-googlenet", TORCHVISION_PREPROCESSING, ilsvrc_cls())
        init = Checkpoint(TorchvisionGoogLeNet(1000).eval(), metadata)
    else:
        init = load_checkpoint(undisturbed / "detector.safetensors")
    path = add_multibox(init, records, [], tmp_path, replace(ONCE, shapes=7), device="cpu")
    result = load_checkpoint(path)
    assert result.multibox is not None
    assert sum(len(grid.sides) for grid in result.multibox.spec.grids) == 7
    assert result.metadata.training["multibox"]["iterations"] == 1
    assert not [name for name in result.metadata.metrics if name.startswith("MultiBox")]
    assert ("mAP" in result.metadata.metrics) == (kind == "with a head")
    assert type(result.network) is type(init.network)


@pytest.mark.parametrize(
    ("count", "recipe", "says"),
    [
        pytest.param(0, ONCE, "no picture has an object", id="no pictures"),
        pytest.param(
            2, ONCE, "5 shapes of priors need at least as many different boxes", id="fewer than shapes"
        ),
        pytest.param(12, replace(ONCE, shapes=2), "4 grids need at least as many shapes", id="few shapes"),
    ],
)
def test_what_nothing_can_be_learnt_from(
    records: list[AnnotatedImage],
    init_path: Path,
    tmp_path: Path,
    count: int,
    recipe: MultiBoxRecipe,
    says: str,
) -> None:
    with pytest.raises(ParameterError, match=says):
        add_multibox(load_checkpoint(init_path), records[:count], [], tmp_path, recipe, device="cpu")
    assert not list(tmp_path.iterdir())


KEPT = replace(SMALL, zoom=1.0)
"""Every picture at its own size: its maps are kept."""


def test_a_run_on_kept_maps_learns_and_goes_on(
    records: list[AnnotatedImage], init_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut off in the middle, with what it kept lost but for the state, it ends as an undisturbed run."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    recipe = replace(KEPT, iterations=12)
    add_multibox(load_checkpoint(init_path), records, records[:4], whole, recipe, device="cpu")
    loss = [line["total"] for line in log(whole)]
    assert len(list((whole / "cache").glob("*.maps"))) == len(records)
    assert np.mean(loss[-3:]) < np.mean(loss[:3])
    read = CachedMapsLoader.minibatch

    def make(self: CachedMapsLoader, iteration: int) -> object:
        if iteration == 6:
            raise Cut
        return read(self, iteration)

    with monkeypatch.context() as patch:
        patch.setattr(CachedMapsLoader, "minibatch", make)
        with pytest.raises(Cut):
            add_multibox(load_checkpoint(init_path), records, records[:4], cut, recipe, device="cpu")
    shutil.rmtree(cut / "cache")
    add_multibox(load_checkpoint(init_path), records, records[:4], cut, recipe, device="cpu")
    assert_same_head(cut, whole)
    assert log(cut) == log(whole)


@pytest.mark.parametrize(
    ("recipe", "gib", "says"),
    [
        pytest.param(KEPT, 0.0, "GiB allowed", id="larger than is allowed"),
        pytest.param(SMALL, 16.0, "", id="at other sizes each time"),
    ],
)
def test_where_maps_are_not_kept(
    records: list[AnnotatedImage],
    init_path: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    recipe: MultiBoxRecipe,
    gib: float,
    says: str,
) -> None:
    recipe = replace(recipe, iterations=1)
    add_multibox(load_checkpoint(init_path), records, [], tmp_path, recipe, cache_gib=gib, device="cpu")
    assert not (tmp_path / "cache").exists()
    printed = capsys.readouterr()
    assert says in printed.out + printed.err
    assert ("GiB allowed" in printed.out + printed.err) == bool(says)


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        pytest.param({}, True, id="a head for these scales"),
        pytest.param({"scales": (48, 64)}, False, id="other scales"),
        pytest.param({"shapes": 5}, False, id="shapes asked for"),
    ],
)
def test_a_head_that_is_there_is_trained_on(
    records: list[AnnotatedImage],
    undisturbed: Path,
    tmp_path: Path,
    change: dict[str, Any],
    kept: bool,
) -> None:
    init = load_checkpoint(undisturbed / "detector.safetensors")
    assert init.multibox is not None
    before = {name: value.clone() for name, value in init.multibox.state_dict().items()}
    usual = {"shapes": None, "iterations": 1, "rate": 1e-6, "warmup": 0, "averaging": Averaging.NONE}
    recipe = replace(KEPT, **usual | change)  # type: ignore[arg-type]
    path = add_multibox(init, records, [], tmp_path, recipe, device="cpu")
    after = load_checkpoint(path).multibox
    assert after is not None
    assert (after.spec == init.multibox.spec) == (kept or "shapes" in change)
    close = [
        torch.allclose(value, before[name], rtol=0, atol=1e-3)
        for name, value in after.state_dict().items()
        if value.shape == before[name].shape
    ]
    assert all(close) == kept
    for name, value in init.multibox.state_dict().items():
        assert torch.equal(value, before[name]), f"{name} of --init was changed"

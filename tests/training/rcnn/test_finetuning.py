"""Fine-tuning for real, on a few pictures that the test makes: what it learns, keeps and leaves behind."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from detector.datasets.annotated_image import Dataset
from detector.errors import CheckpointError, DetectorError, ParameterError
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.multibox_head import MultiBoxHead
from detector.models.multibox_spec import MultiBoxSpec
from tests.detector.models.verified import verify_checkpoint
from tests.training.runs import CLASSES, SMALL, keep_all, small_set, train
from training.rcnn.dataloader import BatchSettings
from training.rcnn.finetuning import finetune
from training.rcnn.losses import LossWeights
from training.rcnn.recipe import Recipe
from training.rcnn.sampling import SamplingSettings
from training.trainer.optimization import Averaging
from training.trainer.run_log import RunLog
from training.trainer.run_state import load_state, save_state

LEARNING = replace(
    SMALL,
    iterations=24,
    rate=1e-3,
    head_rate=1e-3,
    momentum=0.5,
    averaging=Averaging.NONE,
    batch=BatchSettings(positives=4, background=6, whole=1, mined=0.0),
    loss=LossWeights(
        box=0.25, distillation=0.0
    ),  # in the large maps of untrained weights edges are hard to see
)
SHORT = replace(SMALL, iterations=1, batch=BatchSettings(2, 2, 1, images=1), sampling=SamplingSettings(2, 2))


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Proposals and maps, which all runs of this file may share: their keys tell them apart."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def learnt(data: Path, init_path: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a run leaves that sees its pictures often enough to know them.

    Nothing drops out: of untrained weights that would be noise above all else.
    """
    output = tmp_path_factory.mktemp("learnt")
    init = load_checkpoint(init_path)
    keep_all(init)
    train(data, init, output, LEARNING, cache=cache, validation=False)
    return output


def test_a_run_leaves_a_detector_and_a_log(learnt: Path) -> None:
    metadata = verify_checkpoint(learnt / "detector.safetensors")
    assert metadata.detection == CLASSES
    assert metadata.name == "small"
    assert metadata.training["iterations"] == 24
    assert (metadata.training["pictures"], metadata.training["boxes"]) == (3, 3)
    assert metadata.training["batch"]["positives"] == 4
    assert metadata.metrics == {}, "what the init was measured at is not the new detector's"
    assert metadata.licence == "of a test; the terms of rectangles"
    assert metadata.preprocessing.short_side == 80
    lines = [json.loads(line) for line in (learnt / "log.jsonl").read_text().splitlines()]
    assert [line["iteration"] for line in lines] == list(range(24))


def test_the_loss_falls(learnt: Path) -> None:
    lines = [json.loads(line) for line in (learnt / "log.jsonl").read_text().splitlines()]
    total = [line["total"] for line in lines]
    assert np.mean(total[-6:]) < 0.55 * np.mean(total[:3])
    classification = [line["classification"] for line in lines]
    assert np.mean(classification[-6:]) < 0.4 * np.mean(classification[:3])


def test_what_is_frozen_stays(learnt: Path, init_path: Path) -> None:
    before = load_checkpoint(init_path).backbone.features.state_dict()
    after = load_checkpoint(learnt / "detector.safetensors").backbone.features.state_dict()
    changed = {
        name.split(".")[0] for name in before if not torch.equal(before[name].half(), after[name].half())
    }
    assert changed == {"inception_5a", "inception_5b"}


def test_freezing_what_the_location_head_reads_is_refused_at_once(
    data: Path, init_path: Path, tmp_path: Path
) -> None:
    """Before proposals and maps are made."""
    recipe, cache = replace(SHORT, frozen_through="inception_5a"), tmp_path / "cache"
    with pytest.raises(ParameterError, match="--frozen-through pool4"):
        train(data, load_checkpoint(init_path), tmp_path / "output", recipe, cache=cache)
    assert not cache.exists()


@pytest.mark.exhaustive
def test_all_stages_can_train_and_side_classifiers_are_not_kept(
    data: Path, init_path: Path, cache: Path, tmp_path: Path
) -> None:
    recipe = replace(SHORT, frozen_through="none", rate=1e-3, loss=LossWeights(auxiliary=0.3))
    path = train(data, load_checkpoint(init_path), tmp_path, recipe, cache=cache, validation=False)
    before = load_checkpoint(init_path).backbone.features.state_dict()
    after = load_checkpoint(path).backbone.features.state_dict()
    assert not torch.equal(before["conv1.conv.weight"].half(), after["conv1.conv.weight"].half())
    [line] = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert line["auxiliary"] > 0
    with safe_open(path, framework="pt") as file, safe_open(init_path, framework="pt") as init:
        assert {name.split(".")[0] for name in file.keys()} <= (  # noqa: SIM118
            {name.split(".")[0] for name in init.keys()} | {"location_head"}  # noqa: SIM118
        )


@pytest.mark.exhaustive
@pytest.mark.parametrize(
    ("frozen_through", "kept"),
    [
        pytest.param("inception_4e", True, id="the last stage that it reads is the last frozen one"),
        pytest.param("inception_4d", False, id="the last stage that it reads is trained"),
    ],
)
def test_a_multibox_head_stays_while_what_it_reads_does(
    data: Path,
    init_path: Path,
    multibox_spec: MultiBoxSpec,
    cache: Path,
    tmp_path: Path,
    frozen_through: str,
    kept: bool,
) -> None:
    torch.manual_seed(3)
    head = MultiBoxHead(multibox_spec)
    how = {"multibox": {"pictures": 3}}
    bare = load_checkpoint(init_path)
    init = Checkpoint(bare.network, replace(bare.metadata, multibox=multibox_spec, training=how), head)
    recipe = replace(SHORT, frozen_through=frozen_through)
    result = load_checkpoint(train(data, init, tmp_path, recipe, cache=cache, validation=False))
    assert result.metadata.multibox == (multibox_spec if kept else None)
    assert (result.multibox is not None) is kept
    assert result.metadata.training.get("multibox") == (how["multibox"] if kept else None)
    assert result.metadata.training["iterations"] == 1
    if result.multibox is not None:
        for name, value in head.state_dict().items():
            assert torch.equal(result.multibox.state_dict()[name].half(), value.half()), name


@pytest.mark.parametrize(
    ("recipe", "images", "held_out", "says"),
    [
        pytest.param(Recipe(frozen_through="conv9"), 2, 0, "conv9", id="no such stage"),
        pytest.param(SMALL, 0, 0, "no picture of the data has an object", id="nothing to learn from"),
        pytest.param(SMALL, 2, 1, "no held-out picture has an object", id="nothing to measure by"),
    ],
)
def test_unusable_input_is_named(
    data: Path,
    init_path: Path,
    cache: Path,
    tmp_path: Path,
    recipe: Recipe,
    images: int,
    held_out: int,
    says: str,
) -> None:
    whole = small_set(data)
    nothing = {part: getattr(whole.records[0], part)[:0] for part in ("boxes", "labels", "difficult")}
    empty = [replace(record, **nothing) for record in whole.records]
    with pytest.raises(DetectorError, match=says) as caught:
        finetune(
            Dataset(whole.records[:images], ["dog"]),
            load_checkpoint(init_path),
            CLASSES,
            tmp_path,
            recipe,
            cache=cache,
            name="none",
            data_name="rectangles",
            validation=Dataset(empty[:held_out], ["dog"]) if held_out else None,
            device="cpu",
        )
    assert isinstance(caught.value, ParameterError)
    assert not (tmp_path / "detector.safetensors").exists()


@pytest.mark.exhaustive
@pytest.mark.parametrize("what", ["another seed", "other weights to start from"])
def test_another_runs_state_is_refused(
    data: Path, init_path: Path, learnt: Path, cache: Path, tmp_path: Path, what: str
) -> None:
    (tmp_path / "state.safetensors").write_bytes((learnt / "state.safetensors").read_bytes())
    init, recipe = load_checkpoint(init_path), LEARNING
    if what == "another seed":
        recipe = replace(LEARNING, seed=1)
    else:
        with torch.no_grad():
            init.backbone.classifier.bias += 0.1
    with pytest.raises(CheckpointError, match="other data or settings"):
        train(data, init, tmp_path, recipe, cache=cache, validation=False)


def test_what_is_no_state_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.safetensors"
    save_state(path, 3, "this", {"weights": {"a.b": torch.ones(2)}})
    iteration, parts = load_state(path, "this")
    assert (iteration, parts["weights"]["a.b"].tolist()) == (3, [1.0, 1.0])
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="no training state"):
        load_state(path, "this")


def test_log_drops_what_will_be_repeated(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("".join(f'{{"iteration": {i}}}\n' for i in range(5)) + '{"iterat')
    RunLog(tmp_path, 3)
    assert [json.loads(line)["iteration"] for line in path.read_text().splitlines()] == [0, 1, 2]

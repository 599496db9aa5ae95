"""The task of regions: gradients in pieces, side classifiers, rates; on heads alone, which is quick."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor

from detector.errors import ParameterError
from tests.training.heads import BACKGROUND, heads_that_tell, maps_of, mixed_minibatch, targets_of
from training.rcnn.dataloader import BatchSettings, RegionBatch, RegionDataLoader
from training.rcnn.feature_cache import FeatureCache, Rows
from training.rcnn.losses import LossWeights
from training.rcnn.recipe import Recipe
from training.rcnn.sampling import UNKNOWN, WHOLE
from training.rcnn.task import RegionTask, ValidationRegions
from training.rcnn.training_module import RegionTrainingModule
from training.trainer.distributed import ProcessGroup
from training.trainer.optimization import Averaging, Decay
from training.trainer.trainer import Trainer

STAGES = 18
PLAIN = Recipe(
    iterations=1,
    rate=1.0,
    head_rate=1.0,
    warmup=0,
    decay=Decay.CONSTANT,
    momentum=0.0,
    weight_decay=0.0,
    averaging=Averaging.NONE,
    batch=BatchSettings(mined=0.0),
)
"""One step by the gradient itself."""


class Same:
    """A dataloader that gives the same minibatch again and again."""

    epoch_length = 1

    def __init__(self, batch: RegionBatch) -> None:
        self._batch = batch

    def minibatches(self, first: int, last: int) -> Iterator[RegionBatch]:
        return iter([self._batch] * (last - first))

    def digest(self) -> bytes:
        return b"same"


def run(
    output: Path,
    recipe: Recipe,
    *,
    frozen: int = STAGES,
    dataloader: RegionDataLoader | None = None,
    dropout: float = 0.0,
) -> tuple[dict[str, Tensor], RegionTrainingModule]:
    """The weights that result of the network, and the training module."""
    output.mkdir(exist_ok=True)
    module = RegionTrainingModule(heads_that_tell(dropout=dropout), frozen, recipe.loss)
    dataloader = dataloader or Same(mixed_minibatch(1024, 7))
    cpu, world = torch.device("cpu"), ProcessGroup()
    task = RegionTask(module, dataloader, recipe, device=cpu, world=world)
    weights = Trainer(task, recipe, output, device=cpu, world=world).run()
    prefix = "network."
    return {name.removeprefix(prefix): w for name, w in weights.items() if name.startswith(prefix)}, module


def log(output: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (output / "log.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("pieces", [4, 10, 99], ids=["of two or three", "of one region", "more than regions"])
def test_pieces_have_the_gradient_of_the_whole(tmp_path: Path, pieces: int) -> None:
    """Though a part of the loss is a mean over those regions that it asks of, which no piece has alike."""
    before = {name: value.clone() for name, value in heads_that_tell().named_parameters()}
    whole, _ = run(tmp_path / "whole", PLAIN)
    found, _ = run(tmp_path / "pieces", replace(PLAIN, accumulate=pieces))
    assert found.keys() == whole.keys()
    for name, value in whole.items():
        step = value - before[name]
        assert step.abs().max() > 0, name
        assert torch.allclose(found[name] - before[name], step, rtol=1e-4, atol=1e-6), name
    [one], [other] = log(tmp_path / "whole"), log(tmp_path / "pieces")
    assert other == pytest.approx(one, rel=1e-4)


def test_side_classifiers_learn_and_are_left_out_of_the_result(tmp_path: Path) -> None:
    """Frozen through pool3: both are read by stages that train."""
    recipe = replace(PLAIN, rate=0.01, head_rate=0.01, loss=LossWeights(auxiliary=0.3))
    weights, module = run(tmp_path, recipe, frozen=10, dataloader=Same(mixed_minibatch(480, 14)))
    [line] = log(tmp_path)
    assert line["auxiliary"] > 0
    assert line["total"] == pytest.approx(
        line["classification"]
        + line["box"]
        + line["fit"]
        + 0.5 * line["distillation"]
        + 0.3 * line["auxiliary"],
        rel=1e-4,
    )
    trained = {name for name, value in module.network.named_parameters() if value.requires_grad}
    assert weights.keys() == trained
    with safe_open(tmp_path / "state.safetensors", framework="pt") as state:
        kept = {name for name in state.keys() if name.startswith("weights/side.")}  # noqa: SIM118
    assert len(kept) == 2 * 6, "the state keeps them: two of three layers each"
    torch.manual_seed(0)
    first = RegionTrainingModule(heads_that_tell(), 10, recipe.loss).side.state_dict()
    changed = [not torch.equal(value, first[name]) for name, value in module.side.state_dict().items()]
    assert all(changed)


@pytest.mark.parametrize(
    ("weight", "frozen", "sides"),
    [
        pytest.param(0.0, 0, [], id="they do not count"),
        pytest.param(0.3, 10, ["inception_4a", "inception_4d"], id="both stages train"),
        pytest.param(0.3, 11, ["inception_4d"], id="one of them is frozen"),
        pytest.param(0.3, 16, [], id="both are frozen"),
    ],
)
def test_which_side_classifiers_there_are(weight: float, frozen: int, sides: list[str]) -> None:
    module = RegionTrainingModule(heads_that_tell(), frozen, LossWeights(auxiliary=weight))
    assert list(module.side) == sides


def test_each_stage_has_its_rate() -> None:
    groups = RegionTrainingModule(heads_that_tell(), 15, LossWeights()).parameter_groups(0.1, 0.5, 0.25)
    assert [group["lr"] for group in groups] == [0.1, 0.025, 0.5]  # 5b, 5a, heads; pool4 has no weights
    network = heads_that_tell()
    sizes = [sum(weight.numel() for weight in group["params"]) for group in groups]
    stages = [
        sum(weight.numel() for weight in network.backbone.features[stage].parameters()) for stage in (17, 16)
    ]
    rest = sum(weight.numel() for weight in network.parameters()) - sum(
        weight.numel() for weight in network.backbone.features.parameters()
    )
    assert sizes == [*stages, rest]


def test_what_drops_out_hangs_on_the_iteration_alone(tmp_path: Path) -> None:
    """Whatever random numbers were drawn before."""
    found = []
    for name in ("one", "other"):
        weights, _ = run(
            tmp_path / name, replace(PLAIN, iterations=2, rate=0.01, head_rate=0.01), dropout=0.5
        )
        found.append(weights["backbone.classifier.weight"])
        torch.rand(7)
    assert torch.equal(*found)
    other_seed, _ = run(
        tmp_path / "seed", replace(PLAIN, iterations=2, rate=0.01, head_rate=0.01, seed=1), dropout=0.5
    )
    assert not torch.equal(other_seed["backbone.classifier.weight"], found[0])


def test_a_loss_that_runs_away_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=r"iteration [1-9]: lower the rates"):
        run(tmp_path, replace(PLAIN, iterations=20, rate=1e3, head_rate=1e3, weight_decay=10.0))


@pytest.mark.parametrize(
    ("said", "accuracy"),
    [
        pytest.param([0, 1, BACKGROUND, BACKGROUND, 0, 0], 1.0, id="all are right"),
        pytest.param([1, 1, BACKGROUND, BACKGROUND, 0, 0], 2.25 / 3.25, id="an object is wrong"),
        pytest.param([0, 1, BACKGROUND, 0, 0, 0], 3 / 3.25, id="what may be an object counts a quarter"),
        pytest.param([1, 0, 0, 0, 0, 0], 0.0, id="nothing is right"),
    ],
)
def test_accuracy_on_regions_held_out(tmp_path: Path, said: list[int], accuracy: float) -> None:
    """Of two objects, a background that is one, one that may be an object nobody labelled, an object of
    unknown class and a whole picture."""
    targets = targets_of(
        [0, 1, BACKGROUND, BACKGROUND, UNKNOWN, WHOLE],
        overlaps=[1.0, 1.0, 0.0, 0.0, 0.8, 0.0],
        certain=[True, True, True, False, True, True],
    )
    logits = 5.0 * torch.nn.functional.one_hot(torch.tensor(said), 3)
    cache = FeatureCache(
        Rows([maps_of(logits).bfloat16()]),
        Rows([targets.teacher]),
        targets.labels,
        targets.overlaps,
        targets.deltas,
        targets.certain,
        torch.arange(6),
        6,
    )
    cpu, world = torch.device("cpu"), ProcessGroup()
    held_out = ValidationRegions(cache, 0, BACKGROUND, 0.25, tmp_path, device=cpu, world=world)
    module = RegionTrainingModule(heads_that_tell(), STAGES, LossWeights()).eval()
    assert held_out.validate(1, module).figures["accuracy"] == pytest.approx(accuracy, abs=1e-5)
    [line] = [json.loads(line) for line in (tmp_path / "held_out.jsonl").read_text().splitlines()]
    assert line["accuracy"] == pytest.approx(accuracy, abs=1e-5)

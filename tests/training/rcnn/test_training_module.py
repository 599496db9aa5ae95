"""Hard backgrounds: which of the pool are learnt from."""

from contextlib import nullcontext

import pytest
import torch

from detector.errors import ParameterError
from detector.models.checkpoint import ARCHITECTURES
from detector.models.region_network import RegionNetwork
from tests.training.heads import BACKGROUND, heads_that_tell, maps_of, mixed_minibatch, targets_of
from training.rcnn.dataloader import RegionBatch
from training.rcnn.losses import LossWeights, region_losses
from training.rcnn.training_module import RegionTrainingModule, keep_hardest
from training.trainer.distributed import ProcessGroup

OBJECT = -1
"""The slot of a region that is not of the pool."""


@pytest.mark.parametrize(
    ("slots", "objectness", "pool", "keep", "stays"),
    [
        pytest.param([OBJECT, 0, 1, 2], [0, 1, 3, 2], 3, 1, [0, 2], id="the one most like an object"),
        pytest.param([OBJECT, 2, 0, 1], [9, 1, 3, 2], 3, 2, [0, 2, 3], id="places in another order"),
        pytest.param([0, 1, 2, 3], [-9, -8, -7, -6], 4, 2, [2, 3], id="all are easy: the least easy"),
        pytest.param([OBJECT, OBJECT], [5, 6], 4, 2, [0, 1], id="no background that could be mined"),
        pytest.param(
            [OBJECT, 0], [5, -99], 4, 2, [0, 1], id="fewer than are to be kept: an empty place loses"
        ),
    ],
)
def test_the_hardest_are_kept(
    slots: list[int], objectness: list[float], pool: int, keep: int, stays: list[int]
) -> None:
    logits = torch.zeros(len(slots), 3)
    logits[:, 0] = torch.tensor(objectness)
    targets = targets_of([0 if slot == OBJECT else BACKGROUND for slot in slots])
    # A dropout that leaves little: only a look without it tells who is hard.
    learner = RegionTrainingModule(heads_that_tell(dropout=0.99), 18, LossWeights()).train()
    batch = RegionBatch(maps_of(logits), targets, torch.tensor(slots))
    kept = keep_hardest(batch, learner, pool, keep, ProcessGroup(), torch.float32)
    assert kept.slots.tolist() == [slots[index] for index in stays]
    assert torch.equal(kept.maps, batch.maps[stays])
    for mine, all_of in zip(kept.targets, targets, strict=True):
        assert torch.equal(mine.nan_to_num(), all_of[stays].nan_to_num())
    assert learner.training


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_auxiliary_classifiers_are_made_for_every_architecture(architecture: str) -> None:
    network = RegionNetwork(ARCHITECTURES[architecture](3), torch.arange(3), 2)
    module = RegionTrainingModule(network, 0, LossWeights(auxiliary=0.3))
    assert len(module.side) == 2


def _locating(architecture: str = "googlenet") -> RegionNetwork:
    torch.manual_seed(0)
    network = RegionNetwork(
        ARCHITECTURES[architecture](3), torch.arange(3), 2, box_regression=False, location=True
    )
    return network.eval()


@pytest.mark.parametrize(
    ("architecture", "frozen", "channels", "side"),
    [
        pytest.param("googlenet", 16, 832, 7, id="through pool4: the maps themselves"),
        pytest.param("googlenet", 15, 832, 14, id="through the stage before: what comes of it"),
        pytest.param("googlenet", 14, 528, 14, id="earlier"),
        pytest.param("googlenet", 0, 3, 224, id="nothing is frozen"),
        pytest.param("torchvision-googlenet", 0, 3, 224, id="the other architecture"),
    ],
)
def test_a_location_head_learns_from_the_maps_before_the_last_two_stages(
    architecture: str, frozen: int, channels: int, side: int
) -> None:
    """Whose loss is that of the network in use."""
    network = _locating(architecture)
    torch.nn.init.normal_(network.location_head.locate.weight, std=0.05)  # type: ignore[union-attr]
    module, weights = RegionTrainingModule(network, frozen, LossWeights(distillation=0.0)), LossWeights()
    batch = mixed_minibatch(channels, side)
    features = network.backbone.features
    with torch.no_grad():
        losses, logits = module(batch.maps, batch.targets, None, torch.float32)
        cells = features[frozen:-2](batch.maps)
        wanted = region_losses(network, network.heads(features[-2:](cells), cells), batch.targets, weights)
    assert cells.shape[1:] == (832, 7, 7)
    for name in ("classification", "box", "fit"):
        assert getattr(losses, name).item() == pytest.approx(getattr(wanted, name).item(), rel=1e-4), name
    assert logits.shape == (10, 3)


def test_offsets_and_their_iou_are_learnt_by_the_location_head_alone() -> None:
    network = _locating()
    module = RegionTrainingModule(network, 16, LossWeights(distillation=0.0))
    batch = mixed_minibatch(832, 7)
    losses, _ = module(batch.maps, batch.targets, None, torch.float32)
    (losses.box + losses.fit).backward()
    learning = {
        name.partition(".")[0] for name, value in network.named_parameters() if value.grad is not None
    }
    assert learning == {"location_head"}


@pytest.mark.parametrize(
    ("frozen", "location", "refused"),
    [
        pytest.param(16, True, False, id="through pool4: its maps are what is kept"),
        pytest.param(17, True, True, id="through inception_5a: they are lost"),
        pytest.param(18, True, True, id="all stages"),
        pytest.param(18, False, False, id="all stages, heads of earlier versions: these read the last maps"),
    ],
)
def test_what_may_be_frozen(frozen: int, location: bool, refused: bool) -> None:
    network = _locating() if location else heads_that_tell()
    says = r"before the last two inception stages: freeze at most .* \(--frozen-through pool4\)"
    with pytest.raises(ParameterError, match=says) if refused else nullcontext():
        RegionTrainingModule(network, frozen, LossWeights())

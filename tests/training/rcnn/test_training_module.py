"""Hard backgrounds: which of the pool are learnt from."""

import pytest
import torch

from detector.models.checkpoint import ARCHITECTURES
from detector.models.region_network import RegionNetwork
from tests.training.heads import BACKGROUND, heads_that_tell, maps_of, targets_of
from training.rcnn.dataloader import RegionBatch
from training.rcnn.losses import LossWeights
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

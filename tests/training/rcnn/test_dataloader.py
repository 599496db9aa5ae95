"""Which regions are drawn for a minibatch."""

import numpy as np
import pytest

from tests.training.heads import BACKGROUND
from training.rcnn.dataloader import BatchSettings, RegionSampler
from training.rcnn.sampling import NEAR_IOU


def test_minibatch_holds_its_kinds() -> None:
    labels = np.array([0] * 50 + [1] + [BACKGROUND] * 40 + [-1] * 5)
    overlaps = np.where(np.arange(len(labels)) % 10 == 0, 0.3, 0).astype(np.float32)
    sampler = RegionSampler(labels, overlaps, BACKGROUND, BatchSettings(32, 96, 16, near=0.75), seed=0)
    index, _ = sampler.draw(5)
    drawn = labels[index]
    background = index[drawn == BACKGROUND]
    assert (overlaps[background] >= NEAR_IOU).sum() >= 72
    assert ((drawn >= 0) & (drawn < BACKGROUND)).sum() == 32
    assert (drawn == BACKGROUND).sum() == 96
    assert (drawn == -1).sum() == 16
    assert np.array_equal(index, sampler.draw(5)[0])
    assert not np.array_equal(index, sampler.draw(6)[0])


@pytest.mark.parametrize(("balance", "share"), [(0.0, 1 / 51), (0.5, 1 / (1 + 50**0.5)), (1.0, 1 / 2)])
def test_rare_classes_are_drawn_more_often(balance: float, share: float) -> None:
    labels = np.array([0] * 50 + [1] + [BACKGROUND, -1])
    settings = BatchSettings(100, 1, 1, balance=balance)
    sampler = RegionSampler(labels, np.zeros(len(labels), np.float32), BACKGROUND, settings, seed=0)
    drawn = np.concatenate([labels[sampler.draw(i)[0]][:100] for i in range(200)])
    assert (drawn == 1).mean() == pytest.approx(share, abs=0.02)


def test_the_pool_holds_sure_backgrounds_only() -> None:
    """What may be an object that nobody labelled is hard because it is one."""
    labels = np.array([0, 0] + [BACKGROUND] * 8 + [-1, -2])
    sure = np.arange(len(labels)) % 2 == 0
    settings = BatchSettings(positives=2, background=8, whole=1, unknown=1, mined=0.5, pool=3)
    sampler = RegionSampler(
        labels, np.zeros(len(labels), np.float32), BACKGROUND, settings, seed=0, certain=sure
    )
    pools = []
    for iteration in range(20):
        index, slots = sampler.draw(iteration)
        pools += index[slots >= 0].tolist()
    assert set(pools) == {2, 4, 6, 8}
    assert len(pools) == 20 * 12
    index, slots = sampler.draw(0)
    drawn = labels[index[slots < 0]]
    assert (drawn == BACKGROUND).sum() == 4, "the other half of the backgrounds is mined"


def test_without_mining_there_is_no_pool() -> None:
    sampler = RegionSampler(np.array([0, 1]), np.zeros(2, np.float32), 1, BatchSettings(), seed=0)
    _, slots = sampler.draw(0)
    assert (slots < 0).all()

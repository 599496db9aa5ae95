"""Maps of several data sets as one."""

import pytest
import torch

from training.rcnn.feature_cache import FeatureCache, Rows, joined


def _cache(rows: int, images: list[int], first: int) -> FeatureCache:
    numbers = torch.arange(first, first + rows)
    return FeatureCache(
        Rows([numbers.float().view(-1, 1, 1, 1).expand(-1, 2, 3, 3)]),
        Rows([numbers.half().view(-1, 1)]),
        numbers,
        numbers.float() / 100,
        torch.zeros(rows, 4),
        torch.ones(rows, dtype=torch.bool),
        torch.tensor(images),
        count=max(images) + 1,
    )


CASES = [
    pytest.param([0, 4], id="one of each"),
    pytest.param([4, 1, 5, 0], id="in any order"),
    pytest.param([3, 3, 2, 2], id="the last of one and the first of the next, twice"),
    pytest.param([1], id="one of the first only"),
    pytest.param([], id="none"),
]


@pytest.mark.parametrize("rows", CASES)
def test_rows_of_several_tensors_are_those_of_one(rows: list[int]) -> None:
    whole = torch.arange(12.0).view(6, 2)
    parts = Rows([whole[:3], whole[3:5], whole[5:]])
    index = torch.tensor(rows, dtype=torch.int64)
    assert len(parts) == 6
    assert torch.equal(parts[index], whole[index])


def test_joined_caches_stand_one_after_the_other() -> None:
    both = joined([_cache(3, [0, 0, 1], first=0), _cache(2, [0, 1], first=3)])
    assert both.labels.tolist() == [0, 1, 2, 3, 4]
    assert both.images.tolist() == [0, 0, 1, 2, 3]  # numbered through: weights go by picture
    everything = torch.arange(5)
    assert both.maps[everything][:, 0, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert both.teacher[everything][:, 0].tolist() == [0, 1, 2, 3, 4]
    assert torch.allclose(both.overlaps, everything / 100)
    assert (len(both.deltas), len(both.certain)) == (5, 5)

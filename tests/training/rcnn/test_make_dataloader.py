"""Which dataloader a run gets, and that processes share what it gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.errors import ParameterError
from detector.models.checkpoint import Checkpoint, load_checkpoint
from tests.training.runs import CLASSES, SMALL, small_set
from training.rcnn.dataloader import CachedDataLoader, RegionBatch, RegionDataLoader
from training.rcnn.make_dataloader import DataLoaderBuilder
from training.rcnn.mixing import DatasetSpec, Mix, mix
from training.rcnn.proposal_cache import ProposalCache
from training.rcnn.streaming_dataloader import StreamingDataLoader
from training.trainer.distributed import ProcessGroup
from training.trainer.excluded_images import BrokenImages

FROZEN = 16
"""Stages up to pool4: a map is 832 x 7 x 7."""


@pytest.fixture(scope="module")
def builder(init_path: Path, tmp_path_factory: pytest.TempPathFactory) -> DataLoaderBuilder:
    init: Checkpoint = load_checkpoint(init_path)
    folder = tmp_path_factory.mktemp("cache")
    preprocessing = init.metadata.preprocessing
    return DataLoaderBuilder(
        init=init,
        frozen=FROZEN,
        distilled_classes=5,
        background=len(CLASSES),
        preprocessing=preprocessing,
        shared=None,
        proposals=ProposalCache(folder / "proposals", init, preprocessing, device="cpu"),
        folder=folder / "maps",
        device=torch.device("cpu"),
        world=ProcessGroup(),
        broken=BrokenImages(folder / "broken.txt", limit=0),
    )


@pytest.fixture(scope="module")
def mixed(data: Path) -> Mix:
    """One picture of a set, and one of a set whose pictures are drawn three times as often."""
    whole = small_set(data)
    sets = [replace(whole, records=[record]) for record in whole.records[:2]]
    return mix([DatasetSpec(sets[0]), DatasetSpec(sets[1], weight=3.0)], CLASSES)


def test_the_size_of_the_cache(builder: DataLoaderBuilder) -> None:
    """Three positives, four backgrounds and two whole pictures of each, in bfloat16."""
    assert builder.cache_size(10, SMALL.sampling) == 10 * 9 * 832 * 7 * 7 * 2


@pytest.mark.parametrize(
    ("frozen", "distortion", "images", "kind"),
    [
        pytest.param(FROZEN, False, 2.0, CachedDataLoader, id="it just fits"),
        pytest.param(FROZEN, False, 1.9, StreamingDataLoader, id="it does not fit"),
        pytest.param(FROZEN, True, 2.0, StreamingDataLoader, id="other light each time cannot be kept"),
        pytest.param(0, False, 1e9, StreamingDataLoader, id="no stage is frozen: there are no maps to keep"),
    ],
)
def test_the_choice(
    builder: DataLoaderBuilder, mixed: Mix, frozen: int, distortion: bool, images: float, kind: type
) -> None:
    room = images * builder.cache_size(1, SMALL.sampling) / 2**30
    recipe = replace(SMALL, color_jitter=distortion)
    dataloader = replace(builder, frozen=frozen).build(mixed, recipe, cache_gib=room, workers=0)
    assert type(dataloader) is kind


def test_it_is_said_why_pictures_are_streamed(
    builder: DataLoaderBuilder, mixed: Mix, capsys: pytest.CaptureFixture[str]
) -> None:
    builder.build(mixed, SMALL, cache_gib=0, workers=0)
    assert "more than the 0 GiB allowed (--cache-gib)" in capsys.readouterr().out


def test_workers_below_none(builder: DataLoaderBuilder, mixed: Mix) -> None:
    with pytest.raises(ParameterError, match="there cannot be -1 processes"):
        builder.build(mixed, SMALL, cache_gib=1, workers=-1)


def columns(batch: RegionBatch) -> np.ndarray:
    """The regions of a minibatch, one a row, in an order that does not hang on how they are shared."""
    parts = [batch.maps.float().mean(dim=(2, 3)), batch.slots, *batch.targets]
    table = np.concatenate([np.asarray(part).reshape(len(batch.maps), -1) for part in parts], axis=1)
    return table[np.lexsort(np.nan_to_num(table.round(3)).T)]


@pytest.mark.exhaustive
@pytest.mark.parametrize("room", [1.0, 0.0], ids=["cached", "streamed"])
def test_shares_make_up_the_minibatch(builder: DataLoaderBuilder, mixed: Mix, room: float) -> None:
    """Each region is with one of three processes; which minibatch it is hangs on its number alone."""

    def dataloader(rank: int, size: int) -> RegionDataLoader:
        of_rank = replace(builder, world=ProcessGroup(rank, size))
        return of_rank.build(mixed, SMALL, cache_gib=room, workers=0)

    one = dataloader(0, 1)
    first, second = one.minibatches(4, 6)
    assert len(first.maps) == 3 + 2 + 1 + 4  # objects, backgrounds, whole pictures, the pool
    assert sorted(first.slots.tolist()) == [-1] * 6 + [0, 1, 2, 3]
    shares = [next(iter(dataloader(rank, 3).minibatches(4, 5))) for rank in range(3)]
    assert [len(share.maps) for share in shares] in ([4, 3, 3], [3, 4, 3], [3, 3, 4])
    together = np.concatenate([columns(share) for share in shares])
    together = together[np.lexsort(np.nan_to_num(together.round(3)).T)]
    assert np.allclose(together, columns(first), atol=1e-2, equal_nan=True)
    assert not np.allclose(columns(second), columns(first), atol=1e-2, equal_nan=True)
    [again] = one.minibatches(5, 6)
    assert torch.equal(again.maps, second.maps)
    assert dataloader(1, 3).digest() == one.digest()

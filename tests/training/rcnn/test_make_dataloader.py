"""Which feed a run gets, and that processes share what it gives."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.errors import ParameterError
from detector.models.checkpoint import Checkpoint, load_checkpoint
from tests.training.runs import CLASSES, SMALL, small_set
from training.rcnn.dataloader import CachedFeed, Feed, Minibatch
from training.rcnn.make_dataloader import Source, cache_size, choose_feed
from training.rcnn.mixing import Ingredient, Mix, mix
from training.rcnn.proposal_cache import ProposalCache
from training.rcnn.streaming_dataset import StreamFeed
from training.trainer.distributed import World
from training.trainer.left_out import BrokenImages

FROZEN = 16
"""Stages up to pool4: a map is 832 x 7 x 7."""


@pytest.fixture(scope="module")
def source(init_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Source:
    init: Checkpoint = load_checkpoint(init_path)
    folder = tmp_path_factory.mktemp("cache")
    preprocessing = init.metadata.preprocessing
    return Source(
        init=init,
        frozen=FROZEN,
        known=5,
        background=len(CLASSES),
        preprocessing=preprocessing,
        proposals=ProposalCache(folder / "proposals", init, preprocessing, device="cpu"),
        folder=folder / "maps",
        device=torch.device("cpu"),
        world=World(),
        broken=BrokenImages(folder / "broken.txt", limit=0),
    )


@pytest.fixture(scope="module")
def mixed(data: Path) -> Mix:
    """One picture of a set, and one of a set whose pictures are drawn three times as often."""
    whole = small_set(data)
    sets = [replace(whole, records=[record]) for record in whole.records[:2]]
    return mix([Ingredient(sets[0]), Ingredient(sets[1], weight=3.0)], CLASSES)


def test_the_size_of_the_cache(source: Source) -> None:
    """Three positives, four backgrounds and two whole pictures of each, in bfloat16."""
    assert cache_size(source, 10, SMALL.sampling) == 10 * 9 * 832 * 7 * 7 * 2


@pytest.mark.parametrize(
    ("frozen", "distortion", "images", "kind"),
    [
        pytest.param(FROZEN, False, 2.0, CachedFeed, id="it just fits"),
        pytest.param(FROZEN, False, 1.9, StreamFeed, id="it does not fit"),
        pytest.param(FROZEN, True, 2.0, StreamFeed, id="other light each time cannot be kept"),
        pytest.param(0, False, 1e9, StreamFeed, id="no stage is frozen: there are no maps to keep"),
    ],
)
def test_the_choice(
    source: Source, mixed: Mix, frozen: int, distortion: bool, images: float, kind: type
) -> None:
    room = images * cache_size(source, 1, SMALL.sampling) / 2**30
    recipe = replace(SMALL, distortion=distortion)
    feed = choose_feed(replace(source, frozen=frozen), mixed, recipe, cache_gib=room, workers=0)
    assert type(feed) is kind


def test_it_is_said_why_pictures_are_streamed(
    source: Source, mixed: Mix, capsys: pytest.CaptureFixture[str]
) -> None:
    choose_feed(source, mixed, SMALL, cache_gib=0, workers=0)
    assert "more than the 0 GiB allowed (--cache-gib)" in capsys.readouterr().out


def test_workers_below_none(source: Source, mixed: Mix) -> None:
    with pytest.raises(ParameterError, match="there cannot be -1 processes"):
        choose_feed(source, mixed, SMALL, cache_gib=1, workers=-1)


def columns(batch: Minibatch) -> np.ndarray:
    """The regions of a minibatch, one a row, in an order that does not hang on how they are shared."""
    parts = [batch.maps.float().mean(dim=(2, 3)), batch.slots, *batch.targets]
    table = np.concatenate([np.asarray(part).reshape(len(batch.maps), -1) for part in parts], axis=1)
    return table[np.lexsort(np.nan_to_num(table.round(3)).T)]


@pytest.mark.parametrize("room", [1.0, 0.0], ids=["cached", "streamed"])
def test_shares_make_up_the_minibatch(source: Source, mixed: Mix, room: float) -> None:
    """Each region is with one of three processes; which minibatch it is hangs on its number alone."""

    def feed(rank: int, size: int) -> Feed:
        mine = replace(source, world=World(rank, size))
        return choose_feed(mine, mixed, SMALL, cache_gib=room, workers=0)

    one = feed(0, 1)
    first, second = one.minibatches(4, 6)
    assert len(first.maps) == 3 + 2 + 1 + 4  # objects, backgrounds, whole pictures, the pool
    assert sorted(first.slots.tolist()) == [-1] * 6 + [0, 1, 2, 3]
    shares = [next(iter(feed(rank, 3).minibatches(4, 5))) for rank in range(3)]
    assert [len(share.maps) for share in shares] in ([4, 3, 3], [3, 4, 3], [3, 3, 4])
    together = np.concatenate([columns(share) for share in shares])
    together = together[np.lexsort(np.nan_to_num(together.round(3)).T)]
    assert np.allclose(together, columns(first), atol=1e-2, equal_nan=True)
    assert not np.allclose(columns(second), columns(first), atol=1e-2, equal_nan=True)
    [again] = one.minibatches(5, 6)
    assert torch.equal(again.maps, second.maps)
    assert feed(1, 3).digest() == one.digest()

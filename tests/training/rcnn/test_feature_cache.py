"""Regions and their maps: how they are made, and those of several data sets as one."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import DatasetError, ImageError
from detector.inference.region_crops import ImageView
from detector.inference.shared_maps import SharedMaps
from detector.io.decoding import load
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.image_trunk import ImageTrunk
from tests.training.runs import CLASSES, SMALL, small_set
from training.rcnn import proposal_cache
from training.rcnn.feature_cache import FeatureCache, Rows, _sample, build_feature_cache, joined
from training.rcnn.make_dataloader import DataLoaderBuilder
from training.rcnn.mixing import DatasetSpec, mix
from training.rcnn.proposal_cache import ProposalCache
from training.rcnn.region_maps import RegionMaps
from training.trainer.distributed import ProcessGroup
from training.trainer.excluded_images import BrokenImages

FROZEN = 16
"""Stages up to pool4."""

BACKGROUND = len(CLASSES)


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


SHARED = SharedMaps((64, 128))
MAPS_OF_ONE = 832 * (8 * 9 + 12 * 14) * 2
"""Bytes of the maps of a picture of 100 x 80 at both scales."""


@pytest.fixture(scope="module")
def init(multibox_path: Path) -> Checkpoint:
    """MultiBox reads the maps that regions are cut out of."""
    loaded = load_checkpoint(multibox_path)
    preprocessing = replace(loaded.metadata.preprocessing, short_side=128)
    return replace(loaded, metadata=replace(loaded.metadata, shared_maps=SHARED, preprocessing=preprocessing))


@pytest.fixture(scope="module")
def records(data: Path) -> list[AnnotatedImage]:
    return small_set(data).records[:2]


class Passes:
    """Counts how often a trunk runs over an image, in all copies of it."""

    count = 0

    def __call__(self, module: nn.Module, *_: object) -> None:
        self.count += isinstance(module, ImageTrunk)


@pytest.fixture
def passes() -> Iterator[Passes]:
    counting = Passes()
    hook = register_module_forward_hook(counting)
    yield counting
    hook.remove()


def proposals_of(folder: Path, init: Checkpoint) -> ProposalCache:
    return ProposalCache(folder, init, init.metadata.preprocessing, shared=SHARED, device="cpu")


def built(
    folder: Path, init: Checkpoint, records: list[AnnotatedImage], proposals: ProposalCache
) -> FeatureCache:
    return build_feature_cache(
        folder,
        init,
        FROZEN,
        records,
        proposals,
        SMALL.sampling,
        preprocessing=init.metadata.preprocessing,
        shared=SHARED,
        background_label=BACKGROUND,
        device="cpu",
        broken=BrokenImages(folder / "broken.txt", limit=0),
    )


def assert_same(one: FeatureCache, other: FeatureCache) -> None:
    """Bit by bit."""
    rows = torch.arange(len(one.labels))
    assert torch.equal(one.maps[rows], other.maps[rows])
    assert torch.equal(one.teacher[rows], other.teacher[rows])
    assert torch.equal(one.deltas.nan_to_num(9), other.deltas.nan_to_num(9))
    for part in ("labels", "overlaps", "certain", "images"):
        assert torch.equal(getattr(one, part), getattr(other, part)), part


@pytest.fixture(scope="module")
def kept(
    init: Checkpoint, records: list[AnnotatedImage], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, FeatureCache]:
    """A folder of proposals, and the rows that were cut out of the maps that came with them."""
    folder = tmp_path_factory.mktemp("kept")
    proposals = proposals_of(folder / "proposals", init)
    proposals.prepare(records, keep_maps=True)
    return folder / "proposals", built(folder / "maps", init, records, proposals)


@pytest.mark.parametrize(
    ("room", "images"),
    [
        pytest.param(1 << 30, 2, id="room for all: once for proposals and regions together"),
        pytest.param(MAPS_OF_ONE, 3, id="room for one: the other is made again"),
        pytest.param(MAPS_OF_ONE - 1, 4, id="room for none"),
        pytest.param(0, 4, id="nothing is kept"),
    ],
)
def test_how_often_the_trunk_runs_over_an_image(
    init: Checkpoint,
    records: list[AnnotatedImage],
    kept: tuple[Path, FeatureCache],
    passes: Passes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    room: int,
    images: int,
) -> None:
    """At each of two scales; whatever is kept, the rows are the same."""
    monkeypatch.setattr(proposal_cache, "_KEPT_BYTES", room)
    proposals = proposals_of(tmp_path / "proposals", init)
    proposals.prepare(records, keep_maps=True)
    assert passes.count == 2 * len(records)
    cache = built(tmp_path / "maps", init, records, proposals)
    assert passes.count == 2 * images
    assert_same(cache, kept[1])


def builder_of(folder: Path, init: Checkpoint, proposals: ProposalCache, limit: int = 0) -> DataLoaderBuilder:
    return DataLoaderBuilder(
        init=init,
        frozen=FROZEN,
        distilled_classes=5,
        background=BACKGROUND,
        preprocessing=init.metadata.preprocessing,
        shared=SHARED,
        proposals=proposals,
        folder=folder / "maps",
        device=torch.device("cpu"),
        world=ProcessGroup(),
        broken=BrokenImages(folder / "broken.txt", limit=limit),
    )


@pytest.mark.parametrize("size", [1, 2], ids=["each image alone", "pairs, and one that is left"])
def test_rows_made_in_groups_are_those_of_one_group(
    init: Checkpoint, data: Path, passes: Passes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Of two sets, the second of three images, bit by bit; the trunk runs once over each image, at two
    scales, though the maps of no more than a group find room."""
    whole = small_set(data)
    sets = [DatasetSpec(replace(whole, records=part)) for part in (whole.records[:1], whole.records[1:4])]
    mixed = mix(sets, CLASSES)
    one = builder_of(tmp_path / "one", init, proposals_of(tmp_path / "one" / "proposals", init))
    expected = one._cache_all(mixed, SMALL.sampling)
    assert passes.count == 2 * 4
    monkeypatch.setattr(proposal_cache, "_KEPT_IMAGES", size)
    monkeypatch.setattr(proposal_cache, "_KEPT_BYTES", size * MAPS_OF_ONE)
    proposals = proposals_of(tmp_path / "groups" / "proposals", init)
    got = builder_of(tmp_path / "groups", init, proposals)._cache_all(mixed, SMALL.sampling)
    assert passes.count == 2 * (4 + 4)
    assert got.count == expected.count == 4
    assert len(got.maps.parts) > len(expected.maps.parts)
    assert_same(got, expected)
    assert not proposals._kept


@pytest.mark.parametrize(
    ("gone", "rows_of"),
    [
        pytest.param([0], [1, 2], id="the first group"),
        pytest.param([1], [0, 2], id="one in the middle"),
        pytest.param([2], [0, 1], id="the last"),
        pytest.param([0, 1], [2], id="all but one"),
        pytest.param([0, 1, 2], None, id="all: there is nothing to learn from"),
    ],
)
def test_a_group_of_which_nothing_can_be_read_does_not_end_the_run(
    init: Checkpoint,
    data: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    gone: list[int],
    rows_of: list[int] | None,
) -> None:
    """Groups are of one image each; images keep their numbers."""
    monkeypatch.setattr(proposal_cache, "_KEPT_IMAGES", 1)
    whole = small_set(data)
    records = [
        replace(record, path=tmp_path / f"gone{number}.jpg") if number in gone else record
        for number, record in enumerate(whole.records[:3])
    ]
    builder = builder_of(tmp_path, init, proposals_of(tmp_path / "proposals", init), limit=3)
    mixed = mix([DatasetSpec(replace(whole, records=records))], CLASSES)
    if rows_of is None:
        with pytest.raises(DatasetError, match="none of 3 pictures can be read"):
            builder._cache_all(mixed, SMALL.sampling)
    else:
        cache = builder._cache_all(mixed, SMALL.sampling)
        assert cache.count == 3
        assert cache.images.unique().tolist() == rows_of
        assert len(cache.maps) == len(cache.teacher) == len(cache.labels)
    assert len((tmp_path / "broken.txt").read_text().split()) == len(gone)


def test_joined_caches_of_which_one_is_empty() -> None:
    """Its images are counted: those that follow have the numbers that they had."""
    both = joined([FeatureCache.empty(2), _cache(2, [0, 1], first=3), FeatureCache.empty(1)])
    assert both.images.tolist() == [2, 3]
    assert both.count == 5
    assert both.maps[torch.tensor([1, 0])][:, 0, 0, 0].tolist() == [4, 3]
    assert both.teacher[torch.tensor([0])].tolist() == [[3]]


@pytest.mark.parametrize("counts", [[], [3], [1, 2]], ids=["no cache", "one that is empty", "two"])
def test_empty_caches_alone_are_no_data(counts: list[int]) -> None:
    with pytest.raises(DatasetError, match=f"none of {sum(counts)} pictures can be read any more"):
        joined([FeatureCache.empty(count) for count in counts])


def test_maps_are_kept_for_every_set_that_joins(
    init: Checkpoint, data: Path, passes: Passes, tmp_path: Path
) -> None:
    """The first set's rows are made first: the maps of the second must still be there. Then none is."""
    whole = small_set(data)
    sets = [DatasetSpec(replace(whole, records=[record])) for record in whole.records[:2]]
    proposals = proposals_of(tmp_path / "proposals", init)
    builder = builder_of(tmp_path, init, proposals)
    builder.build(mix(sets, CLASSES), SMALL, cache_gib=1, workers=0)
    assert passes.count == 2 * len(sets)
    assert not proposals._kept


def test_rows_made_again_are_the_same(
    init: Checkpoint,
    records: list[AnnotatedImage],
    kept: tuple[Path, FeatureCache],
    passes: Passes,
    tmp_path: Path,
) -> None:
    """The proposals are there still, the maps are not."""
    again = built(tmp_path, init, records, proposals_of(kept[0], init))
    assert passes.count == 2 * len(records)
    assert_same(again, kept[1])


def test_maps_that_were_kept_are_handed_out_once(
    init: Checkpoint, records: list[AnnotatedImage], passes: Passes, tmp_path: Path
) -> None:
    """They would fill the memory; made again they are the same."""
    proposals = proposals_of(tmp_path, init)
    proposals.prepare(records[:1], keep_maps=True)
    first, again = (proposals.maps_of(records[0]) for _ in range(2))
    assert passes.count == 4
    assert [part.outputs.keys() for part in first] == [{"maps"}] * 2
    assert sum(part.outputs["maps"].nbytes for part in first) == MAPS_OF_ONE
    for one, other in zip(first, again, strict=True):
        assert torch.allclose(
            one.outputs["maps"].float(), other.outputs["maps"].float(), rtol=0.01, atol=1e-3
        )
        assert np.array_equal(one.factors, other.factors)


def test_a_picture_that_is_gone_has_no_maps(
    init: Checkpoint, records: list[AnnotatedImage], tmp_path: Path
) -> None:
    gone = replace(records[0], path=tmp_path / "gone.jpg")
    with pytest.raises(ImageError, match=r"gone\.jpg"):
        proposals_of(tmp_path / "proposals", init).maps_of(gone)


def test_regions_that_share_maps_are_not_mirrored(
    init: Checkpoint, records: list[AnnotatedImage], kept: tuple[Path, FeatureCache], tmp_path: Path
) -> None:
    """Half of those that are warped are; they are the same regions."""
    broken = BrokenImages(tmp_path / "broken.txt", limit=0)
    proposals = proposals_of(kept[0], init)
    plain, turned = (
        _sample(records, proposals, SMALL.sampling, BACKGROUND, broken, mirrors=mirrors)[0]
        for mirrors in (False, True)
    )
    assert not any(regions.mirrored.any() for regions in plain)
    assert any(regions.mirrored.any() for regions in turned)
    for ours, theirs in zip(plain, turned, strict=True):
        assert np.array_equal(ours.labels, theirs.labels)
        assert np.array_equal(ours.boxes[~ours.whole], theirs.boxes[~ours.whole])
    frozen = init.backbone.features[:FROZEN]
    maps_of = RegionMaps(
        frozen, init.metadata.preprocessing, SHARED, torch.device("cpu"), lambda stages, x: stages(x)
    )
    cache = kept[1]
    for index, (record, regions) in enumerate(zip(records, plain, strict=True)):
        image = ImageView(load(record.path), init.metadata.preprocessing)
        with torch.no_grad():
            wanted = maps_of(image.pixels, regions.boxes * image.factors, regions.whole, regions.mirrored)
        found = cache.maps[torch.nonzero(cache.images == index)[:, 0]].float()
        assert (found - wanted).abs().max() < 0.02 * wanted.abs().max()


def test_only_rows_that_are_not_background_have_a_teacher(
    init: Checkpoint, kept: tuple[Path, FeatureCache]
) -> None:
    """Of the others nobody asks what the network said before training."""
    cache = kept[1]
    rows = torch.arange(len(cache.labels))
    background = cache.labels == BACKGROUND
    teacher = cache.teacher[rows].float()
    assert background.any()
    assert not background.all()
    assert not teacher[background].any()
    maps = cache.maps[rows][~background].float()
    with torch.no_grad():
        wanted = init.backbone.pool(init.backbone.features[FROZEN:](maps))
    assert (teacher[~background] - wanted).abs().max() < 0.02 * wanted.abs().max()

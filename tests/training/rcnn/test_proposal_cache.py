"""Proposals on disk: found again, and never used for another picture, other weights or another size."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.formats.voc import read_voc
from detector.inference.image_scales import ImageScales
from detector.inference.shared_maps import SharedMaps
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.structures.proposals import Source
from tests.training.small_sets import rectangles, write_voc
from training.rcnn.proposal_cache import ProposalCache


@pytest.fixture(scope="module")
def record(tmp_path_factory: pytest.TempPathFactory) -> AnnotatedImage:
    root = tmp_path_factory.mktemp("set")
    write_voc(root, rectangles(1, seed=3))
    return read_voc(root).records[0]


@pytest.fixture(scope="module")
def init(multibox_path: Path) -> Checkpoint:
    return load_checkpoint(multibox_path)


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_both_sources_propose_and_are_found_again(
    record: AnnotatedImage, init: Checkpoint, tmp_path: Path
) -> None:
    cache = ProposalCache(tmp_path, init, init.metadata.preprocessing, device="cpu")
    cache.prepare([record], threads=1)
    (file,) = _files(tmp_path)
    written = file.stat().st_mtime_ns
    found = ProposalCache(tmp_path, init, init.metadata.preprocessing, device="cpu").of(record)
    assert set(found.source) == {Source.SELECTIVE_SEARCH, Source.MULTIBOX}
    assert np.isnan(found.objectness[found.source == Source.SELECTIVE_SEARCH]).all()
    assert not np.isnan(found.objectness[found.source == Source.MULTIBOX]).any()
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [record.width, record.height] * 2).all()
    assert _files(tmp_path) == [file]
    assert file.stat().st_mtime_ns == written


@pytest.mark.parametrize(
    ("images", "sizes"),
    [
        pytest.param(0, [], id="none"),
        pytest.param(1, [1], id="one"),
        pytest.param(250, [250], id="as many as find room"),
        pytest.param(251, [125, 126], id="one more: two halves, not 250 and 1"),
        pytest.param(1000, [250] * 4, id="four times as many"),
        pytest.param(1001, [200, 200, 200, 200, 201], id="five groups that differ by one"),
    ],
)
def test_groups_are_alike_and_in_order(
    record: AnnotatedImage, init: Checkpoint, tmp_path: Path, images: int, sizes: list[int]
) -> None:
    records = [replace(record, image_id=str(number)) for number in range(images)]
    shared = SharedMaps(init.metadata.multibox.image.scales)  # type: ignore[union-attr]
    proposals = ProposalCache(tmp_path, init, init.metadata.preprocessing, shared=shared, device="cpu")
    groups = proposals.groups(records)
    assert [len(group) for _, group in groups] == sizes
    assert [one.image_id for _, group in groups for one in group] == [one.image_id for one in records]
    assert [first for first, _ in groups] == [sum(sizes[:number]) for number in range(len(sizes))]


@pytest.mark.parametrize(
    ("images", "sizes"), [(0, []), (1001, [1001])], ids=["none", "more than would find room"]
)
def test_one_group_where_no_maps_are_kept(
    record: AnnotatedImage, init: Checkpoint, tmp_path: Path, images: int, sizes: list[int]
) -> None:
    """Each region is warped: nothing of an image would be wanted again."""
    proposals = ProposalCache(tmp_path, init, init.metadata.preprocessing, device="cpu")
    groups = proposals.groups([record] * images)
    assert [(first, len(group)) for first, group in groups] == [(0, size) for size in sizes]


def test_without_a_multibox_head_it_is_selective_search(
    record: AnnotatedImage, init: Checkpoint, tmp_path: Path
) -> None:
    cache = ProposalCache(tmp_path, replace(init, multibox=None), init.metadata.preprocessing, device="cpu")
    assert set(cache.of(record).source) == {Source.SELECTIVE_SEARCH}


@pytest.mark.parametrize("what", ["weights", "scales", "shapes", "size", "picture"])
def test_other_input_is_another_file(
    what: str, record: AnnotatedImage, init: Checkpoint, tmp_path: Path
) -> None:
    preprocessing = init.metadata.preprocessing
    ProposalCache(tmp_path, init, preprocessing, device="cpu").of(record)
    if what == "weights":
        assert init.multibox is not None
        head = type(init.multibox)(init.multibox.spec)
        torch.manual_seed(9)
        for parameter in head.parameters():
            torch.nn.init.normal_(parameter, std=0.01)
        init = replace(init, multibox=head)
    elif what in ("scales", "shapes"):
        assert init.multibox is not None
        spec = init.multibox.spec
        if what == "scales":
            spec = replace(spec, image=ImageScales((64, 144)))
        else:
            spec = replace(spec, grids=tuple(replace(grid, sides=grid.sides + 1) for grid in spec.grids))
        head = type(init.multibox)(spec)
        head.load_state_dict(init.multibox.state_dict())
        init = replace(init, multibox=head)
    elif what == "size":
        preprocessing = replace(preprocessing, short_side=60)
    else:
        copy = tmp_path / "copy.png"
        copy.write_bytes(record.path.read_bytes() + b"\0")
        record = replace(record, path=copy)
    cache = ProposalCache(tmp_path / "cache", init, preprocessing, device="cpu")
    cache.of(record)
    names = {path.name for path in _files(tmp_path / "cache")}
    assert names.isdisjoint(path.name for path in _files(tmp_path) if path.parent.parent == tmp_path)

"""Kept maps: they are those of the pictures as a detector sees them, and nothing stale or damaged is used."""

from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.problems import OnProblem
from detector.errors import DatasetError, ParameterError
from detector.inference.image_scales import ImageScales
from detector.io.decoding import load
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.image_trunk import MappedStages
from training.multibox.anchors import STAGES
from training.multibox.cached_maps_loader import CachedMapsLoader
from training.multibox.dataset import read_object_images
from training.multibox.map_cache import MapCache, cache_size, quantised, restored
from training.multibox.mapped_images import FrozenTrunk
from training.scaled_images import ImageBatches, image_at_scales, mirrored_record
from training.trainer import command_errors
from training.trainer.command_errors import DiskSpaceError
from training.trainer.distributed import ProcessGroup
from training.trainer.excluded_images import BrokenImages
from training.trainer.run_state import read_sealed

CPU = torch.device("cpu")
SCALES = ImageScales((32, 64))
ALONE = ProcessGroup()


@pytest.fixture(scope="module")
def init(init_path: Path) -> Checkpoint:
    return load_checkpoint(init_path)


@pytest.fixture(scope="module")
def trunk(init: Checkpoint) -> FrozenTrunk:
    return FrozenTrunk(init, STAGES["googlenet"], CPU)


@pytest.fixture
def records(data: Path) -> list[AnnotatedImage]:
    return read_object_images([data], frozenset()).records


def images_of(
    init: Checkpoint, records: list[AnnotatedImage], *, batch: int = 5, seed: int = 0
) -> ImageBatches:
    weights = np.ones(len(records))
    return ImageBatches(records, weights, SCALES, init.metadata.preprocessing, batch, seed)


def broken_of(folder: Path, records: list[AnnotatedImage]) -> BrokenImages:
    return BrokenImages.of_run(folder, len(records), OnProblem.REPORT)


def loader_of(
    cache: MapCache, images: ImageBatches, folder: Path, world: ProcessGroup = ALONE
) -> CachedMapsLoader:
    kept = cache.fill(world, broken_of(folder, list(images.records)))
    return CachedMapsLoader(cache, images.records, kept, images.batch, images.seed, device=CPU, world=world)


@pytest.mark.parametrize(
    "maps",
    [
        pytest.param(torch.rand(3, 4, 5) * 7, id="any"),
        pytest.param(torch.zeros(2, 3, 3), id="nothing in it"),
        pytest.param(
            torch.rand(4, 6, 2) * torch.tensor([0.0, 1e-6, 1.0, 1e6])[:, None, None], id="far apart"
        ),
        pytest.param(torch.ones(1, 1, 1) * 1e-30, id="one cell, tiny"),
    ],
)
def test_eight_bits_are_near(maps: torch.Tensor) -> None:
    """Within half of a 255th of the channel's largest value, which itself is kept."""
    values, largest = quantised(maps)
    assert values.dtype == torch.uint8
    again = restored(values, largest)
    assert (again - maps).abs().amax(dim=(1, 2)).le(maps.amax(dim=(1, 2)) * 0.501 / 255).all()
    assert again.amax(dim=(1, 2)) == pytest.approx(maps.amax(dim=(1, 2)), rel=1e-6)


def test_maps_are_those_of_the_picture_as_a_detector_sees_it(
    init: Checkpoint, trunk: FrozenTrunk, records: list[AnnotatedImage], tmp_path: Path
) -> None:
    """Some mirrored, with their boxes; each at every scale."""
    images = images_of(init, records)
    cache = MapCache(tmp_path, trunk, images)
    cache.fill(ALONE, broken_of(tmp_path, records))
    preprocessing = init.metadata.preprocessing
    plain = MappedStages(init.backbone.features, STAGES["googlenet"]).eval()
    turned = set()
    for index, record in enumerate(records):
        read = cache.read(index)
        mirrored = not np.array_equal(read.records[0].boxes, record.boxes)
        turned.add(mirrored)
        expected_record = mirrored_record(record) if mirrored else record
        assert np.array_equal(read.records[0].boxes, expected_record.boxes)
        pixels = image_at_scales(load(record.path), SCALES, preprocessing, mirrored=mirrored)
        assert read.sizes == [part.size for part in pixels]
        for part, factors, maps in zip(pixels, read.factors, read.maps, strict=True):
            assert torch.equal(factors, part.factors)
            with torch.inference_mode():
                expected = plain(part.normalised(SCALES, preprocessing, CPU))
            for made, stage in zip(maps, STAGES["googlenet"], strict=True):
                wanted = expected[stage]
                assert made.shape == wanted.shape
                tolerance = wanted.amax(dim=(2, 3)) * 0.501 / 255 + 1e-4 * wanted.max()
                assert ((made - wanted).abs().amax(dim=(2, 3)) <= tolerance).all()
    assert turned == {True, False}


def test_what_is_there_is_not_made_again(
    init: Checkpoint,
    trunk: FrozenTrunk,
    records: list[AnnotatedImage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By another run of more pictures, in another order; boxes and classes do not matter to maps."""
    made: list[int] = []
    make = MapCache._make

    def counted(self: MapCache, index: int) -> bytes:
        made.append(index)
        return make(self, index)

    monkeypatch.setattr(MapCache, "_make", counted)
    for learned, expected in ((records[:5], 5), (records[:5], 0), (records[::-1], 7)):
        changed = [replace(record, boxes=record.boxes[:, [0, 1, 2, 3]] * 0.5) for record in learned]
        made.clear()
        MapCache(tmp_path, trunk, images_of(init, changed)).fill(ALONE, broken_of(tmp_path, learned))
        assert len(made) == expected


@pytest.mark.parametrize("change", ["picture", "seed", "trunk"])
def test_what_changed_has_other_maps(
    init: Checkpoint, init_path: Path, records: list[AnnotatedImage], tmp_path: Path, change: str
) -> None:
    def names(checkpoint: Checkpoint, seed: int) -> set[str]:
        trunk = FrozenTrunk(checkpoint, STAGES["googlenet"], CPU)
        folder = tmp_path / f"maps {len(list(tmp_path.iterdir()))}"
        cache = MapCache(folder, trunk, images_of(checkpoint, learned, seed=seed))
        cache.fill(ALONE, broken_of(tmp_path, learned))
        return {path.name for path in folder.iterdir()}

    copy = tmp_path / records[0].path.name
    copy.write_bytes(records[0].path.read_bytes())
    learned = [replace(records[0], path=copy), records[1]]
    before, other = names(init, 0), load_checkpoint(init_path)
    assert names(other, 0) == before, "the same again"
    if change == "picture":
        copy.write_bytes(copy.read_bytes() + b" ")  # behind a PNG's end: the same pixels
    if change == "trunk":
        with torch.no_grad():
            other.backbone.features.conv1.conv.bias += 1
    after = names(other, 1 if change == "seed" else 0)
    assert len(before & after) == (1 if change == "picture" else 0)


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(lambda data: data[:-1], id="cut off"),
        pytest.param(lambda data: data[:200] + bytes([data[200] ^ 1]) + data[201:], id="a bit"),
        pytest.param(lambda data: b"", id="empty"),
    ],
)
def test_a_damaged_file_is_made_again(
    init: Checkpoint,
    trunk: FrozenTrunk,
    records: list[AnnotatedImage],
    tmp_path: Path,
    damage: Callable[[bytes], bytes],
) -> None:
    cache = MapCache(tmp_path, trunk, images_of(init, records))
    cache.fill(ALONE, broken_of(tmp_path, records))
    before = cache.read(3)
    whole = {other: other.read_bytes() for other in tmp_path.iterdir()}
    for other, data in whole.items():
        other.write_bytes(damage(data))
        assert read_sealed(other) is None
    after = cache.read(3)
    for maps, expected in zip(chain(*after.maps), chain(*before.maps), strict=True):
        # Other threads may round otherwise, and so a value be the next level.
        assert (maps - expected).abs().amax() <= 1.1 * expected.amax() / 255
    assert len([other for other in whole if read_sealed(other) is not None]) == 1


def test_pictures_that_cannot_be_read_are_left_out_and_named(
    init: Checkpoint, trunk: FrozenTrunk, records: list[AnnotatedImage], tmp_path: Path
) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(records[1].path.read_bytes()[:100])
    records = [
        records[0],
        replace(records[1], image_id="cut", path=broken),
        replace(records[2], image_id="gone", path=tmp_path / "none.png"),
        records[3],
    ]
    images = images_of(init, records)
    loader = loader_of(MapCache(tmp_path / "maps", trunk, images), images, tmp_path)
    assert set((tmp_path / "broken.txt").read_text().split()) == {"cut", "gone"}
    [minibatch] = loader.minibatches(0, 1)
    assert sorted(part.records[0].image_id for part in minibatch) == sorted(
        [records[0].image_id, records[3].image_id]
    )
    with pytest.raises(DatasetError, match="none of 2 pictures"):
        MapCache(tmp_path / "maps", trunk, images_of(init, records[1:3])).fill(
            ALONE, broken_of(tmp_path, records)
        )


def test_an_epoch_sees_each_picture_once(
    init: Checkpoint, trunk: FrozenTrunk, records: list[AnnotatedImage], tmp_path: Path
) -> None:
    """Twelve pictures, four a minibatch: three minibatches, in another order the next time, and a run that
    goes on sees what it would have seen."""
    images = images_of(init, records, batch=4)
    loader = loader_of(MapCache(tmp_path, trunk, images), images, tmp_path)
    assert loader.epoch_length == 3
    seen = [[part.records[0].image_id for part in minibatch] for minibatch in loader.minibatches(0, 6)]
    everything = sorted(record.image_id for record in records)
    assert sorted(chain(*seen[:3])) == sorted(chain(*seen[3:])) == everything
    assert seen[:3] != seen[3:]
    again = [[part.records[0].image_id for part in minibatch] for minibatch in loader.minibatches(2, 5)]
    assert again == seen[2:5]


@pytest.mark.parametrize("size", [1, 2, 3])
def test_the_shares_of_all_processes_are_the_whole(
    init: Checkpoint, trunk: FrozenTrunk, records: list[AnnotatedImage], tmp_path: Path, size: int
) -> None:
    """By their objects: one with three weighs three times as much."""
    unknown = np.concatenate([records[0].boxes] * 2)  # an object of no known class is one, too
    records = [replace(records[0], unknown=unknown), *records[1:]]
    images = images_of(init, records, batch=12)
    parts = []
    for rank in range(size):
        loader = loader_of(MapCache(tmp_path, trunk, images), images, tmp_path, ProcessGroup(rank, size))
        parts += next(loader.minibatches(0, 1))
    assert sorted(part.records[0].image_id for part in parts) == sorted(record.image_id for record in records)
    shares = {part.records[0].image_id: part.share for part in parts}
    objects = {record.image_id: len(record.boxes) + len(record.unknown) for record in records}
    assert objects[records[0].image_id] == 3
    whole = sum(objects.values())
    assert shares == pytest.approx({name: count / whole for name, count in objects.items()})


def test_too_few_pictures_for_the_processes(
    init: Checkpoint, trunk: FrozenTrunk, records: list[AnnotatedImage], tmp_path: Path
) -> None:
    images = images_of(init, records, batch=2)
    with pytest.raises(ParameterError, match="2 pictures a minibatch are too few for 3 processes"):
        loader_of(MapCache(tmp_path, trunk, images), images, tmp_path, ProcessGroup(0, 3))


@pytest.mark.parametrize("change", ["box", "seed", "batch", "a picture less"])
def test_other_minibatches_have_another_digest(
    init: Checkpoint, trunk: FrozenTrunk, records: list[AnnotatedImage], tmp_path: Path, change: str
) -> None:
    def digest(records: list[AnnotatedImage], **settings: int) -> bytes:
        images = images_of(init, records, **settings)
        return loader_of(MapCache(tmp_path, trunk, images), images, tmp_path).digest()

    before = digest(records)
    assert digest(records) == before
    changed = {
        "box": lambda: digest([replace(records[0], boxes=records[0].boxes + 1), *records[1:]]),
        "seed": lambda: digest(records, seed=1),
        "batch": lambda: digest(records, batch=6),
        "a picture less": lambda: digest(records[1:]),
    }[change]()
    assert changed != before


def test_the_size_that_is_foretold_is_that_of_the_files(
    init: Checkpoint, trunk: FrozenTrunk, records: list[AnnotatedImage], tmp_path: Path
) -> None:
    """But for the largest values of channels and a header."""
    MapCache(tmp_path, trunk, images_of(init, records)).fill(ALONE, broken_of(tmp_path, records))
    taken = sum(path.stat().st_size for path in tmp_path.iterdir())
    foretold = cache_size(records, SCALES, trunk.channels)
    assert foretold < taken < foretold + len(records) * (4 * 2 * sum(trunk.channels) + 2000)


def test_a_full_disk_is_said_before_anything_is_computed(
    init: Checkpoint,
    trunk: FrozenTrunk,
    records: list[AnnotatedImage],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(command_errors, "free_bytes", lambda path: 1000)
    with pytest.raises(DiskSpaceError, match="cache-gib"):
        MapCache(tmp_path / "maps", trunk, images_of(init, records)).fill(ALONE, broken_of(tmp_path, records))
    assert not list((tmp_path / "maps").iterdir())

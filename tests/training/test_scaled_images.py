"""Minibatches of whole images at several scales: what a detector sees, and where the objects lie in it."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import DatasetError
from detector.inference.image_scales import ImageScales, scale_image, zoomed
from detector.inference.preprocessing import Preprocessing
from detector.inference.region_crops import ImageView
from detector.inference.torch_arrays import TorchArrays
from detector.io.decoding import load
from detector.structures.boxes import as_boxes, flip
from training.scaled_images import ImageBatch, ImageBatches, PixelsAtScale
from training.trainer.distributed import ProcessGroup

CPU = torch.device("cpu")
PREPARE = Preprocessing((100.0, 110.0, 120.0), (1.0, 2.0, 3.0), size=64)
SCALES = ImageScales((32, 60), padding=9)
NONE = as_boxes([])


def record(
    path: Path,
    pixels: NDArray[np.uint8],
    boxes: Sequence[tuple[float, ...]],
    unknown: Sequence[tuple[float, ...]] = (),
    crowds: Sequence[tuple[float, ...]] = (),
) -> AnnotatedImage:
    Image.fromarray(pixels).save(path)
    height, width = pixels.shape[:2]
    labels = np.zeros(len(boxes), np.int64)
    known, others, many = (as_boxes(list(part)) for part in (boxes, unknown, crowds))
    return AnnotatedImage(path.stem, path, width, height, known, labels, unknown=others, crowds=many)


SIZES = [(90, 60), (61, 83), (200, 170), (64, 64), (40, 30), (33, 150), (240, 50), (130, 131)]
"""Lying and standing ones, larger and smaller than the scales, some longer than is allowed, one square."""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[AnnotatedImage]:
    """Dark noise with three bright rectangles: an object of red, one of unknown class in green, a crowd in
    blue."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    records = []
    for index, (width, height) in enumerate(SIZES):
        image = random.integers(0, 40, (height, width, 3), dtype=np.uint8)
        boxes = []
        for channel in range(3):
            x1, y1 = int(width * (0.05 + 0.3 * channel)), int(height * random.uniform(0.1, 0.4))
            x2, y2 = x1 + int(width * 0.2), y1 + int(height * random.uniform(0.3, 0.5))
            image[y1:y2, x1:x2, channel] = 255
            boxes.append((x1, y1, x2, y2))
        records.append(record(folder / f"{index}.png", image, boxes[:1], boxes[1:2], boxes[2:]))
    return records


def batches(
    records: Sequence[AnnotatedImage], batch: int = 4, seed: int = 0, **settings: Any
) -> ImageBatches:
    weights = settings.pop("weights", np.ones(len(records)))
    return ImageBatches(records, weights, settings.pop("scales", SCALES), PREPARE, batch, seed, **settings)


def made(
    source: ImageBatches, first: int, last: int | None = None, world: ProcessGroup | None = None
) -> list[ImageBatch]:
    return list(source.minibatches(first, first + 1 if last is None else last, CPU, 0, world))


def original(seen: AnnotatedImage, records: Sequence[AnnotatedImage]) -> AnnotatedImage:
    return next(one for one in records if one.path == seen.path)


def is_mirrored(seen: AnnotatedImage, records: Sequence[AnnotatedImage]) -> bool:
    return not np.array_equal(seen.boxes, original(seen, records).boxes)


def is_tall(one: AnnotatedImage) -> bool:
    return one.height > one.width


VARIANTS: dict[str, dict[str, Any]] = {
    "two scales": {},
    "one scale": {"scales": ImageScales((48,), padding=0)},
    "larger and smaller": {"zoom": 1.5},
    "never mirrored": {"mirror": False},
    "longer than wide at most by half": {"scales": ImageScales((20, 40, 64), 1.5, 32), "zoom": 1.2},
}


def scales_seen(batch: ImageBatch, settings: ImageScales) -> tuple[int, ...]:
    """The scales of a minibatch, from the images that are not too long for them."""
    return tuple(
        max(int(min(size)) for size in scale.sizes.tolist()) for scale in batch.scales[: len(settings.scales)]
    )


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_pixels_are_those_that_a_detector_sees(
    pictures: list[AnnotatedImage], settings: dict[str, Any]
) -> None:
    """Bit by bit, for each image of a minibatch; beyond its own pixels there is nothing."""
    source = batches(pictures, **settings)
    mirrored = set()
    for batch in made(source, 0, 6):
        scales = replace(source.scales, scales=scales_seen(batch, source.scales))
        view = replace(PREPARE, short_side=max(scales.scales))
        for scale, at_scale in zip(scales.scales, batch.scales, strict=True):
            assert at_scale.pixels.dtype == torch.uint8
            images = at_scale.normalised(source.scales, PREPARE, CPU)
            assert images.shape[2] % 16 == images.shape[3] % 16 == 0
            for number, seen in enumerate(batch.records):
                turned = is_mirrored(seen, pictures)
                mirrored.add(turned)
                pixels = ImageView(load(seen.path), view).pixels
                expected = scale_image(
                    pixels, scale, scales, PREPARE, TorchArrays(CPU), mirrored=turned
                ).pixels[0]
                height, width = expected.shape[1:]
                assert torch.equal(images[number, :, :height, :width], expected)
                assert not images[number, :, height:].any()
                assert not images[number, :, :, width:].any()
        largest = torch.stack([scale.sizes for scale in batch.scales]).amax(dim=1) + 2 * scales.padding
        for at_scale, most in zip(batch.scales, largest, strict=True):
            assert (torch.tensor(at_scale.pixels.shape[1:3]) - most < 16).all(), "no larger than need be"
    assert mirrored == ({False} if settings.get("mirror") is False else {False, True})


def test_what_is_no_cpu_meets_few_shapes(pictures: list[AnnotatedImage]) -> None:
    """Sides in coarse steps, with more of nothing to the right and below: the images are the same."""
    source = batches(pictures, scales=ImageScales((227, 454)))
    coarse = list(source.minibatches(0, 4, torch.device("meta"), 0))
    for fine, batch in zip(made(source, 0, 4), coarse, strict=True):
        for step, expected, scale in zip((64, 128), fine.scales, batch.scales, strict=True):
            height, width = expected.size
            assert scale.size == (-(-height // step) * step, -(-width // step) * step)
            assert torch.equal(scale.pixels[:, :height, :width], expected.pixels)
            assert not scale.pixels[:, height:].any()
            assert not scale.pixels[:, :, width:].any()


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_boxes_lie_where_the_pixels_show_the_objects(
    pictures: list[AnnotatedImage], settings: dict[str, Any]
) -> None:
    """Bright inside the box and dark outside it; an edge may be off by a pixel and a half."""
    source = batches(pictures, **settings)
    for batch in made(source, 0, 6):
        for scale in batch.scales:
            for number, seen in enumerate(batch.records):
                for channel, boxes in enumerate((seen.boxes, seen.unknown, seen.crowds)):
                    [(x1, y1, x2, y2)] = boxes * scale.factors[number].numpy() + source.scales.padding
                    shown = scale.pixels[number, :, :, channel].numpy()
                    across = np.arange(shown.shape[1]) + 0.5
                    down = np.arange(shown.shape[0]) + 0.5
                    inside = np.minimum(
                        np.minimum(across - x1, x2 - across)[None, :],
                        np.minimum(down - y1, y2 - down)[:, None],
                    )
                    assert (shown[inside > 1.5] > 100).all()
                    assert (shown[inside < -1.5] < 100).all()


def test_factors_are_those_of_each_image_on_each_axis(pictures: list[AnnotatedImage]) -> None:
    for batch in made(batches(pictures, zoom=1.4), 0, 4):
        for scale in batch.scales:
            for factors, (height, width), seen in zip(scale.factors, scale.sizes, batch.records, strict=True):
                expected = [width / seen.width, height / seen.height] * 2
                assert factors.tolist() == pytest.approx([float(one) for one in expected], rel=1e-5)
            assert scale.factors.dtype == torch.float32


def test_all_of_a_minibatch_is_zoomed_alike_and_within_bounds(pictures: list[AnnotatedImage]) -> None:
    near = [one for one in pictures if max(one.width, one.height) < 2 * min(one.width, one.height)]
    zooms = []
    for batch in made(batches(near, zoom=1.5), 0, 40):
        for scale, usual in zip(batch.scales, SCALES.scales, strict=True):
            [short] = {int(min(size)) for size in scale.sizes.tolist()}
            assert usual / 1.5 - 1 <= short <= usual * 1.5 + 1
        zooms.append(short / usual)
        assert zoomed(SCALES, zooms[-1]).scales == pytest.approx(
            [min(scale.sizes[0].tolist()) for scale in batch.scales], abs=1
        )
    assert min(zooms) < 0.75
    assert max(zooms) > 1.35
    assert np.mean(np.array(zooms) < 1) == pytest.approx(0.5, abs=0.2), "larger as often as smaller"


def test_color_changes_and_nothing_else(pictures: list[AnnotatedImage]) -> None:
    [plain], [changed] = (made(batches(pictures, color_jitter=jitter), 3) for jitter in (False, True))
    for one, other in zip(plain.scales, changed.scales, strict=True):
        assert torch.equal(one.sizes, other.sizes)
        assert torch.equal(one.factors, other.factors)
        assert not torch.equal(one.pixels, other.pixels)
    assert [one.path for one in plain.records] == [one.path for one in changed.records]


def test_what_is_known_of_an_image_goes_with_it(pictures: list[AnnotatedImage]) -> None:
    """Mirrored with its pixels."""
    records = [replace(one, partial=index % 2 == 0) for index, one in enumerate(pictures)]
    for batch in made(batches(records), 0, 6):
        for seen in batch.records:
            was = original(seen, records)
            assert (seen.partial, seen.labels.tolist()) == (was.partial, was.labels.tolist())
            parts = [(getattr(seen, part), getattr(was, part)) for part in ("boxes", "unknown", "crowds")]
            turned = is_mirrored(seen, records)
            for mine, theirs in parts:
                assert np.array_equal(mine, flip(theirs, was.width) if turned else theirs)
    assert {
        is_mirrored(seen, records) for batch in made(batches(records), 0, 6) for seen in batch.records
    } == {
        False,
        True,
    }


def assert_same(one: ImageBatch, other: ImageBatch) -> None:
    assert (one.iteration, one.places, one.broken) == (other.iteration, other.places, other.broken)
    for mine, theirs in zip(one.scales, other.scales, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(mine, theirs, strict=True))
    for seen, expected in zip(one.records, other.records, strict=True):
        assert seen.path == expected.path
        assert np.array_equal(seen.boxes, expected.boxes)


def test_a_minibatch_is_a_function_of_seed_and_number(pictures: list[AnnotatedImage]) -> None:
    """Whatever was made before it, and by whichever worker."""
    one = batches(pictures, seed=3, zoom=1.3, color_jitter=True)
    [later] = made(one, 7)
    assert later.iteration == 7
    assert_same(later, made(batches(pictures, seed=3, zoom=1.3, color_jitter=True), 4, 9)[3])
    assert_same(later, next(iter(one.minibatches(7, 8, CPU, workers=1))))
    others = made(one, 6) + made(batches(pictures, seed=4, zoom=1.3, color_jitter=True), 7)
    for other in others:
        assert not all(
            a.pixels.shape == b.pixels.shape and torch.equal(a.pixels, b.pixels)
            for a, b in zip(later.scales, other.scales, strict=True)
        )


@pytest.mark.parametrize(("batch", "length"), [(1, 8), (3, 2), (8, 1), (20, 1)])
def test_an_epoch_sees_as_many_images_as_there_are(
    pictures: list[AnnotatedImage], batch: int, length: int
) -> None:
    assert batches(pictures, batch=batch).epoch_length == length


@pytest.fixture(scope="module")
def specks(tmp_path_factory: pytest.TempPathFactory) -> list[AnnotatedImage]:
    """Six very small pictures, of which two stand upright and one is square."""
    folder = tmp_path_factory.mktemp("specks")
    sizes = [(20, 16), (16, 20), (16, 16), (24, 16), (16, 30), (18, 16)]
    return [
        record(folder / f"{index}.png", np.full((height, width, 3), 40 * index, np.uint8), [(0, 0, 9, 16)])
        for index, (width, height) in enumerate(sizes)
    ]


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param([1, 1, 1, 1, 1, 1], id="all alike"),
        pytest.param([1, 6, 1, 1, 2, 1], id="those that stand more often"),
        pytest.param([4, 0.5, 2, 1, 0.5, 4], id="those that lie more often"),
        pytest.param([0, 1, 2, 0, 0, 1], id="some never"),
        pytest.param([1, 0, 2, 3, 0, 1], id="none that stands"),
    ],
)
def test_a_minibatch_lies_alike_and_every_image_keeps_its_share(
    specks: list[AnnotatedImage], weights: list[float]
) -> None:
    """Else a minibatch of both would be as wide as the one and as high as the other."""
    source = batches(specks, scales=ImageScales((16,), padding=0), weights=np.array(weights, np.float64))
    counts, standing = dict.fromkeys((one.path for one in specks), 0), set()
    for batch in made(source, 0, 500):
        [tall] = {is_tall(one) for one in batch.records}
        standing.add(tall)
        for one in batch.records:
            counts[one.path] += 1
    shares = np.array(list(counts.values())) / (500 * 4)
    assert shares == pytest.approx(np.array(weights) / sum(weights), abs=0.05)
    assert (shares[np.array(weights) == 0] == 0).all()
    assert standing == {tall for one, w in zip(specks, weights, strict=True) if w for tall in [is_tall(one)]}


def damaged(one: AnnotatedImage, folder: Path, how: str) -> AnnotatedImage:
    path = folder / f"bad_{one.path.name}"
    if how == "cut short":
        path.write_bytes(one.path.read_bytes()[:40])
    elif how == "another size":
        Image.fromarray(np.zeros((one.height + 1, one.width, 3), np.uint8)).save(path)
    return replace(one, path=path, image_id=path.stem)


@pytest.mark.parametrize("how", ["cut short", "gone", "another size"])
def test_an_image_that_broke_since_it_was_listed(
    specks: list[AnnotatedImage], tmp_path: Path, how: str
) -> None:
    """Another that lies alike takes its place, it is named, and a resumed run sees the same minibatch."""
    records = [damaged(one, tmp_path, how) if index == 0 else one for index, one in enumerate(specks)]
    source = batches(records, batch=3)
    found = made(source, 0, 12)
    named = [list(batch.broken) for batch in found]
    assert ["bad_0"] in named
    assert [] in named
    assert set(chain(*named)) == {"bad_0"}
    whys = {why for batch in found for why in batch.broken.values()}
    assert all("bad_0.png" in why for why in whys)
    for batch in found:
        assert len(batch.records) == 3
        assert len({is_tall(one) for one in batch.records}) == 1
        assert "bad_0" not in [one.image_id for one in batch.records]
        assert_same(batch, *made(source, batch.iteration))


def test_where_all_that_stand_are_broken_one_that_lies_takes_their_place(
    specks: list[AnnotatedImage], tmp_path: Path
) -> None:
    records = [damaged(one, tmp_path, "gone") if is_tall(one) else one for one in specks]
    found = made(batches(records), 0, 12)
    assert {name for batch in found for name in batch.broken} == {"bad_1", "bad_4"}
    assert not any(is_tall(one) for batch in found for one in batch.records)


def test_where_too_many_are_broken_it_ends(specks: list[AnnotatedImage], tmp_path: Path) -> None:
    broken = [damaged(one, tmp_path, "gone") for one in specks]
    with pytest.raises(DatasetError, match=r"6 of 6 pictures can no longer be read .*bad_\d\.png.*disk"):
        made(batches(broken), 0, 20)
    many = [replace(broken[0], image_id=f"bad_{index}") for index in range(24)]
    with pytest.raises(DatasetError, match=r"13 of 25 pictures can no longer be read"):
        made(batches([specks[0], *many], batch=40), 0)


def assert_part(part: ImageBatch, index: int, whole: ImageBatch, place: int) -> None:
    """An image of a share is that of the whole minibatch, but for what surrounds it to fill a rectangle."""
    assert part.records[index].path == whole.records[place].path
    assert np.array_equal(part.records[index].boxes, whole.records[place].boxes)
    for mine, theirs in zip(part.scales, whole.scales, strict=True):
        assert torch.equal(mine.sizes[index], theirs.sizes[place])
        assert torch.equal(mine.factors[index], theirs.factors[place])
        one, other = shown(mine, index), shown(theirs, place)
        assert torch.equal(one, other)


def shown(scale: PixelsAtScale, index: int) -> Tensor:
    height, width = scale.sizes[index].tolist()
    pad = SCALES.padding
    return scale.pixels[index, pad : pad + height, pad : pad + width]


@pytest.mark.parametrize("broken", [0, 1, 3], ids=["all whole", "one broken", "three broken"])
@pytest.mark.parametrize("size", [2, 3])
def test_processes_share_a_minibatch(
    pictures: list[AnnotatedImage], tmp_path: Path, size: int, broken: int
) -> None:
    """However many are broken: the others' images are those of a single process."""
    records = [damaged(one, tmp_path, "gone") if i < broken else one for i, one in enumerate(pictures)]
    source = batches(records, batch=7, zoom=1.2)
    for iteration in range(20):
        [whole] = made(source, iteration)
        parts = [made(source, iteration, world=ProcessGroup(rank, size))[0] for rank in range(size)]
        assert whole.places == list(range(7))
        assert sorted(chain(*(part.places for part in parts))) == whole.places
        for part in parts:
            for index, place in enumerate(part.places):
                assert_part(part, index, whole, place)
        assert {name for part in parts for name in part.broken} == whole.broken.keys()


@pytest.mark.parametrize(
    ("count", "sizes"),
    [(1, [5]), (2, [3, 2]), (3, [2, 2, 1]), (5, [1] * 5), (9, [1] * 5)],
    ids=["whole", "halves", "thirds", "one by one", "more than images"],
)
def test_pieces_make_up_the_minibatch(pictures: list[AnnotatedImage], count: int, sizes: list[int]) -> None:
    [batch] = made(batches(pictures, batch=5), 2)
    pieces = batch.pieces(count)
    assert [len(piece.records) for piece in pieces] == sizes
    assert list(chain(*(piece.places for piece in pieces))) == batch.places
    assert [one for piece in pieces for one in piece.records] == batch.records
    for number, scale in enumerate(batch.scales):
        joined = PixelsAtScale(
            *(torch.cat(part) for part in zip(*(piece.scales[number] for piece in pieces), strict=True))
        )
        assert all(torch.equal(a, b) for a, b in zip(joined, scale, strict=True))
    assert {piece.iteration for piece in pieces} == {2}


def test_a_run_that_is_left_ends_its_thread(pictures: list[AnnotatedImage]) -> None:
    before = threading.active_count()
    run = batches(pictures).minibatches(0, 1000, CPU, 0)
    next(run)
    run.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before


def other(change: Callable[[AnnotatedImage], dict[str, Any]]) -> Callable[[list[AnnotatedImage]], Any]:
    """Minibatches of the same pictures but the first, which is changed."""
    return lambda records: batches([replace(records[0], **change(records[0])), *records[1:]])


DIFFERENT: dict[str, Callable[[list[AnnotatedImage]], ImageBatches]] = {
    "seed": lambda records: batches(records, seed=1),
    "batch": lambda records: batches(records, batch=5),
    "scales": lambda records: batches(records, scales=ImageScales((32, 61), padding=9)),
    "padding": lambda records: batches(records, scales=replace(SCALES, padding=10)),
    "zoom": lambda records: batches(records, zoom=1.2),
    "color": lambda records: batches(records, color_jitter=True),
    "not mirrored": lambda records: batches(records, mirror=False),
    "weights": lambda records: batches(records, weights=np.array([2.0] + [1.0] * 7)),
    "fewer pictures": lambda records: batches(records[1:]),
    "another order": lambda records: batches(records[::-1]),
    "preprocessing": lambda records: replace(batches(records), preprocessing=replace(PREPARE, size=65)),
    "a box": other(lambda one: {"boxes": one.boxes + 1}),
    "an object of unknown class": other(lambda one: {"unknown": one.unknown + 1}),
    "a crowd": other(lambda one: {"crowds": NONE}),
    "a label": other(lambda one: {"labels": one.labels + 1}),
    "another name": other(lambda one: {"path": Path("b.png")}),
    "partly labelled": other(lambda one: {"partial": True}),
}


def test_the_digest_tells_minibatches_from_others(pictures: list[AnnotatedImage]) -> None:
    """The state of a run that would see anything else must not be taken up."""
    same = batches(pictures).digest()
    assert batches([replace(one, boxes=one.boxes.copy()) for one in pictures]).digest() == same
    digests = {name: make(pictures).digest() for name, make in DIFFERENT.items()}
    digests["as it was"] = same
    assert len(set(digests.values())) == len(DIFFERENT) + 1

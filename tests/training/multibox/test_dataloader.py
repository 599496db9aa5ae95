"""Windows of images and minibatches of them; boxes lie where the pixels show the objects."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from training.multibox.dataloader import (
    Window,
    WindowBatch,
    WindowBatches,
    WindowSettings,
    draw_window,
    objects_in,
)

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import DatasetError
from detector.inference.region_crops import Preprocessing
from detector.structures.boxes import area, as_boxes, flip
from training.trainer.distributed import ProcessGroup

USUAL = WindowSettings()
CPU = torch.device("cpu")
WINDOW = (50, 0, 150, 100)  # at 200 pixels a side: everything twice as large


@pytest.mark.parametrize(
    ("window", "size", "box", "seen"),
    [
        pytest.param(WINDOW, 200, (60, 10, 100, 50), (20, 20, 100, 100), id="wholly inside"),
        pytest.param(WINDOW, 200, (50, 0, 150, 100), (0, 0, 200, 200), id="as large as the window"),
        pytest.param(WINDOW, 200, (30, 20, 80, 60), (0, 40, 60, 120), id="cut at the left: 60 % inside"),
        pytest.param(WINDOW, 200, (130, 80, 160, 105), (160, 160, 200, 200), id="cut at a corner: 53 %"),
        pytest.param(WINDOW, 200, (25, 20, 75, 60), (0, 40, 50, 120), id="half inside counts"),
        pytest.param(WINDOW, 200, (24, 20, 75, 60), None, id="less than half does not"),
        pytest.param(WINDOW, 200, (0, 0, 200, 100), (0, 0, 200, 200), id="larger than the window, half seen"),
        pytest.param(WINDOW, 200, (0, 0, 210, 100), None, id="larger, less than half seen"),
        pytest.param(WINDOW, 200, (0, 0, 50, 100), None, id="beside it"),
        pytest.param(WINDOW, 200, (60, 10, 63, 50), (20, 20, 26, 100), id="six pixels wide count"),
        pytest.param(WINDOW, 200, (60, 10, 62.9, 50), None, id="fewer do not"),
        pytest.param(WINDOW, 200, (60, 10, 100, 12.9), None, id="nor in height"),
        pytest.param(WINDOW, 200, (46, 10, 52, 50), None, id="nor what cutting leaves"),
        pytest.param(WINDOW, 200, (60, 10, 60, 50), None, id="no area at all"),
        pytest.param(
            (0, 0, 200, 50), 100, (20, 10, 60, 30), (10, 20, 30, 60), id="each axis by its own factor"
        ),
        pytest.param((-50, -50, 150, 150), 100, (0, 0, 100, 80), (25, 25, 75, 65), id="beyond the picture"),
    ],
)
def test_objects_by_hand(
    window: tuple[float, ...], size: int, box: tuple[float, ...], seen: tuple[float, ...] | None
) -> None:
    found = objects_in(as_boxes([window])[0], as_boxes([box]), size, USUAL)
    assert found.dtype == np.float32
    assert np.allclose(found, as_boxes([seen] if seen else []), atol=1e-4)
    assert found.shape == (int(seen is not None), 4)


def test_objects_keep_their_order() -> None:
    boxes = as_boxes([(60, 10, 100, 50), (0, 0, 10, 10), (110, 60, 140, 90), (70, 20, 90, 40)])
    found = objects_in(as_boxes([WINDOW])[0], boxes, 100, USUAL)
    assert np.allclose(found, [[10, 10, 50, 50], [60, 60, 90, 90], [20, 20, 40, 40]])


def drawn(
    objects: object,
    *,
    width: int = 300,
    height: int = 200,
    settings: WindowSettings = USUAL,
    seeds: int = 200,
) -> list[Window]:
    """One window of each of many seeds, at 100 pixels a side."""
    boxes = as_boxes(objects)
    return [
        draw_window(width, height, boxes, 100, settings, np.random.default_rng(seed)) for seed in range(seeds)
    ]


OBJECTS = [(20, 30, 120, 150), (200, 100, 290, 190), (140, 10, 180, 60)]


def is_whole(window: Window, width: int = 300, height: int = 200) -> bool:
    return window.box.tolist() == [0, 0, width, height]


@pytest.mark.parametrize(("width", "height"), [(300, 200), (150, 400)], ids=["lying", "standing"])
def test_sizes_and_aspects_keep_to_the_settings(width: int, height: int) -> None:
    parts = [w for w in drawn(OBJECTS, width=width, height=height) if not is_whole(w, width, height)]
    sides = np.array([w.box[2:] - w.box[:2] for w in parts])
    share = sides.prod(axis=1) / (width * height)
    aspect = sides[:, 0] / sides[:, 1] / (width / height)
    assert USUAL.least * 0.999 <= share.min() < 0.3
    assert 1.2 < share.max() <= USUAL.most * 1.001
    assert 0.749 <= aspect.min() < 0.8
    assert 1.25 < aspect.max() <= 1.334


def test_windows_lie_in_the_picture_or_hold_it() -> None:
    """On each axis: a window that is larger than the picture has all of it."""
    for window in drawn(OBJECTS):
        for low, high, side in zip(window.box[:2], window.box[2:], (300, 200), strict=True):
            if high - low <= side:
                assert low >= -1e-3
                assert high <= side + 1e-3
            else:
                assert low <= 1e-3
                assert high >= side - 1e-3


def test_objects_are_those_of_the_window_mirrored_with_it() -> None:
    windows = drawn(OBJECTS)
    for window in windows:
        expected = objects_in(window.box, as_boxes(OBJECTS), 100, USUAL)
        assert np.allclose(window.objects, flip(expected, 100) if window.mirrored else expected)
        assert window.objects.dtype == np.float32
        assert (area(window.objects) > 0).all()
        assert (window.objects >= 0).all()
        assert (window.objects <= 100).all()
    assert 0.4 < np.mean([window.mirrored for window in windows]) < 0.6


@pytest.mark.parametrize("whole", [0.0, 0.3, 1.0])
def test_how_often_the_whole_picture_is_taken(whole: float) -> None:
    share = np.mean([is_whole(window) for window in drawn(OBJECTS, settings=WindowSettings(whole=whole))])
    assert share == pytest.approx(whole, abs=0.08 if 0 < whole < 1 else 0)


@pytest.mark.parametrize(
    "objects",
    [
        pytest.param(OBJECTS, id="large ones"),
        pytest.param([(290, 190, 300, 200)], id="one small in a corner"),
        pytest.param([(0, 0, 300, 200)], id="one as large as the picture"),
        pytest.param([(0, 0, 1, 1), (100, 100, 140, 120)], id="one of two too small to be seen"),
    ],
)
def test_where_an_object_can_be_seen_one_is(objects: list[tuple[float, ...]]) -> None:
    """Smaller windows that hold none are drawn again, and the whole picture is taken in the end."""
    whole = objects_in(as_boxes([(0, 0, 300, 200)])[0], as_boxes(objects), 100, WindowSettings(min_side=3))
    assert len(whole) > 0
    assert all(len(w.objects) for w in drawn(objects, settings=WindowSettings(min_side=3)))


@pytest.mark.parametrize("objects", [[], [(5, 5, 6, 6)]], ids=["no object", "one too small in any window"])
def test_without_an_object_the_whole_picture_is_taken(objects: list[tuple[float, ...]]) -> None:
    for window in drawn(objects, seeds=20):
        assert is_whole(window)
        assert window.objects.shape == (0, 4)


def test_what_is_too_small_in_the_whole_picture_is_seen_from_near() -> None:
    """Ten pixels of 300 are three of the input's hundred."""
    windows = drawn([(145, 95, 155, 105)], settings=WindowSettings(whole=0.0, min_side=4))
    near = [w for w in windows if len(w.objects)]
    assert len(near) > 20
    assert not any(is_whole(w) for w in near)
    assert all(is_whole(w) for w in windows if not len(w.objects))


def test_one_state_of_the_generator_gives_one_window() -> None:
    for first, second in zip(drawn(OBJECTS, seeds=20), drawn(OBJECTS, seeds=20), strict=True):
        assert np.array_equal(first.box, second.box)
        assert np.array_equal(first.objects, second.objects)
        assert first.mirrored == second.mirrored
    assert len({tuple(window.box) for window in drawn(OBJECTS, seeds=20)}) > 10


PREPARE = Preprocessing((100.0, 100.0, 100.0), (1.0, 1.0, 1.0), size=64, short_side=20)
WHOLE = WindowSettings(whole=1.0)


def record(path: Path, pixels: NDArray[np.uint8], boxes: Sequence[tuple[float, ...]]) -> AnnotatedImage:
    Image.fromarray(pixels).save(path)
    height, width = pixels.shape[:2]
    return AnnotatedImage(path.stem, path, width, height, as_boxes(boxes), np.zeros(len(boxes), np.int64))


@pytest.fixture(scope="module")
def rectangles(tmp_path_factory: pytest.TempPathFactory) -> list[AnnotatedImage]:
    """Ten black pictures of many sizes, each with one white rectangle."""
    folder = tmp_path_factory.mktemp("rectangles")
    random = np.random.default_rng(0)
    records = []
    for index in range(10):
        width, height = (int(side) for side in random.integers(70, 400, 2))
        w, h = int(width * random.uniform(0.3, 0.7)), int(height * random.uniform(0.3, 0.7))
        x, y = int(random.integers(0, width - w)), int(random.integers(0, height - h))
        image = np.zeros((height, width, 3), np.uint8)
        image[y : y + h, x : x + w] = 255
        records.append(record(folder / f"{index}.png", image, [(x, y, x + w, y + h)]))
    return records


@pytest.fixture(scope="module")
def shades(tmp_path_factory: pytest.TempPathFactory) -> list[AnnotatedImage]:
    """Eleven plain pictures, told apart by their shade."""
    folder = tmp_path_factory.mktemp("shades")
    return [
        record(folder / f"{index}.png", np.full((30, 40, 3), 20 * index, np.uint8), [(0, 0, 40, 30)])
        for index in range(11)
    ]


def batches(
    records: Sequence[AnnotatedImage], settings: WindowSettings = USUAL, batch: int = 4, seed: int = 0
) -> WindowBatches:
    return WindowBatches(records, PREPARE, settings, batch=batch, seed=seed)


def assert_same(one: WindowBatch, other: WindowBatch) -> None:
    assert torch.equal(one.images, other.images)
    assert one.partial == other.partial
    for mine, theirs in zip(one.objects, other.objects, strict=True):
        assert np.array_equal(mine, theirs)


def shades_seen(minibatch: WindowBatch) -> list[int]:
    """Which of ``shades`` were seen."""
    return [round((float(image[0, 32, 32]) + 100) / 20) for image in minibatch.images]


VARIANTS = {
    "as in training": USUAL,
    "whole pictures": WHOLE,
    "parts only": WindowSettings(whole=0.0, least=0.2, most=0.6),
    "mostly more than the picture": WindowSettings(whole=0.0, least=1.2, most=2.0),
}


@pytest.mark.parametrize("settings", VARIANTS.values(), ids=VARIANTS.keys())
def test_boxes_lie_where_the_pixels_show_the_objects(
    rectangles: list[AnnotatedImage], settings: WindowSettings
) -> None:
    """White inside the box, and no white outside it; an edge may be off by a pixel and a half of 64."""
    source = batches(rectangles, settings, batch=5)
    mirrored = set()
    for iteration in range(4):
        minibatch = source[iteration]
        assert minibatch.images.shape == (5, 3, 64, 64)
        assert minibatch.images.dtype == torch.float32
        centre = np.arange(64) + 0.5
        for image, boxes in zip(minibatch.images.numpy(), minibatch.objects, strict=True):
            [(x1, y1, x2, y2)] = boxes
            across = np.minimum(centre - x1, x2 - centre)  # how far inside, to the left and right
            down = np.minimum(centre - y1, y2 - centre)
            inside = np.minimum(across[None, :], down[:, None])
            assert (image[:, inside > 1.5] > 100).all()
            assert (image[:, inside < -1.5] < 100).all()
    for epoch in range(2):
        mirrored |= {source.window(index, epoch).mirrored for index in range(10)}
    assert mirrored == {False, True}


@pytest.mark.parametrize("scale", [1, 2, 5], ids=["as large as the input", "twice", "five times"])
def test_pixels_are_those_of_the_picture(tmp_path: Path, scale: int) -> None:
    """Every pixel of the whole picture, mirrored or not; of a larger one the mean of those that it covers."""
    side = 64 * scale
    pixels = np.random.default_rng(0).integers(0, 256, (side, side, 3), dtype=np.uint8)
    source = batches([record(tmp_path / "a.png", pixels, [(0, 0, side, side)])], WHOLE, batch=1)
    expected = cv2.resize(pixels, (64, 64), interpolation=cv2.INTER_AREA).astype(np.float32) - 100
    seen = set()
    for iteration in range(8):
        image = source[iteration].images[0].permute(1, 2, 0).numpy()
        mirrored = source.window(0, epoch=iteration).mirrored
        assert np.abs(image - (expected[:, ::-1] if mirrored else expected)).max() < 0.01
        seen.add(mirrored)
    assert seen == {False, True}


def test_what_lies_beyond_the_picture_is_the_mean_colour(tmp_path: Path) -> None:
    pixels = np.full((50, 50, 3), 255, np.uint8)
    settings = WindowSettings(whole=0.0, least=3.9, most=4.0)
    source = batches([record(tmp_path / "a.png", pixels, [(0, 0, 50, 50)])], settings, batch=1)
    image, [box] = source[0].images[0], source[0].objects[0]
    x, y = int((box[0] + box[2]) / 2), int((box[1] + box[3]) / 2)
    assert image[:, y, x].tolist() == [155, 155, 155]
    assert (image == 0).float().mean() > 0.6


@pytest.mark.parametrize(
    ("batch", "epoch_length"),
    [(11, 1), (1, 11), (4, 2), (20, 1)],
    ids=["all at once", "one by one", "three left over", "fewer pictures than a minibatch holds"],
)
def test_a_picture_comes_once_an_epoch(shades: list[AnnotatedImage], batch: int, epoch_length: int) -> None:
    """What does not fill a minibatch is left out of an epoch: another three pictures each time."""
    source = batches(shades, batch=batch)
    assert source.epoch_length == epoch_length
    orders = []
    for epoch in range(6):
        seen = [
            shade
            for part in range(epoch_length)
            for shade in shades_seen(source[epoch * epoch_length + part])
        ]
        assert len(seen) == len(set(seen)) == min(batch * epoch_length, 11)
        orders.append(tuple(seen))
    assert len(set(orders)) == 6, "another order each time"
    assert set().union(*orders) == set(range(11)), "in the end every picture had its turn"


def test_a_picture_is_seen_through_another_window_each_epoch(rectangles: list[AnnotatedImage]) -> None:
    source = batches(rectangles)
    assert len({tuple(source.window(3, epoch).box) for epoch in range(10)}) > 5
    assert len({source.window(3, epoch).mirrored for epoch in range(10)}) == 2


def test_a_minibatch_is_a_function_of_seed_and_number(rectangles: list[AnnotatedImage]) -> None:
    """Whatever was made before it."""
    one, other = batches(rectangles, seed=3), batches(rectangles, seed=3)
    later = one[7]
    for iteration in (2, 0, 7, 5):
        other[iteration]
    assert_same(later, other[7])
    assert not torch.equal(later.images, batches(rectangles, seed=4)[7].images)


def test_partial_goes_with_its_picture(shades: list[AnnotatedImage]) -> None:
    minibatch = batches([replace(one, partial=index == 2) for index, one in enumerate(shades)], batch=11)[0]
    assert minibatch.partial == [shade == 2 for shade in shades_seen(minibatch)]


@pytest.mark.parametrize(("first", "last"), [(0, 8), (3, 8), (5, 6), (7, 9), (4, 4), (0, 1)])
def test_a_run_is_its_minibatches_in_order(shades: list[AnnotatedImage], first: int, last: int) -> None:
    source = batches(shades, batch=2)
    found = list(source.minibatches(first, last, CPU, 0))
    assert len(found) == last - first
    for iteration, minibatch in enumerate(found, start=first):
        assert_same(minibatch, source[iteration])


def test_a_run_that_is_left_ends_its_thread(shades: list[AnnotatedImage]) -> None:
    before = threading.active_count()
    run = batches(shades).minibatches(0, 1000, CPU, 0)
    next(run)
    run.close()
    assert threading.active_count() == before


@pytest.mark.parametrize(
    "damage",
    [lambda path: path.write_bytes(path.read_bytes()[:60]), lambda path: path.unlink()],
    ids=["cut short", "gone"],
)
def test_a_picture_that_broke_since_it_was_listed(tmp_path: Path, damage: Callable[[Path], object]) -> None:
    """Another takes its place, it is named, and a resumed run sees the same minibatch."""
    good, bad = (
        record(tmp_path / name, np.full((30, 30, 3), 90, np.uint8), [(0, 0, 30, 30)])
        for name in ("good.png", "bad.png")
    )
    damage(bad.path)
    source = batches([good, bad], batch=1)
    found = list(source.minibatches(0, 4, CPU, 0))
    assert [len(minibatch.images) for minibatch in found] == [1, 1, 1, 1]
    named = [list(minibatch.broken) for minibatch in found]
    assert sorted(named) == [[], [], [bad.image_id], [bad.image_id]]  # once an epoch
    for iteration, minibatch in enumerate(found):
        assert_same(minibatch, source[iteration])
    with pytest.raises(DatasetError, match=r"bad\.png"):
        batches([bad], batch=1)[0]


def test_sides_are_those_of_the_objects_of_an_epoch(rectangles: list[AnnotatedImage]) -> None:
    source = batches(rectangles)
    for epoch in (0, 5):
        boxes = np.concatenate([source.window(index, epoch).objects for index in range(10)])
        assert np.array_equal(source.sides(epoch), boxes[:, 2:] - boxes[:, :2])
    assert not np.array_equal(source.sides(0), source.sides(1))


def test_the_digest_tells_minibatches_from_others(rectangles: list[AnnotatedImage]) -> None:
    """The state of a run that would see anything else must not be taken up."""
    first = rectangles[0]
    others = {
        "as it was": batches(rectangles),
        "a copy": batches([replace(one, boxes=one.boxes.copy()) for one in rectangles]),
        "seed": batches(rectangles, seed=1),
        "batch": batches(rectangles, batch=5),
        "windows": batches(rectangles, WindowSettings(whole=0.5)),
        "fewer pictures": batches(rectangles[1:]),
        "another order": batches(rectangles[::-1]),
        "a box": batches([replace(first, boxes=first.boxes + 1), *rectangles[1:]]),
        "another name": batches([replace(first, path=Path("b.png")), *rectangles[1:]]),
        "partly labelled": batches([replace(first, partial=True), *rectangles[1:]]),
        "preprocessing": WindowBatches(rectangles, replace(PREPARE, mean=(0, 0, 0)), USUAL, batch=4, seed=0),
    }
    digests = {name: source.digest() for name, source in others.items()}
    assert digests["as it was"] == digests["a copy"]
    assert len(set(digests.values())) == len(others) - 1


@pytest.mark.parametrize("size", [2, 3, 4])
def test_processes_share_a_minibatch(rectangles: list[AnnotatedImage], size: int) -> None:
    """Also one in which a picture is broken: the others' images are those of a single process."""
    missing = replace(rectangles[3], path=rectangles[3].path.with_name("gone.png"))
    records = [*rectangles[:3], missing, *rectangles[4:]]
    whole = batches(records, batch=7)
    shares = [
        WindowBatches(records, PREPARE, USUAL, batch=7, seed=0, world=ProcessGroup(rank, size))
        for rank in range(size)
    ]
    for iteration in range(4):
        expected, parts = whole[iteration], [share[iteration] for share in shares]
        for place in range(7):
            part, index = parts[place % size], place // size
            assert torch.equal(part.images[index], expected.images[place])
            assert np.array_equal(part.objects[index], expected.objects[place])
        assert {name for part in parts for name in part.broken} == expected.broken.keys()
    assert {share.digest() for share in shares} == {whole.digest()}

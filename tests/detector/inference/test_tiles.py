"""Tiles of large images: where they lie, which boxes a border between them cuts, what is merged."""

import numpy as np
import pytest

from detector.errors import ParameterError
from detector.inference.detector import Detector
from detector.inference.tiles import MAX_TILES, OVERLAP, merge_tiles, tiles_of
from detector.models.checkpoint import Checkpoint
from detector.models.transfer import from_classifier
from detector.structures.boxes import as_boxes
from detector.structures.detections import Detections


@pytest.mark.parametrize(
    ("width", "height", "side", "tiles"),
    [
        pytest.param(100, 80, 100, [], id="one would be all of it"),
        pytest.param(64, 1, 64, [], id="a line as long as a tile"),
        pytest.param(150, 80, 100, [(0, 0, 100, 80), (50, 0, 150, 80)], id="two beside each other"),
        pytest.param(101, 100, 100, [(0, 0, 100, 100), (1, 0, 101, 100)], id="one pixel more"),
        pytest.param(
            150,
            150,
            100,
            [(0, 0, 100, 100), (50, 0, 150, 100), (0, 50, 100, 150), (50, 50, 150, 150)],
            id="row by row",
        ),
        pytest.param(
            64, 250, 100, [(0, 0, 64, 100), (0, 75, 64, 175), (0, 150, 64, 250)], id="spread evenly, upright"
        ),
    ],
)
def test_tiles_by_hand(width: int, height: int, side: int, tiles: list[tuple[int, ...]]) -> None:
    assert tiles_of(width, height, side).tolist() == [list(map(float, tile)) for tile in tiles]


@pytest.mark.parametrize("width", [101, 175, 176, 333, 1000])
@pytest.mark.parametrize("height", [60, 240])
def test_tiles_cover_the_image_and_overlap(width: int, height: int) -> None:
    tiles = tiles_of(width, height, 100)
    assert (tiles[:, 2] - tiles[:, 0] == 100).all()
    covered = np.zeros((height, width), bool)
    for x1, y1, x2, y2 in tiles.astype(int):
        covered[y1:y2, x1:x2] = True
    assert covered.all()
    starts = np.unique(tiles[:, 0])
    assert (np.diff(starts) <= 100 * (1 - OVERLAP) + 1).all()


@pytest.mark.parametrize(
    ("side", "says"),
    [
        pytest.param(63, "from 64", id="too small to show anything"),
        pytest.param(0, "from 64", id="none"),
        pytest.param(100.0, "whole number", id="a fraction"),
        pytest.param(True, "whole number", id="no number"),
        pytest.param(64, f"{MAX_TILES} is the most", id="too many"),
    ],
)
def test_tiles_that_cannot_be(side: int, says: str) -> None:
    with pytest.raises(ParameterError, match=says):
        tiles_of(5000, 5000, side)


def found(*objects: tuple[tuple[float, ...], int, float]) -> Detections:
    boxes, labels, scores = zip(*objects, strict=True) if objects else ((), (), ())
    return Detections(as_boxes(list(boxes)), np.array(labels, np.int64), np.array(scores, np.float32))


TILES = as_boxes([(0, 0, 100, 100), (75, 0, 175, 100)])
NOTHING = found()


@pytest.mark.parametrize(
    ("whole", "parts", "kept"),
    [
        pytest.param(
            NOTHING,
            [NOTHING, found(((20, 20, 40, 40), 3, 0.5))],
            [((95, 20, 115, 40), 3, 0.5)],
            id="moved to its place in the image",
        ),
        pytest.param(
            NOTHING, [found(((80, 20, 100, 40), 3, 0.9)), NOTHING], [], id="cut by a border between tiles"
        ),
        pytest.param(
            found(((10, 5, 170, 95), 3, 0.4)),
            [found(((10, 5, 75, 95), 3, 0.9)), NOTHING],
            [((10, 5, 170, 95), 3, 0.4)],
            id="fills most of a tile: a part, perhaps",
        ),
        pytest.param(
            NOTHING,
            [found(((10, 5, 65, 95), 3, 0.9)), NOTHING],
            [((10, 5, 65, 95), 3, 0.9)],
            id="as high as the image, which no border cuts there",
        ),
        pytest.param(
            NOTHING,
            [found(((0, 0, 20, 20), 3, 0.9)), found(((80, 80, 100, 100), 3, 0.8))],
            [((0, 0, 20, 20), 3, 0.9), ((155, 80, 175, 100), 3, 0.8)],
            id="the image's own edges cut nothing",
        ),
        pytest.param(
            NOTHING,
            [found(((76, 20, 96, 40), 3, 0.6)), found(((4, 20, 22, 40), 3, 0.7))],
            [((79, 20, 97, 40), 3, 0.7)],
            id="seen in two tiles: the better one",
        ),
        pytest.param(
            found(((76, 20, 96, 40), 3, 0.8)),
            [found(((76, 20, 96, 40), 3, 0.6)), NOTHING],
            [((76, 20, 96, 40), 3, 0.8)],
            id="seen in the whole as well",
        ),
        pytest.param(
            found(((76, 20, 96, 40), 3, 0.8)),
            [found(((76, 20, 96, 40), 4, 0.6)), NOTHING],
            [((76, 20, 96, 40), 3, 0.8), ((76, 20, 96, 40), 4, 0.6)],
            id="another class is another object",
        ),
        pytest.param(
            found(((10, 5, 170, 95), 3, 0.4)),
            [NOTHING, NOTHING],
            [((10, 5, 170, 95), 3, 0.4)],
            id="too large for a tile",
        ),
    ],
)
def test_merging_by_hand(
    whole: Detections, parts: list[Detections], kept: list[tuple[tuple[float, ...], int, float]]
) -> None:
    merged = merge_tiles(whole, TILES, parts, 175, 100, nms_iou=0.3, max_detections=10)
    assert merged.boxes.tolist() == [list(map(float, box)) for box, _, _ in kept]
    assert merged.labels.tolist() == [label for _, label, _ in kept]
    assert merged.scores.tolist() == pytest.approx([score for _, _, score in kept])


def test_only_the_best_are_kept() -> None:
    whole = found(*(((20.0 * i, 0, 20.0 * i + 10, 10), i, 0.9 - 0.1 * i) for i in range(5)))
    merged = merge_tiles(whole, TILES, [NOTHING, NOTHING], 175, 100, nms_iou=0.3, max_detections=2)
    assert merged.labels.tolist() == [0, 1]


@pytest.fixture(scope="module")
def detector(untrained: Checkpoint) -> Detector:
    return Detector(from_classifier(untrained), device="cpu", profile="search", max_proposals=4)


def test_a_small_image_has_no_tiles(detector: Detector) -> None:
    image = np.random.default_rng(0).integers(0, 256, (80, 100, 3), np.uint8)
    (plain,), (tiled,) = (detector.detect([image], score_threshold=0.0, tile=tile) for tile in (None, 100))
    assert np.array_equal(plain.boxes, tiled.boxes)
    assert np.array_equal(plain.scores, tiled.scores)


def test_a_large_image_is_looked_at_in_tiles_too(detector: Detector) -> None:
    """What is found is what the whole and each tile, taken as images, give when merged."""
    image = np.random.default_rng(0).integers(0, 256, (90, 150, 3), np.uint8)
    (tiled,) = detector.detect([image], score_threshold=0.0, tile=100)
    parts = [image, image[:, :100], image[:, 50:]]
    whole, *rest = detector.detect(parts, score_threshold=0.0)
    expected = merge_tiles(
        whole, tiles_of(150, 90, 100), rest, 150, 90, nms_iou=detector.scoring.nms_iou, max_detections=100
    )
    assert np.array_equal(tiled.boxes, expected.boxes)
    assert np.array_equal(tiled.labels, expected.labels)


def test_a_side_is_checked_before_anything_is_looked_at(detector: Detector) -> None:
    with pytest.raises(ParameterError, match="tile must be"):
        detector.detect([], tile=10)

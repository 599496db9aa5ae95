"""MultiBox proposals as their users see them, and the suppression of near-duplicates against plain loops."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.inference import engine
from detector.models.checkpoint import Checkpoint
from detector.models.multibox_head import SCALE, MultiBoxHead, MultiBoxSpec
from detector.proposals.anchors import Grid
from detector.proposals.multibox import (
    NEAR_DUPLICATE_IOU,
    MultiBox,
    MultiBoxInference,
    by_coverage,
    likeliest,
    without_near_duplicates,
)
from detector.structures.boxes import Boxes, as_boxes, decode, encode, iou
from detector.structures.proposals import Source

PLANTED = MultiBoxSpec(
    ("inception_3b", "inception_4e"),
    (480, 832),
    224,
    tuple(Grid(cells, np.array([(40, 40)], np.float32)) for cells in (28, 14, 7, 4, 2, 1)),
)
"""Priors of one shape; the last of them is one alone, in the middle of the picture."""

Make = Callable[..., MultiBox]


@pytest.fixture(scope="module")
def make(untrained: Checkpoint) -> Make:
    """MultiBox of a head on an untrained trunk, for pictures of any size unless ``short_side`` is given."""

    def multibox(head: MultiBoxHead, short_side: int | None = None, precision: str = "float32") -> MultiBox:
        prepare = replace(untrained.metadata.preprocessing, short_side=short_side)
        network = MultiBoxInference(untrained.backbone.features, head)
        return MultiBox(engine.place(network, device="cpu", precision=precision), prepare)

    return multibox


@pytest.fixture
def untrained_head(multibox_spec: MultiBoxSpec) -> MultiBoxHead:
    torch.manual_seed(0)
    return MultiBoxHead(multibox_spec)


def planted_head(grid: int, offsets: tuple[float, ...] = (0, 0, 0, 0)) -> MultiBoxHead:
    """A head that is certain of every prior of one grid, moved by ``offsets``, and of nothing else."""
    head = MultiBoxHead(PLANTED)
    with torch.no_grad():
        for predictor in head.predict:
            predictor.weight.zero_()
            predictor.bias.copy_(torch.tensor([-20.0, 0, 0, 0, 0]))
        head.predict[grid].bias.copy_(torch.tensor([4.0, *(np.array(offsets) / SCALE)]))
    return head


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "short_side"),
    [
        pytest.param((90, 120), None, id="an ordinary picture"),
        pytest.param((224, 224), None, id="the network's own size"),
        pytest.param((1, 1), None, id="one pixel"),
        pytest.param((3, 500), None, id="three rows"),
        pytest.param((500, 3), None, id="three columns"),
        pytest.param((4, 4), None, id="no larger than the smallest box"),
        pytest.param((700, 900), None, id="large, taken as it is"),
        pytest.param((240, 330), 100, id="larger than those of training"),
        pytest.param((101, 4000), 100, id="very wide, and to be reduced"),
    ],
)
def test_boxes_keep_to_what_is_promised(
    make: Make, untrained_head: MultiBoxHead, shape: tuple[int, int], short_side: int | None
) -> None:
    found = make(untrained_head, short_side).propose(noise(*shape))
    boxes = found.boxes
    assert boxes.dtype == np.float32
    assert found.objectness.dtype == np.float32
    assert found.source.dtype == np.int8
    assert len(boxes) == len(found.source) == len(found.objectness) <= 200
    assert len(boxes) > 0 or min(shape) <= 4
    assert (boxes >= 0).all()
    assert (boxes <= [shape[1], shape[0]] * 2).all()
    assert (boxes[:, 2:] - boxes[:, :2] >= 4).all(), "nothing can be seen in smaller ones"
    assert not len(boxes) or found.objectness[0] == found.objectness.max(), "the likeliest comes first"
    assert ((found.objectness > 0) & (found.objectness < 1)).all()
    assert (found.source == Source.MULTIBOX).all()
    overlap = iou(boxes, boxes) - np.eye(len(boxes))
    assert overlap.max(initial=0) <= NEAR_DUPLICATE_IOU + 1e-6


def test_fewer_boxes_are_the_first_of_more(make: Make, untrained_head: MultiBoxHead) -> None:
    multibox, image = make(untrained_head), noise(90, 120)
    everything = multibox.propose(image)
    assert len(everything) == 200
    for count in (1, 7, 60):
        some = multibox.propose(image, count)
        assert np.array_equal(some.boxes, everything.first(count).boxes)
        assert np.array_equal(some.objectness, everything.first(count).objectness)
    assert len(multibox.propose(image, 300)) > 200, "200 is no limit but what the paper took"


def test_the_same_picture_gives_the_same_boxes(make: Make, untrained_head: MultiBoxHead) -> None:
    multibox, image = make(untrained_head), noise(90, 120)
    first = multibox.propose(image)
    multibox.propose(noise(50, 60))
    for again in (image, image.copy(), np.asfortranarray(image)):
        second = multibox.propose(again)
        assert np.array_equal(first.boxes, second.boxes)
        assert np.array_equal(first.objectness, second.objectness)


@pytest.mark.parametrize(
    ("width", "height", "box"),
    [
        pytest.param(300, 200, (60, 50, 150, 180), id="lying"),
        pytest.param(120, 310, (10, 20, 50, 280), id="standing"),
        pytest.param(224, 224, (80, 90, 130, 120), id="square"),
        pytest.param(640, 480, (300, 200, 360, 300), id="larger than training's"),
        pytest.param(60, 40, (0, 0, 60, 40), id="the whole picture"),
    ],
)
def test_a_planted_box_comes_out_in_the_pixels_of_the_picture(
    make: Make, width: int, height: int, box: tuple[int, ...]
) -> None:
    """The prior in the middle is moved onto the box: each axis is stretched by its own factor."""
    target = as_boxes([box]) * np.array([224 / width, 224 / height] * 2, np.float32)
    head = planted_head(5, tuple(encode(as_boxes([(92, 92, 132, 132)]), target)[0]))
    found = make(head, short_side=400).propose(noise(height, width), 1)
    assert np.abs(found.boxes - box).max() < 0.01
    assert found.objectness[0] == pytest.approx(1 / (1 + np.exp(-4)), rel=1e-4)


def test_places_of_a_grid_keep_their_rows_and_columns(make: Make) -> None:
    """In a picture of twice the height the boxes of 4 x 4 priors stand in rows twice as far apart."""
    found = make(planted_head(3)).propose(noise(448, 224), 16)
    assert (found.objectness > 0.9).all()
    expected = PLANTED.grids[3].boxes(224) * [1, 2, 1, 2]
    assert np.abs(found.boxes - expected).max() < 1e-3


def test_what_reaches_over_the_edge_is_cut(make: Make) -> None:
    """The prior in the middle, three times as wide and moved to the left by one and a half of its sides."""
    [inside] = make(planted_head(5, (-1.5, 0, np.log(3), 0))).propose(noise(100, 100), 1).boxes
    assert inside == pytest.approx([0, 92 / 2.24, 112 / 2.24, 132 / 2.24], abs=1e-3)


def test_a_box_pushed_out_of_the_picture_is_left_out(make: Make) -> None:
    found = make(planted_head(5, (-9, 0, 0, 0))).propose(noise(100, 100), 3)
    assert found.objectness.max() < 1e-6, "only what is certainly no object is left"


def test_bfloat16_finds_about_the_same(make: Make, untrained_head: MultiBoxHead) -> None:
    image = noise(90, 120)
    exact = make(untrained_head).propose(image)
    rough = make(untrained_head, precision="bfloat16").propose(image)
    assert rough.objectness.dtype == np.float32
    assert np.mean(iou(exact.first(20).boxes, rough.boxes).max(axis=1)) > 0.9


@pytest.mark.parametrize("count", [0, -1])
def test_no_boxes_asked_for(make: Make, untrained_head: MultiBoxHead, count: int) -> None:
    with pytest.raises(ParameterError, match=f"at least 1, got {count}"):
        make(untrained_head).propose(noise(20, 20), count)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((20, 20), np.uint8),
        np.zeros((20, 20, 4), np.uint8),
        np.zeros((500, 500, 3), np.float32),
        np.zeros((0, 20, 3), np.uint8),
        np.zeros(20, np.uint8),
    ],
    ids=["grey", "alpha", "floats", "empty", "a row"],
)
def test_what_is_no_picture_is_refused(
    make: Make, untrained_head: MultiBoxHead, image: NDArray[np.generic]
) -> None:
    with pytest.raises(ParameterError, match="uint8"):
        make(untrained_head, short_side=300).propose(image)  # type: ignore[arg-type]


def test_a_trunk_without_the_stages(make: Make, multibox_spec: MultiBoxSpec) -> None:
    with pytest.raises(ParameterError, match="no stage 'inception3b'"):
        make(MultiBoxHead(replace(multibox_spec, stages=("inception3b", "inception4e"))))


def test_likeliest_are_moved_and_in_order() -> None:
    """Equally likely ones stay in the order of the priors."""
    priors = as_boxes([(0, 0, 10, 10), (10, 10, 30, 30), (5, 5, 9, 9)])
    offsets = torch.tensor([[0.1, 0.0, 0.0, 0.0], [0.0, -0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]])
    boxes, objectness = likeliest(priors, offsets, torch.tensor([0.2, 0.9, 0.2]))
    assert objectness == pytest.approx([0.9, 0.2, 0.2])
    assert boxes.tolist() == [[10, 0, 30, 20], [1, 0, 11, 10], [5, 5, 9, 9]]
    assert np.array_equal(boxes, decode(priors, offsets.numpy())[[1, 0, 2]])


def plain_suppression(boxes: Boxes, limit: float) -> list[int]:
    kept: list[int] = []
    for index, box in enumerate(boxes):
        large = min(box[2] - box[0], box[3] - box[1]) >= 4
        if large and all(iou(box[None], boxes[other][None])[0, 0] <= limit for other in kept):
            kept.append(index)
    return kept


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(("count", "limit"), [(0, 0.5), (1, 0.5), (150, 0.75), (150, 0.31)])
def test_suppression_equals_the_plain_one(seed: int, count: int, limit: float) -> None:
    random = np.random.default_rng(seed)
    corners = random.integers(0, 12, (count, 2))
    boxes = np.concatenate([corners, corners + random.integers(2, 14, (count, 2))], axis=1).astype(np.float32)
    objectness = np.sort(random.random(count, np.float32))[::-1].copy()
    assert without_near_duplicates(boxes, objectness, limit).tolist() == plain_suppression(boxes, limit)


@pytest.mark.parametrize(
    ("boxes", "kept"),
    [
        pytest.param([(0, 0, 40, 30), (0, 0, 40, 30)], [0], id="equal"),
        pytest.param([(0, 0, 40, 30), (0, 0, 40, 40)], [0, 1], id="an IoU of exactly 0.75 is not more"),
        pytest.param([(0, 0, 40, 30), (0, 0, 40, 39)], [0], id="a little more"),
        pytest.param([(0, 0, 3.9, 30), (0, 0, 4, 30)], [1], id="too narrow, and not in the way of the next"),
        pytest.param([(5, 5, 5, 5), (9, 9, 2, 2)], [], id="no box at all"),
    ],
)
def test_near_duplicates_by_hand(boxes: list[tuple[float, ...]], kept: list[int]) -> None:
    objectness = np.linspace(0.9, 0.8, len(boxes), dtype=np.float32)
    assert without_near_duplicates(as_boxes(boxes), objectness, 0.75).tolist() == kept


def plain_coverage(boxes: Boxes, objectness: NDArray[np.float32], count: int) -> float:
    """How well the first ``count`` boxes cover all, each a possible object of its objectness."""
    degree = np.clip((iou(boxes[:count], boxes) - 0.4) / (0.8 - 0.4), 0, 1)
    return float((degree.max(axis=0) * objectness).sum())


@pytest.mark.parametrize("seed", range(6))
def test_each_next_box_covers_the_likely_objects_best(seed: int) -> None:
    """No other box in its place would cover more, but for what rounding to whole numbers takes."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 150, (60, 2))
    boxes = np.concatenate([corners, corners + random.uniform(10, 70, (60, 2))], axis=1).astype(np.float32)
    objectness = np.sort(random.random(60, np.float32))[::-1].copy()
    order = by_coverage(boxes, objectness, 20)
    assert order[0] == 0
    assert len(set(order.tolist())) == 20
    for place in range(1, 20):
        reached = [
            plain_coverage(
                np.concatenate([boxes[order[:place]], boxes[[other]], boxes]),
                np.concatenate([np.zeros(place + 1, np.float32), objectness]),
                place + 1,
            )
            for other in range(60)
        ]
        assert reached[order[place]] > max(reached) - 0.02


def test_a_sure_object_does_not_crowd_out_a_doubtful_one() -> None:
    """Three boxes around one object, one around another: the other one comes second."""
    boxes = as_boxes([(10, 10, 60, 60), (11, 10, 63, 60), (10, 11, 60, 65), (120, 120, 170, 190)])
    order = by_coverage(boxes, np.array([0.9, 0.85, 0.8, 0.3], np.float32), 4)
    assert order[:2].tolist() == [0, 3]


def test_no_boxes_are_in_any_order() -> None:
    assert by_coverage(as_boxes([]), np.zeros(0, np.float32), 5).tolist() == []

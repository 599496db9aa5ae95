"""MultiBox proposals as their users see them, and the suppression of near-duplicates against plain loops."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.inference import torch_engine
from detector.inference.image_maps import ImageMaps
from detector.inference.image_scales import ImageScales, Square, first_centre
from detector.inference.torch_networks import ImageNetwork
from detector.models.checkpoint import Checkpoint
from detector.models.multibox_head import SCALE, MultiBoxHead
from detector.models.multibox_spec import MultiBoxSpec
from detector.proposals.anchors import Grid
from detector.proposals.multibox import (
    NEAR_DUPLICATE_IOU,
    MultiBox,
    by_coverage,
    likeliest,
    without_near_duplicates,
)
from detector.structures.boxes import Boxes, as_boxes, decode, encode, iou
from detector.structures.proposals import Source

STRIDES = (8, 16, 32, 64, 128, 256)
PLANTED = MultiBoxSpec(
    ("inception_3b", "inception_4e"),
    (480, 832),
    ImageScales((64,)),
    tuple(Grid(stride, first_centre(stride), np.array([(40, 40)], np.float32)) for stride in STRIDES),
)
"""Priors of one shape; the last grid has one alone, near the corner of the padding."""

TWO_SCALES = ImageScales((64, 112))

Make = Callable[..., MultiBox]


@pytest.fixture(scope="module")
def make(untrained: Checkpoint) -> Make:
    """MultiBox of a head on an untrained trunk, for pictures of any size unless ``short_side`` is given."""

    def multibox(head: MultiBoxHead, short_side: int | None = None, precision: str = "float32") -> MultiBox:
        prepare = replace(untrained.metadata.preprocessing, short_side=short_side)
        network = ImageNetwork(untrained.backbone.features, head=head)
        placed = torch_engine.place(network, device="cpu", precision=precision)
        engine = torch_engine.TorchEngine(placed, batch=1, buckets=())
        return MultiBox(head.spec, ImageMaps(engine, head.spec.image, prepare), prepare)

    return multibox


@pytest.fixture
def untrained_head(multibox_spec: MultiBoxSpec) -> MultiBoxHead:
    torch.manual_seed(0)
    return MultiBoxHead(multibox_spec)


def planted_head(
    grid: int, offsets: tuple[float, ...] = (0, 0, 0, 0), image: ImageScales = PLANTED.image
) -> MultiBoxHead:
    """A head that is certain of every prior of one grid, moved by ``offsets``, and of nothing else."""
    head = MultiBoxHead(replace(PLANTED, image=image))
    with torch.no_grad():
        for number, predictor in enumerate(head.predict):
            assert isinstance(predictor, torch.nn.Conv2d)
            assert predictor.bias is not None
            predictor.weight.zero_()
            predictor.bias.copy_(torch.tensor([-20.0, 0, 0, 0, 0]))
            if number == grid:
                predictor.bias.copy_(torch.tensor([4.0, *(np.array(offsets) / SCALE)]))
    return head


def noise(height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("shape", "short_side"),
    [
        pytest.param((90, 120), None, id="an ordinary picture"),
        pytest.param((224, 224), None, id="square"),
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
        pytest.param(120, 290, (10, 20, 50, 280), id="standing"),
        pytest.param(224, 224, (80, 90, 130, 120), id="square"),
        pytest.param(640, 480, (300, 200, 360, 300), id="larger than training's"),
        pytest.param(60, 40, (0, 0, 60, 40), id="the whole picture"),
    ],
)
def test_a_planted_box_comes_out_in_the_pixels_of_the_picture(
    make: Make, width: int, height: int, box: tuple[int, ...]
) -> None:
    """The prior in the corner is moved onto the box, whatever the picture's size."""
    zoom = 64 / min(width, height)
    target = as_boxes([box]) * np.array([round(width * zoom) / width, round(height * zoom) / height] * 2) + 32
    prior = as_boxes([(-5.5, -5.5, 34.5, 34.5)])
    head = planted_head(5, tuple(encode(prior, target.astype(np.float32))[0]))
    found = make(head, short_side=400).propose(noise(height, width), 1)
    assert np.abs(found.boxes - box).max() < 0.02
    assert found.objectness[0] == pytest.approx(1 / (1 + np.exp(-4)), rel=1e-4)


def plain_priors(width: int, height: int, grid: int, image: ImageScales, short_side: int | None) -> Boxes:
    """Where the priors of a grid lie in a picture, from the sides that it is resized to: one at a time."""
    boxes = []
    shrink = min(1.0, short_side / min(width, height)) if short_side else 1.0
    view = round(width * shrink), round(height * shrink)
    for scale in image.scales:
        zoom = min(scale / min(view), image.long_side * scale / max(view))
        w, h = round(view[0] * zoom), round(view[1] * zoom)
        columns, rows = (math.ceil((side + 2 * image.padding) / 16) for side in (w, h))
        if grid == 0:
            columns, rows = 2 * columns, 2 * rows
        for _ in range(grid - 1):
            columns, rows = math.ceil(columns / 2), math.ceil(rows / 2)
        for row in range(rows):
            for column in range(columns):
                x, y = (
                    first_centre(STRIDES[grid]) + STRIDES[grid] * number - image.padding
                    for number in (column, row)
                )
                box = np.array([x - 20, y - 20, x + 20, y + 20]) * np.array([width / w, height / h] * 2)
                boxes.append(np.clip(box, 0, [width, height] * 2))
    found = np.array(boxes)
    return found[((found[:, 2:] - found[:, :2]) >= 4).all(axis=1)].astype(np.float32)


@pytest.mark.parametrize("image", [PLANTED.image, TWO_SCALES, ImageScales((48, 96), 1.5, 5)], ids=str)
@pytest.mark.parametrize("grid", [1, 2, 3])
@pytest.mark.parametrize(
    ("width", "height", "short_side"),
    [
        pytest.param(120, 90, None, id="lying"),
        pytest.param(70, 131, None, id="standing"),
        pytest.param(64, 64, None, id="as large as at the first scale"),
        pytest.param(900, 60, None, id="so wide that it is seen smaller"),
        pytest.param(31, 640, None, id="so high that it is seen smaller"),
        pytest.param(330, 240, 100, id="larger than those of training"),
    ],
)
def test_boxes_lie_where_the_priors_are(
    make: Make, width: int, height: int, short_side: int | None, grid: int, image: ImageScales
) -> None:
    """Each box is a prior of one of the scales, and no prior is left out but beside a box that nearly equals
    it."""
    found = make(planted_head(grid, image=image), short_side).propose(noise(height, width), 1000)
    boxes = found.boxes[found.objectness > 0.9]
    priors = plain_priors(width, height, grid, image, short_side)
    away = np.abs(boxes[:, None] - priors[None]).max(axis=2)  # boxes x priors
    assert away.min(axis=1).max() < 0.01
    assert iou(priors, boxes).max(axis=1).min() > NEAR_DUPLICATE_IOU - 1e-3
    if len(image.scales) > 1:
        first = plain_priors(width, height, grid, replace(image, scales=image.scales[:1]), short_side)
        assert np.abs(boxes[:, None] - first[None]).max(axis=2).min(axis=1).max() > 1, "the second one's too"


def test_a_head_of_an_earlier_file_reads_the_stretched_image(make: Make, multibox_spec: MultiBoxSpec) -> None:
    """One planted shape at every cell of 4 x 4 of a square of 64: each lies at its share of the picture."""
    grids = tuple(Grid(64 / cells, 32 / cells, np.array([(8, 16)], np.float32)) for cells in (8, 4))
    head = MultiBoxHead(replace(multibox_spec, image=Square(64), grids=grids))
    with torch.no_grad():
        for predictor, confidence in zip(head.predict, (-9.0, 3.0), strict=True):
            assert isinstance(predictor, torch.nn.Conv2d)
            assert predictor.bias is not None
            predictor.weight.zero_()
            predictor.bias.copy_(torch.tensor([confidence, 0, 0, 0, 0]))
    found = make(head).propose(noise(100, 300), 16)
    assert found.objectness == pytest.approx(1 / (1 + math.exp(-3)), rel=1e-5)
    expected = {
        (round((x - 4) * 300 / 64, 2), round((y - 8) * 100 / 64, 2))
        for x in (8, 24, 40, 56)
        for y in (8, 24, 40, 56)
    }
    assert {(round(float(x), 2), round(float(y), 2)) for x, y in found.boxes[:, :2]} == expected


def test_what_reaches_over_the_edge_is_cut(make: Make) -> None:
    """The prior moved to the right by half of its side, three times as wide, and down by one."""
    [inside] = make(planted_head(5, (0.5, 1, np.log(3), 0))).propose(noise(100, 100), 1).boxes
    assert inside == pytest.approx([0, 2.5 / 0.64, 62.5 / 0.64, 42.5 / 0.64], abs=1e-3)


def test_the_likeliest_of_all_scales_come_first(make: Make, multibox_spec: MultiBoxSpec) -> None:
    """What two heads of one scale each would find is what the head of both finds, but for near-duplicates."""
    image = noise(90, 120)

    def found(scales: tuple[int, ...]) -> NDArray[np.float32]:
        torch.manual_seed(0)
        spec = replace(multibox_spec, image=replace(multibox_spec.image, scales=scales))
        proposals = make(MultiBoxHead(spec)).propose(image, 300)
        return np.column_stack([proposals.boxes, proposals.objectness])

    together, alone = found((64, 128)), [found((scale,)) for scale in (64, 128)]
    best = max((part[0] for part in alone), key=lambda row: row[4])
    assert np.allclose(together[0], best, atol=1e-4)
    assert together[:, 4].max() >= max(part[:, 4].max() for part in alone) - 1e-6


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
    offsets = np.array([[0.1, 0.0, 0.0, 0.0], [0.0, -0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0]], np.float32)
    boxes, objectness = likeliest(priors, offsets, np.array([0.2, 0.9, 0.2], np.float32))
    assert objectness == pytest.approx([0.9, 0.2, 0.2])
    assert boxes.tolist() == [[10, 0, 30, 20], [1, 0, 11, 10], [5, 5, 9, 9]]
    assert np.array_equal(boxes, decode(priors, offsets)[[1, 0, 2]])


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

"""Which prior answers for which object, against plain references; the loss, by hand and against another."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from detector.datasets.annotated_image import AnnotatedImage
from detector.models.multibox_head import SCALE
from detector.structures.boxes import Boxes, area, as_boxes, decode, encode, intersection, iou
from tests.training.together import run_together
from training.multibox import losses as on_tensors
from training.multibox.losses import (
    MultiBoxLosses,
    MultiBoxLossWeights,
    ObjectsAtScales,
    match,
    multibox_losses,
)
from training.trainer.distributed import ProcessGroup

CPU = torch.device("cpu")
ALONE = MultiBoxLossWeights(positive=2.0, ignored=2.0)
"""Only the prior that is matched to an object answers for it: no IoU reaches 2."""

A, B = (0, 0, 100, 100), (150, 0, 210, 60)
PRIORS = as_boxes(
    [
        (0, 0, 100, 100),  # 0: A itself
        (0, 0, 100, 60),  # 1: IoU 0.6 with A
        (0, 0, 100, 59),  # 2: a little less
        (0, 0, 100, 40),  # 3: 0.4
        (0, 0, 100, 39),  # 4: a little less
        (150, 0, 210, 60),  # 5: B itself
        (0, 150, 60, 210),  # 6: on neither
    ]
)
FREE, IGNORED = -1, -2
NONE = as_boxes([])


def stacked(parts: Sequence[Boxes]) -> tuple[Tensor, Tensor]:
    """Boxes of several images behind each other [N,G,4], and which of them are there [N,G]."""
    most = max(1, *map(len, parts), 1)
    boxes, there = torch.zeros(len(parts), most, 4), torch.zeros(len(parts), most, dtype=torch.bool)
    for n, part in enumerate(parts):
        boxes[n, : len(part)] = torch.from_numpy(part)
        there[n, : len(part)] = True
    return boxes, there


def objects_of(
    boxes: Sequence[Boxes], crowds: Sequence[Boxes] | None = None, partial: Sequence[bool] | None = None
) -> ObjectsAtScales:
    """The objects of images that are seen at one scale."""
    placed, present = stacked(boxes)
    ignored, _ = stacked([NONE] * len(boxes) if crowds is None else crowds)
    partly = torch.tensor([False] * len(boxes) if partial is None else list(partial))
    return ObjectsAtScales(placed[None], present, ignored[None], partly)


def matched(
    priors: Boxes,
    boxes: Boxes,
    objectness: NDArray[np.float32],
    offsets: NDArray[np.float32],
    weights: MultiBoxLossWeights,
    crowds: Boxes = NONE,
) -> NDArray[np.int64]:
    """Who answers [K] in one image that is seen at one scale."""
    objects = objects_of([boxes], [crowds])
    said = torch.from_numpy(objectness)[None], torch.from_numpy(offsets)[None]
    return match([torch.from_numpy(priors)], objects, *said, weights)[0].numpy()


def certainty(anchors: Boxes, value: float = 0.5) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Objectness [K] and offsets [K,4] of a network that has no preference."""
    return np.full(len(anchors), value, np.float32), np.zeros((len(anchors), 4), np.float32)


@pytest.mark.parametrize(
    ("boxes", "owner"),
    [
        pytest.param([], [FREE] * 7, id="no object"),
        pytest.param(
            [A], [0, 0, IGNORED, IGNORED, FREE, FREE, FREE], id="both thresholds count from at them on"
        ),
        pytest.param([A, B], [0, 0, IGNORED, IGNORED, FREE, 1, FREE], id="two objects"),
        pytest.param([B, A], [1, 1, IGNORED, IGNORED, FREE, 0, FREE], id="in another order"),
        pytest.param(
            [(0, 150, 20, 170)], [FREE] * 6 + [0], id="an object that no prior overlaps well has one"
        ),
    ],
)
def test_who_answers_by_hand(boxes: list[tuple[float, ...]], owner: list[int]) -> None:
    found = matched(PRIORS, as_boxes(boxes), *certainty(PRIORS), MultiBoxLossWeights())
    assert found.tolist() == owner


@pytest.mark.parametrize(
    ("boxes", "crowds", "owner"),
    [
        pytest.param([], [(0, 0, 100, 50)], [IGNORED] * 5 + [FREE] * 2, id="half of a prior is enough"),
        pytest.param([], [(0, 0, 100, 49.9)], [FREE] + [IGNORED] * 4 + [FREE] * 2, id="less is not"),
        pytest.param(
            [],
            [(0, 0, 100, 25), (0, 25, 100, 50)],
            [FREE] * 3 + [IGNORED] * 2 + [FREE] * 2,
            id="of one crowd",
        ),
        pytest.param(
            [A],
            [(0, 0, 300, 300)],
            [0, 0] + [IGNORED] * 5,
            id="an object in a crowd is sought as ever",
        ),
        pytest.param([B], [(0, 0, 1, 1)], [FREE] * 5 + [0, FREE], id="a tiny crowd hides nothing"),
    ],
)
def test_crowds_by_hand(
    boxes: list[tuple[float, ...]], crowds: list[tuple[float, ...]], owner: list[int]
) -> None:
    found = matched(PRIORS, as_boxes(boxes), *certainty(PRIORS), MultiBoxLossWeights(), as_boxes(crowds))
    assert found.tolist() == owner


def test_the_sure_one_answers_where_several_fit() -> None:
    """Prior 1 lies as well as prior 2 would, but is sure: it costs less than the better placed one."""
    objectness, offsets = certainty(PRIORS, 0.01)
    assert matched(PRIORS, as_boxes([A]), objectness, offsets, ALONE)[0] == 0
    objectness[1] = 0.99
    offsets[1] = encode(PRIORS[1:2], as_boxes([A]))
    assert matched(PRIORS, as_boxes([A]), objectness, offsets, ALONE).tolist() == [-1, 0, -1, -1, -1, -1, -1]


def random_case(seed: int, anchors: int, objects: int) -> tuple[Boxes, Boxes, NDArray, NDArray]:
    """Priors [K,4], objects [G,4] near them, objectness [K] and offsets [K,4]."""
    random = np.random.default_rng(seed)
    corners = random.uniform(0, 60, (anchors, 2))
    boxes = np.concatenate([corners, corners + random.uniform(20, 60, (anchors, 2))], axis=1).astype(
        np.float32
    )
    chosen = random.integers(0, anchors, objects)
    shift = random.normal(0, 6, (objects, 4)).astype(np.float32)
    return (
        boxes,
        boxes[chosen] + shift,
        random.uniform(0, 1, anchors).astype(np.float32),
        random.normal(0, 0.1, (anchors, 4)).astype(np.float32),
    )


def plain_costs(
    anchors: Boxes, boxes: Boxes, objectness: NDArray, offsets: NDArray, location: float
) -> NDArray[np.float64]:
    """What it costs if a prior answers for an object [K,G]: the paper's loss, one pair at a time."""
    cost = np.zeros((len(anchors), len(boxes)))
    for k in range(len(anchors)):
        for g in range(len(boxes)):
            away = (encode(anchors[k : k + 1], boxes[g : g + 1])[0] - offsets[k]) / np.array(SCALE)
            cost[k, g] = location * (away**2).sum() / 2 - np.log(objectness[k])
    return cost


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize(("anchors", "objects"), [(1, 1), (5, 1), (5, 3), (6, 4), (4, 4)])
def test_no_other_assignment_costs_less(seed: int, anchors: int, objects: int) -> None:
    case = random_case(seed, anchors, objects)
    owner = matched(*case, ALONE)
    cost = plain_costs(*case, ALONE.location)
    mine = [int(np.flatnonzero(owner == g)[0]) for g in range(objects)]
    best = min(
        sum(cost[k, g] for g, k in enumerate(assigned)) for assigned in permutations(range(anchors), objects)
    )
    assert sum(cost[k, g] for g, k in enumerate(mine)) == pytest.approx(best, rel=1e-4)
    assert (owner >= 0).sum() == objects


@pytest.mark.parametrize(
    "boxes",
    [
        pytest.param([A, A], id="two in one place"),
        pytest.param([A, (0, 0, 100, 98), (0, 2, 100, 100)], id="three that share the best prior"),
        pytest.param([A, (0, 0, 100, 62), B], id="one inside another"),
        pytest.param([B, B, B, A], id="more in a place than priors are near"),
    ],
)
@pytest.mark.parametrize("weights", [ALONE, MultiBoxLossWeights()], ids=["alone", "with the thresholds"])
def test_every_object_has_a_prior_of_its_own(
    boxes: list[tuple[float, ...]], weights: MultiBoxLossWeights
) -> None:
    owner = matched(PRIORS, as_boxes(boxes), *certainty(PRIORS), weights)
    assert set(range(len(boxes))) <= set(owner.tolist())
    if weights is ALONE:
        assert np.bincount(owner[owner >= 0]).tolist() == [1] * len(boxes)


def test_of_more_objects_than_priors_as_many_are_answered_for() -> None:
    owner = matched(PRIORS[:2], as_boxes([A, B, A]), *certainty(PRIORS[:2]), ALONE)
    assert len(set(owner.tolist())) == 2
    assert (owner >= 0).all()


@pytest.mark.parametrize("seed", range(4))
def test_among_many_priors_the_near_ones_answer(seed: int) -> None:
    """One far off does not, however sure it is and wherever it says that its box is."""
    anchors, boxes, objectness, offsets = random_case(seed, 400, 5)
    far = as_boxes([(900, 900, 940, 940)])
    anchors = np.concatenate([anchors, far])
    objectness = np.append(np.full(400, 1e-4, np.float32), np.float32(1))
    offsets = np.concatenate([np.zeros((400, 4), np.float32), encode(far, boxes[:1])])
    owner = matched(anchors, boxes, objectness, offsets, ALONE)
    assert owner[400] == FREE
    overlap = iou(anchors, boxes)
    for g in range(5):
        [mine] = np.flatnonzero(owner == g)
        assert (overlap[:, g] > overlap[mine, g]).sum() < 16


@dataclass(frozen=True)
class Case:
    """Images seen at several scales, and what a network says of them."""

    anchors: list[Boxes]
    boxes: list[list[Boxes]]
    """Of each scale and image."""
    crowds: list[list[Boxes]]
    partial: list[bool]
    output: Tensor

    @property
    def objects(self) -> ObjectsAtScales:
        scales = [objects_of(*parts, self.partial) for parts in zip(self.boxes, self.crowds, strict=True)]
        return ObjectsAtScales(
            torch.cat([scale.boxes for scale in scales]),
            scales[0].present,
            torch.cat([scale.crowds for scale in scales]),
            scales[0].partial,
        )

    @property
    def priors(self) -> list[Tensor]:
        return [torch.from_numpy(part) for part in self.anchors]

    @property
    def said(self) -> tuple[Tensor, Tensor]:
        """Objectness [N,K] and offsets [N,K,4]."""
        output = self.output.detach()
        return output[..., 0].sigmoid(), output[..., 1:] * torch.tensor(SCALE)


def crowded_case(seed: int, counts: Sequence[int], together: bool) -> Case:
    """Images of so many objects, on grids of priors at two scales; ``together``: all of an image lie about in
    one place, and compete for priors."""
    random = np.random.default_rng(seed)
    anchors = []
    for scale in range(2):
        x, y = np.meshgrid(np.arange(0, 100 * (scale + 1), 10.0), np.arange(0, 80 * (scale + 1), 10.0))
        corners = np.stack([x, y], axis=-1).reshape(-1, 1, 2) - 5
        sides = np.array([(20, 20), (30, 24), (44, 50)])[None]
        boxes = np.concatenate([corners - sides / 2, corners + sides / 2], axis=-1).reshape(-1, 4)
        # Moved a little: no two overlap an object alike.
        anchors.append((boxes + random.uniform(-2, 2, boxes.shape)).astype(np.float32))
    factors = [1.0, 2.0]
    places: list[tuple[Boxes, Boxes]] = []
    for count in counts:
        centre = random.uniform(30, 60, (1, 2)) + random.uniform(-1, 1, (count, 2)) * (
            1.5 if together else 25
        )
        half = random.uniform(8, 10, (count, 2)) if together else random.uniform(5, 20, (count, 2))
        corner = random.uniform(0, 60, (2, 2))
        crowds = np.concatenate([corner, corner + random.uniform(10, 40, (2, 2))], axis=1)
        places.append((
            np.concatenate([centre - half, centre + half], axis=1).astype(np.float32).reshape(-1, 4),
            crowds[: int(random.integers(0, 3))].astype(np.float32),
        ))  # fmt: skip
    placed = [[part * np.float32(f) + 3 for part, _ in places] for f in factors]
    many = [[part * np.float32(f) + 3 for _, part in places] for f in factors]
    total = sum(map(len, anchors))
    output = np.concatenate(
        [random.normal(-2, 2, (len(counts), total, 1)), random.normal(0, 1, (len(counts), total, 4))], axis=2
    )
    partial = [bool(random.random() < 0.5) for _ in counts]
    return Case(anchors, placed, many, partial, torch.tensor(output, dtype=torch.float32))


def plain_match(case: Case, image: int, weights: MultiBoxLossWeights) -> list[int]:
    """Who answers [K], one prior and one object at a time."""
    objectness, offsets = (part[image].numpy() for part in case.said)
    where = [(scale, row) for scale, part in enumerate(case.anchors) for row in range(len(part))]
    count = len(case.boxes[0][image])
    overlap = np.zeros((len(where), count))
    owner = []
    for k, (scale, row) in enumerate(where):
        prior = case.anchors[scale][row : row + 1]
        overlap[k] = iou(prior, case.boxes[scale][image])[0]
        crowds = case.crowds[scale][image]
        in_a_crowd = any(intersection(prior, crowds)[0] >= 0.5 * area(prior)[0])
        best = overlap[k].max(initial=-1)
        if best >= weights.positive:
            owner.append(int(overlap[k].argmax()))
        else:
            owner.append(IGNORED if best >= weights.ignored or in_a_crowd else FREE)
    table = np.full((len(where), count), 1e6)
    for g in range(count):
        for k in np.argsort(-overlap[:, g], kind="stable")[:16]:
            scale, row = where[k]
            pair = case.anchors[scale][row : row + 1], case.boxes[scale][image][g : g + 1]
            away = (encode(*pair)[0] - offsets[k]) / np.array(SCALE)
            table[k, g] = weights.location * (away**2).sum() / 2 - np.log(max(objectness[k], 1e-6))
    for k, g in zip(*linear_sum_assignment(table), strict=True):
        if table[k, g] < 1e6:
            owner[k] = int(g)
    return owner


WEIGHTS = [
    pytest.param(MultiBoxLossWeights(), id="as in training"),
    pytest.param(ALONE, id="one prior an object"),
    pytest.param(MultiBoxLossWeights(location=3.0, positive=0.4, ignored=0.1), id="generous"),
]
COUNTS = [
    pytest.param([1, 4, 2], False, id="some objects"),
    pytest.param([0, 3, 0], False, id="images without an object"),
    pytest.param([6, 12, 3], True, id="many in one place"),
    pytest.param([25], True, id="more in one place than priors are tried for each"),
    pytest.param([0, 0], False, id="no object at all"),
]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("weights", WEIGHTS)
@pytest.mark.parametrize(("counts", "together"), COUNTS)
def test_matches_are_those_of_the_plain_way(
    seed: int, weights: MultiBoxLossWeights, counts: list[int], together: bool
) -> None:
    case = crowded_case(seed, counts, together)
    found = match(case.priors, case.objects, *case.said, weights)
    for image in range(len(counts)):
        assert found[image].tolist() == plain_match(case, image, weights)


def test_objects_compete_in_the_cases_above() -> None:
    """Else the assignment at least cost would never have been asked for."""
    case = crowded_case(0, [12], True)
    objectness, offsets = (part[0].numpy() for part in case.said)
    split = len(case.anchors[0])
    costs = [
        plain_costs(case.anchors[scale], case.boxes[scale][0], objectness[part], offsets[part], 0.3)
        for scale, part in enumerate((slice(split), slice(split, None)))
    ]
    first = np.concatenate(costs)
    assert len(set(first.argmin(axis=0).tolist())) < 12


def plain_losses(case: Case, weights: MultiBoxLossWeights) -> tuple[float, float]:
    """Confidence and location, one prior at a time, in double precision."""
    confidence, location, count = 0.0, 0.0, 0
    for image in range(len(case.partial)):
        owner = plain_match(case, image, weights)
        k = 0
        for scale, part in enumerate(case.anchors):
            for prior in part[:, None]:
                logit, *raw = case.output[image, k].double().tolist()
                objectness, target, weight = 1 / (1 + np.exp(-logit)), 0.0, 1.0
                if owner[k] >= 0:
                    truth = case.boxes[scale][image][owner[k] : owner[k] + 1]
                    offsets = np.array([raw]) * np.array(SCALE)
                    target = float(iou(decode(prior, offsets.astype(np.float32)), truth)[0, 0])
                    for away in np.abs(encode(prior, truth)[0] / np.array(SCALE) - np.array(raw)):
                        location += away - 1 if away > 2 else away**2 / 4
                    count += 1
                elif owner[k] == IGNORED:
                    weight = 0.0
                elif case.partial[image]:
                    weight = weights.unlabelled
                loss = -target * np.log(objectness) - (1 - target) * np.log(1 - objectness)
                confidence += weight * abs(target - objectness) ** weights.focus * loss
                k += 1
    return confidence / max(count, 1), location / max(count, 1)


@pytest.mark.parametrize(
    "weights", [*WEIGHTS, pytest.param(MultiBoxLossWeights(focus=0.0, unlabelled=0.0), id="plain log loss")]
)
@pytest.mark.parametrize(("counts", "together"), COUNTS)
def test_losses_are_those_of_the_plain_way(
    weights: MultiBoxLossWeights, counts: list[int], together: bool
) -> None:
    case = crowded_case(7, counts, together)
    outputs = case.output.split([len(part) for part in case.anchors], dim=1)
    part = multibox_losses(outputs, case.priors, case.objects, weights)
    confidence, location = plain_losses(case, weights)
    assert part.confidence.item() == pytest.approx(confidence, rel=1e-4)
    assert part.location.item() == pytest.approx(location, rel=1e-4)
    assert part.total.item() == pytest.approx(confidence + weights.location * location, rel=1e-4)


@pytest.mark.parametrize(
    "bounds",
    [
        pytest.param([0, 2, 5], id="two"),
        pytest.param([0, 1, 2, 5], id="one that has no object"),
        pytest.param([0, 1, 2, 3, 4, 5], id="an image each"),
    ],
)
def test_the_shares_of_processes_sum_up_to_the_whole(bounds: list[int]) -> None:
    """Each divides by the matches of all, also one whose images have no object."""
    case = crowded_case(3, [2, 0, 5, 0, 4], False)
    shares = [slice(*pair) for pair in pairwise(bounds)]
    objects, weights = case.objects, MultiBoxLossWeights()
    sizes = [len(part) for part in case.anchors]

    def of(images: slice, world: ProcessGroup | None) -> tuple[MultiBoxLosses, Tensor]:
        output = case.output[images].clone().requires_grad_()
        some = ObjectsAtScales(
            objects.boxes[:, images],
            objects.present[images],
            objects.crowds[:, images],
            objects.partial[images],
        )
        part = multibox_losses(output.split(sizes, dim=1), case.priors, some, weights, world)
        part.total.backward()
        assert output.grad is not None
        return MultiBoxLosses(*(value.detach() for value in part)), output.grad

    whole, gradient = of(slice(None), None)
    parts = run_together(len(shares), lambda world: of(shares[world.rank], world))
    for index in range(len(whole)):
        total = sum(part[index].item() for part, _ in parts)
        assert total == pytest.approx(whole[index].item(), rel=1e-5)
    assert torch.allclose(torch.cat([part for _, part in parts]), gradient, atol=1e-7)


def test_boxes_of_tensors_are_those_of_arrays() -> None:
    """The functions for tensors do what those of the detector do."""
    random = np.random.default_rng(0)
    boxes, others = (
        np.concatenate([corner, corner + random.uniform(1, 50, (40, 2))], axis=1).astype(np.float32)
        for corner in (random.uniform(0, 90, (40, 2)), random.uniform(0, 90, (40, 2)))
    )
    offsets = random.normal(0, 1, (40, 4)).astype(np.float32)
    offsets[0] = [9, -9, 8, -8]  # a side a thousand times as long is held to be noise
    ours = [torch.from_numpy(part) for part in (boxes, others, offsets)]
    assert np.allclose(on_tensors.encode(ours[0], ours[1]), encode(boxes, others), atol=1e-4)
    assert np.allclose(on_tensors.decode(ours[0], ours[2]), decode(boxes, offsets), rtol=1e-4, atol=1e-3)
    assert np.allclose(on_tensors.decode(ours[0], on_tensors.encode(ours[0], ours[1])), others, atol=1e-3)


def record(
    boxes: Sequence[tuple[float, ...]] = (),
    unknown: Sequence[tuple[float, ...]] = (),
    crowds: Sequence[tuple[float, ...]] = (),
    partial: bool = False,
) -> AnnotatedImage:
    known, others, many = (as_boxes(list(part)) for part in (boxes, unknown, crowds))
    labels = np.zeros(len(known), np.int64)
    return AnnotatedImage("a", Path("a.png"), 200, 200, known, labels, partial, unknown=others, crowds=many)


def test_objects_are_placed_at_each_scale() -> None:
    """Those of known class first, and of unknown class as well; what is too small is as a crowd is."""
    records = [
        record([(10, 20, 30, 60)], [(0, 0, 50, 50), (5, 5, 7.4, 40)], [(100, 100, 180, 190)]),
        record(partial=True),
        record([(10, 10, 12.5, 12.5), (10, 10, 12.4, 90), (0, 0, 9, 9)]),
    ]
    small = torch.tensor([[0.5, 0.25] * 2, [1.0] * 4, [1.0] * 4])
    large = torch.tensor([[2.0, 1.0] * 2, [2.0] * 4, [2.0] * 4])
    found = ObjectsAtScales.of(records, [small, large], 32, CPU)
    assert found.present.tolist() == [[True, True], [False, False], [True, True]]
    assert found.partial.tolist() == [False, True, False]
    assert found.boxes.shape == (2, 3, 2, 4)
    assert found.boxes[:, 0].tolist() == [
        [[37, 37, 47, 47], [32, 32, 57, 44.5]],
        [[52, 52, 92, 92], [32, 32, 132, 82]],
    ]
    assert found.boxes[1, 2].tolist() == [[52, 52, 57, 57], [32, 32, 50, 50]]
    assert found.crowds.shape == (2, 3, 2, 4)
    assert found.crowds[1, 0].flatten().tolist() == pytest.approx([232, 132, 392, 222, 42, 37, 46.8, 72])
    assert np.allclose(found.crowds[0, 2, 0], [42, 42, 44.4, 122])
    sides = found.crowds[..., 2:] - found.crowds[..., :2]
    assert (sides[:, 1] == 0).all(), "what fills up is empty"


def test_images_without_any_object_have_places_for_one() -> None:
    found = ObjectsAtScales.of([record(), record()], [torch.ones(2, 4)], 0, CPU)
    assert found.boxes.shape == found.crowds.shape == (1, 2, 1, 4)
    assert not found.present.any()


def output_for(offsets: NDArray[np.float32], logits: float | list[float]) -> Tensor:
    """What a head [1,K,5] says that asks for these offsets [K,4]."""
    count = len(offsets)
    said = np.column_stack([np.broadcast_to(np.array(logits, np.float32), count), offsets / np.array(SCALE)])
    return torch.tensor(said, dtype=torch.float32)[None].requires_grad_()


def losses_of(
    output: Tensor, objects: list[Boxes], partial: bool = False, **weights: Any
) -> tuple[MultiBoxLosses, NDArray[np.float32]]:
    """The losses and the gradient [N,K,5] of their total, of images that are seen at one scale."""
    placed = objects_of(objects, partial=[partial] * len(objects))
    part = multibox_losses([output], [torch.from_numpy(PRIORS)], placed, MultiBoxLossWeights(**weights))
    (gradient,) = torch.autograd.grad(part.total, output)
    return part, gradient.numpy()


def right_offsets(boxes: Boxes, owner: list[int]) -> NDArray[np.float32]:
    """Offsets [K,4] that move each answering prior onto its object."""
    offsets = np.zeros((len(PRIORS), 4), np.float32)
    for k, g in enumerate(owner):
        if g >= 0:
            offsets[k] = encode(PRIORS[k : k + 1], boxes[g : g + 1])[0]
    return offsets


def test_right_boxes_cost_nothing() -> None:
    boxes = as_boxes([(10, 5, 105, 96), B])
    owner = matched(PRIORS, boxes, *certainty(PRIORS), MultiBoxLossWeights()).tolist()
    part, gradient = losses_of(output_for(right_offsets(boxes, owner), 0.0), [boxes])
    assert part.location.item() == pytest.approx(0, abs=1e-8)
    assert np.abs(gradient[0, :, 1:]).max() < 1e-4
    assert part.total.item() == pytest.approx(part.confidence.item())


def test_location_loss_by_hand() -> None:
    """Smooth L1 with a bend at 2: an error of 1 costs a quarter, one of 6 costs 5."""
    boxes = as_boxes([B])
    wrong = np.zeros((7, 4), np.float32)
    wrong[5] = [0.1, 0, 0, 0.2 * 6]  # B's own prior, off by 1 and by 6 whitened units
    part, _ = losses_of(output_for(wrong, 0.0), [boxes], positive=2.0, ignored=2.0, location=0.5)
    assert part.location.item() == pytest.approx(0.25 + 5)
    assert part.total.item() == pytest.approx(part.confidence.item() + 0.5 * part.location.item())


def test_only_those_who_answer_are_asked_for_a_box() -> None:
    boxes = as_boxes([A])
    random = np.random.default_rng(0).normal(0, 0.05, (7, 4)).astype(np.float32)
    _, gradient = losses_of(output_for(random, 0.0), [boxes])
    assert (np.abs(gradient[0, :, 1:]).sum(axis=1) > 0).tolist() == [True, True] + [False] * 5


def test_confidence_is_pushed_up_where_an_object_is_and_down_elsewhere() -> None:
    boxes = as_boxes([A, B])
    _, gradient = losses_of(output_for(np.zeros((7, 4), np.float32), -2.0), [boxes])
    up, down, nothing = [0, 1, 5], [4, 6], [2, 3]
    assert (gradient[0, up, 0] < 0).all()
    assert (gradient[0, down, 0] > 0).all()
    assert (gradient[0, nothing, 0] == 0).all(), "what overlaps an object by half is asked nothing"


@pytest.mark.parametrize("logit", [-3.0, 0.0, 2.0])
def test_confidence_loss_by_hand(logit: float) -> None:
    """Log loss of every prior, over the number of those who answer; with ``focus`` by how wrong each is."""
    boxes = as_boxes([A])
    overlap = np.array([1, 0.6, 0, 0, 0, 0, 0])  # of what stands where it was with the object
    counts = np.array([1, 1, 0, 0, 1, 1, 1])  # priors 2 and 3 are asked nothing
    said = 1 / (1 + np.exp(-logit))
    log_loss = -(overlap * np.log(said) + (1 - overlap) * np.log(1 - said))
    for focus in (0.0, 2.0):
        part, _ = losses_of(output_for(np.zeros((7, 4), np.float32), logit), [boxes], focus=focus)
        expected = (log_loss * np.abs(overlap - said) ** focus * counts).sum() / 2
        assert part.confidence.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("height", [99, 80, 50])
def test_confidence_is_asked_to_be_the_overlap_of_the_moved_box(height: int) -> None:
    """A prior that says so already is left alone; one that moves to a better box is asked for more."""
    boxes, moved = as_boxes([A]), as_boxes([(0, 0, 100, height)])
    offsets = np.zeros((7, 4), np.float32)
    offsets[0] = encode(PRIORS[:1], moved)[0]
    fit = height / 100
    logits = [float(np.log(fit / (1 - fit)))] + [-9.0] * 6
    _, gradient = losses_of(output_for(offsets, logits), [boxes], positive=2.0, ignored=2.0, focus=0.0)
    assert gradient[0, 0, 0] == pytest.approx(0, abs=1e-5)


@pytest.mark.parametrize("unlabelled", [0.0, 0.25, 1.0])
def test_in_a_partly_labelled_picture_free_priors_count_less(unlabelled: float) -> None:
    """There may well be an object that nobody labelled. Those who answer count as ever."""
    boxes, output = as_boxes([A]), output_for(np.zeros((7, 4), np.float32), 0.5)
    _, full = losses_of(output, [boxes], partial=False, unlabelled=unlabelled)
    _, partial = losses_of(output, [boxes], partial=True, unlabelled=unlabelled)
    free, answering = [4, 5, 6], [0, 1]
    assert np.allclose(partial[0, free, 0], unlabelled * full[0, free, 0])
    assert (full[0, free, 0] > 0).all()
    assert np.array_equal(partial[0, answering], full[0, answering])


def test_pictures_without_objects() -> None:
    """All confidences go down, no box is asked for, and nothing is divided by zero."""
    output = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    part, gradient = losses_of(output, [NONE, NONE])
    assert part.location.item() == 0
    assert part.confidence.item() > 0
    assert (gradient[..., 0] > 0).all()
    assert (gradient[..., 1:] == 0).all()


def test_pictures_do_not_mix() -> None:
    """A minibatch's loss is that of its pictures, over all who answer: here 2, 3 and 0."""
    objects = [as_boxes([A]), as_boxes([A, B]), NONE]
    output = torch.randn(3, 7, 5, generator=torch.Generator().manual_seed(1)).requires_grad_()
    together, _ = losses_of(output, objects)
    alone = [losses_of(output[n : n + 1], [boxes])[0] for n, boxes in enumerate(objects)]
    for name in ("confidence", "location"):
        total = sum(getattr(part, name).item() * count for part, count in zip(alone, (2, 3, 1), strict=True))
        assert getattr(together, name).item() == pytest.approx(total / 5, rel=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("size", [1, 50, 1e4], ids=["usual", "wild", "absurd"])
@pytest.mark.parametrize("objects", [[], [A], [A, A, B]], ids=["none", "one", "three"])
def test_losses_and_gradients_are_finite(
    dtype: torch.dtype, size: float, objects: list[tuple[float, ...]]
) -> None:
    raw = torch.randn(1, 7, 5, generator=torch.Generator().manual_seed(2)) * size
    output = raw.to(dtype).requires_grad_()
    placed = objects_of([as_boxes(objects)])
    part = multibox_losses([output], [torch.from_numpy(PRIORS)], placed, MultiBoxLossWeights())
    part.total.backward()
    assert all(torch.isfinite(value) for value in part)
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()


def test_a_few_steps_down_the_gradient_find_the_objects() -> None:
    """The outputs themselves as parameters: what the loss asks for is the objects, surely and exactly."""
    boxes = as_boxes([(0, 0, 99, 96), B])
    output = torch.zeros(1, 7, 5, requires_grad=True)
    optimizer = torch.optim.SGD([output], lr=1.0)
    placed, weights = objects_of([boxes]), MultiBoxLossWeights(focus=0.0)
    for _ in range(300):
        optimizer.zero_grad()
        multibox_losses([output], [torch.from_numpy(PRIORS)], placed, weights).total.backward()
        optimizer.step()
    objectness, offsets = output[0, :, 0].sigmoid().detach().numpy(), output[0, :, 1:].detach().numpy()
    assert (objectness[[0, 1, 2, 5]] > 0.97).all()
    assert objectness[6] < 0.03
    asked = encode(PRIORS[[0, 1, 2, 5]], boxes[[0, 0, 0, 1]]) / np.array(SCALE)
    assert np.abs(offsets[[0, 1, 2, 5]] - asked).max() < 0.05

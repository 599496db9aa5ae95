"""Which prior answers for which object, against every other assignment; the loss, by hand."""

from itertools import permutations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from detector.models.multibox_head import SCALE
from detector.structures.boxes import Boxes, as_boxes, encode, iou
from training.multibox.losses import MultiBoxLosses, MultiBoxLossWeights, match, multibox_losses

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
    found = match(PRIORS, as_boxes(boxes), *certainty(PRIORS), MultiBoxLossWeights())
    assert found.tolist() == owner


def test_the_sure_one_answers_where_several_fit() -> None:
    """Prior 1 lies as well as prior 2 would, but is sure: it costs less than the better placed one."""
    objectness, offsets = certainty(PRIORS, 0.01)
    assert match(PRIORS, as_boxes([A]), objectness, offsets, ALONE)[0] == 0
    objectness[1] = 0.99
    offsets[1] = encode(PRIORS[1:2], as_boxes([A]))
    assert match(PRIORS, as_boxes([A]), objectness, offsets, ALONE).tolist() == [-1, 0, -1, -1, -1, -1, -1]


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
    owner = match(*case, ALONE)
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
    owner = match(PRIORS, as_boxes(boxes), *certainty(PRIORS), weights)
    assert set(range(len(boxes))) <= set(owner.tolist())
    if weights is ALONE:
        assert np.bincount(owner[owner >= 0]).tolist() == [1] * len(boxes)


def test_of_more_objects_than_priors_as_many_are_answered_for() -> None:
    owner = match(PRIORS[:2], as_boxes([A, B, A]), *certainty(PRIORS[:2]), ALONE)
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
    owner = match(anchors, boxes, objectness, offsets, ALONE)
    assert owner[400] == FREE
    overlap = iou(anchors, boxes)
    for g in range(5):
        [mine] = np.flatnonzero(owner == g)
        assert (overlap[:, g] > overlap[mine, g]).sum() <= len(boxes) + 8


def output_for(offsets: NDArray[np.float32], logits: float | list[float]) -> Tensor:
    """What a head [1,K,5] says that asks for these offsets [K,4]."""
    count = len(offsets)
    said = np.column_stack([np.broadcast_to(np.array(logits, np.float32), count), offsets / np.array(SCALE)])
    return torch.tensor(said, dtype=torch.float32)[None].requires_grad_()


def losses_of(
    output: Tensor, objects: list[Boxes], partial: bool = False, **weights: Any
) -> tuple[MultiBoxLosses, NDArray[np.float32]]:
    """The losses and the gradient [N,K,5] of their total."""
    part = multibox_losses(output, PRIORS, objects, [partial] * len(objects), MultiBoxLossWeights(**weights))
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
    owner = match(PRIORS, boxes, *certainty(PRIORS), MultiBoxLossWeights()).tolist()
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
    none = as_boxes([])
    output = torch.randn(2, 7, 5, generator=torch.Generator().manual_seed(0)).requires_grad_()
    part, gradient = losses_of(output, [none, none])
    assert part.location.item() == 0
    assert part.confidence.item() > 0
    assert (gradient[..., 0] > 0).all()
    assert (gradient[..., 1:] == 0).all()


def test_pictures_do_not_mix() -> None:
    """A minibatch's loss is that of its pictures, over all who answer: here 2, 3 and 0."""
    objects = [as_boxes([A]), as_boxes([A, B]), as_boxes([])]
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
    part = multibox_losses(output, PRIORS, [as_boxes(objects)], [False], MultiBoxLossWeights())
    part.total.backward()
    assert all(torch.isfinite(value) for value in part)
    assert output.grad is not None
    assert torch.isfinite(output.grad).all()


def test_a_few_steps_down_the_gradient_find_the_objects() -> None:
    """The outputs themselves as parameters: what the loss asks for is the objects, surely and exactly."""
    boxes = as_boxes([(0, 0, 99, 96), B])
    output = torch.zeros(1, 7, 5, requires_grad=True)
    optimizer = torch.optim.SGD([output], lr=1.0)
    for _ in range(300):
        optimizer.zero_grad()
        multibox_losses(output, PRIORS, [boxes], [False], MultiBoxLossWeights(focus=0.0)).total.backward()
        optimizer.step()
    objectness, offsets = output[0, :, 0].sigmoid().detach().numpy(), output[0, :, 1:].detach().numpy()
    assert (objectness[[0, 1, 2, 5]] > 0.97).all()
    assert objectness[6] < 0.03
    asked = encode(PRIORS[[0, 1, 2, 5]], boxes[[0, 0, 0, 1]]) / np.array(SCALE)
    assert np.abs(offsets[[0, 1, 2, 5]] - asked).max() < 0.05

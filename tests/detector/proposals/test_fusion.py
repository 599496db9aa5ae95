"""Two sources joined: by hand, against plain loops, and the promise that a prefix is a good budget."""

from itertools import islice

import numpy as np
import pytest

from detector.proposals.fusion import MULTIBOX_BOXES, SAME_IOU, fuse
from detector.structures.boxes import as_boxes, iou
from detector.structures.proposals import Proposals, Source

A, B, C, D = (0, 0, 100, 100), (200, 0, 300, 100), (0, 200, 100, 300), (200, 200, 300, 300)
E, F, G, H = (400, 0, 500, 100), (400, 200, 500, 300), (0, 400, 100, 500), (200, 400, 300, 500)
NEAR_A = (0, 0, 100, 90)  # IoU with A is 0.9
NEARER_A = (0, 0, 100, 95)  # 0.95 with A and with NEAR_A
AT_A = (0, 0, 100, 85)  # exactly SAME_IOU with A
BY_A = (0, 0, 100, 80)  # 0.8 with A, 0.89 with NEAR_A


def from_search(boxes: list[tuple[float, ...]]) -> Proposals:
    return Proposals.of(as_boxes(boxes), Source.SELECTIVE_SEARCH)


def from_multibox(boxes: list[tuple[float, ...]]) -> Proposals:
    """With an objectness of each box's own, so that one that went astray would be seen."""
    count = len(boxes)
    objectness = np.linspace(0.9, 0.1, count, dtype=np.float32)
    return Proposals(as_boxes(boxes), np.full(count, Source.MULTIBOX, np.int8), objectness)


@pytest.mark.parametrize(
    ("multibox", "search", "joined"),
    [
        pytest.param([A, B, C, D], [E, F], [A, B, C, E, D, F], id="three of MultiBox, then one"),
        pytest.param([A, B, C, D, E, F, G], [H], [A, B, C, H, D, E, F, G], id="the rest of MultiBox follows"),
        pytest.param([A, B], [C, D, E], [A, B, C, D, E], id="the rest of selective search follows"),
        pytest.param([A, B, C], [D, E], [A, B, C, D, E], id="as many as a turn takes"),
        pytest.param([], [C, D], [C, D], id="no MultiBox"),
        pytest.param([A, B], [], [A, B], id="no selective search"),
        pytest.param([], [], [], id="neither"),
        pytest.param([A, B], [A, D], [A, B, D], id="an equal box comes once"),
        pytest.param([A, B], [NEAR_A, D], [A, B, D], id="a nearly equal one of the other source is dropped"),
        pytest.param([B, C, D, NEAR_A], [A, E], [B, C, D, A, E], id="the later one, of whichever source"),
        pytest.param([A], [AT_A], [A, AT_A], id="just as far apart as allowed"),
        pytest.param([A, NEAR_A], [D], [A, NEAR_A, D], id="a source may repeat itself"),
        pytest.param([B], [A, NEAR_A], [B, A, NEAR_A], id="the other source too"),
        pytest.param([A], [D, NEAR_A, NEARER_A], [A, D], id="one box drops several"),
        pytest.param(
            [A, B, C, BY_A], [NEAR_A, D], [A, B, C, D], id="a dropped box still stands for its twin"
        ),
    ],
)
def test_order_and_dropping_by_hand(
    multibox: list[tuple[float, ...]], search: list[tuple[float, ...]], joined: list[tuple[float, ...]]
) -> None:
    found = fuse(from_search(search), from_multibox(multibox))
    assert list(map(tuple, found.boxes.tolist())) == joined


def test_sources_and_objectness_stay_with_their_boxes() -> None:
    found = fuse(from_search([C, NEAR_A, D]), from_multibox([A, B, E, F, G]))
    assert list(map(tuple, found.boxes.tolist())) == [A, B, E, C, F, G, D]
    m, s = Source.MULTIBOX, Source.SELECTIVE_SEARCH
    assert found.source.tolist() == [m, m, m, s, m, m, s]
    assert found.objectness == pytest.approx([0.9, 0.7, 0.5, np.nan, 0.3, 0.1, np.nan], nan_ok=True)
    assert (found.boxes.dtype, found.source.dtype, found.objectness.dtype) == (
        np.float32,
        np.int8,
        np.float32,
    )


def random_boxes(random: np.random.Generator, count: int) -> list[tuple[float, ...]]:
    """Many of them equal or nearly so."""
    corners = random.integers(0, 6, (count, 2)) * 10
    return list(map(tuple, np.concatenate([corners, corners + random.integers(30, 40, (count, 2))], axis=1)))


def plain_union(search: Proposals, multibox: Proposals, same_iou: float) -> list[tuple[int, int]]:
    """(source, index) of the boxes that stay."""
    order: list[tuple[Proposals, int]] = []
    boxes, further = iter(range(len(multibox))), iter(range(len(search)))
    while len(order) < len(multibox) + len(search):
        order += [(multibox, index) for index in islice(boxes, MULTIBOX_BOXES)]
        order += [(search, index) for index in islice(further, 1)]
    kept = []
    for place, (one, index) in enumerate(order):
        others = [before.boxes[i] for before, i in order[:place] if before is not one]
        if all(iou(one.boxes[index][None], other[None])[0, 0] <= np.float32(same_iou) for other in others):
            kept.append((int(one.source[index]), index))
    return kept


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(
    ("a", "b", "same_iou"),
    [(40, 40, SAME_IOU), (15, 60, SAME_IOU), (60, 15, 0.6), (0, 20, 0.5), (20, 0, 0.5)],
)
def test_equals_the_plain_one(seed: int, a: int, b: int, same_iou: float) -> None:
    random = np.random.default_rng(seed)
    multibox, search = from_multibox(random_boxes(random, a)), from_search(random_boxes(random, b))
    found = fuse(search, multibox, same_iou)
    kept = plain_union(search, multibox, same_iou)
    sources = {int(one.source[0]): one for one in (multibox, search) if len(one)}
    assert found.source.tolist() == [source for source, _ in kept]
    assert np.array_equal(found.boxes, as_boxes([sources[source].boxes[index] for source, index in kept]))
    expected = [sources[source].objectness[index] for source, index in kept]
    assert np.array_equal(found.objectness, np.array(expected, np.float32), equal_nan=True)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("count", [1, 2, 7, 30, 100])
def test_what_comes_later_does_not_change_what_came_first(seed: int, count: int) -> None:
    """So a budget may be put on both sources before they are joined."""
    random = np.random.default_rng(seed)
    multibox, search = from_multibox(random_boxes(random, 30)), from_search(random_boxes(random, 80))
    whole = fuse(search, multibox).first(count)
    cut = fuse(search.first(count), multibox.first(count)).first(count)
    assert np.array_equal(cut.boxes, whole.boxes)
    assert np.array_equal(cut.source, whole.source)

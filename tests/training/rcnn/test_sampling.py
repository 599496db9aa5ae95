"""Which regions are trained on, and what they are told."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.datasets.problems import Problem
from detector.structures.boxes import Boxes, area, as_boxes, decode, flip, intersection, iou
from training.finetune.training_data import with_unknown_objects
from training.rcnn.sampling import (
    NEAR_IOU,
    POSITIVE_IOU,
    REGRESSION_IOU,
    UNKNOWN,
    Regions,
    SamplingSettings,
    sample_regions,
)

BACKGROUND = 9
DOG, FLEA = (20, 20, 120, 100), (150, 40, 170, 60)


def _record(*boxes: tuple[float, ...]) -> AnnotatedImage:
    return AnnotatedImage("one", Path("one.jpg"), 200, 120, as_boxes(list(boxes)), np.arange(len(boxes)) + 3)


def _proposals() -> Boxes:
    rng = np.random.default_rng(7)
    corners = rng.uniform(0, 100, (300, 2))
    return as_boxes(np.concatenate([corners, corners + rng.uniform(5, 100, (300, 2))], axis=1))


@pytest.mark.parametrize("seed", range(5))
def test_labels_follow_the_overlap(seed: int) -> None:
    record = _record(DOG, FLEA)
    regions = sample_regions(
        record, _proposals(), BACKGROUND, SamplingSettings(12, 30), np.random.default_rng(seed)
    )
    overlap = iou(regions.boxes, record.boxes)
    positive = regions.labels != BACKGROUND
    assert positive.sum() == 12
    assert (~positive).sum() == 30
    assert (overlap.max(axis=1)[positive] >= POSITIVE_IOU).all()
    assert (overlap.max(axis=1)[~positive] < POSITIVE_IOU).all()
    assert (regions.labels[positive] == record.labels[overlap.argmax(axis=1)[positive]]).all()
    assert np.allclose(regions.overlaps, overlap.max(axis=1), atol=1e-6)
    has_offsets = ~np.isnan(regions.deltas).any(axis=1)
    assert np.array_equal(has_offsets, overlap.max(axis=1) >= REGRESSION_IOU)


def test_objects_share_the_positives() -> None:
    regions = sample_regions(
        _record(DOG, FLEA), _proposals(), BACKGROUND, SamplingSettings(12, 0), np.random.default_rng(0)
    )
    assert np.unique(regions.labels, return_counts=True)[1].tolist() == [6, 6]


def test_offsets_lead_to_the_object_also_when_mirrored() -> None:
    record = _record(DOG)
    regions = sample_regions(
        record, _proposals(), BACKGROUND, SamplingSettings(30, 0), np.random.default_rng(0)
    )
    learn = ~np.isnan(regions.deltas).any(axis=1)
    assert regions.mirrored[learn].any()
    assert not regions.mirrored[learn].all()
    for box, deltas, mirrored in zip(
        regions.boxes[learn], regions.deltas[learn], regions.mirrored[learn], strict=True
    ):
        seen = flip(box[None], 200) if mirrored else box[None]
        object_seen = flip(record.boxes, 200) if mirrored else record.boxes
        assert np.abs(decode(seen, deltas[None]) - object_seen).max() < 0.01


def _shifted(*shares: float) -> Boxes:
    """DOG, moved aside so that it keeps these IoUs with itself: of a width w, by w (1 - s) / (1 + s)."""
    x1, y1, x2, y2 = DOG
    moves = [(x2 - x1) * (1 - share) / (1 + share) for share in shares]
    return as_boxes([(x1 + move, y1, x2 + move, y2) for move in moves])


FAR = as_boxes([(170 + 0.2 * number, 80, 198, 118) for number in range(60)])
"""Proposals that show nothing of the dog."""


@pytest.mark.parametrize(
    ("proposals", "count", "movable"),
    [
        pytest.param([*np.linspace(0.36, 0.49, 40)], 30, 10, id="many: a third"),
        pytest.param([*np.linspace(0.36, 0.49, 4)], 30, 4, id="few: all of them"),
        pytest.param([], 30, 0, id="none"),
        pytest.param([*np.linspace(0.2, 0.34, 40)], 30, 0, id="near, but none of them can be moved"),
        pytest.param([*np.linspace(0.36, 0.49, 40)], 1, 0, id="a third of one"),
        pytest.param([*np.linspace(0.36, 0.49, 40)], 2, 1, id="a third of two"),
        pytest.param([*np.linspace(0.36, 0.49, 40)], 0, 0, id="no background is wanted"),
    ],
)
def test_a_third_of_the_backgrounds_can_be_moved_onto_an_object(
    proposals: list[float], count: int, movable: int
) -> None:
    """All proposals but these are far; in all there are enough."""
    record = _record(DOG)
    candidates = np.concatenate([np.concatenate([FAR] * 20), _shifted(*proposals)])
    drawn = [
        sample_regions(
            record, candidates, BACKGROUND, SamplingSettings(0, count), np.random.default_rng(seed)
        )
        for seed in range(20)
    ]
    found = [int((~np.isnan(regions.deltas).any(axis=1)).sum()) for regions in drawn]
    assert all(len(regions.labels) == count for regions in drawn)
    assert min(found) >= movable
    # Beyond a third they are drawn as often as any other: 30 among 1,230, say.
    assert np.mean(found) <= movable + 1.5


def test_backgrounds_are_drawn_from_what_can_be_moved_where_there_is_nothing_else() -> None:
    regions = sample_regions(
        _record(DOG),
        _shifted(*np.linspace(0.36, 0.49, 20)),
        BACKGROUND,
        SamplingSettings(0, 30),
        np.random.default_rng(0),
    )
    assert len(regions.labels) == 20, "each once"
    assert len(np.unique(regions.boxes, axis=0)) == 20
    assert not np.isnan(regions.deltas).any()


def test_offsets_of_backgrounds_lead_to_the_object_that_they_lie_nearest_to() -> None:
    record = _record(FLEA, DOG)
    regions = sample_regions(
        record,
        _shifted(*np.linspace(0.36, 0.49, 12)),
        BACKGROUND,
        SamplingSettings(0, 30),
        np.random.default_rng(1),
    )
    assert (regions.labels == BACKGROUND).all()
    assert not np.isnan(regions.deltas).any()
    assert 0 < regions.mirrored.sum() < 12
    dog = as_boxes([DOG])
    for box, deltas, mirrored in zip(regions.boxes, regions.deltas, regions.mirrored, strict=True):
        seen, wanted = (flip(part, 200) if mirrored else part for part in (box[None], dog))
        assert np.abs(decode(seen, deltas[None]) - wanted).max() < 0.01


def test_without_objects_nothing_is_moved() -> None:
    regions = sample_regions(
        _record(), _proposals(), BACKGROUND, SamplingSettings(12, 30), np.random.default_rng(0)
    )
    assert len(regions.labels) == 30
    assert np.isnan(regions.deltas).all()
    assert (regions.overlaps == 0).all()


@pytest.mark.parametrize("proposals", [_proposals(), _proposals()[::-1].copy()], ids=["ranked", "reversed"])
def test_choice_does_not_hang_on_the_ranking(proposals: Boxes) -> None:
    settings = SamplingSettings(8, 8)
    base = sample_regions(_record(DOG), _proposals(), BACKGROUND, settings, np.random.default_rng(3))
    got = sample_regions(_record(DOG), proposals, BACKGROUND, settings, np.random.default_rng(3))
    assert np.array_equal(base.boxes, got.boxes)


@pytest.mark.parametrize(
    ("boxes", "proposals", "positives", "background"),
    [((), _proposals(), 0, 30), ((DOG,), as_boxes([]), 9, 0)],
    ids=["no object", "no proposals: the object and its jittered copies remain"],
)
def test_little_to_choose_from(boxes: tuple, proposals: Boxes, positives: int, background: int) -> None:
    regions = sample_regions(
        _record(*boxes), proposals, BACKGROUND, SamplingSettings(12, 30), np.random.default_rng(0)
    )
    assert (regions.labels != BACKGROUND).sum() == positives
    assert (regions.labels == BACKGROUND).sum() == background


@pytest.mark.parametrize("partial", [False, True], ids=["fully labelled", "one class labelled"])
def test_background_is_sure_where_nothing_can_stand_unlabelled(partial: bool) -> None:
    record = replace(_record(DOG), partial=partial)
    regions = sample_regions(
        record, _proposals(), BACKGROUND, SamplingSettings(6, 40), np.random.default_rng(0)
    )
    far = (regions.labels == BACKGROUND) & (regions.overlaps < NEAR_IOU)
    assert far.any()
    assert regions.certain[~far].all()
    assert (regions.certain[far] != partial).all()


def test_an_object_of_unknown_class_is_no_background() -> None:
    record = replace(_record(DOG), unknown=as_boxes([FLEA]))
    regions = sample_regions(
        record, _proposals(), BACKGROUND, SamplingSettings(12, 60), np.random.default_rng(0)
    )
    assert np.unique(regions.labels).tolist() == [UNKNOWN, 3, BACKGROUND]
    assert (regions.labels == UNKNOWN).sum() == 6  # it shares the positives with the dog
    background = regions.labels == BACKGROUND
    assert (iou(regions.boxes[background], as_boxes([FLEA])) < POSITIVE_IOU).all()
    assert not np.isnan(regions.deltas[regions.labels == UNKNOWN]).all()  # its place can be learnt


@pytest.mark.parametrize(
    ("crowd", "has_some"),
    [
        pytest.param((0, 0, 200, 150), False, id="the whole picture: nothing is background"),
        pytest.param((0, 0, 100, 150), True, id="its left half"),
    ],
)
def test_what_lies_in_a_crowd_is_no_background(crowd: tuple[int, ...], has_some: bool) -> None:
    """Also in a picture of which nothing else is known."""
    empty = replace(_record(), crowds=as_boxes([crowd]))
    for record in (empty, replace(_record(DOG), crowds=empty.crowds)):
        regions = sample_regions(
            record, _proposals(), BACKGROUND, SamplingSettings(6, 60), np.random.default_rng(0)
        )
        boxes = regions.boxes[regions.labels == BACKGROUND]
        assert bool(len(boxes)) == has_some
        assert (intersection(boxes, empty.crowds)[:, 0] < 0.5 * area(boxes)).all()


def test_boxes_without_a_class_go_to_no_picture_that_only_shares_the_name() -> None:
    known = AnnotatedImage("one", Path("loc/one.jpg"), 200, 150, as_boxes([DOG, FLEA]), np.zeros(2, np.int64))
    partial = replace(_record(DOG), partial=True)
    same, copy, left, right = (
        replace(partial, image_id=name, path=Path(f"{name}.jpg"))
        for name in ("loc/one", "det/two", "a/one", "b/one")
    )
    two = replace(known, path=Path("loc/two.jpg"))
    agnostic = Dataset([known, two], ["object"], [Problem("x", "missing_image", "no picture")])
    found = with_unknown_objects(Dataset([same, copy, left, right], ["dog"]), agnostic)
    assert [len(record.unknown) for record in found.records] == [1, 1, 0, 0]
    assert [record.partial for record in found.records] == [False, False, True, True]
    assert [problem.image_id for problem in found.problems] == ["x", "a/one", "b/one"]


def test_boxes_without_a_class_complete_a_partly_labelled_picture() -> None:
    half = [tuple(side / 2 for side in box) for box in (DOG, FLEA)]  # of a copy at half the size
    known = AnnotatedImage("x/one", Path("x/one.jpg"), 100, 60, as_boxes(half), np.zeros(2, np.int64))
    partial = replace(_record(DOG), partial=True)
    other = replace(partial, path=Path("other.jpg"))
    full = replace(_record(DOG), partial=False)
    learned = Dataset([partial, other, full], ["dog"])
    completed, kept, untouched = with_unknown_objects(learned, Dataset([known], ["object"])).records
    assert completed.unknown.tolist() == [list(FLEA)]
    assert not completed.partial
    assert completed.boxes.tolist() == [list(DOG)]  # found in both: it stays the annotated one
    assert kept is other
    assert untouched is full


def test_a_picture_stays_partial_where_a_box_without_a_class_was_lost() -> None:
    """Where it is is not known: what overlaps no box is not known to be background."""
    known = AnnotatedImage(
        "one", Path("one.jpg"), 200, 150, as_boxes([FLEA]), np.zeros(1, np.int64), partial=True
    )
    learned = Dataset([replace(_record(DOG), path=Path("one.jpg"), partial=True)], ["dog"])
    (found,) = with_unknown_objects(learned, Dataset([known], ["object"])).records
    assert (len(found.unknown), found.partial) == (1, True)


def test_regions_are_chosen_and_joined_in_all_their_parts() -> None:
    parts = [
        sample_regions(
            _record(DOG, FLEA), _proposals(), BACKGROUND, SamplingSettings(4, 6), np.random.default_rng(seed)
        )
        for seed in range(3)
    ]
    joined = Regions.joined([*parts[:2], Regions.none(), parts[2]])
    assert len(joined.labels) == 30
    for index, part in enumerate(parts):
        again = joined.rows(np.arange(10 * index, 10 * index + 10))
        for field in fields(Regions):
            ours, theirs = getattr(again, field.name), getattr(part, field.name)
            assert np.array_equal(ours, theirs, equal_nan=ours.dtype == np.float32), field.name
            assert ours.dtype == theirs.dtype
    some = joined.rows(np.array([7, 7, 2]))
    assert np.array_equal(some.boxes, joined.boxes[[7, 7, 2]])
    assert len(joined.rows(np.zeros(0, np.int64)).labels) == 0

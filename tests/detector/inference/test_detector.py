"""From region scores to detections, and the whole way on a picture."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detector.errors import CheckpointError, ParameterError
from detector.inference.detector import Detector, RegionScores, select
from detector.inference.loading import load_detector
from detector.inference.region_crops import warp
from detector.inference.scoring import Scoring
from detector.inference.thresholds import Thresholds
from detector.inference.torch_arrays import TorchArrays
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.structures.boxes import as_boxes
from detector.structures.proposals import Proposals, Source

A, NEAR_A, FAR = (0, 0, 100, 100), (5, 0, 105, 100), (200, 200, 260, 260)
TOUCHING_A = (60, 0, 160, 100)  # IoU with A is 0.25

# Boxes, probabilities of two classes, threshold, most detections, and the (region, label) pairs left.
SELECTION = [
    ("the better of two on one object", [A, NEAR_A], [(0.6, 0), (0.9, 0)], 0.1, 9, [(1, 0)]),
    ("classes do not suppress each other", [A, NEAR_A], [(0.6, 0), (0, 0.9)], 0.1, 9, [(1, 1), (0, 0)]),
    ("one region may be two things", [A], [(0.4, 0.5)], 0.1, 9, [(0, 1), (0, 0)]),
    ("objects far apart stay", [A, FAR], [(0.9, 0), (0.8, 0)], 0.1, 9, [(0, 0), (1, 0)]),
    ("little overlap stays", [A, TOUCHING_A], [(0.9, 0), (0.8, 0)], 0.1, 9, [(0, 0), (1, 0)]),
    ("threshold is kept", [A, FAR], [(0.9, 0), (0.1, 0)], 0.5, 9, [(0, 0)]),
    ("at the threshold counts", [A], [(0.5, 0)], 0.5, 9, [(0, 0)]),
    ("the best of all classes", [A, FAR], [(0.7, 0), (0, 0.8)], 0.1, 1, [(1, 1)]),
    ("nothing over the threshold", [A], [(0.1, 0.1)], 0.5, 9, []),
    ("no regions", [], [], 0.1, 9, []),
]


@pytest.mark.parametrize(
    ("boxes", "scores", "threshold", "most", "left"),
    [s[1:] for s in SELECTION],
    ids=[s[0] for s in SELECTION],
)
def test_selection(boxes: list, scores: list, threshold: float, most: int, left: list) -> None:
    probabilities = np.array(scores, np.float32).reshape(-1, 2)
    found = select(
        RegionScores(as_boxes(boxes), probabilities), score_threshold=threshold, max_detections=most
    )
    expected = [(boxes[region], label, probabilities[region, label]) for region, label in left]
    got = zip(map(tuple, found.boxes.tolist()), found.labels.tolist(), found.scores, strict=True)
    assert list(got) == expected


@pytest.mark.parametrize(
    ("threshold", "most"), [(-0.1, 1), (1.1, 1), (float("nan"), 1), (0.5, 0)],
    ids=["below 0", "above 1", "not a number", "none asked for"],
)  # fmt: skip
def test_selection_refuses(threshold: float, most: int) -> None:
    regions = RegionScores(as_boxes([A]), np.zeros((1, 2), np.float32))
    with pytest.raises(ParameterError):
        select(regions, score_threshold=threshold, max_detections=most)


@pytest.fixture(scope="module")
def detector(checkpoint_path: Path) -> Detector:
    return load_detector(checkpoint_path, device="cpu", precision="float32", max_proposals=12)


@pytest.mark.parametrize(
    "shape", [(90, 120), (1, 1), (1, 40), (300, 7)], ids=["picture", "one pixel", "one row", "narrow"]
)
def test_whole_way(detector: Detector, shape: tuple[int, int]) -> None:
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    first, again = detector.detect([image, image], score_threshold=0.0, max_detections=50)
    assert 0 < len(first) <= 50
    assert (np.diff(first.scores) <= 0).all()
    assert (first.boxes >= 0).all()
    assert (first.boxes <= [shape[1], shape[0]] * 2).all()
    assert np.array_equal(first.boxes, again.boxes)
    assert np.array_equal(first.scores, again.scores)


def test_boxes_are_moved_by_the_offsets(detector: Detector) -> None:
    """The network's own offsets, applied to its own regions, with the picture as limit."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    proposals = Proposals.of(as_boxes([(10, 10, 50, 40)]), Source.SELECTIVE_SEARCH)
    regions = detector.score(image, proposals)
    assert regions.boxes.shape == (1, 4)
    assert regions.probabilities.shape == (1, 200)
    assert 0 < regions.probabilities.sum() <= 1


def test_large_pictures_are_seen_at_the_size_of_training(checkpoint_path: Path) -> None:
    """The same scene at twice the size gives the same detections, twice as large."""
    checkpoint = load_checkpoint(checkpoint_path)
    prepare = replace(checkpoint.metadata.preprocessing, short_side=60)
    detector = Detector(
        replace(checkpoint, metadata=replace(checkpoint.metadata, preprocessing=prepare)),
        device="cpu",
        precision="float32",
        max_proposals=6,
    )
    small = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    large = small.repeat(2, axis=0).repeat(2, axis=1)
    one, two = detector.detect([small, large], score_threshold=0.0, max_detections=20)
    assert np.allclose(two.boxes, 2 * one.boxes, atol=1e-3)
    assert np.allclose(two.scores, one.scores, atol=1e-6)
    assert two.boxes[:, 2].max() > 80


@pytest.mark.parametrize("asked", [True, False], ids=["scores go by it", "they do not"])
def test_the_whole_picture_is_one_more_region(checkpoint_path: Path, asked: bool) -> None:
    """Seen without context around it, for there is none; and only where scores go by it."""
    checkpoint = load_checkpoint(checkpoint_path)
    scoring = Scoring(context_power=0.5 if asked else 0)
    detector = Detector(checkpoint, scoring=scoring, device="cpu", precision="float32")
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    regions = detector.score(image, Proposals.of(as_boxes([(10, 10, 50, 40)]), Source.SELECTIVE_SEARCH))
    assert len(regions) == len(regions.probabilities) == 1
    if not asked:
        assert regions.image is None
        return
    prepare = replace(checkpoint.metadata.preprocessing, context=0)
    cpu = TorchArrays(torch.device("cpu"))
    crop = warp(cpu.normalise(image, prepare), as_boxes([(0, 0, 80, 60)]), prepare, cpu)
    with torch.no_grad():
        logits = checkpoint.network(crop).logits[0, :-1]
    assert regions.image is not None
    assert np.allclose(regions.image, logits.softmax(0).numpy(), atol=1e-5)


def _measured(path: Path, least: float) -> Checkpoint:
    """Weights whose first class is shown from half of ``least`` on, the second never, others from there."""
    checkpoint = load_checkpoint(path)
    thresholds = Thresholds(0.7, least, (least / 2, None, *[least] * 198), "some pictures")
    return replace(checkpoint, metadata=replace(checkpoint.metadata, thresholds=thresholds))


def test_auto_is_the_threshold_of_each_class(checkpoint_path: Path) -> None:
    """However it is asked for: of an image, of a stream, of a finder, or in the last step alone."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    options = {"device": "cpu", "precision": "float32", "max_proposals": 9}
    plain = Detector(load_checkpoint(checkpoint_path), **options)
    [every] = plain.detect([image], score_threshold=0.0, max_detections=1000)
    least = float(np.median(every.scores))
    detector = Detector(_measured(checkpoint_path, least), **options)
    limits = np.array([least / 2, np.inf, *[least] * 198])
    shown = every.scores >= limits[every.labels]
    assert 0 < shown.sum() < len(every)
    assert (every.labels[~shown] == 1).any()

    view = detector.view(image)
    regions = detector.score(view, detector.propose(view))
    auto = {"score_threshold": "auto", "max_detections": 1000}
    for found in (
        detector.detect(image, **auto),
        next(detector.stream([image], **auto)),
        detector.finder(**auto)(image),
        detector.select(regions, **auto),
    ):
        assert found.labels.tolist() == every.labels[shown].tolist()
        assert np.allclose(found.boxes, every.boxes[shown], atol=1e-3)


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param("nothing measured", "was never measured for them", id="weights without thresholds"),
        pytest.param("an ensemble", "none for several networks together", id="averaged scores are others"),
        pytest.param("another scoring", "or under another scoring", id="scores of another scoring too"),
    ],
)
def test_auto_needs_thresholds_of_just_these_scores(checkpoint_path: Path, settings: str, says: str) -> None:
    one, scoring = _measured(checkpoint_path, 0.5), None
    if settings == "nothing measured":
        one = load_checkpoint(checkpoint_path)
    if settings == "another scoring":
        scoring = replace(one.metadata.scoring, score_power=0.5)
    networks = [one, one] if settings == "an ensemble" else one
    detector = Detector(networks, scoring=scoring, device="cpu")
    assert detector.thresholds is None
    image = np.zeros((40, 40, 3), np.uint8)
    for ask in (detector.detect, lambda image, **asked: detector.finder(**asked)):
        with pytest.raises(ParameterError, match=f"{says}.*evaluate --thresholds-to"):
            ask(image, score_threshold="auto")


def test_a_word_that_is_no_threshold(detector: Detector) -> None:
    with pytest.raises(ParameterError, match=r"a number in 0\.\.1 or 'auto', got 'high'"):
        detector.finder(score_threshold="high")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"score_threshold": None}, "a number in 0..1 or 'auto', got None"),
        ({"score_threshold": True}, "a number in 0..1 or 'auto', got True"),
        ({"score_threshold": 2}, "lie in 0..1, got 2"),
        ({"max_detections": 1.5}, "a whole number from 1, got 1.5"),
        ({"max_detections": None}, "a whole number from 1, got None"),
        ({"max_detections": 0}, "a whole number from 1, got 0"),
        ({"classes": 5}, "classes are named by texts, one each, got int"),
        ({"classes": ["dog", ["cat"]]}, "classes are named by texts, one each, got list"),
    ],
)
def test_what_cannot_be_asked_is_told_before_any_image(
    detector: Detector, asked: dict[str, Any], says: str
) -> None:
    with pytest.raises(ParameterError, match=says):
        detector.stream([], **asked)


def test_a_mere_classifier_is_refused(classifier_checkpoint: Checkpoint) -> None:
    with pytest.raises(CheckpointError, match="cannot detect"):
        Detector(classifier_checkpoint)

"""Running detectors by profile and scoring: with a detector that is made up, and with a real one."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detector.boxes import as_boxes
from detector.checkpoints import load_checkpoint
from detector.classes import ClassList
from detector.datasets.record import Record
from detector.detection import Detector
from detector.evaluation.ilsvrc_det import evaluate_det
from detector.images import load
from detector.proposals import Profile, Proposals, Source
from detector.region_network import BoxHead, RegionNetwork
from detector.results import Detections
from detector.scoring import Scoring
from detector.selection import RegionScores, select
from training.det_cache import DetectionCache, Found
from training.det_run import (
    MAX_DETECTIONS,
    SCORE_THRESHOLD,
    ProfileRun,
    distinct,
    run_profiles,
    run_scorings,
)

A, B, C = (0, 0, 40, 40), (50, 0, 90, 40), (5, 5, 45, 45)


@pytest.mark.parametrize(
    ("parts", "count"),
    [
        pytest.param([[A, B], [B, C, A]], 3, id="shared boxes stand once"),
        pytest.param([[A], []], 1, id="a part without boxes"),
        pytest.param([[], []], 0, id="none at all"),
    ],
)
def test_distinct_boxes_give_every_part_back(parts: list, count: int) -> None:
    boxes, rows = distinct([as_boxes(part) for part in parts])
    assert len(boxes) == count
    assert [[tuple(boxes[row]) for row in mine] for mine in rows] == parts


class FakeDetector:
    """Proposes one box fast and two balanced; is sure of A."""

    name = "fake"
    classes = ClassList.of(["a", "b"])

    def __init__(self, scoring: Scoring = Scoring()) -> None:  # noqa: B008 (frozen)
        self.scored: list[int] = []
        self.scoring = scoring

    def propose(self, image: np.ndarray, profile: Profile, max_proposals: int | None) -> Proposals:
        boxes = {Profile.FAST: [B], Profile.BALANCED: [A, B]}[profile]
        return Proposals.of(as_boxes(boxes)[:max_proposals], Source.MULTIBOX)

    def score(self, image: np.ndarray, proposals: Proposals) -> RegionScores:
        self.scored.append(len(proposals))
        sure = (proposals.boxes == A).all(axis=1)
        return RegionScores(proposals.boxes, np.stack([sure, ~sure], axis=1).astype(np.float32))

    def refine(self, image: np.ndarray, regions: RegionScores) -> RegionScores:
        return regions

    def select(self, regions: RegionScores, *, score_threshold: float, max_detections: int) -> Detections:
        return select(
            regions, score_threshold=score_threshold, max_detections=max_detections, scoring=self.scoring
        )


@pytest.fixture
def record(tmp_path: Path) -> Record:
    """A picture with an object of class 0 at A."""
    path = tmp_path / "p.png"
    Image.new("RGB", (100, 50)).save(path)
    return Record("p", path, 100, 50, as_boxes([A]), np.zeros(1, np.int64))


def test_each_profile_gets_its_own_regions_and_shared_ones_are_scored_once(record: Record) -> None:
    detector = FakeDetector()
    runs = run_profiles(detector, [Profile.FAST, Profile.BALANCED], [record])  # type: ignore[arg-type]
    assert detector.scored == [2]
    fast, balanced = (run.detections["p"] for run in runs)
    assert fast.labels.tolist() == [1]
    assert sorted(balanced.labels.tolist()) == [0, 1]
    assert all(run.seconds[0] > run.proposal_seconds[0] for run in runs)

    assert [evaluate_det([record], run.detections, 2).mean_ap for run in runs] == [0, 1]


def test_a_budget_of_regions(record: Record) -> None:
    (run,) = run_profiles(FakeDetector(), [Profile.BALANCED], [record], max_proposals=1)  # type: ignore[arg-type]
    assert run.boxes == 1


@pytest.fixture
def detectors(checkpoint_path: Path) -> dict[str, Detector]:
    """An untrained detector under three scorings; its box head moves boxes at random."""
    checkpoint = load_checkpoint(checkpoint_path)
    torch.manual_seed(3)
    network = checkpoint.network
    assert isinstance(network, RegionNetwork)
    network.box_head = BoxHead()
    torch.nn.init.normal_(network.box_head.regress.weight, std=0.02)
    scorings = {
        "own": Scoring(),
        "unmoved": Scoring(box_regression=False),
        "all": Scoring(context_power=0.5, flip=True, refine=1, vote_iou=0.5),
    }
    return {name: Detector(checkpoint, scoring=scoring, device="cpu") for name, scoring in scorings.items()}


def test_shared_looks_give_what_each_detector_finds_alone(
    detectors: dict[str, Detector], record: Record
) -> None:
    runs = run_scorings(detectors, [Profile.SEARCH], [record], max_proposals=6)
    for run in runs:
        detector = detectors[run.scoring_name]
        detector.max_proposals = 6
        (alone,) = detector.detect(
            [load(record.path)], score_threshold=SCORE_THRESHOLD, max_detections=MAX_DETECTIONS
        )
        together = run.detections["p"]
        assert len(together) == len(alone)
        # Regions come to the network in another order, so that the last bits of a batch may differ.
        order, other = (
            np.lexsort((together.labels, -together.scores)),
            np.lexsort((alone.labels, -alone.scores)),
        )
        np.testing.assert_allclose(together.scores[order], alone.scores[other], rtol=0.02)
        assert abs(together.boxes.mean() - alone.boxes.mean()) < 0.5
    own, unmoved, _ = (run.detections["p"].boxes for run in runs)
    assert {tuple(box) for box in unmoved} <= {tuple(box) for box in runs[1].proposals[0]}
    assert not {tuple(box) for box in own} <= {tuple(box) for box in runs[0].proposals[0]}


def test_what_was_kept_is_not_computed_again(record: Record, tmp_path: Path) -> None:
    """A killed run goes on with the first picture that is not kept; a changed picture is a new one."""
    second = replace(record, image_id="q", path=tmp_path / "q.png")
    Image.new("RGB", (100, 50)).save(second.path)

    def run(records: list[Record], **settings: object) -> tuple[list[int], ProfileRun]:
        detector = FakeDetector()
        (done,) = run_scorings(
            {"": detector},  # type: ignore[dict-item]
            [Profile.BALANCED],
            records,
            cache_of=lambda _: DetectionCache(tmp_path / "cache", settings),
        )
        return detector.scored, done

    scored, first = run([record])
    assert scored == [2]
    scored, both = run([record, second])
    assert scored == [2], "the second picture only"
    assert list(both.detections) == ["p", "q"]
    for part in ("boxes", "labels", "scores"):
        before, after = (getattr(one.detections["p"], part) for one in (first, both))
        np.testing.assert_array_equal(before, after)
        assert before.dtype == after.dtype
    assert both.seconds[0] == first.seconds[0]
    assert both.proposals[0].tolist() == first.proposals[0].tolist()

    assert run([record, second], profile="other")[0] == [2, 2]
    Image.new("RGB", (120, 50)).save(record.path)
    assert run([record, second])[0] == [2]


def test_a_damaged_file_is_made_again(record: Record, tmp_path: Path) -> None:
    cache = DetectionCache(tmp_path / "cache", {})
    boxes = as_boxes([A])
    cache.put(
        record.path, Found(Detections(boxes, np.zeros(1, np.int64), np.ones(1, np.float32)), boxes, 1, 2)
    )
    assert cache.get(record.path) is not None
    (path,) = (tmp_path / "cache").rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-5])
    assert cache.get(record.path) is None

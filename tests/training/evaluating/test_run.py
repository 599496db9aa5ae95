"""Running detectors by profile and scoring: with a detector that is made up, and with a real one."""

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detector.datasets.annotated_image import AnnotatedImage
from detector.evaluation.det_evaluation import evaluate
from detector.evaluation.ilsvrc import ILSVRC
from detector.inference.detector import Detector
from detector.inference.ensemble import RegionPrediction
from detector.inference.postprocess import RegionScores, select
from detector.inference.region_crops import ImageView
from detector.inference.scoring import Scoring
from detector.inference.torch_ensemble import TorchEnsemble
from detector.io.decoding import load
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.convert_bvlc import PREPROCESSING
from detector.models.region_network import BoxHead, IoUHead, RegionNetwork
from detector.options import Profile
from detector.structures.boxes import Boxes, as_boxes
from detector.structures.classes import ClassList
from detector.structures.detections import Detections
from detector.structures.proposals import Proposals, Source
from training.evaluating.cache import DetectionCache, Found
from training.evaluating.run import (
    MAX_DETECTIONS,
    SCORE_THRESHOLD,
    Candidate,
    ProfileRun,
    distinct,
    run_candidates,
    with_costs,
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
    members = ("fake",)
    classes = ClassList.of(["a", "b"])

    def __init__(self, scoring: Scoring = Scoring()) -> None:  # noqa: B008 (frozen)
        self.scored: list[int] = []
        self.scoring = scoring

    def view(self, image: np.ndarray, profile: Profile | None = None) -> ImageView:
        return ImageView(image, PREPROCESSING)

    def prepare(self, view: ImageView, profile: Profile | None = None) -> None:
        """Nothing is shared."""

    def steps(self, profile: Profile) -> SimpleNamespace:
        return SimpleNamespace(preprocessing=PREPROCESSING, warps=True)

    def propose(self, image: ImageView, profile: Profile, max_proposals: int | None) -> Proposals:
        boxes = {Profile.FAST: [B], Profile.BALANCED: [A, B]}[profile]
        return Proposals.of(as_boxes(boxes)[:max_proposals], Source.MULTIBOX)

    def predict(
        self,
        image: ImageView | np.ndarray,
        boxes: Boxes,
        *,
        whole: bool = False,
        flip: bool = False,
        profile: Profile | None = None,
    ) -> list[RegionPrediction]:
        self.scored.append(len(boxes))
        sure = (boxes == A).all(axis=1)
        probabilities = np.stack([sure, ~sure, np.zeros_like(sure)], axis=1).astype(np.float32)
        return [RegionPrediction(probabilities, None, None)]

    def select(self, regions: RegionScores, *, score_threshold: float, max_detections: int) -> Detections:
        return select(
            regions, score_threshold=score_threshold, max_detections=max_detections, scoring=self.scoring
        )


@pytest.fixture
def record(tmp_path: Path) -> AnnotatedImage:
    """A picture with an object of class 0 at A."""
    path = tmp_path / "p.png"
    Image.new("RGB", (100, 50)).save(path)
    return AnnotatedImage("p", path, 100, 50, as_boxes([A]), np.zeros(1, np.int64))


def test_each_profile_gets_its_own_regions_and_shared_ones_are_scored_once(record: AnnotatedImage) -> None:
    detector = FakeDetector()
    candidates = [Candidate(detector)]  # type: ignore[arg-type]
    runs = run_candidates(candidates, [Profile.FAST, Profile.BALANCED], [record])
    assert detector.scored == [2]
    fast, balanced = (run.detections["p"] for run in runs)
    assert fast.labels.tolist() == [1]
    assert sorted(balanced.labels.tolist()) == [0, 1]
    assert all(run.seconds[0] > run.proposal_seconds[0] for run in runs)

    assert [evaluate([record], run.detections, 2, ILSVRC).mean_ap for run in runs] == [0, 1]


@pytest.mark.parametrize(
    "differ",
    [
        pytest.param(
            {"preprocessing": replace(PREPROCESSING, short_side=40)}, id="one looks at larger images"
        ),
        pytest.param({"warps": False}, id="one does not warp"),
    ],
)
def test_profiles_that_look_otherwise_are_scored_apart(
    record: AnnotatedImage, differ: dict[str, object]
) -> None:
    """Each group of runs has its own regions; runs come back in their order."""

    class Looking(FakeDetector):
        def steps(self, profile: Profile) -> SimpleNamespace:
            usual = {"preprocessing": PREPROCESSING, "warps": True}
            return SimpleNamespace(**usual | (differ if profile is Profile.FAST else {}))

    detector = Looking()
    profiles = [Profile.BALANCED, Profile.FAST, Profile.BALANCED]
    runs = run_candidates([Candidate(detector)], profiles, [record])  # type: ignore[arg-type]
    assert detector.scored == [2, 1]
    assert [run.profile for run in runs] == profiles
    assert [sorted(run.detections["p"].labels.tolist()) for run in runs] == [[0, 1], [1], [0, 1]]


def test_a_budget_of_regions(record: AnnotatedImage) -> None:
    candidates = [Candidate(FakeDetector())]  # type: ignore[arg-type]
    (run,) = run_candidates(candidates, [Profile.BALANCED], [record], max_proposals=1)
    assert run.boxes == 1


@pytest.fixture
def detectors(checkpoint_path: Path) -> dict[str, Detector]:
    """An untrained detector under three scorings; its location head moves boxes at random."""
    checkpoint = load_checkpoint(checkpoint_path)
    torch.manual_seed(3)
    network = checkpoint.network
    assert isinstance(network, RegionNetwork)
    assert network.location_head is not None
    torch.nn.init.normal_(network.location_head.locate.weight, std=0.001)
    scorings = {
        "own": Scoring(),
        "unmoved": Scoring(box_regression=False),
        "all": Scoring(context_power=0.5, flip=True, vote_iou=0.5),
    }
    return {name: Detector(checkpoint, scoring=scoring, device="cpu") for name, scoring in scorings.items()}


def test_shared_looks_give_what_each_detector_finds_alone(
    detectors: dict[str, Detector], record: AnnotatedImage
) -> None:
    candidates = [Candidate(detector, name) for name, detector in detectors.items()]
    runs = run_candidates(candidates, [Profile.SEARCH], [record], max_proposals=6)
    for run in runs:
        detector = run.detector
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


@pytest.fixture
def three(checkpoint_path: Path) -> list[Checkpoint]:
    """Untrained detectors with one trunk up to stage 5a, which move boxes at random; the first two differ in
    5b alone. The first has a location head, the second cannot move boxes, the third has a box head."""
    members = []
    for seed in range(3):
        torch.manual_seed(seed)
        checkpoint = load_checkpoint(checkpoint_path)
        network = checkpoint.network
        assert isinstance(network, RegionNetwork)
        assert network.location_head is not None
        torch.nn.init.normal_(network.location_head.locate.weight, std=0.001)
        if seed > 0:
            network.location_head, network.fit_head = None, IoUHead()
        if seed == 2:
            network.box_head = BoxHead()
            torch.nn.init.normal_(network.box_head.regress.weight, std=0.02)
        with torch.no_grad():
            for name, value in network.named_parameters():
                if "5b" in name or "classifier" in name or (seed == 2 and "5a" in name):
                    value.mul_(1 + 0.2 * seed)
        metadata = replace(checkpoint.metadata, name=f"m{seed}")
        members.append(replace(checkpoint, metadata=metadata))
    return members


def sizes(
    members: Sequence[Checkpoint] | TorchEnsemble,
    titles: dict[int, str],
    scoring: Scoring = Scoring(),  # noqa: B008 (frozen)
) -> list[Candidate]:
    """The first so many members as a candidate, for each number of them."""
    placed = members if isinstance(members, TorchEnsemble) else TorchEnsemble.place(members, device="cpu")
    return [
        Candidate(Detector(placed.first(count), scoring=scoring), title=title)
        for count, title in titles.items()
    ]


@pytest.mark.parametrize(
    "scoring",
    [
        pytest.param(Scoring(), id="plain"),
        pytest.param(Scoring(flip=True, fit_power=0.5), id="mirrored too, weighed by the mean fit"),
        pytest.param(Scoring(context_power=0.5, vote_iou=0.5), id="each size by its own word on the whole"),
        pytest.param(Scoring(box_regression=False), id="boxes stay"),
    ],
)
def test_the_first_of_an_ensemble_find_what_they_find_without_the_rest(
    three: list[Checkpoint], record: AnnotatedImage, scoring: Scoring
) -> None:
    titles = {1: "one", 2: "two", 3: "three"}
    runs = run_candidates(sizes(three, titles, scoring), [Profile.SEARCH], [record], 6)
    assert [run.candidate.title for run in runs] == list(titles.values())
    scores = []
    for run, count in zip(runs, titles, strict=True):
        alone = Detector(three[:count], scoring=scoring, device="cpu")
        (wanted,) = run_candidates([Candidate(alone)], [Profile.SEARCH], [record], 6)
        assert run.detector.name == wanted.detector.name
        for part in ("boxes", "labels", "scores"):
            got, expected = (getattr(one.detections["p"], part) for one in (run, wanted))
            np.testing.assert_array_equal(got, expected, err_msg=part)
        scores.append(run.detections["p"].scores[:5].tolist())
    assert scores[0] != scores[1] != scores[2], "or sizes that are mixed up would not show"
    assert runs[0].seconds[0] > runs[0].proposal_seconds[0]


def test_each_network_looks_once_for_all_sizes(three: list[Checkpoint], record: AnnotatedImage) -> None:
    """And what they share looks once for all networks."""
    titles = {1: "", 2: "", 3: ""}
    placed = TorchEnsemble.place(three, device="cpu")
    looks: list[nn.Module] = []
    stages = {
        "shared": placed.checkpoints[0].backbone.features[0],
        **{f"of {i}": member.backbone.features[-1] for i, member in enumerate(placed.checkpoints)},
    }
    for stage in stages.values():
        stage.register_forward_hook(lambda module, *_: looks.append(module))
    run_candidates(sizes(placed, titles), [Profile.SEARCH], [record], 6)
    assert {name: sum(one is stage for one in looks) for name, stage in stages.items()} == dict.fromkeys(
        stages, 1
    )


def test_a_size_costs_what_it_takes_by_what_all_take(record: AnnotatedImage) -> None:
    """Sizes of 1 and 3 members whose times are far apart; one under two scorings."""

    class Slow(FakeDetector):
        def __init__(self, count: int, seconds: float) -> None:
            super().__init__()
            self.members = ("fake",) * count
            self.seconds = seconds

        def propose(
            self,
            image: ImageView | np.ndarray,
            profile: Profile | None = None,
            max_proposals: int | None = None,
        ) -> Proposals:
            return Proposals.of(as_boxes([A]), Source.MULTIBOX)

        def predict(
            self,
            image: ImageView | np.ndarray,
            boxes: Boxes,
            *,
            whole: bool = False,
            flip: bool = False,
            profile: Profile | None = None,
        ) -> list[RegionPrediction]:
            time.sleep(self.seconds)
            return super().predict(image, boxes, whole=whole, flip=flip)

    candidates = [Candidate(Slow(*how)) for how in ((1, 0.01), (3, 0.3), (3, 0.3))]  # type: ignore[arg-type]
    one, three, again = (candidate.cost for candidate in with_costs(candidates, load(record.path)))
    assert 0 < one < 1
    assert three == again == 1
    [alone] = with_costs(candidates[:1], load(record.path))
    assert alone.cost == 1, "nothing to compare it with"
    runs = run_candidates(with_costs(candidates, load(record.path)), [Profile.FAST], [record])
    assert runs[0].seconds[0] < runs[1].seconds[0]


def test_what_was_kept_is_not_computed_again(record: AnnotatedImage, tmp_path: Path) -> None:
    """A killed run goes on with the first picture that is not kept; a changed picture is a new one."""
    second = replace(record, image_id="q", path=tmp_path / "q.png")
    Image.new("RGB", (100, 50)).save(second.path)

    def run(records: list[AnnotatedImage], **settings: object) -> tuple[list[int], ProfileRun]:
        detector = FakeDetector()
        (done,) = run_candidates(
            [Candidate(detector)],  # type: ignore[arg-type]
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
    Image.new("RGB", (100, 50), "white").save(record.path)
    assert run([record, second])[0] == [2]


def test_a_damaged_file_is_made_again(record: AnnotatedImage, tmp_path: Path) -> None:
    cache = DetectionCache(tmp_path / "cache", {})
    boxes = as_boxes([A])
    cache.put(
        record.path, Found(Detections(boxes, np.zeros(1, np.int64), np.ones(1, np.float32)), boxes, 1, 2)
    )
    assert cache.get(record.path) is not None
    (path,) = (tmp_path / "cache").rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-5])
    assert cache.get(record.path) is None

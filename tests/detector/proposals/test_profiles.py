"""Profiles: which methods propose, how many of their boxes stay, and what a detector makes of them."""

import sys
from dataclasses import replace
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.inference.detector import Detector
from detector.inference.image_maps import ImageMaps
from detector.inference.region_crops import ImageView
from detector.inference.torch_engine import TorchEngine, place
from detector.inference.torch_networks import ImageNetwork
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.options import Profile
from detector.proposals import profiles
from detector.proposals.fusion import fuse
from detector.proposals.multibox import MultiBox
from detector.proposals.profiles import BUDGETS, Proposer
from detector.proposals.selective_search.search import selective_search
from detector.structures.boxes import as_boxes
from detector.structures.proposals import Proposals, Source
from detector.threads import run_alone

SEARCH, MULTIBOX = Source.SELECTIVE_SEARCH, Source.MULTIBOX


def picture(height: int, width: int) -> NDArray[np.uint8]:
    """Rectangles of many colours over one another: enough for some hundred boxes."""
    random = np.random.default_rng(0)
    image = np.full((height, width, 3), 128, np.uint8)
    for _ in range(25):
        x, y = random.integers(0, width), random.integers(0, height)
        image[y : y + random.integers(8, 60), x : x + random.integers(8, 60)] = random.integers(0, 240, 3)
    return (image + random.integers(0, 15, image.shape)).astype(np.uint8)


IMAGE = picture(180, 240)


@pytest.fixture(scope="module")
def checkpoint(multibox_path: Path) -> Checkpoint:
    return load_checkpoint(multibox_path)


@pytest.fixture(scope="module")
def multibox(checkpoint: Checkpoint) -> MultiBox:
    assert checkpoint.multibox is not None
    prepare, head = checkpoint.metadata.preprocessing, checkpoint.multibox
    network = place(ImageNetwork(checkpoint.backbone.features, head=head), device="cpu", precision="float32")
    engine = TorchEngine(network, batch=1, buckets=())
    return MultiBox(head.spec, ImageMaps(engine, head.spec.image, prepare), prepare)


@pytest.fixture(scope="module")
def proposer(checkpoint: Checkpoint, multibox: MultiBox) -> Proposer:
    return Proposer(checkpoint.metadata.preprocessing, multibox)


@pytest.fixture(scope="module")
def headless(checkpoint: Checkpoint) -> Proposer:
    return Proposer(checkpoint.metadata.preprocessing, None)


@pytest.fixture(scope="module")
def detector(multibox_path: Path) -> Detector:
    return Detector(load_checkpoint(multibox_path), device="cpu", precision="float32")


def assert_same(found: Proposals, expected: Proposals) -> None:
    assert np.array_equal(found.boxes, expected.boxes)
    assert np.array_equal(found.source, expected.source)
    assert np.array_equal(found.objectness, expected.objectness, equal_nan=True)


@pytest.mark.parametrize(
    ("profile", "sources", "count"),
    [
        ("fast", {MULTIBOX}, 60),
        ("balanced", {SEARCH, MULTIBOX}, 120),
        ("thorough", {SEARCH, MULTIBOX}, 300),
        ("paper", {SEARCH, MULTIBOX}, None),
        ("search", {SEARCH}, 120),
    ],
)
def test_which_boxes_a_profile_gives(
    proposer: Proposer, profile: str, sources: set[Source], count: int | None
) -> None:
    found = proposer.propose(IMAGE, profile)
    assert set(found.source.tolist()) == sources
    assert BUDGETS[Profile(profile)] == count
    assert len(found) == count if count else len(found) > 200, "all of both are more than MultiBox gives"


def test_profiles_are_made_of_the_methods(proposer: Proposer, multibox: MultiBox) -> None:
    """Superpixels of twice the size wherever MultiBox helps, the usual ones where it does not."""
    large, usual, seen = (
        selective_search(IMAGE, superpixel_scale=2),
        selective_search(IMAGE),
        multibox.propose(IMAGE),
    )
    assert_same(proposer.propose(IMAGE, "fast"), seen.first(60))
    assert_same(proposer.propose(IMAGE, "balanced"), fuse(large, seen).first(120))
    assert_same(proposer.propose(IMAGE, "thorough"), fuse(large, seen).first(300))
    assert_same(proposer.propose(IMAGE, "paper"), fuse(large, seen))
    assert_same(proposer.propose(IMAGE, "search"), usual.first(120))


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("count", [1, 59])
def test_a_number_given_overrides_the_profiles_own(proposer: Proposer, profile: Profile, count: int) -> None:
    found = proposer.propose(IMAGE, profile, count)
    assert len(found) == count
    assert_same(found, proposer.propose(IMAGE, profile).first(count))


@pytest.mark.parametrize("profile", [Profile.BALANCED, Profile.SEARCH])
def test_a_search_takes_no_more_threads_than_who_asks_for_it(
    proposer: Proposer, checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch, profile: Profile
) -> None:
    """Though it runs on a thread of its own beside the trunk; without torch too, which numbers those of the
    whole process."""
    taken: list[int] = []

    def search(*_: object, threads: int, **settings: object) -> Proposals:
        taken.append(threads)
        return Proposals.of(as_boxes([(0, 0, 9, 9)]), SEARCH)

    def alone() -> None:
        run_alone()
        view = ImageView(IMAGE, checkpoint.metadata.preprocessing)
        if (begun := proposer.begin(view, profile)) is not None:
            begun.result()
        else:
            proposer.propose(view, profile)

    monkeypatch.setattr(profiles, "selective_search", search)
    monkeypatch.delitem(sys.modules, "torch")
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    thread = Thread(target=alone)
    thread.start()
    thread.join(60)
    assert taken == [1]


def test_fast_can_be_asked_for_more_than_usual(proposer: Proposer, multibox: MultiBox) -> None:
    """The 200 of the paper are what is joined with selective search, not all that MultiBox knows."""
    found = proposer.propose(IMAGE, Profile.FAST, 300)
    assert 200 < len(found) <= 300
    assert_same(found, multibox.propose(IMAGE, 300))


def test_the_default_is_the_best_there_is(proposer: Proposer, headless: Proposer) -> None:
    assert (proposer.default_profile, headless.default_profile) == (Profile.BALANCED, Profile.SEARCH)
    assert_same(proposer.propose(IMAGE), proposer.propose(IMAGE, "balanced"))
    assert_same(headless.propose(IMAGE), headless.propose(IMAGE, "search"))


@pytest.mark.parametrize("profile", ["turbo", "", "FAST", "Profile.FAST"])
def test_an_unknown_profile_is_named(proposer: Proposer, headless: Proposer, profile: str) -> None:
    for one in (proposer, headless):
        with pytest.raises(
            ParameterError, match=f"one of fast, balanced, thorough, paper, search, got {profile!r}"
        ):
            one.propose(IMAGE, profile)


@pytest.mark.parametrize("profile", [Profile.FAST, "balanced", Profile.THOROUGH, Profile.PAPER])
def test_without_a_head_it_says_what_to_do(headless: Proposer, profile: Profile | str) -> None:
    with pytest.raises(
        ParameterError, match=rf"profile {profile} needs a MultiBox head.*profile search.*--init"
    ):
        headless.propose(IMAGE, profile)


@pytest.mark.parametrize("count", [0, -3])
@pytest.mark.parametrize("profile", Profile)
def test_no_boxes_asked_for(proposer: Proposer, profile: Profile, count: int) -> None:
    with pytest.raises(ParameterError, match=f"at least 1, got {count}"):
        proposer.propose(IMAGE, profile, count)


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.parametrize("shape", [(993, 214), (400, 533), (1, 1), (3, 500)], ids=str)
def test_boxes_lie_in_the_picture_that_was_given(
    checkpoint: Checkpoint, multibox: MultiBox, profile: Profile, shape: tuple[int, int]
) -> None:
    """The picture is reduced before it is searched, and boxes are brought back: by a hair too far, once."""
    prepare = replace(checkpoint.metadata.preprocessing, short_side=180)
    boxes = Proposer(prepare, multibox).propose(picture(*shape), profile).boxes
    assert (boxes >= 0).all()
    assert (boxes <= [shape[1], shape[0]] * 2).all()
    if profile is not Profile.FAST:
        whole = np.abs(boxes - [0, 0, shape[1], shape[0]]).max(axis=1) < 1e-3
        assert whole.any(), "selective search always gives the whole picture"


@pytest.mark.parametrize("profile", Profile)
def test_a_detector_looks_where_its_profile_says(
    detector: Detector, multibox_path: Path, proposer: Proposer, profile: Profile
) -> None:
    """Whether the profile was given when it was made or with the call."""
    own = Detector(load_checkpoint(multibox_path), device="cpu", precision="float32", profile=profile)
    assert own.profile is profile
    assert_same(own.propose(IMAGE, max_proposals=9), proposer.propose(IMAGE, profile, 9))
    assert_same(detector.propose(IMAGE, profile, 9), proposer.propose(IMAGE, profile, 9))


def test_detect_passes_the_profile_on(multibox_path: Path) -> None:
    detector = Detector(load_checkpoint(multibox_path), device="cpu", max_proposals=3)
    first = {}
    for profile in (Profile.FAST, "search"):
        regions = detector.score(IMAGE, detector.propose(IMAGE, profile))
        [found] = detector.detect([IMAGE], profile=profile, score_threshold=0.0)
        assert np.array_equal(found.boxes, detector.select(regions, score_threshold=0.0).boxes)
        first[profile] = found.boxes[0].tolist()
    assert first[Profile.FAST] != first["search"]


def test_numbers_of_a_detector(multibox_path: Path) -> None:
    """The profile's own, unless the detector has another; unless the call has yet another."""
    checkpoint = load_checkpoint(multibox_path)
    assert len(Detector(checkpoint, device="cpu").propose(IMAGE, "fast")) == 60
    limited = Detector(checkpoint, device="cpu", max_proposals=11)
    assert [len(limited.propose(IMAGE, profile)) for profile in Profile] == [11] * len(Profile)
    assert len(limited.propose(IMAGE, "fast", 13)) == 13


@pytest.mark.parametrize("count", [0, -1])
def test_a_detector_refuses_to_look_at_nothing(detector: Detector, multibox_path: Path, count: int) -> None:
    with pytest.raises(ParameterError, match="at least 1"):
        detector.propose(IMAGE, "fast", count)
    with pytest.raises(ParameterError, match="at least 1"):
        Detector(load_checkpoint(multibox_path), device="cpu", max_proposals=count).propose(IMAGE, "fast")


@pytest.mark.parametrize(("profile", "says"), [("turbo", "must be one of"), ("", "must be one of")])
def test_a_detector_refuses_an_unknown_profile(
    detector: Detector, multibox_path: Path, profile: str, says: str
) -> None:
    with pytest.raises(ParameterError, match=says):
        Detector(load_checkpoint(multibox_path), device="cpu", profile=profile)
    with pytest.raises(ParameterError, match=says):
        detector.detect([IMAGE], profile=profile)


def test_multibox_alone(detector: Detector, multibox: MultiBox, checkpoint_path: Path) -> None:
    assert detector.has_multibox
    assert_same(detector.multibox(IMAGE), multibox.propose(IMAGE))
    assert_same(detector.multibox(IMAGE, 5), multibox.propose(IMAGE, 5))
    bare = Detector(load_checkpoint(checkpoint_path), device="cpu")
    assert not bare.has_multibox
    assert bare.profile is Profile.SEARCH
    with pytest.raises(ParameterError, match="needs a MultiBox head"):
        bare.multibox(IMAGE)
    with pytest.raises(ParameterError, match="needs a MultiBox head"):
        Detector(load_checkpoint(checkpoint_path), device="cpu", profile="fast")


def test_a_picture_with_no_proposal_has_no_detection(detector: Detector) -> None:
    """One pixel is too small for MultiBox: nothing is looked at, and nothing breaks."""
    [found] = detector.detect([np.zeros((1, 1, 3), np.uint8)], profile="fast", score_threshold=0.0)
    assert len(found) == 0

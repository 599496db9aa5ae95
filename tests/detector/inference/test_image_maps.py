"""The trunk runs over an image once for all that read its maps: MultiBox, and the regions cut out of them."""

import copy
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from detector.errors import ParameterError
from detector.inference.detector import Detector
from detector.inference.engine import Outputs
from detector.inference.executor import ForwardRequest, Priority, run_directly
from detector.inference.image_scales import ImageScales, Square, first_centre
from detector.inference.scoring import Scoring
from detector.inference.shared_maps import SharedMaps
from detector.inference.torch_networks import ImageNetwork
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.image_trunk import ImageTrunk, MappedStages
from detector.models.multibox_head import MultiBoxHead, objectness_and_offsets
from detector.models.multibox_spec import MultiBoxSpec
from detector.options import CROP_COST, Profile
from detector.proposals.anchors import Grid
from detector.structures.boxes import as_boxes
from detector.structures.proposals import Proposals

HEAD_SCALES, OTHER_SCALES = (64, 128), (80, 144)
BOXES = as_boxes([(10, 10, 60, 50), (0, 0, 100, 80), (30, 20, 44, 36)])

TINY = MultiBoxSpec(
    ("fine", "coarse"),
    (12, 20),
    ImageScales((32, 64)),
    tuple(Grid(s, first_centre(s), np.array([(20, 20), (20, 40)], np.float32)) for s in (8, 16, 32)),
)


def tiny_trunk() -> nn.Sequential:
    """Four stages; ``late`` is never needed."""
    torch.manual_seed(0)
    network = nn.Sequential()
    network.add_module("first", nn.Conv2d(3, 6, 3, stride=4, padding=1))
    network.add_module("fine", nn.Conv2d(6, 12, 3, stride=2, padding=1))
    network.add_module("coarse", nn.Conv2d(12, 20, 3, stride=2, padding=1))
    network.add_module("late", nn.Conv2d(20, 7, 3))
    return network


@pytest.mark.parametrize(
    ("read", "run"),
    [
        pytest.param(["first"], ["first"], id="the first"),
        pytest.param(["fine", "coarse"], ["first", "fine", "coarse"], id="two: up to the later one"),
        pytest.param(["coarse", "first"], ["first", "fine", "coarse"], id="whatever their order"),
        pytest.param(["late"], ["first", "fine", "coarse", "late"], id="the last"),
    ],
)
@torch.no_grad()
def test_the_trunk_runs_as_far_as_it_is_read(read: list[str], run: list[str]) -> None:
    features = tiny_trunk()
    mapped = MappedStages(features, read)
    assert [name for name, _ in mapped.stages.named_children()] == run
    assert all(getattr(mapped.stages, name) is getattr(features, name) for name in run), "shared, not copied"
    maps = mapped(images := torch.rand(2, 3, 64, 96))
    assert maps.keys() == set(read)
    x = images
    for name, stage in features.named_children():
        x = stage(x)
        if name in read:
            assert torch.equal(maps[name], x)


@pytest.mark.parametrize(
    "stages", [("fine", "inception_9z"), ("inception_9z", "fine")], ids=["second", "first"]
)
def test_a_stage_that_the_trunk_lacks_is_named(stages: tuple[str, str]) -> None:
    says = "no stage 'inception_9z', only first, fine, coarse, late"
    with pytest.raises(ParameterError, match=says):
        MappedStages(tiny_trunk(), stages)
    with pytest.raises(ParameterError, match=says):
        ImageNetwork(tiny_trunk(), head=MultiBoxHead(replace(TINY, stages=stages)))
    with pytest.raises(ParameterError, match=says):
        ImageNetwork(tiny_trunk(), stage="inception_9z")


@pytest.mark.parametrize("stage", [None, "fine", "coarse", "late"])
@pytest.mark.parametrize("with_head", [True, False], ids=["with a head", "without"])
@torch.no_grad()
def test_maps_and_head_are_what_they_are_alone(stage: str | None, with_head: bool) -> None:
    if stage is None and not with_head:
        return  # nothing would be read
    features, images = tiny_trunk(), torch.rand(1, 3, 64, 96)
    torch.manual_seed(1)
    head = MultiBoxHead(TINY) if with_head else None
    outputs = ImageNetwork(features, stage=stage, head=head)(images)
    fine = features.fine(features.first(images))  # type: ignore[operator]
    maps = {"fine": fine, "coarse": features.coarse(fine)}  # type: ignore[operator]
    maps["late"] = features.late(maps["coarse"])  # type: ignore[operator]
    assert ("maps" in outputs) == (stage is not None)
    if stage is not None:
        assert torch.equal(outputs["maps"], maps[stage])
    assert ("objectness" in outputs) == ("offsets" in outputs) == with_head
    if head is not None:
        objectness, offsets = objectness_and_offsets(head(maps["fine"], maps["coarse"]))
        assert torch.equal(outputs["objectness"], objectness)
        assert torch.equal(outputs["offsets"], offsets)
        anchors = TINY.anchors((8, 12), (4, 6))
        assert offsets.shape == (1, len(anchors), 4)
        raw = ImageTrunk(features, stage, head)(images)
        assert raw["multibox"].shape == (1, len(anchors), 5)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (80, 100, 3), np.uint8)


@pytest.fixture(scope="module")
def warped(multibox_path: Path) -> Checkpoint:
    """A detector with a MultiBox head, whose regions share nothing."""
    loaded = load_checkpoint(multibox_path)
    preprocessing = replace(loaded.metadata.preprocessing, short_side=144)
    return replace(loaded, metadata=replace(loaded.metadata, preprocessing=preprocessing))


def sharing(checkpoint: Checkpoint, scales: tuple[int, ...]) -> Checkpoint:
    return replace(checkpoint, metadata=replace(checkpoint.metadata, shared_maps=SharedMaps(scales)))


def without_head(checkpoint: Checkpoint) -> Checkpoint:
    return Checkpoint(checkpoint.network, replace(checkpoint.metadata, multibox=None))


def reading(checkpoint: Checkpoint, image: ImageScales | Square) -> Checkpoint:
    """With a head of the same weights that sees images at other scales."""
    assert checkpoint.multibox is not None
    spec = replace(checkpoint.multibox.spec, image=image)
    head = MultiBoxHead(spec)
    head.load_state_dict(checkpoint.multibox.state_dict())
    return Checkpoint(checkpoint.network, replace(checkpoint.metadata, multibox=spec), head.eval())


def detector_of(*members: Checkpoint, **settings: object) -> Detector:
    return Detector(list(members), device="cpu", precision="float32", **settings)  # type: ignore[arg-type]


class Counting:
    """Runs requests as usual, and notes each."""

    def __init__(self) -> None:
        self.asked: list[ForwardRequest] = []

    def __call__(self, request: ForwardRequest) -> Outputs:
        self.asked.append(request)
        return run_directly(request)

    @property
    def images(self) -> int:
        """How often a trunk ran over a whole image."""
        return sum(isinstance(request.engine._network, ImageNetwork) for request in self.asked)

    @property
    def cost(self) -> int:
        """How many regions of shared maps take as long as everything that was asked for."""
        return sum(request.rows * request.cost for request in self.asked)


def assert_same(one: Proposals, other: Proposals) -> None:
    assert np.array_equal(one.boxes, other.boxes)
    assert np.array_equal(one.objectness, other.objectness, equal_nan=True)
    assert len(one)


@pytest.mark.parametrize("prepared", [False, True], ids=["as it goes", "prepared"])
@pytest.mark.parametrize(
    ("scales", "flip", "images", "regions"),
    [
        pytest.param(None, False, 2, 4, id="warped: for MultiBox alone"),
        pytest.param(HEAD_SCALES, False, 2, 4, id="shared: for both, once a scale"),
        pytest.param(OTHER_SCALES, False, 4, 4, id="shared at other scales: for each"),
        pytest.param(HEAD_SCALES, True, 4, 8, id="mirrored: MultiBox needs no further pass"),
        pytest.param(OTHER_SCALES, True, 6, 8, id="mirrored, at other scales"),
    ],
)
def test_how_often_the_trunk_runs_over_an_image(
    warped: Checkpoint,
    pixels: np.ndarray,
    scales: tuple[int, ...] | None,
    flip: bool,
    images: int,
    regions: int,
    prepared: bool,
) -> None:
    checkpoint = warped if scales is None else sharing(warped, scales)
    scoring = Scoring(flip=flip, context_power=0.5)
    detector = detector_of(checkpoint, scoring=scoring, profile="fast", max_proposals=3)
    executor = Counting()
    view = detector.view(pixels)
    if prepared:
        detector.prepare(view, executor=executor)
        assert executor.images == (0 if scales is None else 2 * (1 + flip))
    proposals = detector.propose(view, executor=executor)
    detector.score(view, proposals, executor=executor)
    assert executor.images == images
    assert executor.asked[-1].rows == regions, "three regions and the whole, mirrored as well or not"
    assert len(executor.asked) == images + 1
    before = len(executor.asked)
    assert_same(detector.propose(view, executor=executor), proposals)
    assert len(executor.asked) == before, "what was seen is kept"


@pytest.mark.parametrize("scales", [HEAD_SCALES, OTHER_SCALES], ids=["the head's scales", "others"])
def test_sharing_changes_no_proposal_and_no_region(
    warped: Checkpoint, pixels: np.ndarray, scales: tuple[int, ...]
) -> None:
    """MultiBox proposes as where regions are warped; regions are those of weights without a head."""
    shared = detector_of(sharing(warped, scales))
    assert_same(shared.multibox(pixels), detector_of(warped).multibox(pixels))
    view = shared.view(pixels)
    shared.propose(view, "fast")
    [prediction] = shared.predict(view, BOXES)
    [expected] = detector_of(without_head(sharing(warped, scales))).predict(pixels, BOXES)
    assert np.array_equal(prediction.probabilities, expected.probabilities)


def test_a_mirrored_look_proposes_from_the_image_as_it_is(warped: Checkpoint, pixels: np.ndarray) -> None:
    plain = detector_of(sharing(warped, HEAD_SCALES), profile="fast")
    mirrored = detector_of(sharing(warped, HEAD_SCALES), profile="fast", scoring=Scoring(flip=True))
    view = mirrored.view(pixels)
    mirrored.prepare(view)
    assert_same(mirrored.propose(view), plain.propose(pixels))


def changed(checkpoint: Checkpoint, stage: str) -> Checkpoint:
    network = copy.deepcopy(checkpoint.network)
    with torch.no_grad():
        weights = network.backbone.features.get_submodule(stage)  # type: ignore[union-attr]
        next(iter(weights.parameters())).mul_(1.5)
    return replace(checkpoint, network=network)


@pytest.mark.parametrize(
    ("stages", "head", "images"),
    [
        pytest.param([None, "inception_5b"], 1, 2, id="the second has the head, one trunk"),
        pytest.param([None, "inception_3a"], 1, 4, id="the second has the head, a trunk of its own"),
        pytest.param([None, "inception_3a"], 0, 4, id="the first has the head, a trunk of its own"),
        pytest.param(
            ["inception_3a", None, "inception_5b"], 2, 4, id="the last has the head, on the second's trunk"
        ),
        pytest.param(["inception_4e", None], 1, 4, id="trunks that differ in the last stage that is read"),
    ],
)
def test_in_an_ensemble_one_proposes_from_its_own_maps(
    warped: Checkpoint, pixels: np.ndarray, stages: Sequence[str | None], head: int, images: int
) -> None:
    """Each trunk runs once a scale; proposals are those of the one with the head, regions each one's own."""
    members = [
        changed(sharing(warped, HEAD_SCALES), stage) if stage else sharing(warped, HEAD_SCALES)
        for stage in stages
    ]
    members = [member if i == head else without_head(member) for i, member in enumerate(members)]
    together, executor = detector_of(*members, profile="fast"), Counting()
    view = together.view(pixels)
    proposals = together.propose(view, executor=executor)
    predictions = together.predict(view, BOXES, executor=executor)
    assert executor.images == images
    assert_same(proposals, detector_of(members[head], profile="fast").propose(pixels))
    for member, prediction in zip(members, predictions, strict=True):
        [alone] = detector_of(member).predict(pixels, BOXES)
        assert np.allclose(prediction.probabilities, alone.probabilities, atol=1e-6)


@pytest.mark.parametrize("scales", [HEAD_SCALES, OTHER_SCALES, None], ids=str)
def test_the_papers_profile_warps_each_region(
    warped: Checkpoint, pixels: np.ndarray, scales: tuple[int, ...] | None
) -> None:
    """Whatever the weights were trained for."""
    checkpoint = warped if scales is None else sharing(warped, scales)
    detector = detector_of(checkpoint, max_proposals=4)
    assert detector.steps(Profile.PAPER).warps
    assert detector.steps(Profile.FAST).warps == (scales is None)
    [found] = detector.predict(pixels, BOXES, profile=Profile.PAPER)
    [expected] = detector_of(warped).predict(pixels, BOXES)
    assert np.allclose(found.probabilities, expected.probabilities, atol=1e-6)
    executor = Counting()
    view = detector.view(pixels)
    detector.prepare(view, Profile.PAPER, executor=executor)
    assert executor.asked == []
    proposals = detector.propose(view, Profile.FAST)
    regions = detector.score(view, proposals, Profile.PAPER, executor=executor)
    assert [request.rows for request in executor.asked] == [len(regions)]


@pytest.mark.parametrize(
    ("image", "priorities"),
    [
        pytest.param(ImageScales(HEAD_SCALES), [Priority.NORMAL] * 2, id="an image at its own size"),
        pytest.param(Square(64), [Priority.URGENT], id="a square crop of it"),
    ],
)
def test_only_a_quick_look_goes_before_others(
    warped: Checkpoint, pixels: np.ndarray, image: ImageScales | Square, priorities: list[Priority]
) -> None:
    """The trunk over a whole image is most of the image's work, and takes its turn."""
    detector, executor = detector_of(reading(warped, image), profile="fast", max_proposals=3), Counting()
    detector.propose(pixels, executor=executor)
    assert [request.priority for request in executor.asked] == priorities


@pytest.mark.parametrize(
    ("scales", "profile", "scoring"),
    [
        pytest.param(None, Profile.FAST, Scoring(), id="warped: crops, and MultiBox's own look"),
        pytest.param(None, Profile.FAST, Scoring(flip=True), id="warped, and mirrored"),
        pytest.param(None, Profile.PAPER, Scoring(context_power=0.5), id="warped, and the whole image"),
        pytest.param(HEAD_SCALES, Profile.FAST, Scoring(), id="shared: the image for both, and regions"),
        pytest.param(OTHER_SCALES, Profile.FAST, Scoring(), id="shared at other scales: it for each"),
        pytest.param(HEAD_SCALES, Profile.FAST, Scoring(flip=True), id="shared, and mirrored"),
        pytest.param(
            OTHER_SCALES, Profile.FAST, Scoring(flip=True), id="at other scales, mirrored: not for MultiBox"
        ),
        pytest.param(
            HEAD_SCALES,
            Profile.FAST,
            Scoring(context_power=0.5),
            id="shared, and the whole image",
        ),
        pytest.param(
            HEAD_SCALES,
            Profile.THOROUGH,
            Scoring(),
            id="thorough: a third scale",
        ),
        pytest.param(
            HEAD_SCALES, Profile.THOROUGH, Scoring(flip=True), id="thorough, and all of it mirrored"
        ),
        pytest.param(None, Profile.THOROUGH, Scoring(), id="thorough, warped"),
    ],
)
def test_what_an_image_costs_is_what_is_asked_for_it(
    warped: Checkpoint, scales: tuple[int, ...] | None, profile: Profile, scoring: Scoring
) -> None:
    """Of an image of 3:4."""
    image = np.random.default_rng(4).integers(0, 256, (90, 120, 3), np.uint8)
    checkpoint = warped if scales is None else sharing(warped, scales)
    detector = detector_of(checkpoint, scoring=scoring, max_proposals=3)
    executor, view = Counting(), detector.view(image, profile)
    detector.prepare(view, profile, executor=executor)
    proposals = detector.propose(view, profile, executor=executor)
    detector.score(view, proposals, profile, executor=executor)
    assert executor.cost == detector.cost(profile, len(proposals.boxes))
    assert {
        request.cost for request in executor.asked if not isinstance(request.engine._network, ImageNetwork)
    } == {CROP_COST if scales is None else 1}


def test_an_image_costs_by_its_pixels(warped: Checkpoint) -> None:
    """What a crop does for each crop's worth of them."""
    detector, executor = detector_of(sharing(warped, (224,)), max_proposals=3), Counting()
    for side in (224, 448):  # with the padding 288 by 288, and 288 by 512
        detector.prepare(detector.view(np.zeros((224, side, 3), np.uint8)), "search", executor=executor)
    assert [request.cost for request in executor.asked] == [
        round(CROP_COST * 288 * width / 224**2) for width in (288, 512)
    ]


FINER = (*HEAD_SCALES, 256)


def test_thorough_looks_at_a_third_scale(warped: Checkpoint, pixels: np.ndarray) -> None:
    """There too the trunk runs once for MultiBox and the regions together."""
    detector, executor = detector_of(sharing(warped, HEAD_SCALES), max_proposals=3), Counting()
    view = detector.view(pixels, Profile.THOROUGH)
    detector.prepare(view, Profile.THOROUGH, executor=executor)
    proposals = detector.propose(view, Profile.THOROUGH, executor=executor)
    detector.score(view, proposals, Profile.THOROUGH, executor=executor)
    assert executor.images == len(FINER)
    heights = [request.make_crops(0, 1).shape[2] for request in executor.asked[:-1]]
    assert heights == [scale + 2 * 32 for scale in FINER]
    assert executor.asked[-1].rows == 3


def test_thorough_proposes_and_predicts_from_all_three_scales(warped: Checkpoint, pixels: np.ndarray) -> None:
    """As weights do that were trained for them all."""
    detector = detector_of(sharing(warped, HEAD_SCALES))
    three = detector_of(sharing(reading(warped, ImageScales(FINER)), FINER))
    found = detector.propose(pixels, Profile.THOROUGH, 500)
    assert_same(found, three.propose(pixels, Profile.BALANCED, 500))
    usual = detector.propose(pixels, Profile.BALANCED, 500)
    assert not np.array_equal(usual.boxes, found.boxes)
    [prediction] = detector.predict(pixels, BOXES, profile=Profile.THOROUGH)
    [expected] = three.predict(pixels, BOXES)
    assert np.array_equal(prediction.probabilities, expected.probabilities)


@pytest.mark.parametrize(
    ("scales", "profile", "height"),
    [
        pytest.param(HEAD_SCALES, None, 144, id="as the weights say"),
        pytest.param(HEAD_SCALES, Profile.PAPER, 144, id="warped: likewise"),
        pytest.param(HEAD_SCALES, Profile.THOROUGH, 256, id="thorough: as its largest scale"),
        pytest.param((64,), Profile.THOROUGH, 144, id="thorough, though none is larger than the view"),
        pytest.param(None, Profile.THOROUGH, 144, id="thorough, where regions share nothing"),
    ],
)
def test_a_view_is_as_large_as_its_profile_looks(
    warped: Checkpoint, scales: tuple[int, ...] | None, profile: Profile | None, height: int
) -> None:
    checkpoint = warped if scales is None else sharing(warped, scales)
    view = detector_of(checkpoint).view(np.zeros((300, 400, 3), np.uint8), profile)
    assert view.pixels.shape[0] == height
    assert (view.height, view.width) == (300, 400)

"""Several networks as one, and flips, with networks whose word is known."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detector.errors import CheckpointError, ParameterError
from detector.inference.classifier import Classifier
from detector.inference.detector import Detector
from detector.inference.ensemble import RegionEnsemble, RegionPrediction, average
from detector.inference.loading import load_classifier, load_detector
from detector.inference.preprocessing import Preprocessing
from detector.inference.scoring import Scoring
from detector.inference.torch_ensemble import TorchEnsemble
from detector.models.backbone import Backbone
from detector.models.checkpoint import Checkpoint, load_checkpoint
from detector.models.metadata import Metadata
from detector.models.region_network import BoxHead, IoUHead, RegionNetwork
from detector.models.shared_trunk import SharedTrunk, count_shared_stages
from detector.structures.boxes import as_boxes, iou
from detector.structures.classes import ClassList
from detector.structures.proposals import Proposals, Source

CPU = {"device": "cpu", "precision": "float32"}


@pytest.fixture
def members(checkpoint_path: Path) -> list[Checkpoint]:
    """Two detectors that differ from the stage 5a on."""
    first = load_checkpoint(checkpoint_path)
    second = copy.deepcopy(first)
    with torch.no_grad():
        for name, value in second.network.named_parameters():
            if "inception_5" in name or "features" not in name:
                value.mul_(1.1)
    return [first, replace(second, metadata=replace(second.metadata, name="second"))]


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)


@pytest.fixture
def proposals() -> Proposals:
    return Proposals.of(
        as_boxes([(10, 10, 50, 40), (0, 0, 80, 60), (30, 5, 45, 55)]), Source.SELECTIVE_SEARCH
    )


def predict(ensemble: TorchEnsemble, crops: Tensor, *, flip: bool) -> list[RegionPrediction]:
    """Return what each member gives for crops [R,3,224,224]."""
    members = range(len(ensemble.members))
    regions = RegionEnsemble(ensemble.region_engine(members), len(members))
    return regions.predict(len(crops), lambda a, b: crops[a:b], flip=flip)


@pytest.mark.parametrize("flip", [False, True])
def test_two_say_the_mean_of_each(members: list[Checkpoint], flip: bool) -> None:
    placed = TorchEnsemble.place(members, **CPU)
    crops = torch.randn(3, 3, 224, 224) * 50
    alone = [average(predict(TorchEnsemble.place(member, **CPU), crops, flip=flip)) for member in members]
    together = average(predict(placed, crops, flip=flip))
    for name, one, other, both in zip(RegionPrediction._fields, *alone, together, strict=True):
        assert not np.allclose(one, other, rtol=1e-3), f"or {name} would show nothing"
        assert np.allclose(both, (one + other) / 2, rtol=1e-4, atol=1e-5), name


def _prediction(probability: float, delta: float | None, fit: float | None) -> RegionPrediction:
    return RegionPrediction(
        np.full((2, 3), probability, np.float32),
        np.full((2, 4), delta, np.float32) if delta is not None else None,
        np.full(2, fit, np.float32) if fit is not None else None,
    )


@pytest.mark.parametrize(
    ("members", "mean"),
    [
        pytest.param([(0.5, 1, 0.5)], (0.5, 1, 0.5), id="one"),
        pytest.param([(0.5, 1, 0.5), (0.25, 2, 1), (0, 6, 0)], (0.25, 3, 0.5), id="three"),
        pytest.param([(0.5, 1, 0.5), (0.25, None, 1)], (0.375, 1, 0.75), id="boxes move by who can"),
        pytest.param([(0.5, None, None), (0.25, None, 1)], (0.375, None, None), id="a fit if all know it"),
    ],
)
def test_what_several_say_on_average(members: list[tuple], mean: tuple) -> None:
    got = average([_prediction(*member) for member in members])
    for name, value, wanted in zip(RegionPrediction._fields, got, _prediction(*mean), strict=True):
        assert (value is None) == (wanted is None), name
        assert value is None or (np.array_equal(value, wanted) and value.dtype == np.float32), name


@pytest.mark.parametrize("flip", [False, True])
def test_the_first_members_are_an_ensemble_of_the_same_weights(members: list[Checkpoint], flip: bool) -> None:
    crops = torch.randn(3, 3, 224, 224) * 50
    [alone] = predict(TorchEnsemble.place(members[0], **CPU), crops, flip=flip)
    both = TorchEnsemble.place(members, **CPU)
    first = both.first(1)
    assert (len(first.members), len(both.members)) == (1, 2)
    assert (first.engine, first.device, first.precision) == ("torch", "cpu", "float32")
    assert first.checkpoints[0].network is both.checkpoints[0].network
    for name, *values in zip(
        RegionPrediction._fields,
        alone,
        average(predict(first, crops, flip=flip)),
        predict(both, crops, flip=flip)[0],
        strict=True,
    ):
        assert np.array_equal(values[0], values[1]), name
        assert np.array_equal(values[0], values[2]), name


def test_an_ensemble_names_its_members(members: list[Checkpoint]) -> None:
    assert Detector(members, **CPU).name == f"{members[0].metadata.name} + second"


def test_what_members_share_is_found_and_shared(members: list[Checkpoint]) -> None:
    trunks = [member.backbone.features for member in members]
    names = [name for name, _ in trunks[0].named_children()]
    count = count_shared_stages(trunks)
    assert names[:count][-1] == "pool4"
    assert count_shared_stages([trunks[0], copy.deepcopy(trunks[0])]) == len(names)
    assert count_shared_stages(trunks[:1]) == len(names)
    placed = [member.backbone.features for member in TorchEnsemble.place(members, **CPU).checkpoints]
    assert all(placed[0][i] is placed[1][i] for i in range(count))
    assert not any(trunks[0][i] is trunks[1][i] for i in range(len(names))), "the members stay as they were"
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(SharedTrunk(trunks)(x), torch.cat([trunk(x) for trunk in trunks]))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_placing_leaves_the_checkpoint_as_it_is(members: list[Checkpoint], precision: str) -> None:
    """Neither moved nor converted, and nothing that a detector does to its weights reaches it."""
    before = {name: value.clone() for name, value in members[0].network.state_dict().items()}
    memory = [value.data_ptr() for value in members[0].network.state_dict().values()]
    placed = TorchEnsemble.place(members[0], device="cpu", precision=precision)
    after = members[0].network.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert [value.data_ptr() for value in after.values()] == memory
    assert not {value.data_ptr() for value in placed.checkpoints[0].network.state_dict().values()} & set(
        memory
    )


def test_a_detector_and_a_classifier_of_one_ensemble_share_its_weights(multibox_path: Path) -> None:
    """All three networks, MultiBox too: no tensor of theirs is other than the ensemble's."""
    placed = TorchEnsemble.place(load_checkpoint(multibox_path), **CPU)
    member = placed.checkpoints[0]
    assert member.multibox is not None
    modules = [member.network, member.multibox]
    own = {value.data_ptr() for module in modules for value in module.state_dict().values()}
    detector, classifier = Detector(placed), Classifier(placed)
    engines = [
        classifier._engine,
        detector.steps(None).features._ensemble.engine,  # type: ignore[attr-defined]
        detector.steps(None).proposer.multibox._maps._engine,  # type: ignore[union-attr]
    ]
    for engine in engines:
        run = {value.data_ptr() for value in engine._network.state_dict().values()}
        assert run
        assert run <= own


@pytest.mark.parametrize(
    ("changed", "shared"),
    [
        pytest.param([], "inception_5b", id="nothing differs: the last stages run once"),
        pytest.param(["inception_5b"], "inception_5a", id="the last stage: both read the same cells"),
        pytest.param(["inception_5a"], "pool4", id="what reads the cells: they are the last common maps"),
        pytest.param(["inception_4e"], "inception_4d", id="the stage before: cells of their own"),
        pytest.param(["conv1"], None, id="the first stage: nothing is common"),
    ],
)
@pytest.mark.parametrize("first", [0, 14, 16], ids=["crops", "maps", "the cells themselves"])
def test_cells_are_those_that_each_members_last_stages_read(
    checkpoint_path: Path, changed: list[str], shared: str | None, first: int
) -> None:
    trunks = [load_checkpoint(checkpoint_path).backbone.features for _ in range(2)]
    with torch.no_grad():
        for name, value in trunks[1].named_parameters():
            if name.partition(".")[0] in changed:
                value.mul_(1.1)
    names = [name for name, _ in trunks[0].named_children()]
    assert count_shared_stages(trunks) == (names.index(shared) + 1 if shared else 0)
    rows = {0: (3, 64, 64), 14: (528, 14, 14), 16: (832, 7, 7)}[first]
    x = torch.rand(2, *rows) * 50
    with torch.no_grad():
        got = SharedTrunk([trunk[first:] for trunk in trunks], cells=True)(x)
        assert isinstance(got, dict)
        read = [trunk[first:-2](x) for trunk in trunks]
        last = [trunk[-2:](cells) for trunk, cells in zip(trunks, read, strict=True)]
    assert torch.equal(got["cells"], torch.cat(read))
    assert torch.equal(got["maps"], torch.cat(last))
    differ = bool(changed) and first <= names.index(changed[0])
    assert torch.equal(*last) != differ, "or nothing would show whose maps they are"


def test_cells_of_trunks_that_begin_after_them_are_refused(members: list[Checkpoint]) -> None:
    with pytest.raises(ParameterError, match="begin with an earlier one"):
        SharedTrunk([member.backbone.features[-1:] for member in members], cells=True)


def _earlier(checkpoint: Checkpoint) -> Checkpoint:
    """The same with a box head and an IoU head, as earlier versions have them."""
    network = copy.deepcopy(checkpoint.network)
    assert isinstance(network, RegionNetwork)
    torch.manual_seed(3)
    network.location_head, network.box_head, network.fit_head = None, BoxHead(), IoUHead()
    for head in (network.box_head, network.fit_head):
        for value in head.parameters():
            nn.init.normal_(value, std=0.02)
    return Checkpoint(network.eval(), replace(checkpoint.metadata, name="earlier"))


@pytest.mark.parametrize(
    "order", [[0, 1], [1, 0]], ids=["the location head first", "the earlier heads first"]
)
@pytest.mark.parametrize("change", [False, True], ids=["one trunk", "trunks that differ at the end"])
def test_a_location_head_beside_the_heads_of_earlier_versions(
    members: list[Checkpoint], order: list[int], change: bool
) -> None:
    pair = [members[0], _earlier(members[change])]
    pair = [pair[number] for number in order]
    crops = torch.randn(2, 3, 224, 224) * 50
    alone = [predict(TorchEnsemble.place(member, **CPU), crops, flip=False)[0] for member in pair]
    together = predict(TorchEnsemble.place(pair, **CPU), crops, flip=False)
    for ours, theirs in zip(together, alone, strict=True):
        for name, got, expected in zip(RegionPrediction._fields, ours, theirs, strict=True):
            assert np.allclose(got, expected, rtol=1e-4, atol=1e-5), name
    assert not np.allclose(alone[0].deltas, alone[1].deltas, rtol=1e-2)
    Detector(pair, scoring=Scoring(fit_power=1), **CPU)


def test_a_difference_in_the_first_stage_leaves_nothing_to_share(members: list[Checkpoint]) -> None:
    with torch.no_grad():
        next(members[1].backbone.features.parameters()).add_(1e-3)
    assert count_shared_stages([member.backbone.features for member in members]) == 0


def _other_classes(metadata: Metadata) -> Metadata:
    return replace(metadata, detection=ClassList.of([f"class {i}" for i in range(200)]))


def _other_images(metadata: Metadata) -> Metadata:
    return replace(metadata, preprocessing=replace(metadata.preprocessing, short_side=300))


@pytest.mark.parametrize(
    ("change", "says"),
    [(_other_classes, "other classes of detection"), (_other_images, "pictures prepared otherwise")],
)
def test_unlike_members_are_refused(members: list[Checkpoint], change, says: str) -> None:
    first, second = members
    unlike = replace(second, metadata=change(second.metadata))
    with pytest.raises(CheckpointError, match=f"second cannot be averaged with .*{says}"):
        Detector([first, unlike], **CPU)


def test_no_members_and_mere_classifiers_are_refused(
    members: list[Checkpoint], classifier_checkpoint: Checkpoint
) -> None:
    with pytest.raises(CheckpointError, match="at least one"):
        Detector([], **CPU)
    with pytest.raises(CheckpointError, match="cannot detect"):
        Detector([members[0], classifier_checkpoint], **CPU)


def test_classifiers_are_averaged(members: list[Checkpoint], image: np.ndarray) -> None:
    alone = [Classifier(copy.deepcopy(m), **CPU).probabilities(image) for m in members]
    got = Classifier(members, **CPU).probabilities(image)
    assert np.abs(alone[0] - alone[1]).max() > 1e-5
    assert np.allclose(got, np.mean(alone, axis=0), atol=1e-6)


def test_several_files(checkpoint_path: Path, multibox_path: Path) -> None:
    """The one with a MultiBox head proposes, wherever it stands."""
    detector = load_detector([checkpoint_path, multibox_path], device="cpu")
    assert detector.has_multibox
    assert detector.profile == "balanced"
    assert len(load_classifier([checkpoint_path, multibox_path], device="cpu").name.split(" + ")) == 2


def test_fit_cannot_be_asked_of_weights_without_it(members: list[Checkpoint]) -> None:
    network = members[1].network
    assert isinstance(network, RegionNetwork)
    network.location_head = None
    with pytest.raises(ParameterError, match="predicts no IoU"):
        Detector(members, scoring=Scoring(fit_power=1), **CPU)
    assert Detector(members, **CPU).scoring == Scoring()


def test_scoring_is_the_checkpoints_unless_given(members: list[Checkpoint]) -> None:
    mine = Scoring(vote_iou=0.5)
    first = replace(members[0], metadata=replace(members[0].metadata, scoring=mine))
    assert Detector(copy.deepcopy(first), **CPU).scoring == mine
    assert Detector([first, members[1]], scoring=Scoring(flip=True), **CPU).scoring == Scoring(flip=True)


class _Bright(nn.Module):
    """Crops [R,3,224,224] -> maps [R,1024,7,7] whose first channel says where it is bright."""

    def forward(self, crops: Tensor) -> Tensor:
        grid = nn.functional.adaptive_avg_pool2d(crops[:, :1], 7)
        return torch.cat([grid, grid.new_zeros(len(grid), 1023, 7, 7)], dim=1)


class _TowardsBright(BoxHead):
    """Moves a box half of the way towards the middle of what is bright."""

    def forward(self, maps: Tensor) -> Tensor:
        light = maps[:, 0]
        light = light / light.sum(dim=(1, 2), keepdim=True)
        place = (torch.arange(7) + 0.5) / 7 - 0.5
        dx, dy = (light.sum(dim=1) * place).sum(dim=1), (light.sum(dim=2) * place).sum(dim=1)
        return torch.stack([dx, dy, dx * 0, dx * 0], dim=1) / 2


@pytest.fixture
def seeker() -> Checkpoint:
    """A detector of one class that moves boxes towards the light, by the formula above."""
    backbone = Backbone(nn.Sequential(_Bright()), 2, dropout=0)
    network = RegionNetwork(backbone, torch.tensor([0, 1]), 1)
    network.box_head = _TowardsBright()
    prepare = Preprocessing((0, 0, 0), (1, 1, 1))
    return Checkpoint(network.eval(), Metadata("seeker", "made", prepare, None, ClassList.of(["light"])))


@pytest.fixture
def light() -> tuple[np.ndarray, Proposals]:
    """A bright square, and a box that shows it in its right half."""
    image = np.zeros((100, 200, 3), np.uint8)
    image[40:60, 100:120] = 255
    return image, Proposals.of(as_boxes([(60, 20, 120, 80)]), Source.SELECTIVE_SEARCH)


def test_a_box_moves_towards_its_object(seeker: Checkpoint, light: tuple[np.ndarray, Proposals]) -> None:
    image, proposals = light
    centred = as_boxes([(80, 20, 140, 80)])
    regions = Detector(seeker, scoring=Scoring(), **CPU).score(image, proposals)
    before, after = (float(iou(boxes, centred)[0, 0]) for boxes in (proposals.boxes, regions.boxes))
    assert before + 0.1 < after


def test_boxes_stay_without_regression(seeker: Checkpoint, light: tuple[np.ndarray, Proposals]) -> None:
    image, proposals = light
    detector = Detector(seeker, scoring=Scoring(box_regression=False), **CPU)
    assert np.array_equal(detector.score(image, proposals).boxes, proposals.boxes)


def test_flips_are_averaged(seeker: Checkpoint, light: tuple[np.ndarray, Proposals]) -> None:
    """What leans to the right in a crop leans to the left in the mirrored one: turned back, both agree."""
    image, proposals = light
    plain, flipped = (
        Detector(copy.deepcopy(seeker), scoring=Scoring(flip=flip), **CPU).score(image, proposals)
        for flip in (False, True)
    )
    assert not np.allclose(plain.boxes, proposals.boxes, atol=1)
    assert np.allclose(plain.boxes, flipped.boxes, atol=1e-2)


def test_a_flipped_picture_gives_flipped_scores(
    members: list[Checkpoint], image: np.ndarray, proposals: Proposals
) -> None:
    detector = Detector(members[0], scoring=Scoring(flip=True, fit_power=1), **CPU)
    mirrored = Proposals.of(
        as_boxes([(80 - x2, y1, 80 - x1, y2) for x1, y1, x2, y2 in proposals.boxes.tolist()]),
        Source.SELECTIVE_SEARCH,
    )
    one, other = detector.score(image, proposals), detector.score(image[:, ::-1], mirrored)
    assert np.allclose(one.probabilities, other.probabilities, atol=1e-5)
    assert one.predicted_iou is not None
    assert other.predicted_iou is not None
    assert np.allclose(one.predicted_iou, other.predicted_iou, atol=1e-5)
    assert np.allclose(one.boxes[:, 0], 80 - other.boxes[:, 2], atol=1e-2)

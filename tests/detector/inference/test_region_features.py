"""Regions that share the trunk: through the detector, the checkpoint and the training alike."""

import copy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from detector.errors import CheckpointError, ParameterError
from detector.inference.detector import Detector
from detector.inference.engine import Outputs
from detector.inference.executor import ForwardRequest, run_directly
from detector.inference.loading import load_ensemble
from detector.inference.scoring import Scoring
from detector.inference.shared_maps import SharedMaps
from detector.inference.torch_networks import ImageNetwork
from detector.models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from detector.structures.boxes import as_boxes, flip
from training.rcnn.region_maps import RegionMaps

SHARED = SharedMaps(scales=(96, 160))
BOXES = as_boxes([(10, 10, 60, 50), (0, 0, 100, 80), (30, 20, 44, 36)])


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (80, 100, 3), np.uint8)


@pytest.fixture(scope="module")
def checkpoint(multibox_path: Path) -> Checkpoint:
    loaded = load_checkpoint(multibox_path)
    preprocessing = replace(loaded.metadata.preprocessing, short_side=160)
    return replace(loaded, metadata=replace(loaded.metadata, shared_maps=SHARED, preprocessing=preprocessing))


def test_the_trunk_runs_once_a_scale_and_is_kept(checkpoint: Checkpoint, pixels: np.ndarray) -> None:
    """A second look at other boxes, and the whole image, cost no more of it."""
    detector = Detector(checkpoint, device="cpu", scoring=Scoring(context_power=0.5))
    asked: list[tuple[int, bool]] = []

    def executor(request: ForwardRequest) -> Outputs:
        asked.append((request.rows, isinstance(request.engine._network, ImageNetwork)))
        return run_directly(request)

    view = detector.view(pixels)
    [prediction] = detector.predict(view, BOXES, whole=True, executor=executor)
    assert prediction.probabilities.shape == (4, 201)
    assert asked == [(1, True), (1, True), (4, False)]
    detector.predict(view, BOXES[:2], executor=executor)
    assert asked[3:] == [(2, False)]


def test_regions_of_several_scales_come_back_in_their_order(
    checkpoint: Checkpoint, pixels: np.ndarray
) -> None:
    """They run scale by scale, the whole image among them."""
    detector = Detector(checkpoint, device="cpu", batch=2)
    mixed = as_boxes([(10, 10, 90, 70), (30, 20, 44, 36), (0, 0, 100, 80), (5, 60, 20, 75), (2, 3, 80, 79)])
    [together] = detector.predict(pixels, mixed, whole=True)
    for row, box in enumerate(mixed):
        [alone] = detector.predict(pixels, box[None], whole=True)
        for number, other in ((row, 0), (5, 1)):
            assert np.allclose(together.probabilities[number], alone.probabilities[other], atol=1e-5)
            assert np.allclose(together.deltas[number], alone.deltas[other], atol=1e-4)


def test_detections_lie_in_the_picture(checkpoint: Checkpoint, pixels: np.ndarray) -> None:
    detector = Detector(checkpoint, device="cpu", profile="fast", max_proposals=6)
    [found] = detector.detect([pixels], score_threshold=0)
    assert len(found.boxes)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= (100, 80, 100, 80)).all()


def test_mirrored_regions_are_those_of_the_mirrored_picture(
    checkpoint: Checkpoint, pixels: np.ndarray
) -> None:
    """The mean of both halves does not change when the picture is turned."""
    detector = Detector(checkpoint, device="cpu")
    [plain] = detector.predict(pixels, BOXES, flip=True)
    turned = np.ascontiguousarray(pixels[:, ::-1])
    [mirrored] = detector.predict(turned, flip(BOXES, pixels.shape[1]), flip=True)
    assert np.allclose(plain.probabilities, mirrored.probabilities, atol=2e-3)
    [one_way] = detector.predict(pixels, BOXES)
    assert not np.array_equal(one_way.probabilities, plain.probabilities)


def test_members_share_the_trunk_or_have_their_own(checkpoint: Checkpoint, pixels: np.ndarray) -> None:
    """Whatever stages the members differ in, each gives what it gives alone."""
    networks = [checkpoint.network, *(copy.deepcopy(checkpoint.network) for _ in range(2))]
    with torch.no_grad():
        for network, stage in zip(networks[1:], ("inception_5b", "inception_3a"), strict=True):
            next(network.backbone.features.get_submodule(stage).parameters()).mul_(1.5)  # type: ignore[union-attr]
    members = [Checkpoint(network, checkpoint.metadata) for network in networks]
    together = Detector(members, device="cpu").predict(pixels, BOXES)
    for member, prediction in zip(members, together, strict=True):
        [alone] = Detector(member, device="cpu").predict(pixels, BOXES)
        assert np.allclose(prediction.probabilities, alone.probabilities, atol=1e-6)
    assert not np.array_equal(together[0].probabilities, together[1].probabilities)


def test_a_checkpoint_keeps_how_regions_share_the_trunk(checkpoint: Checkpoint, tmp_path: Path) -> None:
    path = tmp_path / "shared.safetensors"
    save_checkpoint(path, checkpoint)
    assert load_checkpoint(path).metadata.shared_maps == SHARED


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        pytest.param(replace(SHARED, stage="inception_9z"), "no stage 'inception_9z'", id="no such stage"),
        pytest.param(replace(SHARED, stage="inception_3b"), "stride", id="a stage of another stride"),
        pytest.param(replace(SHARED, size=10), "does not fit", id="maps that the box head cannot read"),
    ],
)
@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_settings_that_do_not_fit_the_network_are_refused_at_load(
    checkpoint: Checkpoint, tmp_path: Path, settings: SharedMaps, says: str, engine: str
) -> None:
    path = tmp_path / "odd.safetensors"
    save_checkpoint(path, replace(checkpoint, metadata=replace(checkpoint.metadata, shared_maps=settings)))
    with pytest.raises(CheckpointError, match=says):
        load_ensemble(path, engine=engine, device="cpu")


def test_warped_and_shared_are_not_averaged(checkpoint: Checkpoint) -> None:
    warped = replace(checkpoint, metadata=replace(checkpoint.metadata, shared_maps=None))
    with pytest.raises(CheckpointError, match="prepared otherwise"):
        Detector([checkpoint, warped], device="cpu")


@torch.no_grad()
def test_training_sees_what_the_detector_sees(checkpoint: Checkpoint, pixels: np.ndarray) -> None:
    """The same regions through the training's maps and the network give the detector's answers."""
    features = checkpoint.backbone.features
    cut = [name for name, _ in features.named_children()].index("pool4") + 1
    preprocessing = checkpoint.metadata.preprocessing

    def run(stages: nn.Module, x: torch.Tensor) -> torch.Tensor:
        return stages(x)

    maps_of = RegionMaps(features[:cut].eval(), preprocessing, SHARED, torch.device("cpu"), run)
    detector = Detector(checkpoint, device="cpu", precision="float32")
    view = detector.view(pixels)
    plain = np.zeros(len(BOXES), bool)
    maps = maps_of(view.pixels, BOXES * view.factors, plain, plain)
    network = copy.deepcopy(checkpoint.network).eval()
    output = network.outputs_of(maps)  # type: ignore[union-attr,operator]
    [expected] = detector.predict(view, BOXES)
    assert np.allclose(output.logits.softmax(dim=1), expected.probabilities, atol=1e-5)
    assert np.allclose(output.deltas, expected.deltas, atol=1e-5)
    assert np.allclose(output.predicted_iou.sigmoid(), expected.predicted_iou, atol=1e-5)


def test_maps_shared_by_stages_that_are_trained_are_refused(checkpoint: Checkpoint) -> None:
    with pytest.raises(ParameterError, match="--frozen-through"):
        RegionMaps(
            checkpoint.backbone.features[:5],
            checkpoint.metadata.preprocessing,
            SHARED,
            torch.device("cpu"),
            lambda stages, x: stages(x),
        )

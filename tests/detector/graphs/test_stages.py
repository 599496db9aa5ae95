"""The trunks as data name the same stages and tensors as torch's networks."""

import pytest
import torch

from detector.errors import CheckpointError, ParameterError
from detector.graphs.heads import multibox_shapes, region_head_shapes
from detector.graphs.networks import range_keys
from detector.graphs.stages import TRUNKS, Conv, Pool, first_cell, shapes_of, stages_through, trunk_of
from detector.inference import shared_maps
from detector.inference.image_scales import first_centre
from detector.models.checkpoint import ARCHITECTURES
from detector.models.multibox_head import MultiBoxHead
from detector.models.multibox_spec import MultiBoxSpec
from detector.models.region_network import RegionNetwork
from tests.detector.graphs.random_weights import detector_weights


def test_both_know_the_same_architectures() -> None:
    assert TRUNKS.keys() == ARCHITECTURES.keys()


@pytest.mark.parametrize("architecture", TRUNKS)
def test_stages_and_shapes_are_those_of_the_torch_network(architecture: str) -> None:
    with torch.device("meta"):
        features = ARCHITECTURES[architecture](7).features
    trunk = trunk_of(architecture)
    assert [stage.name for stage in trunk] == [name for name, _ in features.named_children()]
    expected = {f"a.{name}": tuple(value.shape) for name, value in features.state_dict().items()}
    assert dict(shapes_of(trunk, "a.")) == expected


@pytest.mark.parametrize(
    ("boxes", "iou", "location"),
    [
        pytest.param(True, True, False, id="a box head and an IoU head"),
        pytest.param(True, False, False, id="a box head"),
        pytest.param(False, True, False, id="an IoU head"),
        pytest.param(False, False, False, id="none"),
        pytest.param(False, False, True, id="a location head"),
    ],
)
def test_shapes_of_region_heads_are_those_of_the_torch_network(
    boxes: bool, iou: bool, location: bool
) -> None:
    weights = detector_weights(boxes=boxes, iou=iou, location=location)
    with torch.device("meta"):
        labels = torch.zeros(8, dtype=torch.int64)
        network = RegionNetwork(
            ARCHITECTURES["googlenet"](8),
            labels,
            3,
            box_regression=boxes,
            iou_prediction=iou,
            location=location,
        )
    state = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    expected = {name: shape for name, shape in state.items() if not name.startswith("backbone.")}
    assert region_head_shapes(weights.tensors) == expected


def test_shapes_of_multibox_are_those_of_the_torch_network(multibox_spec: MultiBoxSpec) -> None:
    with torch.device("meta"):
        state = MultiBoxHead(multibox_spec).state_dict()
    assert multibox_shapes(multibox_spec) == {
        f"multibox.{name}": tuple(value.shape) for name, value in state.items()
    }


@pytest.mark.parametrize("architecture", TRUNKS)
def test_each_stage_reads_what_the_one_before_gives(architecture: str) -> None:
    channels = 3
    for stage in trunk_of(architecture):
        if isinstance(stage, Conv):
            assert stage.channels == channels, stage.name
            channels = stage.filters
        elif hasattr(stage, "branches"):
            assert {branch[0].channels for branch in stage.branches} == {channels}, stage.name
            channels = sum(branch[-1].filters for branch in stage.branches)
    assert channels == 1024


def test_int8_knows_the_range_of_all_that_is_no_maximum() -> None:
    """Maxima and concatenations stay in the steps of what they are made of."""
    trunk = trunk_of("googlenet")
    keys = range_keys(trunk)
    assert len(keys) == len(set(keys)) == 3 + 2 + 9 * (6 + 1)
    assert not [stage for stage in trunk if isinstance(stage, Pool) and f"features.{stage.name}" in keys]
    assert {"features.conv1", "features.norm2", "features.inception_4e"} <= set(keys)
    assert "features.inception_3a.branch5.1" in keys


@pytest.mark.parametrize(
    ("stage", "count"),
    [("conv1", 1), ("pool2", 7), ("inception_4e", 15), ("inception_5b", 18)],
)
def test_stages_are_counted_as_torch_counts_them(stage: str, count: int) -> None:
    trunk = trunk_of("googlenet")
    assert stages_through(trunk, stage) == count
    assert shared_maps.stages_through([part.name for part in trunk], stage) == count


def test_what_is_unknown_is_told_with_what_is_known() -> None:
    with pytest.raises(CheckpointError, match=r"b\.onnx is of architecture 'vgg16'; this version knows goog"):
        trunk_of("vgg16", "b.onnx")
    with pytest.raises(ParameterError, match="the trunk has no stage 'conv9', only conv1, pool1, norm1"):
        stages_through(trunk_of("googlenet"), "conv9")


@pytest.mark.parametrize(
    ("architecture", "centre"),
    [
        pytest.param("googlenet", 30.5, id="four poolings of 3, each a cell of its input later"),
        pytest.param("torchvision-googlenet", 22.5, id="the last pooling is of 2: half a cell"),
    ],
)
def test_where_the_first_cell_lies(architecture: str, centre: float) -> None:
    assert first_cell(trunk_of(architecture)) == (centre, 32)


def test_the_first_cell_is_where_shared_maps_have_it() -> None:
    """Of the maps that regions are cut out of, and of those after one more pooling without padding."""
    trunk = trunk_of("googlenet")
    assert first_cell(trunk[: stages_through(trunk, "inception_4e")]) == (first_centre(16), 16)

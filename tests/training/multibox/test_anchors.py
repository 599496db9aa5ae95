"""The anchors of a new head: which objects they are chosen from, and that they fit what the networks give."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch

from detector.datasets.annotated_image import AnnotatedImage
from detector.errors import ParameterError
from detector.inference.image_scales import ImageScales, first_centre
from detector.inference.shared_maps import SharedMaps
from detector.models.checkpoint import ARCHITECTURES
from detector.models.image_trunk import MappedStages
from detector.models.multibox_head import MultiBoxHead
from detector.structures.boxes import as_boxes
from training.multibox.anchors import STRIDES, anchors_of, choose_anchors, sides_at_scales


def record(
    width: int, height: int, boxes: Sequence[tuple[float, ...]], unknown: Sequence[tuple[float, ...]] = ()
) -> AnnotatedImage:
    known, others = as_boxes(list(boxes)), as_boxes(list(unknown))
    labels = np.zeros(len(known), np.int64)
    return AnnotatedImage("a", Path("a.png"), width, height, known, labels, unknown=others)


SCALES = ImageScales((50, 100))


@pytest.mark.parametrize(
    ("records", "sides"),
    [
        pytest.param([record(200, 100, [(0, 0, 40, 60)])], [[20, 30], [40, 60]], id="at each scale"),
        pytest.param([record(50, 40, [(5, 5, 15, 25)])], [[12.5, 25], [25, 50]], id="enlarged"),
        pytest.param([record(500, 100, [(0, 0, 40, 60)])], [[10, 15], [20, 30]], id="a long one is smaller"),
        pytest.param(
            [record(100, 200, [(0, 0, 20, 20)], [(0, 0, 40, 30)])],
            [[10, 10], [20, 15], [20, 20], [40, 30]],
            id="objects of unknown class as well",
        ),
        pytest.param([record(200, 100, [(0, 0, 10, 10)])], [[10, 10]], id="where it is large enough"),
        pytest.param([record(200, 100, [(0, 0, 3, 90)])], [[3, 90]], id="not where it is a line"),
        pytest.param(
            [record(1000, 100, [(0, 0, 900, 100)]), record(100, 100, [(0, 0, 9, 9)])], [[9, 9], [112.5, 12.5],
            [225, 25]], id="of all pictures",
        ),
    ],
)  # fmt: skip
def test_sides_by_hand(records: list[AnnotatedImage], sides: list[list[float]]) -> None:
    found = sides_at_scales(records, SCALES)
    assert found.dtype == np.float32
    assert np.allclose(sorted(found.tolist()), sorted(sides))


@pytest.mark.parametrize(
    "records",
    [
        pytest.param([], id="no picture"),
        pytest.param([record(100, 100, [])], id="no object"),
        pytest.param([record(100, 100, [(0, 0, 5, 5)])], id="one too small at the largest scale"),
        pytest.param([record(1000, 1000, [(0, 0, 10, 900)])], id="a line"),
    ],
)
def test_where_nothing_can_be_sought_it_is_said(records: list[AnnotatedImage]) -> None:
    with pytest.raises(ParameterError, match="no picture has an object that is large enough"):
        sides_at_scales(records, SCALES)


def test_of_very_many_objects_some_are_clustered() -> None:
    random = np.random.default_rng(0)
    boxes = np.concatenate([np.zeros((20_000, 2)), random.uniform(20, 90, (20_000, 2))], axis=1)
    many = [record(100, 100, boxes.tolist())]
    first = sides_at_scales(many, SCALES)
    assert len(first) == 30_000
    assert np.array_equal(first, sides_at_scales(many, SCALES))
    assert not np.array_equal(first, sides_at_scales(many, SCALES, seed=1))


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
@torch.no_grad()
def test_a_head_fits_the_network_that_it_is_chosen_for(architecture: str) -> None:
    """It reads the last stages before two poolings; whatever the size, there is one output a prior."""
    network = ARCHITECTURES[architecture](10).eval()
    random = np.random.default_rng(0)
    boxes = np.concatenate([np.zeros((30, 2)), random.uniform(5, 90, (30, 2))], axis=1)
    shared = SharedMaps((50, 100), 2.0, 16)
    spec = choose_anchors(
        architecture, network.features, [record(100, 100, boxes.tolist())], shared, 9, seed=0
    )
    assert [(grid.stride, grid.first_centre) for grid in spec.grids] == [
        (stride, first_centre(stride)) for stride in STRIDES
    ]
    assert sum(len(grid.sides) for grid in spec.grids) == 9
    assert all(len(grid.sides) for grid in spec.grids)
    assert spec.image == ImageScales((50, 100), 2.0, 16)
    head, mapped = MultiBoxHead(spec).eval(), MappedStages(network.features, spec.stages)
    sizes = [(16, 16), (48, 80), (112, 144)]
    for size, anchors in zip(sizes, anchors_of(spec, sizes, torch.device("cpu")), strict=True):
        x = torch.rand(2, 3, *size)
        maps = mapped(x)
        output = head(*(maps[stage] for stage in spec.stages))
        assert output.shape == (2, len(anchors), 5)
        centres = (anchors[:, :2] + anchors[:, 2:]) / 2
        # Those of the head's own coarse grids may lie beyond the image, by less than half a cell.
        assert (centres >= 0).all()
        assert (centres - torch.tensor([x.shape[3], x.shape[2]]) < 32).all()


def test_the_choice_is_a_function_of_the_seed() -> None:
    network = ARCHITECTURES["googlenet"](10).eval()
    random = np.random.default_rng(1)
    boxes = np.concatenate([np.zeros((60, 2)), random.uniform(5, 90, (60, 2))], axis=1)
    records = [record(100, 100, boxes.tolist())]
    first, again, other = (
        choose_anchors("googlenet", network.features, records, SCALES, 8, seed=seed) for seed in (0, 0, 1)
    )
    assert first == again
    assert first != other


@pytest.mark.parametrize(
    ("boxes", "shapes", "says"),
    [
        pytest.param(1, 4, "4 shapes of priors need at least as many different boxes", id="too few objects"),
        pytest.param(9, 3, "4 grids need at least as many shapes, got 3", id="too few shapes"),
    ],
)
def test_what_no_head_can_be_chosen_from(boxes: int, shapes: int, says: str) -> None:
    network = ARCHITECTURES["googlenet"](10).eval()
    records = [record(100, 100, [(0, 0, 20 + 5 * number, 30) for number in range(boxes)])]
    with pytest.raises(ParameterError, match=says):
        choose_anchors("googlenet", network.features, records, SCALES, shapes, seed=0)

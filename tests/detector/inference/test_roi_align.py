"""RoIAlign gives what torchvision's gives, and so does its gradient, wherever a region lies."""

import pytest
import torch
from torch import Tensor
from torchvision import ops

from detector.inference.roi_align import roi_align

SIZE, SCALE = 7, 1 / 16

REGIONS = {
    "none": [],
    "inside": [(0, 40, 30, 260, 190)],
    "the whole map": [(0, 0, 0, 288, 208)],
    "over all edges": [(0, -90, -70, 400, 300)],
    "over the edge by less than a cell, and by more": [(0, -12, 20, 60, 90), (0, 200, 150, 330, 260)],
    "beside the map": [(0, 600, 20, 800, 120), (0, -500, -400, -300, -200)],
    "smaller than a cell": [(0, 100, 100, 104, 103)],
    "without area": [(0, 64, 80, 64, 80)],
    "turned round": [(0, 260, 190, 40, 30)],
    "of several images, in any order": [(1, 40, 30, 260, 190), (0, 10, 60, 70, 200), (1, -20, 0, 90, 90)],
}
"""Image and corners in pixels, of maps of 13 x 18 cells (208 x 288 pixels) of two images."""

LAYOUTS = {"channels first": torch.contiguous_format, "channels last": torch.channels_last}


def maps(height: int = 13, width: int = 18) -> Tensor:
    return torch.randn(2, 5, height, width, generator=torch.Generator().manual_seed(0))


def by_torchvision(values: Tensor, regions: Tensor) -> Tensor:
    return ops.roi_align(values, regions, SIZE, spatial_scale=SCALE, sampling_ratio=1, aligned=True)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
@pytest.mark.parametrize("regions", REGIONS.values(), ids=REGIONS.keys())
def test_values_and_gradient_are_torchvisions(regions: list[tuple], layout: torch.memory_format) -> None:
    boxes = torch.tensor(regions, dtype=torch.float32).reshape(-1, 5)
    ours = maps().to(memory_format=layout).requires_grad_()
    theirs = maps().requires_grad_()
    cells, expected = roi_align(ours, boxes, SIZE, SCALE), by_torchvision(theirs, boxes)
    assert cells.shape == expected.shape == (len(regions), 5, SIZE, SIZE)
    torch.testing.assert_close(cells, expected, rtol=1e-4, atol=1e-5)
    slope = torch.randn(expected.shape, generator=torch.Generator().manual_seed(1))
    (cells * slope).sum().backward()
    (expected * slope).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (6, 1)], ids=str)
def test_maps_of_one_row_or_column(height: int, width: int) -> None:
    boxes = torch.tensor([[0, -8, -8, 24, 24], [1, 0, 0, 16 * width, 16 * height]], dtype=torch.float32)
    values = maps(height, width)
    expected = by_torchvision(values, boxes)
    torch.testing.assert_close(roi_align(values, boxes, SIZE, SCALE), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS.keys())
def test_an_images_regions_are_the_same_alone(layout: torch.memory_format) -> None:
    """Bit by bit, whatever images and regions are beside them."""
    boxes = torch.tensor(REGIONS["of several images, in any order"], dtype=torch.float32)
    values = maps().to(memory_format=layout)
    together = roi_align(values, boxes, SIZE, SCALE)
    for index in (0, 1):
        own = boxes[:, 0] == index
        alone = torch.cat([torch.zeros(int(own.sum()), 1), boxes[own, 1:]], dim=1)
        assert torch.equal(roi_align(values[index : index + 1], alone, SIZE, SCALE), together[own])


def test_numbers_of_other_precision_go_to_torchvision() -> None:
    boxes = torch.tensor([[0, 40, 30, 260, 190]], dtype=torch.float64)
    values = maps().double()
    assert torch.equal(roi_align(values, boxes, SIZE, SCALE), by_torchvision(values, boxes))


def test_cells_lie_as_a_cpu_trains_on_them() -> None:
    """Channels last: no copy between the trunk, the regions and the stages that read them."""
    values = maps().to(memory_format=torch.channels_last).requires_grad_()
    cells = roi_align(values, torch.tensor([[0, 40.0, 30, 260, 190]]), SIZE, SCALE)
    assert cells.is_contiguous(memory_format=torch.channels_last)
    cells.sum().backward()
    assert values.grad is not None
    assert values.grad.is_contiguous(memory_format=torch.channels_last)

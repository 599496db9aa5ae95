"""Whole images at several scales: how large they become, and where the cells of maps of them lie."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detector.errors import ParameterError
from detector.inference.image_scales import ImageScales, first_centre, resize_to_scale, scale_image, zoomed
from detector.inference.preprocessing import Preprocessing
from detector.inference.shared_maps import SharedMaps
from detector.inference.torch_arrays import TorchArrays
from detector.models.googlenet import GoogLeNet
from detector.models.multibox_head import MultiBoxHead
from detector.models.multibox_spec import MultiBoxSpec
from detector.models.torchvision_googlenet import TorchvisionGoogLeNet

PREPROCESSING = Preprocessing((104.0, 117.0, 123.0), (1.0, 2.0, 4.0))
CPU = TorchArrays(torch.device("cpu"))


@pytest.mark.parametrize(
    ("size", "scale", "padded"),
    [
        pytest.param((227, 300), 227, (304, 368), id="as it is"),
        pytest.param((454, 600), 227, (304, 368), id="reduced"),
        pytest.param((100, 132), 227, (304, 368), id="enlarged"),
        pytest.param((100, 1000), 227, (128, 640), id="a long one: 2.5 times the scale at most"),
        pytest.param((1, 5000), 227, (80, 640), id="a line"),
    ],
)
def test_sizes_are_bounded_and_whole_cells(
    size: tuple[int, int], scale: int, padded: tuple[int, int]
) -> None:
    image = np.zeros((*size, 3), np.uint8)
    pixels = scale_image(image, scale, ImageScales(), PREPROCESSING, CPU).pixels
    assert pixels.shape == (1, 3, *padded)


@pytest.mark.parametrize("mirrored", [False, True], ids=["plain", "mirrored"])
def test_pixels_stand_at_the_padding_and_nothing_around_them(mirrored: bool) -> None:
    """Zero is the mean colour: what lies around the image says nothing."""
    image = np.random.default_rng(0).integers(0, 256, (50, 64, 3), np.uint8)
    scaled = scale_image(image, 50, ImageScales((50,), padding=9), PREPROCESSING, CPU, mirrored=mirrored)
    assert scaled.factors.tolist() == [1, 1, 1, 1]
    shown = scaled.pixels[0, :, 9 : 9 + 50, 9 : 9 + 64]
    expected = (image[:, ::-1] if mirrored else image) - np.array(PREPROCESSING.mean)
    assert np.allclose(shown.permute(1, 2, 0), expected / np.array(PREPROCESSING.std))
    shown.zero_()
    assert not scaled.pixels.any()


@pytest.mark.parametrize(
    ("size", "scale"), [((40, 90), 33), ((300, 17), 64), ((64, 64), 64), ((7, 200), 48)], ids=str
)
def test_factors_turn_boxes_of_the_image_into_those_of_its_pixels(size: tuple[int, int], scale: int) -> None:
    """Each axis has its own: both sides are rounded to whole pixels."""
    resized, factors = resize_to_scale(np.zeros((*size, 3), np.uint8), scale, ImageScales((scale,)))
    height, width = size
    whole = np.array([0, 0, width, height], np.float32) * factors
    assert whole == pytest.approx([0, 0, resized.shape[1], resized.shape[0]], rel=1e-6)


def test_larger_scales_are_of_the_same_kind() -> None:
    shared = SharedMaps((64, 129), long_side=3.0, padding=16, stage="inception_4d", size=7)
    assert zoomed(shared, 1.5) == replace(shared, scales=(96, 194))
    assert zoomed(shared.image, 0.5) == ImageScales((32, 64), 3.0, 16)
    assert type(shared.image) is ImageScales


@pytest.mark.parametrize("kind", [ImageScales, SharedMaps])
@pytest.mark.parametrize(
    "change",
    [
        {"scales": ()},
        {"scales": (300, 200)},
        {"scales": (200, 200)},
        {"scales": (0, 200)},
        {"scales": (15, 200)},
        {"scales": [227]},
        {"scales": (True,)},
        {"scales": (227.0,)},
        {"scales": (100_000,)},
        {"long_side": 0.5},
        {"long_side": float("nan")},
        {"long_side": "2"},
        {"padding": -1},
        {"padding": 1.5},
    ],
    ids=str,
)
def test_impossible_settings_are_refused(kind: type[ImageScales], change: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(change))):
        replace(kind(), **change)


class Even(nn.Module):
    """In place of a normalisation: it leaves everything as it is."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def made_linear(module: nn.Module) -> nn.Module:
    """Let all places under a filter or in a pooling count alike: a cell then sees around its middle."""
    for name, part in module.named_children():
        if isinstance(part, nn.MaxPool2d):
            new: nn.Module = nn.AvgPool2d(
                part.kernel_size, part.stride, part.padding, part.ceil_mode, count_include_pad=True
            )
        elif isinstance(part, nn.Conv2d):
            new = part
            nn.init.constant_(part.weight, 1 / part.weight[0].numel())
            if part.bias is not None:
                nn.init.zeros_(part.bias)
        elif isinstance(part, nn.BatchNorm2d | nn.GroupNorm) or "Norm" in type(part).__name__:
            new = Even()
        else:
            new = made_linear(part)
        setattr(module, name, new)
    return module


@pytest.mark.parametrize("network", [GoogLeNet, TorchvisionGoogLeNet])
def test_cells_have_their_centres_where_it_is_said(
    network: type[GoogLeNet | TorchvisionGoogLeNet], multibox_spec: MultiBoxSpec
) -> None:
    """The centre of the pixels that a cell sees, on maps that are read and on those that the head makes."""
    features = made_linear(network(10).features)
    head = made_linear(MultiBoxHead(multibox_spec))
    pixels = torch.ones(1, 3, 576, 512, requires_grad=True)
    levels, x = [], pixels
    for name, stage in features.named_children():
        x = stage(x)
        if name in ("inception_3b", "inception3b", "inception_4e", "inception4e"):
            levels.append(x)
        if name in ("inception_4e", "inception4e"):
            break
    x = head.mix(head.reduce(levels[-1]))  # type: ignore[operator]
    for down in head.down:  # type: ignore[union-attr]
        x = down(x)
        levels.append(x)
    assert len(levels) == len(multibox_spec.grids)
    centre = torch.arange(576) + 0.5
    for level, grid in zip(levels, multibox_spec.grids, strict=True):
        row, column = (min(side, round(256 / grid.stride)) for side in level.shape[2:])
        [seen] = torch.autograd.grad(level[0, :, row, column].sum(), pixels, retain_graph=True)
        weight = seen[0].sum(dim=0)
        y = (weight.sum(dim=1) * centre).sum() / weight.sum()
        x_centre = (weight.sum(dim=0) * centre[:512]).sum() / weight.sum()
        start = first_centre(grid.stride)
        assert y.item() == pytest.approx(row * grid.stride + start, abs=0.05)
        assert x_centre.item() == pytest.approx(column * grid.stride + start, abs=0.05)

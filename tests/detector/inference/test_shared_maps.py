"""Maps of a whole image stand in for those of crops: where cells lie, which scale is read, what is not."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from detector.errors import ParameterError
from detector.inference.image_scales import scale_image
from detector.inference.preprocessing import Preprocessing
from detector.inference.shared_maps import (
    SharedMaps,
    align,
    nearest_scale,
    stages_through,
    with_finer_scale,
)
from detector.inference.torch_arrays import TorchArrays
from detector.structures.boxes import as_boxes, flip

PREPROCESSING = Preprocessing((104.0, 117.0, 123.0), (1.0, 1.0, 1.0))
CPU = TorchArrays(torch.device("cpu"))


def trunk() -> nn.Sequential:
    """The strides of GoogLeNet through 4e, and so its places of cells, with a small field of view."""
    torch.manual_seed(0)
    pools = [nn.MaxPool2d(3, stride=2, ceil_mode=True) for _ in range(3)]
    return nn.Sequential(nn.Conv2d(3, 6, 7, stride=2, padding=3), *pools).eval()


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    """A picture without sharp edges: what lies half a cell beside is nearly the same."""
    small = np.random.default_rng(0).integers(0, 256, (12, 14, 3)).astype(np.uint8)
    tensor = torch.from_numpy(small).permute(2, 0, 1)[None].float()
    large = nn.functional.interpolate(tensor, size=(448, 512), mode="bicubic", align_corners=False)
    return large[0].permute(1, 2, 0).clamp(0, 255).to(torch.uint8).numpy()


@torch.no_grad()
def crop_maps(image: np.ndarray, window: tuple[int, int, int, int]) -> torch.Tensor:
    """The maps of a window's pixels, resized to a crop."""
    x1, y1, x2, y2 = window
    settings = SharedMaps(scales=(224,), padding=0)
    crop = scale_image(np.ascontiguousarray(image[y1:y2, x1:x2]), 224, settings, PREPROCESSING, CPU)
    return trunk()(crop.pixels)[:, :, :14, :14]


@torch.no_grad()
def shared_maps(image: np.ndarray, window: tuple[int, int, int, int], scale: int) -> torch.Tensor:
    settings = SharedMaps(scales=(scale,))
    whole = scale_image(image, scale, settings, PREPROCESSING, CPU)
    return align([trunk()(whole.pixels)], as_boxes([window]), [whole.factors], settings, 224, CPU)


@pytest.mark.parametrize(
    ("window", "scale", "most"),
    [
        pytest.param((112, 128, 336, 352), 448, 1e-3, id="a crop's own size, on the cells: the same"),
        pytest.param((117, 131, 341, 355), 448, 0.15, id="between the cells"),
        pytest.param((64, 80, 176, 192), 896, 0.15, id="half a crop's size, seen enlarged"),
        pytest.param((20, 12, 468, 436), 224, 0.3, id="twice a crop's size, seen reduced"),
        pytest.param((112, 128, 224, 240), 448, 0.4, id="half a crop's size at a scale that is too small"),
    ],
)
def test_cells_lie_where_those_of_a_crop_lie(
    image: np.ndarray, window: tuple[int, int, int, int], scale: int, most: float
) -> None:
    """Away from the borders, where a crop sees its context cut off; as a share of how much cells differ."""
    crop = crop_maps(image, window)[..., 2:-2, 2:-2]
    shared = shared_maps(image, window, scale)[..., 2:-2, 2:-2]
    assert ((crop - shared).abs().mean() / crop.std()).item() < most


@torch.no_grad()
def test_the_mirrored_image_gives_what_its_mirrored_pixels_give(image: np.ndarray) -> None:
    settings, boxes = SharedMaps(), as_boxes([(10, 20, 200, 300), (5, 5, 70, 60)])
    turned = flip(boxes, image.shape[1])
    results = []
    for pixels, mirrored in ((image, True), (np.ascontiguousarray(image[:, ::-1]), False)):
        scaled = [
            scale_image(pixels, scale, settings, PREPROCESSING, CPU, mirrored=mirrored)
            for scale in settings.scales
        ]
        maps = [trunk()(one.pixels) for one in scaled]
        results.append(align(maps, turned, [one.factors for one in scaled], settings, 224, CPU))
    assert results[0].shape == (2, 6, 14, 14)
    # Resizing and turning commute up to the rounding of a pixel.
    assert torch.allclose(*results, atol=3.0)


@pytest.mark.parametrize(
    ("side", "level"),
    [(500, 0), (224, 0), (170, 0), (150, 1), (112, 1), (79, 2), (56, 2), (3, 2)],
)
def test_a_region_is_read_where_it_is_nearest_to_a_crop(side: float, level: int) -> None:
    """The borders lie at the geometric means."""
    factors = [np.full(4, zoom, np.float32) for zoom in (1, 2, 4)]
    assert nearest_scale(as_boxes([(0, 0, side, side)]), factors, 224).tolist() == [level]


@pytest.mark.parametrize(
    "change",
    [{"size": 0}, {"size": 57}, {"size": 14.0}, {"stage": ""}, {"stage": 4}, {"scales": (200, 100)}],
    ids=str,
)
def test_impossible_settings_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ParameterError, match=next(iter(change))):
        replace(SharedMaps(), **change)


def test_a_stage_that_is_none() -> None:
    assert stages_through(["conv1", "inception_4e", "pool4"], "inception_4e") == 2
    with pytest.raises(ParameterError, match="no stage 'inception_9z', only conv1"):
        stages_through(["conv1"], "inception_9z")


@pytest.mark.parametrize(
    ("scales", "expected"),
    [
        pytest.param((227, 454), (227, 454, 908), id="twice the last"),
        pytest.param((64,), (64, 128), id="of one"),
        pytest.param((64, 1500), (64, 1500, 2048), id="no more than there may be"),
        pytest.param((64, 2048), (64, 2048), id="the last is the largest there may be"),
    ],
)
def test_a_finer_scale(scales: tuple[int, ...], expected: tuple[int, ...]) -> None:
    settings = SharedMaps(scales, long_side=2.0, padding=16, size=7)
    assert with_finer_scale(settings) == replace(settings, scales=expected)

"""Warped regions against a reference that takes one pixel of one crop at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.inference.preprocessing import Preprocessing, add_context, resize_to_short_side
from detector.inference.region_crops import ImageView, warp
from detector.inference.torch_arrays import TorchArrays
from detector.structures.boxes import as_boxes

PREPARE = Preprocessing(mean=(120.0, 110.0, 100.0), std=(2.0, 1.0, 0.5))
CPU = TorchArrays(torch.device("cpu"))

BOXES = {
    "inside": (40, 30, 100, 90),
    "whole picture": (0, 0, 150, 120),
    "fractional corners": (10.25, 20.5, 61.75, 70.125),
    "over the left and top border": (0, 0, 20, 20),
    "over the right and bottom border": (130, 100, 150, 120),
    "one pixel": (75, 60, 76, 61),
    "one pixel in the corner": (149, 119, 150, 120),
    "flat": (0, 50, 150, 53),
    "tall": (70, 0, 72, 120),
    "no area at all": (30, 30, 30, 30),
    "outside": (-90, -80, -40, -30),
}


@pytest.mark.parametrize("box", BOXES.values(), ids=BOXES.keys())
@pytest.mark.parametrize("context", [0, 16])
def test_equals_the_reference(box: tuple[float, ...], context: int) -> None:
    prepare = Preprocessing(PREPARE.mean, PREPARE.std, size=24, context=min(context, 4))
    image = np.random.default_rng(0).integers(0, 256, (120, 150, 3), dtype=np.uint8)
    got = warp(CPU.normalise(image, prepare), as_boxes([box]), prepare, CPU)[0].numpy()
    assert np.abs(got - _reference(image, box, prepare)).max() < 0.02


def test_many_regions_are_the_same_as_one_by_one() -> None:
    image = np.random.default_rng(1).integers(0, 256, (120, 150, 3), dtype=np.uint8)
    picture = CPU.normalise(image, PREPARE)
    boxes = as_boxes(list(BOXES.values()))
    together = warp(picture, boxes, PREPARE, CPU)
    assert together.shape == (len(BOXES), 3, 224, 224)
    for crop, box in zip(together, boxes, strict=True):
        assert torch.allclose(crop, warp(picture, box[None], PREPARE, CPU)[0], atol=1e-4)


def test_no_regions() -> None:
    image = np.zeros((5, 5, 3), np.uint8)
    assert warp(CPU.normalise(image, PREPARE), as_boxes([]), PREPARE, CPU).shape == (0, 3, 224, 224)


def test_context_is_16_of_the_crops_pixels() -> None:
    """A box of 192 pixels fills the crop's inner 192, one to one."""
    assert add_context(as_boxes([(100, 100, 292, 292)]), PREPARE).tolist() == [[84, 84, 308, 308]]


def test_large_regions_are_not_aliased() -> None:
    """One-pixel stripes are grey from afar, not stripes of another width."""
    image = np.zeros((900, 900, 3), np.uint8)
    image[:, ::2] = 255
    prepare = Preprocessing((127.5,) * 3, (1.0,) * 3, context=0)  # type: ignore[arg-type]
    crop = warp(CPU.normalise(image, prepare), as_boxes([(0, 0, 900, 900)]), prepare, CPU)[0]
    assert crop[:, 4:-4, 4:-4].abs().max() < 2


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((40, 40), np.uint8),
        np.zeros((40, 40, 4), np.uint8),
        np.zeros((40, 40, 3), np.float32),
        np.zeros((40, 40, 3), np.uint16),
        np.zeros((0, 40, 3), np.uint8),
        np.zeros((40, 0, 3), np.uint8),
        np.zeros(40, np.uint8),
    ],
    ids=["grey", "with alpha", "float", "sixteen bits", "no rows", "no columns", "no picture at all"],
)
@pytest.mark.parametrize("short_side", [None, 20], ids=["as it is", "to be reduced"])
def test_other_arrays_are_refused(image: NDArray[np.generic], short_side: int | None) -> None:
    """A float picture in 0..1 that was made smaller first would come out black, and nobody would know."""
    prepare = replace(PREPARE, short_side=short_side)
    with pytest.raises(ParameterError, match="uint8"):
        resize_to_short_side(image, prepare)  # type: ignore[arg-type]
    with pytest.raises(ParameterError, match="uint8"):
        CPU.normalise(image, prepare)  # type: ignore[arg-type]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_gpu_equals_cpu() -> None:
    image = np.random.default_rng(2).integers(0, 256, (120, 150, 3), dtype=np.uint8)
    boxes = as_boxes(list(BOXES.values()))
    gpu = TorchArrays(torch.device("cuda"))
    on_cpu = warp(CPU.normalise(image, PREPARE), boxes, PREPARE, CPU)
    on_gpu = warp(gpu.normalise(image, PREPARE), boxes, PREPARE, gpu)
    assert torch.allclose(on_gpu.cpu(), on_cpu, atol=0.02)


def _reference(
    image: NDArray[np.uint8], box: tuple[float, ...], prepare: Preprocessing
) -> NDArray[np.float64]:
    """Bilinear interpolation at each crop pixel's centre; around the picture all is mean-coloured."""
    size = prepare.size
    x1, y1, x2, y2 = box
    centre = ((x1 + x2) / 2, (y1 + y2) / 2)
    scale = size / (size - 2 * prepare.context)
    w, h = max(x2 - x1, 1) * scale, max(y2 - y1, 1) * scale
    picture = (image.astype(np.float64) - prepare.mean) / prepare.std
    halvings = max(0, int(np.floor(np.log2(min(w, h) / size)))) if min(w, h) > size else 0
    for _ in range(halvings):
        odd = [(0, picture.shape[0] % 2), (0, picture.shape[1] % 2), (0, 0)]
        even = np.pad(picture, odd, mode="edge")  # the last of an odd number of pixels counts twice
        picture = (even[::2, ::2] + even[1::2, ::2] + even[::2, 1::2] + even[1::2, 1::2]) / 4
    reduce = 2**halvings
    crop = np.zeros((3, size, size))
    for row in range(size):
        for column in range(size):
            x = (centre[0] - w / 2 + (column + 0.5) / size * w) / reduce - 0.5
            y = (centre[1] - h / 2 + (row + 0.5) / size * h) / reduce - 0.5
            left, top = int(np.floor(x)), int(np.floor(y))
            for dy in (0, 1):
                for dx in (0, 1):
                    i, j = top + dy, left + dx
                    if 0 <= i < picture.shape[0] and 0 <= j < picture.shape[1]:
                        crop[:, row, column] += picture[i, j] * (1 - abs(x - j)) * (1 - abs(y - i))
    return crop


def test_a_view_gives_the_crops_of_its_reduced_picture() -> None:
    image = np.random.default_rng(0).integers(0, 256, (90, 1000, 3), np.uint8)
    prepare = Preprocessing((100, 110, 120), (1, 2, 3), context=0, short_side=45)
    view = ImageView(image, prepare)
    assert (view.width, view.height, view.pixels.shape) == (1000, 90, (45, 500, 3))
    boxes = as_boxes([(0, 0, 1000, 90), (100, 20, 140, 60)])
    got = view.crops(boxes * view.factors, 224, CPU)
    expected = warp(CPU.normalise(view.pixels, prepare), boxes / 2, prepare, CPU)
    assert torch.allclose(got, expected, atol=1e-3)
    assert torch.equal(view.crops(view.whole, 224, CPU)[0], got[0])

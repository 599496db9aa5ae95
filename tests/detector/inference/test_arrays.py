"""NumPy's arrays give what torch's give, operation by operation, but for rounding."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from detector.errors import ParameterError
from detector.inference.arrays import Array, Arrays
from detector.inference.numpy_arrays import NumpyArrays
from detector.inference.preprocessing import Preprocessing
from detector.inference.torch_arrays import TorchArrays
from detector.structures.boxes import Boxes, as_boxes

NUMPY, TORCH = NumpyArrays(), TorchArrays(torch.device("cpu"))

TOLERANCE = 1e-5
"""How far numbers may lie apart, as a share of the range of all of them."""

WINDOWS = {
    "none": [],
    "inside": [(3, 2, 21, 15)],
    "the whole image": [(0, 0, 31, 22)],
    "fractional corners": [(3.25, 2.5, 17.125, 13.75)],
    "over the left and upper edge": [(-9.5, -4.25, 8, 7)],
    "over the right and lower edge": [(25, 14.5, 40, 33)],
    "over all edges": [(-20, -30, 60, 45)],
    "beside the image": [(40, 2, 60, 15)],
    "far away": [(-9e3, -9e3, -8e3, -8e3), (5e4, 3, 6e4, 9)],
    "just touching the edge": [(31, 0, 40, 22), (-9, 0, 0, 22)],
    "less than half a pixel outside": [(-0.4, -0.4, 0.4, 0.4), (30.6, 21.6, 31.4, 22.4)],
    "half a pixel to two outside": [(-1.9, -1.9, 0, 0), (31, 22, 33, 24)],
    "tiny": [(7.4, 8.1, 7.5, 8.2)],
    "without area": [(5, 5, 5, 5), (9, 3, 9, 17)],
    "turned round": [(21, 15, 3, 2)],
    "huge": [(-2e3, -1e3, 3e3, 2e3)],
    "flat and tall": [(0, 10, 31, 10.5), (4, -50, 4.5, 80)],
    "several, of all kinds": [(3, 2, 21, 15), (-20, -30, 60, 45), (40, 2, 60, 15), (5, 5, 5, 5)],
}
"""Of an image of 31 x 22 pixels, or in the pixels of maps of as many cells."""

IMAGES = {"an image": (22, 31), "one pixel": (1, 1), "one row": (1, 9), "one column": (7, 1)}


def noise(*shape: int) -> NDArray[np.float32]:
    return np.random.default_rng(0).normal(0, 60, shape).astype(np.float32)


def assert_alike(by_numpy: Array, by_torch: Array) -> None:
    """Same shape, both float32, and the same numbers but for rounding."""
    assert isinstance(by_numpy, np.ndarray)
    assert isinstance(by_torch, torch.Tensor)
    expected = by_torch.numpy()
    assert by_numpy.shape == expected.shape
    assert by_numpy.dtype == expected.dtype == np.float32
    span = max(float(np.ptp(expected)), 1e-3) if expected.size else 1
    assert np.abs(by_numpy - expected).max(initial=0) <= TOLERANCE * span


def both(values: NDArray[np.float32], do: Callable[[Arrays, Array], Array]) -> None:
    """Do the same by both kinds of arrays, and compare."""
    before = values.copy()
    by_numpy, by_torch = do(NUMPY, values), do(TORCH, torch.from_numpy(values.copy()))
    assert_alike(by_numpy, by_torch)
    assert np.array_equal(values, before), "what is read stays as it is"


@pytest.mark.parametrize("shape", [(22, 31), (1, 1), (1, 9), (480, 640)], ids=str)
@pytest.mark.parametrize(
    ("mean", "std"),
    [
        pytest.param((104.0, 117.0, 123.0), (1.0, 1.0, 1.0), id="Caffe's"),
        pytest.param((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), id="torchvision's"),
        pytest.param((0.0, -255.0, 255.0), (0.01, 255.0, 0.5), id="as far as it may go"),
    ],
)
def test_normalise(shape: tuple[int, int], mean: tuple, std: tuple) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)
    preprocessing = Preprocessing(mean, std)
    by_numpy, by_torch = (arrays.normalise(pixels, preprocessing) for arrays in (NUMPY, TORCH))
    assert_alike(by_numpy, by_torch)
    assert by_numpy.flags.c_contiguous, "an engine reads it as it lies in memory"


@pytest.mark.parametrize(
    "view",
    [
        pytest.param(lambda pixels: pixels[::2, ::3], id="every second row, every third column"),
        pytest.param(lambda pixels: pixels[:, ::-1], id="turned left to right"),
        pytest.param(lambda pixels: np.asfortranarray(pixels), id="columns first in memory"),
        pytest.param(
            lambda pixels: np.frombuffer(pixels.tobytes(), np.uint8).reshape(pixels.shape), id="read-only"
        ),
    ],
)
def test_normalise_reads_pixels_however_they_lie_in_memory(view: Callable[[np.ndarray], np.ndarray]) -> None:
    pixels = view(np.random.default_rng(0).integers(0, 256, (22, 31, 3), np.uint8))
    preprocessing = Preprocessing((104.0, 117.0, 123.0), (1.0, 2.0, 3.0))
    by_numpy, by_torch = (arrays.normalise(pixels, preprocessing) for arrays in (NUMPY, TORCH))
    assert_alike(by_numpy, by_torch)
    expected = (pixels.astype(np.float64) - preprocessing.mean) / preprocessing.std
    assert np.allclose(by_numpy, expected.transpose(2, 0, 1), atol=1e-3)


@pytest.mark.parametrize("arrays", [NUMPY, TORCH], ids=["NumPy", "torch"])
@pytest.mark.parametrize(
    "image",
    [
        pytest.param(np.zeros((5, 5), np.uint8), id="grey"),
        pytest.param(np.zeros((5, 5, 4), np.uint8), id="with alpha"),
        pytest.param(np.zeros((5, 5, 3), np.float32), id="floats"),
        pytest.param(np.zeros((0, 5, 3), np.uint8), id="no rows"),
    ],
)
def test_normalise_refuses(arrays: Arrays, image: NDArray[np.generic]) -> None:
    with pytest.raises(ParameterError, match="uint8"):
        arrays.normalise(image, Preprocessing((0, 0, 0), (1, 1, 1)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "right", "below"),
    [
        pytest.param(32, 33, 47, id="all around"),
        pytest.param(0, 0, 0, id="none"),
        pytest.param(0, 5, 0, id="on the right alone"),
        pytest.param(0, 0, 3, id="below alone"),
        pytest.param(4, 0, 0, id="left and above alone"),
    ],
)
def test_pad(before: int, right: int, below: int) -> None:
    both(noise(3, 22, 31), lambda arrays, image: arrays.pad(image, before, right, below))
    assert NUMPY.pad(noise(3, 22, 31), before, right, below).shape == (
        1,
        3,
        22 + before + below,
        31 + before + right,
    )


@pytest.mark.parametrize(
    "shape",
    [(22, 32), (22, 31), (21, 32), (21, 31), (1, 8), (8, 1), (1, 1), (2, 2), (3, 3)],
    ids=lambda shape: f"{shape[0]} x {shape[1]}",
)
def test_halve(shape: tuple[int, int]) -> None:
    """What is left over of an odd side is the mean of what there is."""
    both(noise(3, *shape), lambda arrays, image: arrays.halve(image))
    both(noise(3, *shape), lambda arrays, image: arrays.halve(arrays.halve(image)))


@pytest.mark.parametrize("size", [1, 7, 24], ids=lambda size: f"{size} pixels")
@pytest.mark.parametrize("windows", WINDOWS.values(), ids=WINDOWS.keys())
def test_sample(windows: list[tuple[float, ...]], size: int) -> None:
    both(noise(3, 22, 31), lambda arrays, image: arrays.sample(image, as_boxes(windows), size))
    assert NUMPY.sample(noise(3, 22, 31), as_boxes(windows), size).shape == (len(windows), 3, size, size)


@pytest.mark.parametrize("shape", IMAGES.values(), ids=IMAGES.keys())
def test_sample_of_images_of_any_shape(shape: tuple[int, int]) -> None:
    height, width = shape
    windows = as_boxes([(0, 0, width, height), (-1, -1, width + 1, height + 1), (0.2, 0.3, 0.6, 0.9)])
    both(noise(3, *shape), lambda arrays, image: arrays.sample(image, windows, 5))


@pytest.mark.parametrize("arrays", [NUMPY, TORCH], ids=["NumPy", "torch"])
def test_sample_by_hand(arrays: Arrays) -> None:
    """A window of the image's own pixels gives them; half a pixel aside it gives the mean with the neighbour,
    and at the edge with the zero outside."""
    pixels = np.arange(1, 5, dtype=np.uint8).reshape(1, 4, 1).repeat(3, 2)
    image = arrays.normalise(pixels, Preprocessing((0, 0, 0), (1, 1, 1)))
    crops = arrays.sample(image, as_boxes([(0, -1, 4, 3), (0.5, -1, 4.5, 3)]), 4)
    # Rows lie at -1, 0, 1 and 2, counted from the centre of the only one.
    for crop, row in zip(np.asarray(crops), ([1, 2, 3, 4], [1.5, 2.5, 3.5, 2]), strict=True):
        for channel in crop:
            assert np.allclose(channel, [[0] * 4, row, [0] * 4, [0] * 4], atol=1e-5)


@pytest.mark.parametrize("scale", [1.0, 1 / 16], ids=["a cell a pixel", "a cell for 16 pixels"])
@pytest.mark.parametrize("size", [1, 7, 14], ids=lambda size: f"{size} cells")
@pytest.mark.parametrize("regions", WINDOWS.values(), ids=WINDOWS.keys())
def test_align(regions: list[tuple[float, ...]], size: int, scale: float) -> None:
    windows = as_boxes(regions) / np.float32(scale)
    both(noise(1, 5, 22, 31), lambda arrays, maps: arrays.align(maps, windows, size, scale))
    assert NUMPY.align(noise(1, 5, 22, 31), windows, size, scale).shape == (len(regions), 5, size, size)


@pytest.mark.parametrize("shape", IMAGES.values(), ids=IMAGES.keys())
def test_align_of_maps_of_any_shape(shape: tuple[int, int]) -> None:
    height, width = shape
    regions = as_boxes(
        [(0, 0, width, height), (-3, -3, width + 3, height + 3), (0.2, 0.3, 0.6, 0.9), (99, 99, 120, 130)]
    )
    both(noise(1, 4, *shape), lambda arrays, maps: arrays.align(maps, regions, 7, 1.0))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("operation", ["sample", "align"])
def test_many_random_windows(operation: str, seed: int) -> None:
    random = np.random.default_rng(seed)
    corner, sides = random.uniform(-15, 40, (60, 2)), random.exponential(12, (60, 2))
    windows = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
    if operation == "sample":
        both(noise(3, 22, 31), lambda arrays, image: arrays.sample(image, windows, 11))
    else:
        both(noise(1, 6, 22, 31), lambda arrays, maps: arrays.align(maps, windows, 11, 1.0))


def test_windows_beside_each_other_are_those_of_each_alone() -> None:
    image, maps = noise(3, 22, 31), noise(1, 4, 22, 31)
    windows: Boxes = as_boxes(WINDOWS["several, of all kinds"])
    for row, window in enumerate(windows[:, None]):
        assert np.array_equal(NUMPY.sample(image, windows, 9)[row], NUMPY.sample(image, window, 9)[0])
        assert np.array_equal(NUMPY.align(maps, windows, 9, 1.0)[row], NUMPY.align(maps, window, 9, 1.0)[0])


def test_what_is_cut_out_of_maps_has_its_channels_last_in_memory() -> None:
    """So it is made, copied and read without being put in another order."""
    rows = NUMPY.align(noise(1, 4, 22, 31), as_boxes(WINDOWS["several, of all kinds"]), 9, 1.0)
    assert rows.transpose(0, 2, 3, 1).flags.c_contiguous
    assert NUMPY.copy(rows[1:]).transpose(0, 2, 3, 1).flags.c_contiguous
    assert NUMPY.concatenate([rows, rows]).transpose(0, 2, 3, 1).flags.c_contiguous


@pytest.mark.parametrize("rows", [0, 1, 5], ids=lambda rows: f"{rows} rows")
def test_mirror(rows: int) -> None:
    both(noise(rows, 3, 6, 7), lambda arrays, crops: arrays.mirror(crops))
    assert NUMPY.mirror(noise(rows, 3, 6, 7)).flags.c_contiguous, "an engine reads it as it lies in memory"


@pytest.mark.parametrize(
    "index", [[], [0], [4, 0, 2], [3, 3, 3], list(range(5))], ids=["none", "one", "some", "one thrice", "all"]
)
def test_take(index: list[int]) -> None:
    both(noise(5, 3, 6, 7), lambda arrays, rows: arrays.take(rows, np.array(index, np.int64)))


@pytest.mark.parametrize("ends", [[5], [2, 5], [0, 3, 3, 5], [0, 0]], ids=str)
def test_concatenate(ends: list[int]) -> None:
    """Parts may be empty."""

    def do(arrays: Arrays, rows: Array) -> Array:
        starts = [0, *ends[:-1]]
        return arrays.concatenate([rows[first:last] for first, last in zip(starts, ends, strict=True)])

    both(noise(5, 3, 6, 7), do)


@pytest.mark.parametrize("arrays", [NUMPY, TORCH], ids=["NumPy", "torch"])
def test_a_copy_is_memory_of_its_own(arrays: Arrays) -> None:
    """A view would keep the rows of all others, and show what is written to them."""
    rows = noise(5, 2) if arrays is NUMPY else torch.from_numpy(noise(5, 2))
    some = arrays.copy(rows[1:3])
    rows[:] = 0
    assert np.array_equal(some, noise(5, 2)[1:3])


@pytest.mark.parametrize(
    "groups",
    [
        pytest.param([], id="no rows: one group is made, of none"),
        pytest.param([3], id="one row"),
        pytest.param([2, 2, 2, 2, 2], id="one group"),
        pytest.param([1, 0, 1, 4, 0], id="several, in no order"),
        pytest.param([4, 3, 2, 1, 0], id="a group for each row, backwards"),
        pytest.param([-1, 7, -1], id="any numbers"),
    ],
)
@pytest.mark.parametrize("kind", [np.int64, np.int32, np.int8])
def test_rows_made_in_groups_come_in_their_order(groups: list[int], kind: type) -> None:
    values = noise(len(groups), 3, 2, 2)
    asked: list[tuple[int, list[int]]] = []

    def do(arrays: Arrays, rows: Array) -> Array:
        def make(group: int, numbers: NDArray[np.int64]) -> Array:
            asked.append((group, numbers.tolist()))
            return arrays.take(rows, numbers) + group

        return arrays.in_groups(np.array(groups, kind), make)

    both(values, do)
    expected = [(g, [i for i, other in enumerate(groups) if other == g]) for g in sorted(set(groups))]
    assert asked == 2 * (expected or [(0, [])])
    assert np.array_equal(do(NUMPY, values), values + np.array(groups, np.float32).reshape(-1, 1, 1, 1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("operation", ["sample", "align"])
def test_a_gpu_gives_the_same(operation: str) -> None:
    gpu = TorchArrays(torch.device("cuda"))
    windows = as_boxes([window for some in WINDOWS.values() for window in some])
    if operation == "sample":
        image = noise(3, 22, 31)
        found = gpu.sample(torch.from_numpy(image).cuda(), windows, 24)
        expected = NUMPY.sample(image, windows, 24)
    else:
        maps = noise(1, 5, 22, 31)
        found, expected = (
            gpu.align(torch.from_numpy(maps).cuda(), windows, 14, 1.0),
            NUMPY.align(maps, windows, 14, 1.0),
        )
    assert np.allclose(found.cpu(), expected, atol=1e-2)

"""From boxes of an image to the crops that a network sees, batched, on the device.

Letters for shapes: H and W of the image, R regions or windows; a crop is 224x224.
"""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from threading import Lock
from typing import Any, TypeVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from detector.errors import ParameterError
from detector.io.decoding import ImageInput, as_rgb
from detector.structures.boxes import Boxes, as_boxes

T = TypeVar("T")

MAX_SIZE = 1024
"""Most pixels a side of a crop: a batch of larger ones would not fit a machine's memory."""

MAX_SHORT_SIDE = 65_535


@dataclass(frozen=True)
class Preprocessing:
    """How crops are made for a network; part of its checkpoint.

    ``mean`` and ``std`` are per RGB channel on the scale 0..255. ``context`` is how many of the crop's
    ``size`` pixels on each side show what lies around the proposal (R-CNN, arXiv 1311.2524, appendix A).
    ``short_side`` is the shorter side in pixels of the pictures a detector was trained on: larger ones are
    reduced to it, for a crop of a sharper picture is another thing to the network (None: none are).
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    size: int = 224
    context: int = 16
    short_side: int | None = None

    def __post_init__(self) -> None:
        """Raises ParameterError for numbers that no crop can be made with."""
        # Pixels lie in 0..255: a mean beyond them, or a deviation that they cannot have, is a damaged number.
        _check_colour("mean", self.mean, -255, 255)
        _check_colour("std", self.std, 0.01, 255)
        _check_whole("size", self.size, 1, MAX_SIZE)
        _check_whole("context", self.context, 0, (self.size - 1) // 2)
        if self.short_side is not None:
            _check_whole("short_side", self.short_side, 1, MAX_SHORT_SIDE)


def _check_colour(name: str, value: object, low: float, high: float) -> None:
    numbers = value if isinstance(value, tuple) else ()
    real = [isinstance(one, int | float) and not isinstance(one, bool) for one in numbers]
    if len(real) != 3 or not all(real) or not all(low <= one <= high for one in numbers):
        raise ParameterError(f"{name} must be three numbers in {low:g}..{high:g}, got {value!r}")


def _check_whole(name: str, value: object, low: int, high: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise ParameterError(f"{name} must be a whole number in {low}..{high}, got {value!r}")


def check_image(image: NDArray[np.generic]) -> None:
    """Raises ParameterError for an array that is no uint8 [H,W,3] with pixels, saying how to make it one."""
    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.uint8 and image.size:
        return
    if not image.size:
        advice = "it has no pixels"
    elif image.dtype != np.uint8:
        advice = "convert it: (image * 255).astype(numpy.uint8) for values of 0..1"
    elif image.ndim == 2 or (image.ndim == 3 and image.shape[2] == 1):
        advice = "make it RGB: numpy.dstack([image] * 3)"
    elif image.ndim == 3 and image.shape[2] == 4:
        advice = "take its alpha channel off: image[:, :, :3]"
    elif image.ndim == 3 and image.shape[0] == 3:
        advice = "put the channels last: image.transpose(1, 2, 0)"
    elif image.ndim == 4:
        advice = "it holds several pictures: give them one by one"
    else:
        advice = "it is no picture"
    raise ParameterError(
        f"a picture must be uint8 [H,W,3] RGB, got {image.dtype} {list(image.shape)}: {advice}"
    )


def resize_to_short_side(
    image: NDArray[np.uint8], preprocessing: Preprocessing
) -> tuple[NDArray[np.uint8], Boxes]:
    """Return an image [H,W,3] at the size the network is used to, and factors [1,4] for boxes of the image.

    Boxes times the factors, float32, are those of the image that is returned. An image that is small enough
    is returned as it is. Raises ParameterError for an array that is no image.
    """
    check_image(image)
    height, width = image.shape[:2]
    size = reduced_size(width, height, preprocessing)
    factors = reduction(width, height, preprocessing)
    if size == (width, height):
        return image, factors
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False), factors


def reduced_size(width: int, height: int, preprocessing: Preprocessing) -> tuple[int, int]:
    """Return width and height of an image at the size the network is used to."""
    shrink = (preprocessing.short_side or min(height, width)) / min(height, width)
    if shrink >= 1:
        return width, height
    return max(1, round(width * shrink)), max(1, round(height * shrink))


def reduction(width: int, height: int, preprocessing: Preprocessing) -> Boxes:
    """Return the factors [1,4] that turn boxes of an image into boxes of it at the size the network is used
    to."""
    columns, rows = reduced_size(width, height, preprocessing)
    return np.array([[columns / width, rows / height] * 2], np.float32)


def normalise(image: NDArray[np.uint8], preprocessing: Preprocessing, device: torch.device) -> Tensor:
    """Turn an image [H,W,3] uint8 RGB into [3,H,W] float32 on the device, mean taken out, divided by std.

    Raises ParameterError for an array that is no such image.
    """
    check_image(image)
    writable = np.require(image, requirements=["C", "W"])  # torch warns of memory that it must not write to
    pixels = torch.from_numpy(writable).to(device).permute(2, 0, 1).float()
    mean = torch.tensor(preprocessing.mean, dtype=torch.float32, device=device)[:, None, None]
    std = torch.tensor(preprocessing.std, dtype=torch.float32, device=device)[:, None, None]
    return (pixels - mean) / std


def add_context(boxes: Boxes, preprocessing: Preprocessing) -> Boxes:
    """Widen boxes [R,4] so that, warped to a crop, each keeps ``context`` pixels around it.

    A side below one pixel counts as one: there is nothing less to look at.
    """
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
    half = sides / 2 * (preprocessing.size / (preprocessing.size - 2 * preprocessing.context))
    return np.concatenate([centre - half, centre + half], axis=1).astype(np.float32)


class Pyramid:
    """An image [3,H,W], and the same halved once, twice and so on, each made when first asked for."""

    def __init__(self, image: Tensor) -> None:
        """``image`` comes from :func:`normalise`."""
        self._levels = [image]
        self._growing = Lock()  # several threads may ask for crops of one image

    def level(self, times: int) -> Tensor:
        """Return the image halved so many times, [3,H/2^times,W/2^times], sides rounded up."""
        with self._growing:
            while len(self._levels) <= times:
                self._levels.append(F.avg_pool2d(self._levels[-1], 2, ceil_mode=True))
            return self._levels[times]


class ImageView:
    """An image [H,W,3] at the size that a network is used to, reduced once for all crops of it.

    ``pixels`` [H',W',3] uint8 is the reduced image, ``factors`` [1,4] what to multiply boxes of the image
    with to have them in it, ``width`` and ``height`` are the image's own. It keeps bytes until its first crop
    is wanted: in a service many wait for their turn. Several threads may ask for crops.
    """

    def __init__(self, image: ImageInput, preprocessing: Preprocessing) -> None:
        """``image`` is an array uint8 [H,W,3], or what :func:`detector.io.decoding.as_rgb` makes one of.

        Raises ParameterError for what is no image.
        """
        image = as_rgb(image)
        self.pixels, self.factors = resize_to_short_side(image, preprocessing)
        self.height, self.width = image.shape[:2]
        self._preprocessing = preprocessing
        self._pyramid: Pyramid | None = None
        self._making = Lock()
        self._kept: dict[Hashable, Any] = {}

    @classmethod
    def of(cls, image: "ImageInput | ImageView", preprocessing: Preprocessing) -> "ImageView":
        """Return the view of an image; a view is returned as it is."""
        return image if isinstance(image, ImageView) else cls(image, preprocessing)

    @property
    def whole(self) -> Boxes:
        """The window [1,4] of the whole reduced image."""
        height, width = self.pixels.shape[:2]
        return as_boxes([(0, 0, width, height)])

    def keep(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return what ``make`` made when it was first asked for by this key: maps that several steps read."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def crops(self, windows: Boxes, size: int, device: torch.device) -> Tensor:
        """Return crops [R,3,size,size] of windows [R,4] of ``pixels``, float32, on a device: always the same
        one."""
        with self._making:
            if self._pyramid is None:
                self._pyramid = Pyramid(normalise(self.pixels, self._preprocessing, device))
        return sample(self._pyramid, windows, size)


def warp(image: Tensor, boxes: Boxes, preprocessing: Preprocessing) -> Tensor:
    """Return crops [R,3,224,224] of boxes [R,4], with context, of a normalised ``image`` [3,H,W]."""
    return sample(Pyramid(image), add_context(boxes, preprocessing), preprocessing.size)


def sample(image: Pyramid, windows: Boxes, size: int) -> Tensor:
    """Return crops [R,3,size,size] of windows [R,4] of an image, float32, on the image's device.

    Each window is stretched to the crop whatever its aspect, by bilinear interpolation; what lies outside the
    image is the mean colour, which is zero here. A window more than twice the crop's size is read from a
    halved image (or one halved again), so that large objects are not aliased.
    """
    whole = image.level(0)
    regions = torch.from_numpy(np.ascontiguousarray(windows, np.float32)).to(whole.device)
    crops = whole.new_empty(len(windows), 3, size, size)
    sides = (windows[:, 2:] - windows[:, :2]).min(axis=1, initial=np.inf)
    levels = np.floor(np.log2(np.maximum(sides / size, 1))).astype(int)
    for level in np.unique(levels).tolist():
        chosen = torch.from_numpy(np.flatnonzero(levels == level)).to(whole.device)
        crops[chosen] = _sample(image.level(level), regions[chosen] / 2**level, size)
    return crops


def _sample(image: Tensor, regions: Tensor, size: int) -> Tensor:
    """Sample an image [3,H,W] on a size x size grid over each region [R,4], bilinear -> [R,3,size,size]."""
    count, (height, width) = len(regions), image.shape[1:]
    step = (torch.arange(size, dtype=torch.float32, device=image.device) + 0.5) / size
    x = regions[:, :1] + step * (regions[:, 2:3] - regions[:, :1])  # R x size
    y = regions[:, 1:2] + step * (regions[:, 3:4] - regions[:, 1:2])
    grid = torch.stack(  # R x size x size x 2, the image from -1 to 1
        [
            (2 * x / width - 1)[:, None, :].expand(-1, size, -1),
            (2 * y / height - 1)[:, :, None].expand(-1, -1, size),
        ],
        dim=3,
    )
    images = image[None].expand(count, -1, -1, -1)  # one image in memory, seen R times
    return F.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)

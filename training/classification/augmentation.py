"""Augmentation of images: a random patch, mirrored or not, and color jitter.

Every function takes its random generator, so that what is drawn is a function of the generator's seed:

    rng = generator(seed, epoch, index)
    patch = draw_patch(width, height, PatchSettings(), rng)
    pixels = jitter_color(cut(image, patch, 224), ColorJitter(), rng)

``jitter_color`` also suits images with boxes: it moves nothing.
"""

import math
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image, ImageEnhance

from detector.errors import ParameterError
from detector.io.decoding import RGB
from detector.io.rgb import check_image

BILINEAR = cv2.INTER_LINEAR
INTERPOLATIONS = (BILINEAR, cv2.INTER_AREA, cv2.INTER_NEAREST, cv2.INTER_CUBIC)
"""The four of arXiv 1409.4842, section 6, drawn with equal probability."""

_ENHANCERS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)

# Principal components of ImageNet's RGB values on 0..255: the columns are directions, scaled by their
# standard deviations (Krizhevsky et al. 2012, section 4.1; the numbers are those in general use).
_LIGHT = np.array(
    [[-0.5675, 0.7192, 0.4009], [-0.5808, -0.0045, -0.8140], [-0.5836, -0.6948, 0.4203]]
) * np.array([55.46, 4.794, 1.148])


@dataclass(frozen=True)
class PatchSettings:
    """How patches are drawn (arXiv 1409.4842, section 6).

    The area is uniform between ``least`` and ``most`` of the image's; width over height lies between
    ``1 / aspect`` and ``aspect``, uniform on a logarithmic scale; ``mirrored`` is how often a patch is.
    """

    least: float = 0.08
    most: float = 1.0
    aspect: float = 4 / 3
    mirrored: float = 0.5
    tries: int = 10

    def __post_init__(self) -> None:
        if not (0 < self.least <= self.most <= 1 and self.aspect >= 1 and 0 <= self.mirrored <= 1):
            raise ParameterError(
                f"a patch needs 0 < least <= most <= 1, aspect >= 1 and mirrored in 0..1, got {self}"
            )


@dataclass(frozen=True)
class Patch:
    """A part of an image, whole pixels from ``x1, y1`` to before ``x2, y2``, and how it is resized."""

    x1: int
    y1: int
    x2: int
    y2: int
    mirrored: bool = False
    interpolation: int = BILINEAR


@dataclass(frozen=True)
class ColorJitter:
    """Settings of the photometric distortion (Howard, arXiv 1312.5402, section 2).

    Brightness, contrast and color are changed in random order, each by a factor between ``1 - amount`` and
    ``1 + amount``. Then light is added along the principal components of ImageNet's colors, by normally
    distributed parts of their standard deviations: ``lighting`` is the deviation of the parts, 0 for none.
    """

    amount: float = 0.5
    lighting: float = 0.1

    def __post_init__(self) -> None:
        if not (0 <= self.amount <= 1 and self.lighting >= 0):
            raise ParameterError(f"a distortion needs amount in 0..1 and lighting >= 0, got {self}")


def generator(*key: int) -> np.random.Generator:
    """Make the generator of a key such as (seed, epoch, index): the same key, the same draws everywhere."""
    return np.random.default_rng(key)


def draw_patch(
    width: int,
    height: int,
    settings: PatchSettings,
    rng: np.random.Generator,
    *,
    random_interpolation: bool = False,
) -> Patch:
    """Draw a patch of an image of ``width`` x ``height`` pixels.

    A patch that does not fit is drawn anew, at most ``settings.tries`` times: of an image so narrow that none
    fits, its largest part of an allowed aspect is taken, from a random place. Without
    ``random_interpolation`` patches are resized bilinearly.
    """
    w, h = _random_sides(width, height, settings, rng)
    x, y = (int(rng.integers(0, free, endpoint=True)) for free in (width - w, height - h))
    mirrored = bool(rng.random() < settings.mirrored)
    chosen = INTERPOLATIONS[rng.integers(len(INTERPOLATIONS))]
    return Patch(x, y, x + w, y + h, mirrored, chosen if random_interpolation else BILINEAR)


def cut(image: RGB, patch: Patch, size: int) -> RGB:
    """Cut a patch from an image [H,W,3] uint8 and resize it -> [size,size,3] uint8.

    A patch at least twice as large as that is halved by averaging first (and halved again), as
    :func:`detector.inference.region_crops.warp` does, so that large images are not aliased. Raises
    ParameterError for an array that is no image, or a patch that is not inside it.
    """
    check_image(image)
    height, width = image.shape[:2]
    if not (0 <= patch.x1 < patch.x2 <= width and 0 <= patch.y1 < patch.y2 <= height):
        raise ParameterError(f"{patch} does not lie in a picture of {width}x{height} pixels")
    pixels = image[patch.y1 : patch.y2, patch.x1 : patch.x2]
    h, w = pixels.shape[:2]
    level = max(0, math.floor(math.log2(min(w, h) / size)))
    if level:
        pixels = _resize(pixels, max(1, w >> level), max(1, h >> level), cv2.INTER_AREA)
    pixels = _resize(pixels, size, size, patch.interpolation)
    return np.ascontiguousarray(pixels[:, ::-1]) if patch.mirrored else pixels


def jitter_color(image: RGB, settings: ColorJitter, rng: np.random.Generator) -> RGB:
    """Change light and color of an image [H,W,3] uint8 -> [H,W,3] uint8, a new array.

    Raises ParameterError for an array that is no image.
    """
    check_image(image)
    jittered = Image.fromarray(np.ascontiguousarray(image))
    factors = 1 + settings.amount * rng.uniform(-1, 1, len(_ENHANCERS))
    for index in rng.permutation(len(_ENHANCERS)):
        jittered = _ENHANCERS[index](jittered).enhance(float(factors[index]))
    light = _LIGHT @ rng.normal(0, settings.lighting, 3)  # [3], added to each channel
    if settings.lighting == 0:
        return np.array(jittered)
    lit = np.arange(256)[:, None] + light  # 256 x 3: a lookup table for each channel
    table = np.clip(np.rint(lit), 0, 255).astype(np.uint8)
    return np.array(jittered.point(table.T.ravel().tolist()))


def _random_sides(
    width: int, height: int, settings: PatchSettings, rng: np.random.Generator
) -> tuple[int, int]:
    stretch = math.log(settings.aspect)
    for _ in range(settings.tries):
        area = width * height * rng.uniform(settings.least, settings.most)
        aspect = math.exp(rng.uniform(-stretch, stretch))
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return w, h
    aspect = min(max(width / height, 1 / settings.aspect), settings.aspect)
    return max(1, min(width, round(height * aspect))), max(1, min(height, round(width / aspect)))


def _resize(pixels: RGB, width: int, height: int, interpolation: int) -> RGB:
    return cv2.resize(pixels, (width, height), interpolation=interpolation).astype(np.uint8, copy=False)

"""Pictures of every odd shape and kind, small enough for slow references."""

from collections.abc import Callable

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from detector.proposals.selective_search.features import ORIENTATIONS, TEXTURE_BINS, Gradients

ImageInput = NDArray[np.uint8]
Kind = Callable[[Generator, int, int], ImageInput]


def planes_of(image: ImageInput) -> NDArray[np.uint8]:
    """The planes [C,H,W] of a picture [H,W,C]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1))


def dense_textures(steep: Gradients, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """The texture bins [H,W,8 C] of a picture of shape [H,W,C]; where it is not steep they are 0."""
    height, width, channels = shape
    bins = np.zeros((height * width, channels * ORIENTATIONS), np.int64)
    bins[steep.pixel, steep.bin // TEXTURE_BINS] = steep.bin % TEXTURE_BINS
    return bins.reshape(height, width, -1)


def noise(random: Generator, height: int, width: int) -> ImageInput:
    return random.integers(0, 256, (height, width, 3)).astype(np.uint8)


def patches(random: Generator, height: int, width: int) -> ImageInput:
    """Patches of colour with noise: both smooth and rough parts."""
    colours = random.integers(0, 256, (height // 4 + 1, width // 4 + 1, 3))
    large = colours.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]
    rough = random.integers(0, random.integers(1, 60), (height, width, 3))
    return np.clip(large + rough, 0, 255).astype(np.uint8)


def flat(random: Generator, height: int, width: int) -> ImageInput:
    return np.broadcast_to(random.integers(0, 256, 3), (height, width, 3)).astype(np.uint8)


def ramp(random: Generator, height: int, width: int) -> ImageInput:
    steps = random.integers(-9, 10, (2, 3))
    line = np.arange(height)[:, None, None] * steps[0] + np.arange(width)[None, :, None] * steps[1]
    return (line + 128).clip(0, 255).astype(np.uint8)


def sized(kind: Kind, heights: tuple[int, int], widths: tuple[int, int]) -> Callable[[int], ImageInput]:
    """Pictures of a kind, by seed, with sides from a range (both ends included)."""

    def made(seed: int) -> ImageInput:
        random = np.random.default_rng(seed)
        height, width = (int(random.integers(*sides, endpoint=True)) for sides in (heights, widths))
        return kind(random, height, width)

    return made


def in_few_colours(random: Generator, height: int, width: int) -> ImageInput:
    return noise(random, height, width) // 128 * 90


def grey(random: Generator, height: int, width: int) -> ImageInput:
    return patches(random, height, width)[..., :1].repeat(3, axis=2)


def checkers(random: Generator, height: int, width: int) -> ImageInput:
    """Equal edges wherever one looks."""
    side, (dark, light) = random.integers(1, 4), random.integers(0, 256, 2)
    y, x = np.mgrid[:height, :width] // side
    return np.where((y + x) % 2, dark, light)[..., None].repeat(3, axis=2).astype(np.uint8)


# By what is odd about them; each makes a picture of a seed.
ODD_IMAGES: dict[str, Callable[[int], ImageInput]] = {
    "one pixel": sized(noise, (1, 1), (1, 1)),
    "one line": sized(patches, (1, 1), (2, 40)),
    "one column": sized(patches, (2, 40), (1, 1)),
    "two by two": sized(noise, (2, 2), (2, 2)),
    "elongated": sized(patches, (2, 4), (30, 50)),
    "flat": sized(flat, (1, 12), (1, 12)),
    "grey": sized(grey, (3, 14), (3, 14)),
    "a ramp": sized(ramp, (3, 12), (3, 12)),
    "noise": sized(noise, (3, 10), (3, 12)),
    "patches": sized(patches, (4, 16), (4, 16)),
    "few colours, many ties": sized(in_few_colours, (3, 12), (3, 12)),
    "checkers, nothing but ties": sized(checkers, (3, 12), (3, 12)),
}

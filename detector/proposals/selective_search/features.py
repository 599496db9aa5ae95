"""The features of segments in selective search: size, box, colour histogram and texture histogram.

Uijlings et al., "Selective Search for Object Recognition", IJCV 2013, section 3.2. Letters for shapes: C
channels, H, W the image's height and width, S segments, E pairs of neighbours, N slopes.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from detector.jit_cache import cached_njit
from detector.proposals.selective_search.color import Planes

COLOUR_BINS = 25
TEXTURE_BINS = 10
ORIENTATIONS = 8

# A Gaussian of sigma 1 and its derivative, in 256ths. Applied to bytes, all sums are whole numbers below
# 2^24, which float32 holds exactly.
_GAUSSIAN = np.array([1, 14, 62, 102, 62, 14, 1], dtype=np.float32)
_DERIVATIVE = np.array([-3, -28, -62, 0, 62, 28, 3], dtype=np.float32)

_MET_MASK = 4095

# The greatest slope that these filters give, for a step from black to white, in grey levels per pixel.
_STEEPEST = 93 * 255 / 256


@dataclass(frozen=True)
class Gradients:
    """The Gaussian derivatives of an image, in eight orientations, that reach bin 1. All others are in bin 0.

    pixel [N] int32, the index of the pixel in row-major order; bin [N] int16,
    ``(channel * ORIENTATIONS + orientation) * TEXTURE_BINS + bin``.
    """

    pixel: NDArray[np.int32]
    bin: NDArray[np.int16]


@dataclass(frozen=True)
class Segments:
    """The segments of one image and their features.

    sizes [S] int64 in pixels; boxes [S,4] int32 (``x1, y1, x2, y2``, the end excluded); colours [S,25 C] and
    textures [S,80 C] int32, counts in histograms of all channels; neighbours [E,2] int32, the lower index
    first, sorted.
    """

    sizes: NDArray[np.int64]
    boxes: NDArray[np.int32]
    colours: NDArray[np.int32]
    textures: NDArray[np.int32]
    neighbours: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.sizes)


def slopes(planes: Planes) -> Gradients:
    """Compute the Gaussian derivatives (sigma 1) of planes, uint8 [C,H,W], in eight orientations.

    Returns only those that reach bin 1. A derivative against its orientation is in bin 0, so that at most one
    of two opposite orientations is kept; in most images most pixels have none.
    """
    across, down = np.empty(planes.shape, np.float32), np.empty(planes.shape, np.float32)
    for channel, plane in enumerate(planes):
        for target, row, column in ((across, _DERIVATIVE, _GAUSSIAN), (down, _GAUSSIAN, _DERIVATIVE)):
            cv2.sepFilter2D(
                plane, cv2.CV_32F, row, column, dst=target[channel], borderType=cv2.BORDER_REPLICATE
            )
    bins_a_unit = np.float32(TEXTURE_BINS / (_STEEPEST * 65536))
    return Gradients(*_binned_slopes(across, down, bins_a_unit))


def describe(planes: Planes, steep: Gradients, labels: NDArray[np.int32], count: int) -> Segments:
    """Compute the features of the ``count`` segments in labels, int32 [H,W].

    They come from planes, uint8 [C,H,W], and the planes' slopes (:func:`slopes`).
    """
    sizes, boxes, colours, touching = _counts(planes, labels, count)
    textures = _texture_counts(steep.pixel, steep.bin, labels.reshape(-1), sizes, len(planes))
    touching.sort()  # there are few, as most repetitions were skipped
    pairs = touching[np.diff(touching, prepend=-1) != 0]
    neighbours = np.stack([pairs // count, pairs % count], axis=1).astype(np.int32)
    return Segments(sizes, boxes, colours, textures, neighbours)


@cached_njit(nogil=True)
def _binned_slopes(across, down, bins_a_unit):  # type: ignore[no-untyped-def]
    channels, height, width = across.shape
    diagonal = np.float32(np.sqrt(0.5))
    last = np.float32(TEXTURE_BINS - 1)
    pixels = np.empty(channels * height * width * 4, np.int32)
    bins = np.empty(channels * height * width * 4, np.int16)
    kept = 0
    steep = np.empty(width, np.bool_)
    for channel in range(channels):
        for y in range(height):
            _mark_steep(steep, across[channel, y], down[channel, y], bins_a_unit)
            for x in range(width):
                if not steep[x]:
                    continue
                dx = across[channel, y, x] * bins_a_unit
                dy = down[channel, y, x] * bins_a_unit
                derivatives = (dx, (dx + dy) * diagonal, dy, (dy - dx) * diagonal)
                for direction in range(4):
                    slope = derivatives[direction]
                    orientation = channel * ORIENTATIONS + (direction if slope > 0 else direction + 4)
                    pixels[kept] = y * width + x
                    bins[kept] = orientation * TEXTURE_BINS + np.int16(min(abs(slope), last))
                    kept += abs(slope) >= 1
    return pixels[:kept].copy(), bins[:kept].copy()


@cached_njit(nogil=True)
def _mark_steep(steep, across, down, bins_a_unit):  # type: ignore[no-untyped-def]
    """Mark in ``steep``, bool [W], where along a row some orientation may reach bin 1.

    The loop has no branches, so that many pixels are done at once.
    """
    # No orientation sees more than the two slopes together.
    for x in range(len(steep)):
        steep[x] = abs(across[x] * bins_a_unit) + abs(down[x] * bins_a_unit) >= 1


@cached_njit(nogil=True)
def _counts(planes, labels, count):  # type: ignore[no-untyped-def]
    """Return sizes, boxes and colours of the segments, and the keys of pairs of segments that touch.

    A key is ``lower * count + upper``; some keys are repeated.
    """
    channels, height, width = planes.shape
    sizes = np.zeros(count, np.int64)
    boxes = np.zeros((count, 4), np.int32)
    for label in range(count):
        boxes[label, 0], boxes[label, 1] = width, height
    colours = np.zeros((count, channels * COLOUR_BINS), np.int32)
    touching = np.empty(2 * height * width, np.int64)
    touches = 0
    met = np.full(_MET_MASK + 1, np.int64(-1))  # a hash table of keys, to skip most repetitions
    for y in range(height):
        # Along a row, one run of pixels of a segment after the other.
        begin = 0
        while begin < width:
            label = labels[y, begin]
            end = begin + 1
            while end < width and labels[y, end] == label:
                end += 1
            sizes[label] += end - begin
            boxes[label, 0] = min(boxes[label, 0], begin)
            boxes[label, 1] = min(boxes[label, 1], y)
            boxes[label, 2] = max(boxes[label, 2], end)
            boxes[label, 3] = max(boxes[label, 3], y + 1)
            for x in range(begin, end):
                for channel in range(channels):
                    colours[label, channel * COLOUR_BINS + planes[channel, y, x] * COLOUR_BINS // 256] += 1
            # The segment to the right of the run, then those below it.
            neighbour = labels[y, end] if end < width else label
            x = begin
            while True:
                if neighbour != label:
                    key = min(label, neighbour) * np.int64(count) + max(label, neighbour)
                    if met[key & _MET_MASK] != key:
                        met[key & _MET_MASK] = key
                        touching[touches] = key
                        touches += 1
                while x < end and y + 1 < height and labels[y + 1, x] in (label, neighbour):
                    x += 1
                if x == end or y + 1 == height:
                    break
                neighbour = labels[y + 1, x]
            begin = end
    return sizes, boxes, colours, touching[:touches].copy()


@cached_njit(nogil=True)
def _texture_counts(pixel, bin_, label_of, sizes, channels):  # type: ignore[no-untyped-def]
    orientations = channels * ORIENTATIONS
    textures = np.zeros((len(sizes), orientations * TEXTURE_BINS), np.int32)
    for i in range(len(pixel)):
        textures[label_of[pixel[i]], bin_[i]] += 1
    for label in range(len(sizes)):
        for orientation in range(orientations):
            steep = 0
            for i in range(orientation * TEXTURE_BINS + 1, (orientation + 1) * TEXTURE_BINS):
                steep += textures[label, i]
            textures[label, orientation * TEXTURE_BINS] = sizes[label] - steep
    return textures

"""What selective search knows of a segment: its size, its box, its colours and its texture.

Uijlings et al., "Selective Search for Object Recognition", IJCV 2013, section 3.2. Letters for shapes: H, W
the picture's height and width, S segments, E pairs of neighbours.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from detector.proposals.colour import Pixels

COLOUR_BINS = 25
TEXTURE_BINS = 10
ORIENTATIONS = 8

# A Gaussian of sigma 1 and its derivative, in 256ths. With bytes between them all sums are whole numbers
# below 2^24, which float32 holds exactly.
_GAUSSIAN = np.array([1, 14, 62, 102, 62, 14, 1], dtype=np.float32)
_DERIVATIVE = np.array([-3, -28, -62, 0, 62, 28, 3], dtype=np.float32)

# The greatest slope that they can see, of a step from black to white, in grey levels a pixel.
_STEEPEST = 93 * 255 / 256


@dataclass(frozen=True)
class Segments:
    """Segments of one picture.

    sizes [S] int64 in pixels; boxes [S,4] int32 (``x1, y1, x2, y2``, the end excluded); colours [S,75] and
    textures [S,240] int32, counts in histograms of all channels; neighbours [E,2] int32, the lower index
    first, sorted.
    """

    sizes: NDArray[np.int64]
    boxes: NDArray[np.int32]
    colours: NDArray[np.int32]
    textures: NDArray[np.int32]
    neighbours: NDArray[np.int32]

    def __len__(self) -> int:
        return len(self.sizes)


def texture_bins(pixels: Pixels) -> NDArray[np.uint8]:
    """Bins [H,W,24] of the Gaussian derivatives (sigma 1) of a picture [H,W,3] in eight orientations.

    A derivative against the orientation is in bin 0. Channel by channel, then orientation by orientation.
    """
    across = cv2.sepFilter2D(pixels, cv2.CV_32F, _DERIVATIVE, _GAUSSIAN, borderType=cv2.BORDER_REPLICATE)
    down = cv2.sepFilter2D(pixels, cv2.CV_32F, _GAUSSIAN, _DERIVATIVE, borderType=cv2.BORDER_REPLICATE)
    bins_a_unit = np.float32(TEXTURE_BINS / (_STEEPEST * 65536))
    return _binned_slopes(across, down, bins_a_unit)


def describe(pixels: Pixels, textures: NDArray[np.uint8], labels: NDArray[np.int32], count: int) -> Segments:
    """Features of the ``count`` segments in labels [H,W], from the picture [H,W,3] and its texture bins."""
    sizes, boxes, colours, texture_counts, touching, touches = _counts(pixels, textures, labels, count)
    pairs = np.unique(touching[:touches])
    neighbours = np.stack([pairs // count, pairs % count], axis=1).astype(np.int32)
    return Segments(sizes, boxes, colours, texture_counts, neighbours)


@njit(nogil=True, cache=True)
def _binned_slopes(across, down, bins_a_unit):  # type: ignore[no-untyped-def]
    height, width, channels = across.shape
    diagonal = np.float32(np.sqrt(0.5))
    last = np.float32(TEXTURE_BINS - 1)
    bins = np.zeros((height, width, channels * ORIENTATIONS), np.uint8)
    for y in range(height):
        for x in range(width):
            for channel in range(channels):
                dx = across[y, x, channel] * bins_a_unit
                dy = down[y, x, channel] * bins_a_unit
                slopes = (dx, (dx + dy) * diagonal, dy, (dy - dx) * diagonal)
                for half in range(4):
                    slope = slopes[half]
                    orientation = half if slope > 0 else half + 4
                    bins[y, x, channel * ORIENTATIONS + orientation] = np.uint8(min(abs(slope), last))
    return bins


@njit(nogil=True, cache=True)
def _counts(pixels, textures, labels, count):  # type: ignore[no-untyped-def]
    """Sizes, boxes and histograms, and a key ``lower * count + upper`` for every two pixels that touch."""
    height, width = labels.shape
    sizes = np.zeros(count, np.int64)
    boxes = np.zeros((count, 4), np.int32)
    for label in range(count):
        boxes[label, 0], boxes[label, 1] = width, height
    colours = np.zeros((count, 3 * COLOUR_BINS), np.int32)
    texture_counts = np.zeros((count, 3 * ORIENTATIONS * TEXTURE_BINS), np.int32)
    touching = np.empty(2 * height * width, np.int64)
    touches = 0
    for y in range(height):
        for x in range(width):
            label = labels[y, x]
            sizes[label] += 1
            boxes[label, 0] = min(boxes[label, 0], x)
            boxes[label, 1] = min(boxes[label, 1], y)
            boxes[label, 2] = max(boxes[label, 2], x + 1)
            boxes[label, 3] = max(boxes[label, 3], y + 1)
            for channel in range(3):
                colours[label, channel * COLOUR_BINS + pixels[y, x, channel] * COLOUR_BINS // 256] += 1
            for slot in range(3 * ORIENTATIONS):
                texture_counts[label, slot * TEXTURE_BINS + textures[y, x, slot]] += 1
            for other in (
                labels[y, x + 1] if x + 1 < width else label,
                labels[y + 1, x] if y + 1 < height else label,
            ):
                if other != label:
                    touching[touches] = min(label, other) * np.int64(count) + max(label, other)
                    touches += 1
    return sizes, boxes, colours, texture_counts, touching, touches

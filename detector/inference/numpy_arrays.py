"""Arrays that are NumPy's, in the host's memory: for engines that run on a CPU without torch.

They give what torch's give but for rounding. Maps [1,K,h,w] and what is cut out of them lie in memory with
their channels last: a point of a region is interpolated for all channels at once. Letters for shapes:
R regions, P points of a grid, K channels.
"""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from detector.inference.arrays import make_in_groups
from detector.inference.preprocessing import Preprocessing
from detector.io.decoding import RGB
from detector.io.rgb import check_image
from detector.jit_cache import cached_njit
from detector.structures.boxes import Boxes

Floats = NDArray[np.float32]


class NumpyArrays:
    """Arrays of the host: a :class:`detector.inference.arrays.Arrays`."""

    def normalise(self, image: RGB, preprocessing: Preprocessing) -> Floats:
        check_image(image)
        mean, std = (np.array(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
        return np.ascontiguousarray(((image - mean) / std).transpose(2, 0, 1))

    def pad(self, image: Floats, before: int, right: int, below: int) -> Floats:
        return np.pad(image, ((0, 0), (before, below), (before, right)))[None]

    def halve(self, image: Floats) -> Floats:
        # What an odd side lacks is filled up with its last pixels, which leaves their mean as it is.
        height, width = image.shape[1:]
        even = np.pad(image, ((0, 0), (0, height % 2), (0, width % 2)), mode="edge")
        quarters = [even[:, y::2, x::2] for y in (0, 1) for x in (0, 1)]
        return sum(quarters[1:], start=quarters[0]) * np.float32(0.25)

    def sample(self, image: Floats, windows: Boxes, size: int) -> Floats:
        height, width = image.shape[1:]
        step = _centres(size)
        sides = windows[:, 2:] - windows[:, :2]
        # Points [R,size], counted from the centre of the first pixel.
        x = windows[:, :1] + step * sides[:, :1] - 0.5
        y = windows[:, 1:2] + step * sides[:, 1:] - 0.5
        return _interpolated(image, *_taps_or_zero(y, height), *_taps_or_zero(x, width))

    def align(self, maps: Floats, regions: Boxes, size: int, scale: float) -> Floats:
        height, width = maps.shape[2:]
        cells = (regions * scale - 0.5).astype(np.float32)
        step = _centres(size)
        sides = cells[:, 2:] - cells[:, :2]
        x = cells[:, :1] + step * sides[:, :1]  # R x size
        y = cells[:, 1:2] + step * sides[:, 1:]
        last = np.ascontiguousarray(maps[0].transpose(1, 2, 0))  # h x w x K, as it lies there
        cut = _interpolated_cells(last, *_taps_or_edge(y, height), *_taps_or_edge(x, width))
        return cut.transpose(0, 3, 1, 2)

    def mirror(self, rows: Floats) -> Floats:
        return np.ascontiguousarray(rows[..., ::-1])

    def take(self, rows: Floats, index: NDArray[np.int64]) -> Floats:
        return rows[index]

    def concatenate(self, parts: Sequence[Floats]) -> Floats:
        return np.concatenate(parts) if len(parts) > 1 else parts[0]

    def copy(self, rows: Floats) -> Floats:
        return rows.copy(order="K")

    def in_groups(
        self, groups: NDArray[np.integer], make: Callable[[int, NDArray[np.int64]], Floats]
    ) -> Floats:
        return make_in_groups(self, groups, make)


def _centres(count: int) -> Floats:
    """Return where the centres of so many equal parts of 0..1 lie."""
    return ((np.arange(count) + 0.5) / count).astype(np.float32)


def _taps_or_zero(points: Floats, length: int) -> tuple[NDArray[np.int32], Floats]:
    """Return the first of two neighbours [R,P] of each point, and the weights [R,P,2] of both: zero where a
    neighbour lies outside 0..length-1."""
    first = np.floor(points)
    after = (points - first).astype(np.float32)
    weights = np.stack([1 - after, after], axis=-1)
    for tap in (0, 1):
        outside = (first + tap < 0) | (first + tap > length - 1)
        weights[..., tap][outside] = 0
    return np.clip(first, -1, length - 1).astype(np.int32), weights


def _taps_or_edge(points: Floats, length: int) -> tuple[NDArray[np.int32], Floats]:
    """Return neighbours and weights as torchvision's RoIAlign has them: a point up to one cell outside counts
    as the nearest one inside, one further out as zero."""
    inside = (points >= -1) & (points <= length)
    held = np.clip(points, 0, length - 1)
    first = np.minimum(np.floor(held), max(length - 2, 0))
    after = (held - first).astype(np.float32)
    weights = np.stack([1 - after, after], axis=-1) * inside[..., None]
    return first.astype(np.int32), weights.astype(np.float32)


@cached_njit(nogil=True)
def _interpolated(maps, rows, row_weights, columns, column_weights):  # type: ignore[no-untyped-def]
    """Interpolate an image [K,h,w] at the points [R,P] x [R,P] of each region: [R,K,P,P].

    ``rows`` and ``columns`` are the first of two neighbours, which may be -1, or the last of all, where the
    weight of the missing one is zero.
    """
    channels, height, width = maps.shape
    count, points = rows.shape
    result = np.empty((count, channels, points, points), np.float32)
    for region in range(count):
        for channel in range(channels):
            plane = maps[channel]
            for i in range(points):
                y = rows[region, i]
                above, below = plane[max(y, 0)], plane[min(y + 1, height - 1)]
                a, b = row_weights[region, i, 0], row_weights[region, i, 1]
                for j in range(points):
                    x = columns[region, j]
                    left, right = max(x, 0), min(x + 1, width - 1)
                    c, d = column_weights[region, j, 0], column_weights[region, j, 1]
                    result[region, channel, i, j] = a * (c * above[left] + d * above[right]) + b * (
                        c * below[left] + d * below[right]
                    )
    return result


@cached_njit(nogil=True)
def _interpolated_cells(maps, rows, row_weights, columns, column_weights):  # type: ignore[no-untyped-def]
    """Interpolate maps [h,w,K] at the points [R,P] x [R,P] of each region: [R,P,P,K].

    ``rows`` and ``columns`` are the first of two neighbours, which may be the last of all, where the weight
    of the missing one is zero.
    """
    height, width, channels = maps.shape
    count, points = rows.shape
    result = np.empty((count, points, points, channels), np.float32)
    for region in range(count):
        for i in range(points):
            y = rows[region, i]
            above, below = maps[y], maps[min(y + 1, height - 1)]
            a, b = row_weights[region, i, 0], row_weights[region, i, 1]
            for j in range(points):
                left = columns[region, j]
                right = min(left + 1, width - 1)
                c, d = column_weights[region, j, 0], column_weights[region, j, 1]
                for channel in range(channels):
                    result[region, i, j, channel] = a * (
                        c * above[left, channel] + d * above[right, channel]
                    ) + b * (c * below[left, channel] + d * below[right, channel])
    return result

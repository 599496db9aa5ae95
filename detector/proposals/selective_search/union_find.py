"""The joining of pixels along sorted edges, the innermost loop of the segmentation.

Felzenszwalb and Huttenlocher, IJCV 2004, algorithm 1, on a forest of disjoint sets. Most edges change
nothing: they lie inside a segment, or beside one that cannot grow any more (all later edges are stronger than
its limit too). A processor cannot predict which ones, and a mispredicted branch costs more time than the work
behind it. So edges are first sifted block by block without branches, and only those that may join two
segments are looked at one by one.
"""

import numpy as np

from detector.jit_cache import cached_njit

# Small enough that the sieve's view of the segments is seldom out of date, large enough for long loops.
_BLOCK = 128

# The limit of a pixel that is no longer a root: the sieve must not take its segment for one that cannot grow.
_NO_ROOT = (1 << 31) - 1


@cached_njit(nogil=True, error_model="numpy")
def joined_pixels(order, start, height, width, tolerance, min_size):  # type: ignore[no-untyped-def]
    """Return labels [H*W] int32 of the segments, in the order of their first pixel, and their number.

    order and start are a PixelGraph's; tolerance is in its levels of strength times pixels, below 2^31 less
    the number of levels. Segments below min_size pixels are joined to a neighbour.
    """
    pixels = height * width
    step = np.array([1, width, width + 1, 1 - width], np.int32)
    parent = np.empty(pixels, np.int32)
    for pixel in range(pixels):
        parent[pixel] = pixel
    size = np.ones(pixels, np.int32)
    limit = np.full(pixels, tolerance, np.int32)
    sifted = np.empty(_BLOCK + 1, np.int32)

    for strength in range(len(start) - 1):
        for begin in range(start[strength], start[strength + 1], _BLOCK):
            kept = 0
            for i in range(begin, min(begin + _BLOCK, start[strength + 1])):
                p, q = _ends(order[i], step)
                a = np.uint32(parent[np.uint32(parent[p])])
                b = np.uint32(parent[np.uint32(parent[q])])
                sifted[kept] = order[i]
                kept += (a != b) & (min(limit[a], limit[b]) >= strength)
            for i in range(kept):
                p, q = _ends(sifted[i], step)
                a, b = _root(parent, p), _root(parent, q)
                if a != b and min(limit[a], limit[b]) >= strength:
                    a, b = _joined(parent, size, a, b)
                    # Exact: whole numbers this small have no quotient nearer to the next than float64 errs.
                    limit[a] = strength + np.int32(np.float64(tolerance) / np.float64(size[a]))
                    limit[b] = _NO_ROOT
                    parent[p] = parent[q] = a

    # Segments that stayed too small are joined along the weakest edge that leaves them.
    small = np.empty(pixels, np.uint8)
    for pixel in range(pixels):
        small[pixel] = size[_root(parent, np.uint32(pixel))] < min_size
    shape = (height, width)
    useful = _leaving_small(parent.reshape(shape), small.reshape(shape)).reshape(pixels)
    for begin in range(0, len(order), _BLOCK):
        kept = 0
        for i in range(begin, min(begin + _BLOCK, len(order))):
            sifted[kept] = order[i]
            kept += (useful[np.uint32(order[i] >> 2)] >> np.uint8(order[i] & 3)) & 1
        for i in range(kept):
            p, q = _ends(sifted[i], step)
            a, b = _root(parent, p), _root(parent, q)
            if a != b and min(size[a], size[b]) < min_size:
                _joined(parent, size, a, b)

    labels = np.empty(pixels, np.int32)
    label_of = np.full(pixels, -1, np.int32)
    count = 0
    for pixel in range(pixels):
        root = _root(parent, np.uint32(pixel))
        if label_of[root] < 0:
            label_of[root] = count
            count += 1
        labels[pixel] = label_of[root]
    return labels, count


@cached_njit(nogil=True, error_model="numpy")
def _ends(edge, step):  # type: ignore[no-untyped-def]
    """Return the two pixels of an edge."""
    pixel = edge >> 2
    return np.uint32(pixel), np.uint32(pixel + step[np.uint32(edge & 3)])


@cached_njit(nogil=True, error_model="numpy")
def _root(parent, pixel):  # type: ignore[no-untyped-def]
    """Return the root of a pixel's segment, and make it the pixel's parent."""
    # Most roots are one or two steps away: the first two steps are taken without a check.
    root = np.uint32(parent[np.uint32(parent[pixel])])
    above = np.uint32(parent[root])
    while above != root:
        root = above
        above = np.uint32(parent[root])
    parent[pixel] = root
    return root


@cached_njit(nogil=True, error_model="numpy")
def _joined(parent, size, a, b):  # type: ignore[no-untyped-def]
    """Join the segments of two roots. Returns the larger one's root, which is kept, and the other."""
    keep = a if size[a] >= size[b] else b
    drop = np.uint32(a ^ b ^ keep)  # the other root; a swap would be a branch
    parent[drop] = keep
    size[keep] += size[drop]
    return keep, drop


@cached_njit(nogil=True, error_model="numpy")
def _leaving_small(root, small):  # type: ignore[no-untyped-def]
    """Return bits, uint8 [H,W]: which of a pixel's four edges join two segments, at least one small."""
    height, width = root.shape
    useful = np.zeros((height, width), np.uint8)
    for direction in range(4):
        dx = 0 if direction == 1 else 1
        dy = 0 if direction == 0 else (-1 if direction == 3 else 1)
        columns, neighbour_columns = slice(0, width - dx), slice(dx, width)
        for y in range(max(0, -dy), height - max(0, dy)):
            _mark_leaving_small(
                useful[y, columns],
                root[y, columns],
                root[y + dy, neighbour_columns],
                small[y, columns],
                small[y + dy, neighbour_columns],
                np.uint8(1 << direction),
            )
    return useful


@cached_njit(nogil=True, error_model="numpy")
def _mark_leaving_small(useful, root, other_root, small, other_small, bit):  # type: ignore[no-untyped-def]
    """Set ``bit`` for the edges of one row and direction that join two segments, at least one of them small.

    The loop has no branches, so that many pixels are done at once.
    """
    for x in range(len(useful)):
        leaves = root[x] != other_root[x] and (small[x] | other_small[x]) != 0
        useful[x] = np.uint8(useful[x] | (bit if leaves else np.uint8(0)))

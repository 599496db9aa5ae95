"""Which pictures of a data set are the same, or nearly: by their bytes, and by how they look.

Letters for shapes: N pictures.
"""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from training.checking.image_scan import Seen

_BITS = 3
"""Bits of 64 in which the hashes of near-duplicates may differ: copies that were resized or compressed anew
differ in so few."""

_GREY = 4.0
"""Mean difference of grey levels up to which two thumbnails are those of one picture. The hash alone takes
pictures for the same that only have the same layout: a plain sky over a dark ground."""

_PLAIN = 4.0
"""Standard deviation of grey levels under which a picture has too little in it to be told from another."""

_COUNT = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)  # bits of 16


def same_bytes(seen: Sequence[Seen]) -> Iterator[tuple[int, int]]:
    """Pairs of indices: a picture, and the first one before it whose file has the same bytes."""
    first: dict[bytes, int] = {}
    for index, one in enumerate(seen):
        if one.digest and first.setdefault(one.digest, index) != index:
            yield first[one.digest], index


def near_duplicates(seen: Sequence[Seen]) -> Iterator[tuple[int, int]]:
    """Pairs of indices: a picture, and one before it that looks nearly the same but has other bytes.

    Each picture is named once, however many copies it has. Candidates agree in all but 3 bits of their
    difference hash (Krawetz, "Kind of Like That", 2013: whether each cell of a 9 x 8 thumbnail is brighter
    than the one to its left), so they agree wholly in one of its four quarters; they are duplicates if their
    grey thumbnails agree too. Turned, mirrored or cut copies are not found.
    """
    known = [
        index
        for index, one in enumerate(seen)
        if one.thumbnail is not None and float(one.thumbnail.std()) > _PLAIN
    ]
    if not known:
        return
    thumbnails = np.stack([thumbnail for index in known if (thumbnail := seen[index].thumbnail) is not None])
    hashes = np.stack([difference_hash(thumbnail) for thumbnail in thumbnails])  # N x 4 quarters
    found: dict[int, int] = {}
    for quarter in range(4):
        order = np.argsort(hashes[:, quarter], kind="stable")
        edges = np.flatnonzero(np.diff(hashes[order, quarter])) + 1
        for group in np.split(order, edges):  # in the order of the pictures
            for place in range(len(group) - 1):
                one, others = group[place], group[place + 1 :]
                differing = _COUNT[hashes[others] ^ hashes[one]].sum(axis=1)
                for other in others[differing <= _BITS]:
                    if _alike(thumbnails[one], thumbnails[other]):
                        found[int(other)] = min(int(one), found.get(int(other), int(one)))
    for other, one in sorted(found.items()):
        if seen[known[one]].digest != seen[known[other]].digest:
            yield known[one], known[other]


def difference_hash(thumbnail: NDArray[np.uint8]) -> NDArray[np.uint16]:
    """The 64 bits of a thumbnail [16,16], as four quarters [4]."""
    small = cv2.resize(thumbnail, (9, 8), interpolation=cv2.INTER_AREA)
    bits = small[:, 1:] > small[:, :-1]  # 8 x 8
    return np.packbits(bits).view(np.uint16)


def _alike(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    return bool(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean() <= _GREY)

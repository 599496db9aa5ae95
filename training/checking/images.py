"""Check the image files of a data set: which cannot be decoded, and which are the same or nearly.

Letters for shapes: N images.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector.datasets.layout import THREADS
from detector.errors import ImageError
from detector.io.decoding import RGB, decode

THUMBNAIL = 16
_CHUNK = 16  # pictures a task


@dataclass(frozen=True)
class Seen:
    """What was seen of one picture file.

    ``digest`` is of its bytes, empty if they could not be read; ``thumbnail`` [16,16] uint8 is the whole
    picture in grey, None if it was not decoded; ``error`` says why it could not be.
    """

    digest: bytes
    thumbnail: NDArray[np.uint8] | None = None
    error: str = ""


def scan_images(paths: Sequence[Path], *, decoded: bool = True) -> Iterator[Seen]:
    """Look at pictures on several threads; what is seen comes in their order, with a progress bar.

    With ``decoded`` every pixel is decoded, as in training: a file whose header is fine may be cut off or
    damaged further on. Without, only its bytes are read.
    """
    pool = ThreadPoolExecutor(THREADS, thread_name_prefix="pictures")
    chunks = [paths[start : start + _CHUNK] for start in range(0, len(paths), _CHUNK)]
    try:
        with tqdm(total=len(paths), unit=" pictures", desc="pictures", disable=None) as bar:
            for seen in pool.map(lambda chunk: [_look(path, decoded) for path in chunk], chunks):
                yield from seen
                bar.update(len(seen))
    finally:
        pool.shutdown(cancel_futures=True)


def _look(path: Path, decoded: bool) -> Seen:
    try:
        data = path.read_bytes()
    except OSError as error:
        return Seen(b"", error=f"{path}: {error.strerror or error}")
    digest = blake2b(data, digest_size=16).digest()
    if not decoded:
        return Seen(digest)
    try:
        return Seen(digest, _thumbnail(decode(data)))
    except ImageError as error:
        return Seen(digest, error=f"{path}: {error}")


def _thumbnail(image: RGB) -> NDArray[np.uint8]:
    """Return the mean grey of each cell of a picture cut into 16 x 16."""
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)


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
    """Yield pairs of indices: a picture, and the first one before it whose file has the same bytes."""
    first: dict[bytes, int] = {}
    for index, picture in enumerate(seen):
        if picture.digest and first.setdefault(picture.digest, index) != index:
            yield first[picture.digest], index


def near_duplicates(seen: Sequence[Seen]) -> Iterator[tuple[int, int]]:
    """Yield pairs of indices: a picture, and one before it that looks nearly the same but has other bytes.

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
    """Return the 64 bits of a thumbnail [16,16], as four quarters [4]."""
    small = cv2.resize(thumbnail, (9, 8), interpolation=cv2.INTER_AREA)
    bits = small[:, 1:] > small[:, :-1]  # 8 x 8
    return np.packbits(bits).view(np.uint16)


def _alike(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> bool:
    return bool(np.abs(a.astype(np.int16) - b.astype(np.int16)).mean() <= _GREY)

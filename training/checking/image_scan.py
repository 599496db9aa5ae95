"""Look at every picture of a data set once: is it whole, and what tells it from the others."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from detector.datasets.entries import THREADS
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


def scan_pictures(paths: Sequence[Path], *, decoded: bool = True) -> Iterator[Seen]:
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
    """The mean grey of each cell of a picture cut into 16 x 16."""
    small = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_RGB2GRAY), np.uint8)

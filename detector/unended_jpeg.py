"""JPEG files without their end marker: whether all pixels, or all but a little at the end, are there.

Cameras, scanners and interrupted copies leave such files, and every viewer shows them. A decoder that is
given an end marker makes one up for any file, though, and paints what is missing grey; so it is found out
first how far the pixels reach.
"""

import re
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from detector.picture_files import MAX_SEGMENTS

END = b"\xff\xd9"

_MOST_MISSING = 18
"""Rows that may be missing: a decoder writes 16 at a time at most, the height of a row of blocks, and holds
two back until it has seen the next, where it smooths halved colours."""
_WATCHED = 40  # rows at the lower edge, more than may be missing
_COEFFICIENTS = 64
_SEGMENT = re.compile(rb"\xff+[\xc2\xda]")
"""Where frames and scans begin; within a scan, 0xFF stands before 0 and restarts only."""


class Watch:
    """Sees how many rows a decoder has written: the last are filled with noise before."""

    def __init__(self, picture: JpegImageFile) -> None:
        """Give ``picture``, which is not decoded yet, pixels that can be watched."""
        self._canvas = Image.new(picture.mode, picture.size)
        width, height = picture.size
        self._top = max(0, height - _WATCHED)
        bands = len(picture.getbands())
        noise = np.random.default_rng(0).integers(0, 256, (height - self._top, width, bands), np.uint8)
        self._noise: NDArray[np.uint8] = noise
        self._canvas.paste(
            Image.frombuffer(
                picture.mode, (width, height - self._top), noise.tobytes(), "raw", picture.mode, 0, 1
            ),
            (0, self._top),
        )
        picture.im = self._canvas.im

    def is_nearly_whole(self) -> bool:
        """Tell whether the decoder came to the last row of blocks, and wrote something before it."""
        rows = np.asarray(self._canvas.crop((0, self._top, self._canvas.width, self._canvas.height)))
        untouched = (rows.reshape(self._noise.shape) == self._noise).all(axis=(1, 2))
        missing = len(untouched) if untouched.all() else int(np.argmin(untouched[::-1]))
        return missing <= _MOST_MISSING and missing < self._canvas.height


def has_all_scans(data: bytes) -> bool:
    """Tell whether a progressive JPEG has begun every scan that its coefficients need to be exact.

    Of its last scan, which adds the last bit to some of them, any part may be missing.
    """
    exact: dict[int, list[bool]] = {}
    for found in islice(_SEGMENT.finditer(data), MAX_SEGMENTS):
        marker, at = data[found.end() - 1], found.end()
        body = data[at + 2 : at + int.from_bytes(data[at : at + 2])]
        if marker == 0xC2 and len(body) > 5:
            exact = {body[6 + 3 * number]: [False] * _COEFFICIENTS for number in range((len(body) - 6) // 3)}
        elif marker == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            for component in set(body[1 : 1 + 2 * body[0] : 2]) & exact.keys():
                for coefficient in range(first, min(last, _COEFFICIENTS - 1) + 1):
                    exact[component][coefficient] |= bits & 0x0F == 0
    return bool(exact) and all(all(one) for one in exact.values())

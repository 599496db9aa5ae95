"""JPEG files that lack nothing but their end marker, which every viewer shows.

Cameras, scanners and interrupted copies leave such files. A decoder that is given an end marker makes a
picture of any file, though, and makes up what is missing; so it is found out first whether anything is.
"""

import re
from hashlib import blake2b
from io import BytesIO
from itertools import islice
from random import Random

from PIL.JpegImagePlugin import JpegImageFile

from detector.io.file_contents import MAX_SEGMENTS

_END = b"\xff\xd9"
_FILLERS = bytes(256), bytes(Random(0).randrange(255) for _ in range(256))
"""What may stand between the last pixel and the end: a decoder that has all pixels does not look at it."""

_BAND = 256  # rows that are compared at once
_COEFFICIENTS = 64
_SEGMENT = re.compile(rb"\xff+[\xc0-\xc2\xda]")
"""Where frames and scans begin; within a scan, 0xFF stands before 0 and restarts only."""


def load_unended(data: bytes) -> JpegImageFile | None:
    """Decode a JPEG whose end marker, or half of it, is missing; None if pixels are missing too.

    Raises whatever the decoder raises.
    """
    body = data.rstrip(b"\xff")
    if not has_all_scans(body):
        return None
    seen = set()
    for filler in _FILLERS:
        image = JpegImageFile(BytesIO(body + filler + _END))
        image.load()
        seen.add(_digest(image))
    return image if len(seen) == 1 else None


def _digest(image: JpegImageFile) -> bytes:
    digest = blake2b()
    for top in range(0, image.height, _BAND):
        digest.update(image.crop((0, top, image.width, min(top + _BAND, image.height))).tobytes())
    return digest.digest()


def has_all_scans(data: bytes) -> bool:
    """Tell whether a JPEG has begun every scan that its coefficients need to be exact.

    A progressive one has many; of others each component may have one of its own.
    """
    exact: dict[int, list[bool]] = {}
    for found in islice(_SEGMENT.finditer(data), MAX_SEGMENTS):
        marker, at = data[found.end() - 1], found.end()
        body = data[at + 2 : at + int.from_bytes(data[at : at + 2])]
        if marker != 0xDA and len(body) > 5:
            exact = {body[6 + 3 * number]: [False] * _COEFFICIENTS for number in range((len(body) - 6) // 3)}
        elif marker == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            for component in set(body[1 : 1 + 2 * body[0] : 2]) & exact.keys():
                for coefficient in range(first, min(last, _COEFFICIENTS - 1) + 1):
                    exact[component][coefficient] |= bits & 0x0F == 0
    return bool(exact) and all(all(one) for one in exact.values())

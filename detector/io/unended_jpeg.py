"""Decoding of JPEG files whose end marker is missing and nothing else, which every viewer shows.

Cameras, scanners and interrupted copies leave such files. A decoder that is given an end marker makes an
image of any file, though, and invents what is missing; so it is checked first that no pixels are missing.
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
"""Bytes put between the last pixel and the end marker: a decoder that has all pixels ignores them."""

_BAND = 256  # rows that are compared at once
_COEFFICIENTS = 64
_SEGMENT = re.compile(rb"\xff+[\xc0-\xc2\xda]")
"""Matches the markers of frames and scans; within a scan, 0xFF stands before 0 and restarts only."""


def load_unended(data: bytes) -> JpegImageFile | None:
    """Decode a JPEG whose end marker, or half of it, is missing. Returns None if pixels are missing too.

    Pixels are complete if the result does not depend on the bytes that follow the data. Raises whatever the
    decoder raises.
    """
    body = data.rstrip(b"\xff")
    if not has_all_scans(body):
        return None
    digests = set()
    for filler in _FILLERS:
        image = JpegImageFile(BytesIO(body + filler + _END))
        image.load()
        digests.add(_digest(image))
    return image if len(digests) == 1 else None


def _digest(image: JpegImageFile) -> bytes:
    digest = blake2b()
    for top in range(0, image.height, _BAND):
        digest.update(image.crop((0, top, image.width, min(top + _BAND, image.height))).tobytes())
    return digest.digest()


def has_all_scans(data: bytes) -> bool:
    """Return whether a JPEG has begun every scan that its coefficients need to be exact.

    A progressive JPEG (ITU T.81, annex G) has many scans; in others each component may have one of its own.
    """
    exact: dict[int, list[bool]] = {}
    for match in islice(_SEGMENT.finditer(data), MAX_SEGMENTS):
        marker, at = data[match.end() - 1], match.end()
        body = data[at + 2 : at + int.from_bytes(data[at : at + 2])]
        if marker != 0xDA and len(body) > 5:
            exact = {body[6 + 3 * number]: [False] * _COEFFICIENTS for number in range((len(body) - 6) // 3)}
        elif marker == 0xDA and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] : 4 + 2 * body[0]]
            for component in set(body[1 : 1 + 2 * body[0] : 2]) & exact.keys():
                for coefficient in range(first, min(last, _COEFFICIENTS - 1) + 1):
                    exact[component][coefficient] |= bits & 0x0F == 0
    return bool(exact) and all(all(coefficients) for coefficients in exact.values())

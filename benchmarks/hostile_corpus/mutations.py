"""Good pictures damaged at random, by a seed: cut, flipped, lied to about lengths, taken apart."""

import random
import struct
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import TypeVar

from hostile_corpus.containers import PNG, good_images, png, png_chunks, riff, riff_chunks, seams
from hostile_corpus.hostile_file import ANY, HostileFile

LIES = (0, 1, 2, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
MOST_CHUNKS = 40

Part = TypeVar("Part")
Mutation = Callable[[bytes, random.Random], bytes]


def mutations(count: int, seed: int = 0) -> Iterator[HostileFile]:
    """Yield so many, the kinds of damage and the pictures in turn."""
    draw = random.Random(seed)
    images = list(good_images().items())
    kinds = list(KINDS.items())
    for number in range(count):
        name, data = images[number % len(images)]
        damage, mutate = kinds[number // len(images) % len(kinds)]
        yield HostileFile(f"{name}, {damage} [{number}]", mutate(data, draw), ANY)


def cut_at_a_seam(data: bytes, draw: random.Random) -> bytes:
    """Cut between two of its parts, or a byte beside."""
    return data[: max(0, draw.choice(seams(data)) + draw.choice((-1, 0, 0, 1)))]


def cut_anywhere(data: bytes, draw: random.Random) -> bytes:
    """Cut at any byte."""
    return data[: draw.randrange(len(data))]


def cut_out(data: bytes, draw: random.Random) -> bytes:
    """Leave out a piece of the middle."""
    start = draw.randrange(4, len(data))
    return data[:start] + data[start + draw.randrange(1, 200) :]


def flip_bits(data: bytes, draw: random.Random) -> bytes:
    """Flip one to sixty-four bits, anywhere behind the signature."""
    return _flipped(data, draw, range(4, len(data)), draw.choice((1, 2, 8, 64)))


def flip_header(data: bytes, draw: random.Random) -> bytes:
    """Flip some bits of the first hundred bytes: sizes, depths, tables."""
    return _flipped(data, draw, range(8, min(len(data), 100)), draw.choice((1, 2, 4)))


def flip_under_the_checksum(data: bytes, draw: random.Random) -> bytes:
    """Flip bits inside a chunk of a PNG whose checksum is then made right; elsewhere as :func:`flip_bits`."""
    if not data.startswith(PNG):
        return flip_bits(data, draw)
    chunks = png_chunks(data)
    which = draw.choice([number for number, (_, content) in enumerate(chunks) if content])
    kind, content = chunks[which]
    chunks[which] = kind, _flipped(content, draw, range(len(content)), draw.choice((1, 3, 9)))
    return png(chunks)


def lie_at_a_seam(data: bytes, draw: random.Random) -> bytes:
    """Change two or four bytes at the beginning of a part, where lengths stand."""
    at = draw.choice(seams(data)[1:])
    width, order = draw.choice(((2, "big"), (4, "big"), (4, "little")))
    value = draw.choice(LIES) % (1 << 8 * width)
    return data[:at] + value.to_bytes(width, "big" if order == "big" else "little") + data[at + width :]


def shuffle_parts(data: bytes, draw: random.Random) -> bytes:
    """Have parts change places, come twice or left out; containers stay whole."""
    if data.startswith(PNG):
        return png(_rearranged(png_chunks(data), draw))
    if data.startswith(b"RIFF"):
        return riff(_rearranged(riff_chunks(data), draw))
    borders = sorted(set(seams(data)))
    parts = [data[start:end] for start, end in pairwise(borders)]
    return b"".join(parts[:1] + _rearranged(parts[1:], draw))


def repeat(data: bytes, draw: random.Random) -> bytes:
    """Repeat a piece of the file many times."""
    start, length = draw.randrange(4, len(data)), draw.choice((1, 4, 64, 512))
    return data[:start] + data[start : start + length] * draw.choice((2, 50, 500)) + data[start:]


def insert_noise(data: bytes, draw: random.Random) -> bytes:
    """Insert random bytes between two others."""
    at = draw.randrange(4, len(data))
    return data[:at] + draw.randbytes(draw.choice((1, 10, 300))) + data[at:]


def overwrite(data: bytes, draw: random.Random) -> bytes:
    """Write a stretch of zeros or ones, as a broken disk leaves it."""
    at, length = draw.randrange(4, len(data)), draw.choice((4, 32, 512))
    return data[:at] + draw.choice((b"\0", b"\xff")) * min(length, len(data) - at) + data[at + length :]


def splice(data: bytes, draw: random.Random) -> bytes:
    """Join the first part of this picture and the last of another."""
    other = draw.choice(list(good_images().values()))
    return data[: draw.randrange(4, len(data))] + other[draw.randrange(4, len(other)) :]


def numbers_grow(data: bytes, draw: random.Random) -> bytes:
    """Make a 32-bit number of the header a large one."""
    at = draw.randrange(8, min(len(data), 64))
    return data[:at] + struct.pack(draw.choice("<>") + "I", draw.choice(LIES)) + data[at + 4 :]


KINDS: dict[str, Mutation] = {
    "cut at a seam": cut_at_a_seam,
    "cut anywhere": cut_anywhere,
    "a piece cut out": cut_out,
    "bits flipped": flip_bits,
    "header flipped": flip_header,
    "flipped under the checksum": flip_under_the_checksum,
    "a lie at a seam": lie_at_a_seam,
    "parts shuffled": shuffle_parts,
    "a piece repeated": repeat,
    "noise inserted": insert_noise,
    "overwritten": overwrite,
    "spliced": splice,
    "a large number": numbers_grow,
}


def _flipped(data: bytes, draw: random.Random, where: range, bits: int) -> bytes:
    changed = bytearray(data)
    for _ in range(bits):
        changed[draw.choice(where)] ^= 1 << draw.randrange(8)
    return bytes(changed)


def _rearranged(parts: list[Part], draw: random.Random) -> list[Part]:
    parts = list(parts)
    for _ in range(draw.choice((1, 2, 5))):
        what = draw.choice(("swap", "double", "drop"))
        one, other = draw.randrange(len(parts)), draw.randrange(len(parts))
        if what == "swap":
            parts[one], parts[other] = parts[other], parts[one]
        elif what == "double" and len(parts) < MOST_CHUNKS:
            parts.insert(other, parts[one])
        elif len(parts) > 1:
            del parts[one]
    return parts

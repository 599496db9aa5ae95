"""What a disk, a power cut or a kill makes of a file."""

from collections.abc import Callable

import pytest

Damage = Callable[[bytes], bytes]


def flipped(at: float) -> Damage:
    """One bit is another, at a share of the file."""

    def change(data: bytes) -> bytes:
        place = min(int(len(data) * at), len(data) - 1)
        return data[:place] + bytes([data[place] ^ 4]) + data[place + 1 :]

    return change


DAMAGE = [
    pytest.param(lambda data: data[: len(data) // 2], id="cut in half"),
    pytest.param(lambda data: data[:-1], id="the last byte lost"),
    pytest.param(lambda data: b"", id="empty"),
    pytest.param(lambda data: bytes(len(data)), id="zeros, after a power cut"),
    pytest.param(flipped(0.0), id="a bit at the front"),
    pytest.param(flipped(0.5), id="a bit in the middle"),
    pytest.param(flipped(1.0), id="a bit at the end"),
]

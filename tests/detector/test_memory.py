"""Memory that is free goes back to the system."""

import ctypes
from collections.abc import Iterator

import numpy as np
import psutil
import pytest

from detector import memory
from detector.memory import give_back_free_memory


@pytest.fixture(autouse=True)
def anew() -> Iterator[None]:
    """The C library is asked anew."""
    memory._trim.cache_clear()
    yield
    memory._trim.cache_clear()


def test_what_the_c_library_keeps_is_given_back() -> None:
    """Small pieces, which it does not give back by itself: the last one holds the others."""
    process = psutil.Process()
    if memory._trim() is None:
        pytest.skip("the C library knows no malloc_trim")
    pieces = [np.ones(8_000) for _ in range(2_000)]  # 128 MB in pieces that are not mapped one by one
    last = [np.ones(8_000)]
    before = process.memory_info().rss
    pieces.clear()
    give_back_free_memory()
    assert before - process.memory_info().rss > 60 * 2**20
    assert last[0].sum() == 8_000


def test_what_refers_to_itself_is_freed_first() -> None:
    freed = []

    class Loop:
        def __init__(self) -> None:
            self.self = self

        def __del__(self) -> None:
            freed.append(1)

    Loop()
    give_back_free_memory()
    assert freed == [1]


@pytest.mark.parametrize("error", [AttributeError, OSError, TypeError])
def test_a_library_that_knows_no_such_thing_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """musl, macOS, Windows."""

    def fail(name: object) -> object:
        raise error

    monkeypatch.setattr(ctypes, "CDLL", fail)
    assert memory._trim() is None
    give_back_free_memory()

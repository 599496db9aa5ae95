"""Errors of the library reach the process that waits for them, whole."""

import pickle
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from copy import copy, deepcopy
from multiprocessing import get_context

import pytest

import detector.bulk.ray_runner
import detector.cli.bench_requests
import detector.client  # noqa: F401  # with those above: all modules of the library that define errors
from detector.client import BusyError, NoConnectionError, RefusedError, ServiceError, ServiceTimeoutError
from detector.errors import DetectorError, ImageError, WriteError
from detector.io.decoding import decode

ERRORS = [
    ImageError("truncated", "The picture ends early."),
    WriteError(28, "No space left on device", "found.json"),
    ServiceError("internal_error", "It failed.", 500, "a1"),
    RefusedError("empty", "It is empty.", 400, "a2"),
    BusyError("overloaded", "Come later.", 429, "a3", 1.5),
    ServiceTimeoutError("timeout", "It took too long.", None, "a4"),
    NoConnectionError("no_connection", "Nobody is there.", None, "a5"),
]


def kinds(of: type[DetectorError] = DetectorError) -> Iterator[type[DetectorError]]:
    """Yield the errors that the library itself defines, each once."""
    if of.__module__.startswith("detector."):
        yield of
    for kind in of.__subclasses__():
        yield from kinds(kind)


def seen(error: DetectorError) -> tuple[object, ...]:
    return type(error), str(error), vars(error), getattr(error, "errno", None), error.__notes__


@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy, deepcopy])
@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_an_error_that_was_sent_says_the_same(error, again) -> None:  # type: ignore[no-untyped-def]
    error.add_note("picture 7")
    assert seen(again(error)) == seen(error)


def test_no_kind_of_error_is_left_out() -> None:
    """One that takes its message alone needs nothing."""
    listed = {type(error) for error in ERRORS}
    for kind in kinds():
        if kind not in listed:
            assert "__init__" not in vars(kind), f"{kind.__name__} has fields: list it above"
            assert seen_of_message(kind) == (kind, "what is wrong")


def seen_of_message(kind: type[DetectorError]) -> tuple[object, ...]:
    sent = pickle.loads(pickle.dumps(kind("what is wrong")))
    return type(sent), str(sent)


def test_a_pool_of_processes_outlives_a_picture_that_cannot_be_read() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for _ in range(2):
            with pytest.raises(ImageError, match="not a picture") as raised:
                pool.submit(decode, b"no picture").result()
            assert raised.value.code == "unsupported_format"

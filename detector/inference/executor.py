"""Who runs a network, and when: the one place where the steps of inference meet a device.

A step that needs a network hands a :class:`ForwardRequest` to an :data:`Executor` and gets the outputs back.
The library runs each request at once, alone (:func:`run_directly`). The service's executor waits while its
scheduler puts rows of many requests into one batch. Letters for shapes: R rows, S the side of a crop.
"""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from enum import IntEnum
from functools import cache, wraps
from typing import ParamSpec, TypeVar

import numpy as np

from detector.inference.arrays import Array, Arrays
from detector.inference.engine import Engine, Outputs, RunningBatch, concatenated
from detector.threads import run_alone

P = ParamSpec("P")
T = TypeVar("T")

MakeCrops = Callable[[int, int], Array]
"""Makes the crops [n,3,S,S], float32, on the engine's device, of rows from a first up to a last, left out."""


class Priority(IntEnum):
    """Which requests go first where several wait."""

    NORMAL = 0
    URGENT = 1
    """For single rows on which all further work on an image depends."""


@dataclass(frozen=True, eq=False)
class ForwardRequest:
    """R ``rows`` of crops that an engine is to run; they are made when their turn comes.

    ``cost`` says how long a row takes: as long as so many regions that are cut out of shared maps.
    """

    engine: Engine
    rows: int
    make_crops: MakeCrops
    priority: Priority = Priority.NORMAL
    cost: int = 1

    @classmethod
    def of(cls, engine: Engine, crops: Array) -> "ForwardRequest":
        """Make a request of crops [R,3,S,S] that are there already."""
        return cls(engine, len(crops), lambda first, last: crops[first:last])


Executor = Callable[[ForwardRequest], Outputs]
"""Runs a request: returns named tensors of R rows, on the CPU, in the order of the rows."""


def run_directly(request: ForwardRequest) -> Outputs:
    """Run a request now, in batches of its engine's size; crops are made batch by batch.

    Where an engine has several streams, batches run beside each other, each on one thread alone: by torch
    that costs less than sharing every layer of a batch out among the threads, which then wait for each other,
    above all where the machine has other work too.
    """
    engine = request.engine
    streams, arrays = engine.streams, engine.arrays
    batch = min(engine.batch, max(-(-request.rows // streams), 1))
    ranges = [(first, min(first + batch, request.rows)) for first in range(0, request.rows or 1, batch)]
    if streams == 1 or len(ranges) == 1:
        return concatenated([part.finish() for part in [_started(request, *rows) for rows in ranges]], arrays)
    pool = _threads(streams)
    return concatenated(list(pool.map(lambda rows: _started(request, *rows).finish(), ranges)), arrays)


def _started(request: ForwardRequest, first: int, last: int) -> RunningBatch:
    return request.engine.start(request.make_crops(first, last))


@cache
def _threads(count: int) -> ThreadPoolExecutor:
    """Return threads that each run their batches without help."""
    return ThreadPoolExecutor(count, "batches", initializer=run_alone)


def with_mirrored(
    make_crops: MakeCrops, rows: int, arrays: Arrays, make_mirrored: MakeCrops | None = None
) -> MakeCrops:
    """Return what makes the crops of twice as many rows: all R, then all R turned left to right.

    ``make_mirrored`` makes the latter [the crops, turned].
    """

    def turned(first: int, last: int) -> Array:
        return arrays.mirror(make_crops(first, last))

    mirror = make_mirrored or turned

    def both(first: int, last: int) -> Array:
        plain = make_crops(min(first, rows), min(last, rows))
        mirrored = mirror(max(first - rows, 0), max(last - rows, 0))
        if not len(mirrored):
            return plain
        return mirrored if not len(plain) else arrays.concatenate([plain, mirrored])

    return both


def without_callers_context(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function independent of the caller's ``torch.autocast``, default device and ``numpy.errstate``.

    All are lifted for the calling thread alone, and set again afterwards. The default dtype belongs to
    the whole process: it is left alone, and code here names its own.
    """

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with ExitStack() as stack:
            stack.enter_context(np.errstate(divide="warn", over="warn", under="ignore", invalid="warn"))
            torch = sys.modules.get("torch")
            if torch is not None and hasattr(torch, "is_autocast_enabled"):  # it may be half imported
                # Some operations make tensors of no named device.
                if torch.get_default_device().type != "cpu":
                    stack.enter_context(torch.device("cpu"))
                for kind in ("cpu", "cuda"):
                    if torch.is_autocast_enabled(kind):
                        stack.enter_context(torch.autocast(kind, enabled=False))
            return function(*args, **kwargs)

    return call

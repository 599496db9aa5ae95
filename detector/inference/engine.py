"""What every engine does: run a network in batches, and hand back its outputs by name.

An engine is one network on one device, by torch (:mod:`detector.inference.torch_engine`), OpenVINO or ONNX
Runtime (:mod:`detector.inference.graph_engine`). Letters for shapes: R rows of a batch.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from detector.inference.arrays import Array, Arrays

Outputs = dict[str, Any]
"""What a network gives for R rows: arrays of R rows by name, NumPy's, but for the maps that another network
reads, which are of the engine's own kind."""

MAPS = "maps"
"""The name of the output that stays on the engine's device."""


class RunningBatch(Protocol):
    """A batch that was started."""

    @property
    def done(self) -> bool:
        """Whether :meth:`finish` would not wait."""

    def finish(self) -> Outputs:
        """Wait for the batch; return its arrays of R rows by name."""


class Engine(Protocol):
    """Runs one network."""

    @property
    def arrays(self) -> Arrays:
        """Makes and handles the arrays that it reads."""

    @property
    def batch(self) -> int:
        """The most rows that it takes at once."""

    @property
    def streams(self) -> int:
        """How many batches run best beside each other, each in a thread of the caller's."""

    def start(self, rows: Array) -> RunningBatch:
        """Start one batch of R rows, at most ``batch``. A GPU works while the caller goes on; on a CPU all is
        done when this returns."""


class FinishedBatch:
    """A batch that was done when it was started."""

    done = True

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = outputs

    def finish(self) -> Outputs:
        """Return the arrays of R rows by name."""
        return self._outputs


def concatenated(parts: Sequence[Outputs], arrays: Arrays) -> Outputs:
    """Return outputs of consecutive rows as those of all of them."""
    if len(parts) == 1:
        return parts[0]
    return {
        name: (arrays.concatenate if name == MAPS else np.concatenate)([part[name] for part in parts])
        for name in parts[0]
    }


def copied_rows(outputs: Outputs, first: int, last: int, arrays: Arrays) -> Outputs:
    """Return some rows of outputs in memory of their own: views would keep all others."""
    return {
        name: arrays.copy(column[first:last]) if name == MAPS else column[first:last].copy()
        for name, column in outputs.items()
    }

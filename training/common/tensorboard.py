"""TensorBoard's view of a run, where the package is installed: `tensorboard --logdir RUN`."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from tqdm import tqdm


class Board(Protocol):
    """What takes the figures of an iteration."""

    def add_scalar(self, tag: str, value: float, step: int) -> object:
        """Note one figure."""


def open_board(folder: Path, first: int) -> Board | None:
    """A writer of events below ``folder``, or None, with a word about it, where tensorboard is missing.

    What an earlier process wrote from iteration ``first`` on, which will be done again, is not shown.
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        tqdm.write(
            "tensorboard is not installed: there are no charts to look at while this trains (log.jsonl has "
            "every figure); `make training` installs it"
        )
        return None
    return SummaryWriter(str(folder), purge_step=first, flush_secs=30)


def show(board: Board | None, group: str, iteration: int, values: Mapping[str, float]) -> None:
    """Note the figures of an iteration as ``group/name``."""
    if board is not None:
        for name, value in values.items():
            board.add_scalar(f"{group}/{name}", value, iteration)

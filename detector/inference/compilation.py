"""A trunk compiled for runs of many whole batches."""

import logging

import torch
from torch import Tensor, nn

logger = logging.getLogger(__name__)


class CompiledTrunk:
    """Runs a trunk compiled, its weights built in as constants; as it is where that cannot be.

    It is compiled at the first batch, and for batches like that one: give it no others. Results differ from
    the plain trunk's by rounding alone.
    """

    def __init__(self, trunk: nn.Module) -> None:
        self._plain = trunk
        self._run = torch.compile(trunk, dynamic=False, options={"freezing": True})
        self._proven = False

    def __call__(self, crops: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.no_grad():  # weights are built in only in this mode
            if self._proven:
                return self._run(crops)
            try:
                maps = self._run(crops)
            except Exception as error:  # torch's own, of many kinds: no compiler, one that fails, no support
                reason = str(error).strip().partition("\n")[0]
                logger.warning("The trunk runs uncompiled, since compiling it failed: %s", reason)
                self._run, maps = self._plain, self._plain(crops)
            self._proven = True
            return maps

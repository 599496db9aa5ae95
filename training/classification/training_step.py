"""One step of training a classifier: from the pieces of a minibatch to the gradients of its loss.

Letters for shapes: N pictures of a piece, C classes; S the side of the network's input.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.parallel import DistributedDataParallel

from detector.inference.engine import choose_precision
from detector.inference.region_crops import Preprocessing
from training.classification.dataloader import Piece
from training.trainer.distributed import World


class ClassifierLosses(NamedTuple):
    """Scalars: the weighted sum, and the cross-entropy of the main and of the two side classifiers."""

    total: Tensor
    main: Tensor
    aux_4a: Tensor
    aux_4d: Tensor


class ClassifierStep:
    """Gradients of one minibatch, shared by the processes and run in pieces."""

    def __init__(
        self,
        network: nn.Module,
        preprocessing: Preprocessing,
        *,
        batch: int,
        auxiliary: float,
        seed: int,
        device: torch.device,
        world: World,
    ) -> None:
        """``network`` is on the device and gives three logits [N,C], those of the side classifiers last,
        which count ``auxiliary`` each. ``batch`` is how many pictures the minibatches of all processes have.
        """
        self._auxiliary, self._seed = auxiliary, seed
        self._batch, self._device, self._world = batch, device, world
        self._precision = choose_precision("auto", device)
        self._mean = torch.tensor(preprocessing.mean, device=device)[:, None, None]
        self._std = torch.tensor(preprocessing.std, device=device)[:, None, None]
        self._shared: nn.Module | DistributedDataParallel = network
        if world.size > 1:
            ids = [device.index] if device.type == "cuda" else None
            self._shared = DistributedDataParallel(network, device_ids=ids, broadcast_buffers=False)

    def gather(self, pieces: Sequence[Piece], iteration: int) -> ClassifierLosses:
        """Add the gradients of this process' pieces, and of the others', to the weights; return the losses of
        the whole minibatch."""
        # Dropout, as a function of the iteration; other places fall out in each process.
        torch.manual_seed((self._seed * 1_000_003 + iteration) * 1009 + self._world.rank)
        sums = torch.zeros(len(ClassifierLosses._fields), device=self._device)
        for number, piece in enumerate(pieces, start=1):
            quiet = isinstance(self._shared, DistributedDataParallel) and number < len(pieces)
            with self._shared.no_sync() if quiet else nullcontext():  # type: ignore[operator]
                part = self._losses(piece)
                (part.total * self._world.size).backward()  # the processes' are averaged: ours sum up
            sums += torch.stack(part).detach()
        return ClassifierLosses(*self._world.total(sums).cpu())

    def _losses(self, piece: Piece) -> ClassifierLosses:
        """Sums over the piece's pictures, divided by the pictures of the whole minibatch."""
        pixels = piece.pixels.to(self._device, non_blocking=True).permute(0, 3, 1, 2)  # N x 3 x S x S
        labels = piece.labels.to(self._device, non_blocking=True)
        pixels = (pixels.float() - self._mean) / self._std  # channels_last, as the bytes came
        mixed = self._precision != torch.float32
        with torch.autocast(self._device.type, self._precision, enabled=mixed):
            output = self._shared(pixels)
        main, *aux = (
            F.cross_entropy(logits.float(), labels, reduction="sum") / self._batch for logits in output
        )
        return ClassifierLosses(main + self._auxiliary * sum(aux), main, *aux)

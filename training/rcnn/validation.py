"""How well a network in training does on pictures that it does not learn from.

When to stop, and which weights were best: both by a loss on held-out pictures.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from detector.datasets.record import Record
from training.rcnn.dataloader import cached_targets, on_device
from training.rcnn.feature_cache import FeatureCache
from training.rcnn.losses import Asked, asked
from training.rcnn.training_module import RegionLearner
from training.trainer.distributed import World

IMAGES = 200
"""Held-out pictures that are looked at: enough to tell whether the loss still falls."""

_AT_ONCE = 64


def spread(records: Sequence[Record], most: int) -> list[Record]:
    """At most so many records, evenly from the whole list."""
    every = np.linspace(0, len(records) - 1, min(most, len(records))).round().astype(int)
    return [records[index] for index in every]


class Measure(NamedTuple):
    """The loss as in training, its part for naming, and the share of regions that are named rightly."""

    loss: float
    classification: float
    accuracy: float


class HeldOut:
    """Regions of held-out pictures, in a cache of maps, each process measuring its share of them."""

    def __init__(
        self,
        cache: FeatureCache,
        known: int,
        background_label: int,
        device: torch.device,
        precision: torch.dtype,
        world: World,
        unsure: float,
    ) -> None:
        """``known`` rows of the classifier are to be remembered; ``unsure`` is that of the loss."""
        self._cache, self._known = cache, known
        self._device, self._precision, self._world = device, precision, world
        self._mine = torch.arange(world.rank, len(cache.labels), world.size)
        self._counts = asked(
            cached_targets(cache, torch.arange(len(cache.labels)), known), background_label, unsure
        ).counts()

    @torch.no_grad()
    def measure(self, learner: RegionLearner, weights: Mapping[str, Tensor]) -> Measure:
        """The network of ``learner`` with these weights instead of its own, which it keeps."""
        counts = Asked(*(count.to(self._device) for count in self._counts))
        learner.eval()
        sums = torch.zeros(3, device=self._device)
        for rows in self._mine.split(_AT_ONCE):
            maps = self._cache.maps[rows].to(self._device, memory_format=torch.channels_last)
            targets = on_device(cached_targets(self._cache, rows, self._known), self._device)
            part, logits = functional_call(learner, dict(weights), (maps, targets, counts, self._precision))
            right = ((logits.argmax(dim=1) == targets.labels) & (targets.labels >= 0)).sum()
            sums += torch.stack([part.total, part.classification, right / counts.classification.clamp_min(1)])
        learner.train()
        loss, classification, accuracy = self._world.total(sums).tolist()
        return Measure(loss, classification, accuracy)


class EarlyStop:
    """The weights of the lowest loss so far, and for how many measures there was no lower one.

    With a patience of 0 nothing is kept and nothing stops.
    """

    def __init__(self, patience: int) -> None:
        self._patience = patience
        self._loss, self._waited = float("inf"), 0
        self._best: dict[str, Tensor] = {}

    @property
    def over(self) -> bool:
        """Whether patience has run out."""
        return 0 < self._patience <= self._waited

    @property
    def best(self) -> Mapping[str, Tensor]:
        """The best weights by name; none without a patience, or before the first measure."""
        return self._best

    def add(self, loss: float, weights: Mapping[str, Tensor]) -> None:
        """Note a measure of these weights. One that is no number is none."""
        if not self._patience:
            return
        self._waited += 1
        if loss < self._loss:
            self._loss, self._waited = loss, 0
            self._best = {name: value.detach().cpu().clone() for name, value in weights.items()}

    def state(self) -> dict[str, dict[str, Tensor]]:
        """What :meth:`restore` takes, for the state file of a run."""
        if not self._best:
            return {}
        figures = {
            "loss": torch.tensor(self._loss, dtype=torch.float64),
            "waited": torch.tensor(self._waited),
        }
        return {"best": self._best, "early_stop": figures}

    def restore(self, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Go on from a state."""
        if "early_stop" in parts:
            self._best = dict(parts["best"])
            self._loss = float(parts["early_stop"]["loss"])
            self._waited = int(parts["early_stop"]["waited"])

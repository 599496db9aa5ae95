"""Minibatches straight from pictures: what is trained on need not fit anywhere.

Each minibatch comes from some pictures drawn for it: they are decoded, their regions sampled anew, warped,
mirrored, and perhaps seen in other light. Nothing is kept, so memory does not grow with the data set.
Letters for shapes: P pictures of a minibatch, R regions of one, B regions of this process' share.
"""

import copy
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import Dataset

from detector.datasets.pixels import load_record, tolerated
from detector.datasets.record import Record
from detector.errors import DatasetError, ImageError
from detector.inference.engine import choose_precision
from detector.inference.region_crops import Preprocessing, reduced
from detector.models.backbone import Backbone
from training.classification.augmentation import Distortion, distort
from training.rcnn.dataloader import Minibatch, loader, on_device
from training.rcnn.feature_cache import Plan, plan_image
from training.rcnn.losses import Targets
from training.rcnn.minibatch import BatchSettings, Sampler
from training.rcnn.proposal_cache import ProposalCache
from training.rcnn.sampling import SamplingSettings, crops_of
from training.trainer.distributed import World
from training.trainer.left_out import BrokenImages


class View(NamedTuple):
    """What is needed of one picture: its pixels [H,W,3] uint8 and boxes [R,4] in them, which of these are
    whole pictures and which are mirrored, [R] bool."""

    pixels: Tensor
    boxes: Tensor
    whole: Tensor
    mirrored: Tensor


class Views(NamedTuple):
    """A process' share of a minibatch before it is warped: the regions stand in the order of the views.

    ``broken`` says of each picture that can no longer be read, in whose place another was drawn, why."""

    views: list[View]
    targets: Targets
    slots: Tensor
    broken: dict[str, str]


@dataclass(frozen=True)
class Images:
    """The pictures that are drawn from; ``weights`` [N] says how much more often than others each is.

    ``preprocessing`` is that of the detector in training, ``background_label`` the number of its classes.
    """

    records: Sequence[Record]
    weights: NDArray[np.float64]
    proposals: ProposalCache
    preprocessing: Preprocessing
    background_label: int


class StreamFeed:
    """Minibatches made as they are needed, ahead of their use by processes of their own."""

    def __init__(
        self,
        images: Images,
        backbone: Backbone,
        frozen: int,
        known: int,
        sampling: SamplingSettings,
        settings: BatchSettings,
        *,
        broken: BrokenImages,
        distorted: bool,
        seed: int,
        device: torch.device,
        world: World,
        workers: int,
    ) -> None:
        """``backbone`` is the network before training: its first ``frozen`` stages are run here, and where
        ``known`` > 0 its first so many rows are what is to be remembered. ``broken`` is told of pictures that
        can no longer be read."""
        self._views = _SampledViews(images, sampling, settings, distorted, seed, world)
        self._images, self._device, self._workers, self._known = images, device, workers, known
        self._precision, self._broken = choose_precision("auto", device), broken
        untrained = copy.deepcopy(backbone).to(device).eval().requires_grad_(False)
        untrained.features.to(memory_format=torch.channels_last)
        self._stem: nn.Module = untrained.features[:frozen]
        self._rest: nn.Module = untrained.features[frozen:]
        self._untrained = untrained
        self.an_epoch = max(len(images.records) // settings.images, 1)

    def minibatches(self, first: int, last: int) -> Iterator[Minibatch]:
        for item in loader(self._views, first, last, self._device, self._workers):
            self._broken.report(item.broken)
            yield self._minibatch(item)

    def digest(self) -> bytes:
        images = self._images
        digest = hashlib.sha256(b"stream" + repr(images.preprocessing).encode() + images.weights.tobytes())
        for record in images.records:
            digest.update(os.fsencode(record.image_id) + record.boxes.tobytes() + record.labels.tobytes())
            digest.update(record.unknown.tobytes() + record.crowds.tobytes() + bytes([record.partial]))
        return digest.digest()

    @torch.no_grad()
    def _minibatch(self, item: Views) -> Minibatch:
        crops = torch.cat(
            [
                crops_of(
                    view.pixels.numpy(),
                    view.boxes.numpy(),
                    view.whole.numpy(),
                    view.mirrored.numpy(),
                    self._images.preprocessing,
                    self._device,
                )
                for view in item.views
            ]
        )
        precision = self._precision
        crops = crops.to(precision, memory_format=torch.channels_last)
        targets = item.targets
        with torch.autocast(self._device.type, precision, enabled=precision != torch.float32):
            maps = self._stem(crops)
            if self._known:
                # Background is not asked to be remembered: the teacher need not look at it.
                asked = torch.from_numpy(
                    np.flatnonzero(targets.labels.numpy() != self._images.background_label)
                )
                last = self._rest(maps[asked.to(self._device)])
        teacher = crops.new_zeros(len(crops), self._known, dtype=torch.float32)
        if self._known:
            teacher[asked.to(self._device)] = self._untrained.pool(last.float())[:, : self._known]
        targets = on_device(targets._replace(teacher=teacher), self._device)
        return Minibatch(maps, targets, item.slots.to(self._device))


class _SampledViews(Dataset[Views]):
    """This process' share of a minibatch, by the minibatch's number alone."""

    def __init__(
        self,
        images: Images,
        sampling: SamplingSettings,
        settings: BatchSettings,
        distorted: bool,
        seed: int,
        world: World,
    ) -> None:
        self._images, self._sampling, self._settings = images, sampling, settings
        self._distortion = Distortion() if distorted else None
        self._seed, self._world = seed, world
        # Regions of rare classes are drawn more often, as from a cache: here pictures are chosen so.
        self._share = _by_class(images.records, settings.balance) * images.weights
        self._share /= self._share.sum()

    def __getitem__(self, iteration: int) -> Views:
        """Every process draws the whole minibatch, and looks at the pictures of its share only.

        In the place of a picture that can no longer be read another one is drawn, the same by every process.
        Raises DatasetError if there is none.
        """
        rng = np.random.default_rng([self._seed, iteration, 2])
        chosen = rng.choice(len(self._share), self._settings.images, p=self._share)
        broken: dict[str, str] = {}
        plans = []
        for place in range(len(chosen)):
            while (plan := self._plan(int(chosen[place]), iteration, place, broken)) is None:
                if len(broken) > tolerated(len(self._share)):
                    raise DatasetError(
                        f"{len(broken)} of {len(self._share)} pictures can no longer be read "
                        f"({next(iter(broken.values()))}): is the disk still there?"
                    )
                chosen[place] = rng.choice(len(self._share), p=self._left(broken))
            plans.append(plan)
        owner = np.concatenate([np.full(len(plan[0].labels), place) for place, plan in enumerate(plans)])
        starts = np.cumsum([0] + [len(plan[0].labels) for plan in plans])
        labels, overlaps, deltas, sure = (
            np.concatenate([getattr(plan[0], part) for plan in plans])
            for part in ("labels", "overlaps", "deltas", "sure")
        )
        even = replace(self._settings, balance=0.0)  # the pictures were drawn by class already
        sampler = Sampler(labels, overlaps, self._images.background_label, even, self._seed, sure=sure)
        drawn, pool = sampler.draw(iteration), sampler.pool(iteration)
        index = np.concatenate([drawn, pool])
        slots = np.concatenate([np.full(len(drawn), -1), np.arange(len(pool))])
        by_image = np.argsort(index, kind="stable")
        mine = np.array_split(by_image, self._world.size)[self._world.rank]
        index, slots = index[mine], slots[mine]
        views = []
        for place in np.unique(owner[index]):
            of_image = index[owner[index] == place] - starts[place]
            views.append(self._view(int(chosen[place]), plans[place], of_image, iteration, int(place)))
        rows = torch.from_numpy(index)
        asked = [torch.from_numpy(part)[rows] for part in (labels, overlaps, deltas, sure)]
        targets = Targets(*asked, torch.zeros(len(rows), 0))  # type: ignore[call-arg]
        return Views(views, targets, torch.from_numpy(slots), broken)

    def _left(self, broken: Mapping[str, str]) -> NDArray[np.float64]:
        """How likely each picture is drawn where some are broken. Raises DatasetError if all are."""
        share = self._share * [record.image_id not in broken for record in self._images.records]
        if not share.any():
            raise DatasetError(f"none of the pictures can be read any more ({next(iter(broken.values()))})")
        return share / share.sum()

    def _plan(self, index: int, iteration: int, place: int, broken: dict[str, str]) -> Plan | None:
        """The regions of a picture, or None for one that can no longer be read, with a note in ``broken``."""
        record = self._images.records[index]
        rng = np.random.default_rng([self._seed, iteration, 3, place])
        try:
            boxes = self._images.proposals.of(record).boxes
        except ImageError as error:
            broken[record.image_id] = str(error)
            return None
        return plan_image(record, boxes, self._sampling, self._images.background_label, rng)

    def _view(self, index: int, plan: Plan, of_image: NDArray[np.int64], iteration: int, place: int) -> View:
        image, factors = reduced(load_record(self._images.records[index]), self._images.preprocessing)
        if self._distortion is not None:
            image = distort(image, self._distortion, np.random.default_rng([self._seed, iteration, 4, place]))
        regions, whole = plan
        return View(
            torch.from_numpy(np.ascontiguousarray(image)),
            torch.from_numpy(regions.boxes[of_image] * factors),
            torch.from_numpy(whole[of_image]),
            torch.from_numpy(regions.mirrored[of_image]),
        )


def _by_class(records: Sequence[Record], balance: float) -> NDArray[np.float64]:
    """How often each picture is drawn: the mean over its objects of their class' count to the power of
    ``-balance``, [N]."""
    labels = np.concatenate([record.labels for record in records])
    per_class = np.bincount(labels).clip(1).astype(np.float64) ** -balance
    return np.array([per_class[record.labels].mean() for record in records])

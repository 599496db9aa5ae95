"""Minibatches of regions straight from images: nothing of the data set is kept in memory or on disk.

Each minibatch comes from some images drawn for it: they are decoded, their regions sampled anew, warped,
mirrored, and perhaps changed in color. Letters for shapes: R regions of an image, B regions of this process'
share of a minibatch.
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

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image, tolerated
from detector.errors import DatasetError, ImageError
from detector.inference.preprocessing import Preprocessing, resize_to_short_side
from detector.inference.shared_maps import SharedMaps
from detector.inference.torch_engine import choose_precision
from detector.models.backbone import Backbone
from training.classification.augmentation import ColorJitter, jitter_color
from training.rcnn.dataloader import BatchSettings, RegionBatch, RegionSampler
from training.rcnn.losses import Targets
from training.rcnn.proposal_cache import ProposalCache
from training.rcnn.region_maps import RegionMaps
from training.rcnn.sampling import Regions, SamplingSettings, sample_regions
from training.trainer.dataloader import load_items
from training.trainer.distributed import ProcessGroup
from training.trainer.excluded_images import BrokenImages


class DrawnImage(NamedTuple):
    """An image and its regions that were drawn: pixels [H,W,3] uint8, boxes [R,4] in them, which of these are
    the whole image and which are mirrored, [R] bool each; how many times as large as else it is seen."""

    pixels: Tensor
    boxes: Tensor
    whole: Tensor
    mirrored: Tensor
    zoom: float = 1.0


class DrawnBatch(NamedTuple):
    """A process' share of a minibatch before it is warped; targets and slots [B] stand in the order of the
    images' regions.

    ``broken`` says why each image could not be read in whose place another one was drawn.
    """

    images: list[DrawnImage]
    targets: Targets
    slots: Tensor
    broken: dict[str, str]


@dataclass(frozen=True)
class Images:
    """The images to draw from; ``weights`` [N] says how much more often than others each is drawn.

    ``preprocessing`` and ``shared`` are those of the detector in training, ``background_label`` the number of
    its classes. Where maps are shared, each image is seen by a factor larger or smaller, up to ``zoom``.
    """

    records: Sequence[AnnotatedImage]
    weights: NDArray[np.float64]
    proposals: ProposalCache
    preprocessing: Preprocessing
    background_label: int
    shared: SharedMaps | None = None
    zoom: float = 1.0


class StreamingDataLoader:
    """Minibatches that worker processes make ahead of their use (a
    :class:`training.rcnn.dataloader.RegionDataLoader`)."""

    def __init__(
        self,
        images: Images,
        backbone: Backbone,
        frozen: int,
        distilled_classes: int,
        sampling: SamplingSettings,
        settings: BatchSettings,
        *,
        broken: BrokenImages,
        color_jitter: bool,
        seed: int,
        device: torch.device,
        world: ProcessGroup,
        workers: int,
    ) -> None:
        """Stream ``images``.

        ``backbone`` is the network before training: its first ``frozen`` stages are run here, and it is the
        teacher of the first ``distilled_classes`` sub-classes. ``broken`` is told of images that can no
        longer be read.
        """
        self._batches = _DrawnBatches(images, sampling, settings, color_jitter, seed, world)
        self._images, self._device, self._workers = images, device, workers
        self._distilled_classes, self._broken = distilled_classes, broken
        self._precision = choose_precision("auto", device)
        untrained = copy.deepcopy(backbone).to(device).eval().requires_grad_(False)
        untrained.features.to(memory_format=torch.channels_last)
        self._maps = RegionMaps(
            untrained.features[:frozen], images.preprocessing, images.shared, device, self._run
        )
        self._rest: nn.Module = untrained.features[frozen:]
        self._untrained = untrained
        self.epoch_length = max(len(images.records) // settings.images, 1)

    def minibatches(self, first: int, last: int) -> Iterator[RegionBatch]:
        for drawn in load_items(self._batches, range(first, last), self._device, self._workers):
            self._broken.report(drawn.broken)
            yield self._warp(drawn)

    def digest(self) -> bytes:
        images = self._images
        digest = hashlib.sha256(b"stream" + repr(images.preprocessing).encode() + images.weights.tobytes())
        for record in images.records:
            digest.update(os.fsencode(record.image_id) + record.boxes.tobytes() + record.labels.tobytes())
            digest.update(record.unknown.tobytes() + record.crowds.tobytes() + bytes([record.partial]))
        return digest.digest()

    def _run(self, stages: nn.Module, x: Tensor) -> Tensor:
        """Run stages in the device's precision."""
        precision = self._precision
        with torch.autocast(self._device.type, precision, enabled=precision != torch.float32):
            return stages(x.to(precision, memory_format=torch.channels_last))

    @torch.no_grad()
    def _warp(self, drawn: DrawnBatch) -> RegionBatch:
        """Warp the regions, run the frozen stages and the teacher."""
        maps = torch.cat(
            [
                self._maps(
                    image.pixels.numpy(),
                    image.boxes.numpy(),
                    image.whole.numpy(),
                    image.mirrored.numpy(),
                    zoom=image.zoom,
                )
                for image in drawn.images
            ]
        )
        targets = drawn.targets
        teacher = maps.new_zeros(len(maps), self._distilled_classes, dtype=torch.float32)
        if self._distilled_classes:
            # Background is not distilled.
            distilled = torch.from_numpy(
                np.flatnonzero(targets.labels.numpy() != self._images.background_label)
            ).to(self._device)
            last = self._run(self._rest, maps[distilled])
            teacher[distilled] = self._untrained.pool(last.float())[:, : self._distilled_classes]
        targets = targets._replace(teacher=teacher).to(self._device)
        return RegionBatch(maps, targets, drawn.slots.to(self._device))


class _DrawnBatches(Dataset[DrawnBatch]):
    """This process' share of a minibatch, by the minibatch's number alone."""

    def __init__(
        self,
        images: Images,
        sampling: SamplingSettings,
        settings: BatchSettings,
        color_jitter: bool,
        seed: int,
        world: ProcessGroup,
    ) -> None:
        self._images, self._sampling, self._settings = images, sampling, settings
        self._color_jitter = ColorJitter() if color_jitter else None
        self._seed, self._world = seed, world
        # As from a cache, regions of rare classes are drawn more often: here by the choice of images.
        probability = class_balance(images.records, settings.balance) * images.weights
        self._probability = probability / probability.sum()

    def __getitem__(self, iteration: int) -> DrawnBatch:
        """Draw the whole minibatch, as every process does, and read the images of this process' share only.

        In the place of an image that can no longer be read another one is drawn, the same by every process.
        Raises DatasetError if there is none.
        """
        rng = np.random.default_rng([self._seed, iteration, 2])
        chosen = rng.choice(len(self._probability), self._settings.images, p=self._probability)
        broken: dict[str, str] = {}
        regions_of: list[Regions] = []
        for place in range(len(chosen)):
            while (regions := self._sample(int(chosen[place]), iteration, place, broken)) is None:
                if len(broken) > tolerated(len(self._probability)):
                    raise DatasetError(
                        f"{len(broken)} of {len(self._probability)} pictures can no longer be read "
                        f"({next(iter(broken.values()))}): is the disk still there?"
                    )
                chosen[place] = rng.choice(len(self._probability), p=self._probability_without(broken))
            regions_of.append(regions)
        counts = [len(regions.labels) for regions in regions_of]
        place_of, starts = np.repeat(np.arange(len(counts)), counts), np.cumsum([0, *counts])
        labels, overlaps, deltas, certain = (
            np.concatenate([getattr(regions, part) for regions in regions_of])
            for part in ("labels", "overlaps", "deltas", "certain")
        )
        even = replace(self._settings, balance=0.0)  # the images were drawn by class already
        background = self._images.background_label
        sampler = RegionSampler(labels, overlaps, background, even, self._seed, certain=certain)
        index, slots = sampler.draw(iteration)
        by_image = np.argsort(index, kind="stable")
        share = np.array_split(by_image, self._world.size)[self._world.rank]
        index, slots = index[share], slots[share]
        images = []
        for place in np.unique(place_of[index]):
            drawn = index[place_of[index] == place] - starts[place]
            images.append(self._read(int(chosen[place]), regions_of[place], drawn, iteration, int(place)))
        parts = [torch.from_numpy(part[index]) for part in (labels, overlaps, deltas, certain)]
        targets = Targets(*parts, torch.zeros(len(index), 0))  # type: ignore[call-arg]
        return DrawnBatch(images, targets, torch.from_numpy(slots), broken)

    def _probability_without(self, broken: Mapping[str, str]) -> NDArray[np.float64]:
        """Return how likely each image is drawn where some are broken. Raises DatasetError if all are."""
        left = self._probability * [record.image_id not in broken for record in self._images.records]
        if not left.any():
            raise DatasetError(f"none of the pictures can be read any more ({next(iter(broken.values()))})")
        return left / left.sum()

    def _sample(self, index: int, iteration: int, place: int, broken: dict[str, str]) -> Regions | None:
        """Sample the regions of an image; of one that can no longer be read add the reason to ``broken``."""
        record = self._images.records[index]
        rng = np.random.default_rng([self._seed, iteration, 3, place])
        try:
            boxes = self._images.proposals.of(record).boxes
        except ImageError as error:
            broken[record.image_id] = str(error)
            return None
        regions = sample_regions(record, boxes, self._images.background_label, self._sampling, rng)
        regions = regions.with_whole_image(record)
        # The trunk runs over an image once: all its regions are seen in the same of both.
        return (
            regions.mirrored_alike(bool(rng.random() < 0.5)) if self._images.shared is not None else regions
        )

    def _read(
        self, index: int, regions: Regions, drawn: NDArray[np.int64], iteration: int, place: int
    ) -> DrawnImage:
        image, factors = resize_to_short_side(
            load_image(self._images.records[index]), self._images.preprocessing
        )
        if self._color_jitter is not None:
            rng = np.random.default_rng([self._seed, iteration, 4, place])
            image = jitter_color(image, self._color_jitter, rng)
        return DrawnImage(
            torch.from_numpy(np.ascontiguousarray(image)),
            torch.from_numpy(regions.boxes[drawn] * factors),
            torch.from_numpy(regions.whole[drawn]),
            torch.from_numpy(regions.mirrored[drawn]),
            self._zoom(iteration, place),
        )

    def _zoom(self, iteration: int, place: int) -> float:
        most = self._images.zoom
        rng = np.random.default_rng([self._seed, iteration, 5, place])
        return float(np.exp(rng.uniform(-1, 1) * np.log(most))) if most > 1 else 1.0


def class_balance(records: Sequence[AnnotatedImage], balance: float) -> NDArray[np.float64]:
    """Weigh each image [N] by the mean over its objects of (count of the object's class) ** -balance.

    Images with objects of unknown class alone weigh as much as the average object.
    """
    labels = np.concatenate([record.labels for record in records])
    per_class = np.bincount(labels).clip(1).astype(np.float64) ** -balance
    average = per_class[labels].mean()
    return np.array(
        [per_class[record.labels].mean() if len(record.labels) else average for record in records]
    )

"""Builds the dataloader of a run: cached maps where they fit on the disk, else streamed images."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch
from tqdm import tqdm

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.errors import ParameterError
from detector.inference.preprocessing import Preprocessing
from detector.inference.shared_maps import SharedMaps
from detector.models.checkpoint import Checkpoint
from detector.structures.classes import ClassList
from training.rcnn.dataloader import BatchSettings, CachedDataLoader, RegionDataLoader
from training.rcnn.feature_cache import FeatureCache, build_feature_cache, joined
from training.rcnn.map_store import DISK_SPACE_ADVICE
from training.rcnn.mixing import Mix, relabelled, spread
from training.rcnn.proposal_cache import ProposalCache
from training.rcnn.recipe import Recipe
from training.rcnn.sampling import SamplingSettings
from training.rcnn.streaming_dataloader import Images, StreamingDataLoader
from training.rcnn.task import ValidationRegions
from training.trainer.command_errors import require, used
from training.trainer.dataloader import workers_for
from training.trainer.distributed import ProcessGroup
from training.trainer.excluded_images import BrokenImages

VALIDATION_IMAGES = 200
"""Images of a validation: enough to tell whether the loss still falls."""

_VALIDATION_SAMPLING = SamplingSettings(positives=6, background=10)


class DataSettings(Protocol):
    """What of a recipe says how minibatches are made."""

    @property
    def batch(self) -> BatchSettings: ...
    @property
    def sampling(self) -> SamplingSettings: ...
    @property
    def zoom(self) -> float: ...
    @property
    def color_jitter(self) -> bool: ...
    @property
    def seed(self) -> int: ...


@dataclass(frozen=True)
class DataLoaderBuilder:
    """What dataloaders need to know of a run.

    ``init`` is the checkpoint to start from, ``frozen`` how many of its stages keep their weights,
    ``shared`` how regions share the trunk, if they do, ``distilled_classes`` how many of its classes are
    distilled, ``background`` the label of background, ``folder`` that of the maps; ``broken`` is told of
    images that can no longer be read.
    """

    init: Checkpoint
    frozen: int
    distilled_classes: int
    background: int
    preprocessing: Preprocessing
    shared: SharedMaps | None
    proposals: ProposalCache
    folder: Path
    device: torch.device
    world: ProcessGroup
    broken: BrokenImages

    def build(
        self, mixed: Mix, recipe: DataSettings, *, cache_gib: float, workers: int | None
    ) -> RegionDataLoader:
        """Build a dataloader of cached maps if stages are frozen, neither colors nor sizes are to be changed
        and the maps fit ``cache_gib``; else one that streams images, and samples all by the recipe.

        Proposals are made first, by the first process. Raises ParameterError for a number of workers below 0,
        DiskSpaceError before anything is computed where the maps would find no room.
        """
        if workers is not None and workers < 0:
            raise ParameterError(f"there cannot be {workers} processes that make minibatches")
        workers = workers_for(self.device, self.world) if workers is None else workers
        needed = sum(
            self.cache_size(len(part.records), part.sampling or recipe.sampling) for part in mixed.parts
        )
        cacheable = self.frozen > 0 and not recipe.color_jitter and recipe.zoom == 1
        cached = cacheable and needed <= cache_gib * 2**30
        if cached and self.world.first:
            # At most: maps of this run may be there already.
            require(self.folder, needed - used(self.folder), "maps of the frozen stages", DISK_SPACE_ADVICE)
        if cached:
            return CachedDataLoader(
                self._cache_all(mixed, recipe.sampling),
                self.distilled_classes,
                self.background,
                recipe.batch,
                seed=recipe.seed,
                weights=mixed.weights,
                device=self.device,
                world=self.world,
                workers=workers,
            )
        self._prepare_proposals(mixed.records)
        if cacheable and self.world.first:
            tqdm.write(
                f"maps of the frozen stages would take up to {needed / 2**30:.1f} GiB, more than the "
                f"{cache_gib:g} GiB allowed (--cache-gib): pictures are streamed instead"
            )
        return StreamingDataLoader(
            Images(
                mixed.records,
                mixed.weights,
                self.proposals,
                self.preprocessing,
                self.background,
                self.shared,
                recipe.zoom,
            ),
            self.init.backbone,
            self.frozen,
            self.distilled_classes,
            recipe.sampling,
            recipe.batch,
            broken=self.broken,
            color_jitter=recipe.color_jitter,
            seed=recipe.seed,
            device=self.device,
            world=self.world,
            workers=workers,
        )

    def build_validation(
        self, validation: Dataset, classes: ClassList, recipe: Recipe, output: Path
    ) -> ValidationRegions:
        """Make the regions of a validation. Raises ParameterError if no image has an object."""
        return ValidationRegions(
            self.validation_cache(validation, classes),
            self.distilled_classes,
            self.background,
            recipe.loss.uncertain,
            output,
            device=self.device,
            world=self.world,
        )

    def validation_cache(
        self, validation: Dataset, classes: ClassList, *, unknown: bool = False
    ) -> FeatureCache:
        """Cache regions of at most :data:`VALIDATION_IMAGES` images with objects, spread over the set; with
        ``unknown`` also of those whose objects are of no class that is known.

        Raises ParameterError if no image has an object.
        """
        records = [
            record
            for record in relabelled(validation, classes).records
            if len(record.boxes) or (unknown and len(record.unknown))
        ]
        if not records:
            raise ParameterError("no held-out picture has an object to measure by")
        chosen = spread(records, VALIDATION_IMAGES)
        return joined([self._cache(chosen, _VALIDATION_SAMPLING)])

    @torch.no_grad()
    def cache_size(self, images: int, sampling: SamplingSettings) -> int:
        """Return how many bytes the maps of so many images take at most."""
        size = self.preprocessing.size
        maps = self.init.backbone.features[: self.frozen](torch.zeros(1, 3, size, size))
        regions = sampling.positives + sampling.background + 2
        return images * regions * maps.numel() * 2

    def _prepare_proposals(self, records: Sequence[AnnotatedImage], *, keep_maps: bool = False) -> None:
        with self.world.first_alone():
            if self.world.first:
                self.proposals.prepare(records, keep_maps=keep_maps)

    def _cache_all(self, mixed: Mix, sampling: SamplingSettings) -> FeatureCache:
        """Return maps of the regions of all images of a mix, a group of images after the other."""
        groups = [(part, group) for part in mixed.parts for group in self.proposals.groups(part.records)]
        caches: list[FeatureCache] = []
        for number, (part, (first, records)) in enumerate(groups, start=1):
            if len(groups) > 1 and self.world.first:
                tqdm.write(f"group {number} of {len(groups)}: {len(records)} pictures")
            caches.append(self._cache(records, part.sampling or sampling, first))
        return joined(caches)

    def _cache(
        self, records: Sequence[AnnotatedImage], settings: SamplingSettings, first: int = 0
    ) -> FeatureCache:
        """Propose in images and make the maps of their regions; the first process makes them, the others
        read them. ``first`` is the number of the first image in its data set."""
        self._prepare_proposals(records, keep_maps=True)
        with self.world.first_alone():
            cache = build_feature_cache(
                self.folder,
                self.init,
                self.frozen,
                records,
                self.proposals,
                settings,
                preprocessing=self.preprocessing,
                shared=self.shared,
                background_label=self.background,
                device=str(self.device),
                broken=self.broken,
                first=first,
            )
            self.proposals.forget_maps()
            return cache

"""Which feed a run gets: maps from disk where they fit, pictures as they come where they do not."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from detector.datasets.record import Dataset, Record
from detector.errors import ParameterError
from detector.inference.engine import choose_precision
from detector.inference.region_crops import Preprocessing
from detector.models.checkpoint import Checkpoint
from detector.structures.classes import ClassList
from training.rcnn.dataloader import CachedFeed, Feed, workers_for
from training.rcnn.feature_cache import FeatureCache, build_feature_cache, joined
from training.rcnn.map_store import INSTEAD
from training.rcnn.mixing import Mix, relabelled
from training.rcnn.proposal_cache import ProposalCache
from training.rcnn.recipe import Recipe
from training.rcnn.sampling import SamplingSettings
from training.rcnn.streaming_dataset import Images, StreamFeed
from training.rcnn.validation import IMAGES, HeldOut, spread
from training.trainer.distributed import World
from training.trainer.left_out import BrokenImages
from training.trainer.script import require, used

_HELD_OUT = SamplingSettings(positives=6, background=10)


@dataclass(frozen=True)
class Source:
    """What feeds need to know of a run: the checkpoint it starts from, how many of its stages stay
    ``frozen``, how many of its classifier's rows are ``known`` and to be remembered, the label of
    ``background``, where things are kept, and who is told of pictures that can no longer be read."""

    init: Checkpoint
    frozen: int
    known: int
    background: int
    preprocessing: Preprocessing
    proposals: ProposalCache
    folder: Path
    device: torch.device
    world: World
    broken: BrokenImages

    def cached(self, records: Sequence[Record], settings: SamplingSettings) -> FeatureCache:
        """Maps of the pictures' regions; the first process makes them, the others find them."""
        with self.world.first_alone():
            return build_feature_cache(
                self.folder,
                self.init,
                self.frozen,
                records,
                self.proposals,
                settings,
                preprocessing=self.preprocessing,
                background_label=self.background,
                device=str(self.device),
                broken=self.broken,
            )


def choose_feed(source: Source, mixed: Mix, recipe: Recipe, *, cache_gib: float, workers: int | None) -> Feed:
    """The cached feed if stages are frozen, pictures are not to be distorted and the maps fit ``cache_gib``;
    else the stream, which samples every picture by the recipe. Proposals are made first, by the first
    process.

    Raises ParameterError for a number of workers below 0, DiskSpaceError before anything is computed where
    the maps would find no room.
    """
    if workers is not None and workers < 0:
        raise ParameterError(f"there cannot be {workers} processes that make minibatches")
    workers = workers_for(source.device, source.world) if workers is None else workers
    needed = sum(
        cache_size(source, len(part.records), part.sampling or recipe.sampling) for part in mixed.parts
    )
    cached = source.frozen and not recipe.distortion and needed <= cache_gib * 2**30
    if cached and source.world.first:
        # At most: what is there already may be of this run.
        require(source.folder, needed - used(source.folder), "maps of the frozen stages", INSTEAD)
    with source.world.first_alone():
        if source.world.first:
            source.proposals.prepare(mixed.records)
    if cached:
        caches = [source.cached(part.records, part.sampling or recipe.sampling) for part in mixed.parts]
        return CachedFeed(
            joined(caches),
            source.known,
            source.background,
            recipe.batch,
            seed=recipe.seed,
            weights=mixed.weights,
            device=source.device,
            world=source.world,
            workers=workers,
        )
    if source.frozen and not recipe.distortion and source.world.first:
        tqdm.write(
            f"maps of the frozen stages would take up to {needed / 2**30:.1f} GiB, more than the "
            f"{cache_gib:g} GiB allowed (--cache-gib): pictures are streamed instead"
        )
    images = Images(mixed.records, mixed.weights, source.proposals, source.preprocessing, source.background)
    return StreamFeed(
        images,
        source.init.backbone,
        source.frozen,
        source.known,
        recipe.sampling,
        recipe.batch,
        broken=source.broken,
        distorted=recipe.distortion,
        seed=recipe.seed,
        device=source.device,
        world=source.world,
        workers=workers,
    )


def held_out_regions(source: Source, held_out: Dataset, classes: ClassList, recipe: Recipe) -> HeldOut:
    """Regions of at most :data:`PICTURES` held-out pictures, spread over the set.

    Raises ParameterError if none has an object.
    """
    records = [record for record in relabelled(held_out, classes).records if len(record.boxes)]
    if not records:
        raise ParameterError("no held-out picture has an object to measure by")
    chosen = spread(records, IMAGES)
    with source.world.first_alone():
        if source.world.first:
            source.proposals.prepare(chosen)
    return HeldOut(
        source.cached(chosen, _HELD_OUT),
        source.known,
        source.background,
        source.device,
        choose_precision("auto", source.device),
        source.world,
        recipe.loss.unsure,
    )


@torch.no_grad()
def cache_size(source: Source, images: int, sampling: SamplingSettings) -> int:
    """Bytes that the maps of so many pictures take at most."""
    size = source.preprocessing.size
    maps = source.init.backbone.features[: source.frozen](torch.zeros(1, 3, size, size))
    regions = sampling.positives + sampling.background + 2
    return images * regions * maps.numel() * 2

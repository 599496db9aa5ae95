"""Training regions and their maps after the frozen stages, computed once and kept on disk.

Letters for shapes: M regions of the whole set; a stored map is [K,h,w] (832 x 7 x 7 after pool4).
"""

import hashlib
import json
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image
from detector.errors import DatasetError, ImageError
from detector.inference.executor import ForwardRequest, run_directly
from detector.inference.preprocessing import Preprocessing, reduction, resize_to_short_side
from detector.inference.shared_maps import SharedMaps
from detector.inference.torch_engine import InferenceNetwork, TensorOutputs, TorchEngine, place
from detector.models.backbone import Backbone
from detector.models.checkpoint import Checkpoint
from detector.threads import run_alone
from training.rcnn.map_store import MapStore
from training.rcnn.proposal_cache import ProposalCache
from training.rcnn.region_maps import RegionMaps
from training.rcnn.sampling import Regions, SamplingSettings, sample_regions
from training.trainer.excluded_images import BrokenImages

_FORMAT = 3
"""Version of the files below a key: another one gives another key."""

_NOTED = 50
"""Images after which the checksums are written: a kill costs the maps of so many at most."""


@dataclass(frozen=True)
class FeatureCache:
    """The regions of ``count`` images; those of an image that cannot be read are missing.

    maps [M,K,h,w] bfloat16 (a memory map); teacher [M,S] float16, the logits of the classifier before
    training; labels, overlaps, deltas and certain [M] as in :class:`training.rcnn.sampling.Regions`; images
    [M] int64, the index of each region's image.
    """

    maps: "Rows"
    teacher: "Rows"
    labels: Tensor
    overlaps: Tensor
    deltas: Tensor
    certain: Tensor
    images: Tensor
    count: int

    @classmethod
    def empty(cls, count: int) -> "FeatureCache":
        """Return that of ``count`` images of which none can be read."""
        none = torch.zeros(0)
        labels, deltas = none.long(), torch.zeros(0, 4)
        return cls(Rows([]), Rows([]), labels, none, deltas, none.bool(), none.long(), count)


class Rows:
    """Tensors of the same kind of rows, usually memory maps, read as if they were one: [M,...]."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self.parts = list(parts)
        self._starts = np.cumsum([0] + [len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Read rows [B] int64 -> [B,...]."""
        if len(self.parts) == 1:
            return self.parts[0][rows]
        first = self.parts[0]
        result = first.new_empty(len(rows), *first.shape[1:])
        part_of = np.searchsorted(self._starts, rows.numpy(), side="right") - 1
        for number, part in enumerate(self.parts):
            in_part = torch.from_numpy(part_of == number)
            result[in_part] = part[rows[in_part] - int(self._starts[number])]
        return result


def joined(caches: Sequence[FeatureCache]) -> FeatureCache:
    """Join caches one after the other, with their images numbered through.

    Raises DatasetError if no image of any can be read.
    """
    if not any(len(cache.labels) for cache in caches):
        raise DatasetError(f"none of {sum(cache.count for cache in caches)} pictures can be read any more")
    firsts = np.cumsum([0] + [cache.count for cache in caches[:-1]])
    return FeatureCache(
        Rows([part for cache in caches for part in cache.maps.parts]),
        Rows([part for cache in caches for part in cache.teacher.parts]),
        torch.cat([cache.labels for cache in caches]),
        torch.cat([cache.overlaps for cache in caches]),
        torch.cat([cache.deltas for cache in caches]),
        torch.cat([cache.certain for cache in caches]),
        torch.cat([cache.images + int(first) for cache, first in zip(caches, firsts, strict=True)]),
        sum(cache.count for cache in caches),
    )


class _Logits(nn.Module):
    """The classifier of a backbone: maps [R,1024,h,w] -> logits [R,S]."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, maps: Tensor) -> TensorOutputs:
        return {"logits": self.backbone.pool(maps)}


def _maps(maps: Tensor) -> TensorOutputs:
    return {"maps": maps}


def build_feature_cache(
    folder: Path,
    checkpoint: Checkpoint,
    frozen: int,
    records: Sequence[AnnotatedImage],
    proposals: ProposalCache,
    settings: SamplingSettings,
    *,
    preprocessing: Preprocessing,
    shared: SharedMaps | None,
    background_label: int,
    device: str,
    broken: BrokenImages,
    first: int = 0,
) -> FeatureCache:
    """Sample the regions of every image and run the first ``frozen`` stages over them.

    ``first`` is the number of the first image in its data set: regions are drawn by an image's number there.
    ``preprocessing`` and ``shared`` are those of the detector in training.

    A half-built cache is completed; one made from another checkpoint, list or setting lies under another
    key and is never used; damaged rows are made again. An image that can no longer be read is left out, and
    ``broken`` is told. Raises DiskSpaceError before anything is computed if the maps find no room.
    """
    regions_of, digests = _sample(
        records, proposals, settings, background_label, broken, mirrors=shared is None, first=first
    )
    if not any(digests):
        return FeatureCache.empty(len(records))
    folder = folder / _key(checkpoint, frozen, preprocessing, shared, records, regions_of, digests)
    folder.mkdir(parents=True, exist_ok=True)
    backbone = checkpoint.backbone
    features = backbone.features
    placed = place(InferenceNetwork(features[:frozen], _maps), device=device)
    stem = TorchEngine(placed)
    rest = TorchEngine(place(InferenceNetwork(features[frozen:], _Logits(backbone)), device=device))
    starts = np.cumsum([0] + [len(regions.labels) for regions in regions_of])
    dtype = next(placed.parameters()).dtype

    @torch.inference_mode()
    def run(stages: nn.Module, x: Tensor) -> Tensor:
        return stages(x.to(dtype, memory_format=torch.channels_last))

    frozen_stages = placed.trunk
    assert isinstance(frozen_stages, nn.Sequential)
    maps_of = RegionMaps(frozen_stages, preprocessing, shared, stem.device, run)
    store = MapStore(folder, starts, _shape_after(stem, preprocessing), backbone.classifier.out_features)

    def compute(index: int) -> None:
        record, regions = records[index], regions_of[index]
        if shared is not None:
            scales = proposals.maps_of(record)
            factors = reduction(record.width, record.height, preprocessing)
            maps = maps_of.cut_out(scales, regions.boxes * factors, regions.whole).float()
        else:
            image, factors = resize_to_short_side(load_image(record), preprocessing)
            maps = maps_of(image, regions.boxes * factors, regions.whole, regions.mirrored).float()
        logits = maps.new_zeros(len(maps), backbone.classifier.out_features, device="cpu")
        distilled = torch.from_numpy(regions.labels != background_label)  # of the others nobody asks
        if distilled.any():
            rows = maps[distilled.to(maps.device)].to(rest.device)
            logits[distilled] = torch.from_numpy(run_directly(ForwardRequest.of(rest, rows))["logits"])
        store.put(index, maps, logits)

    whole = _fill(store, records, compute, broken)

    def joined_parts(name: str) -> Tensor:
        return torch.from_numpy(np.concatenate([getattr(regions_of[index], name) for index in kept]))

    kept = np.flatnonzero(whole & [bool(digest) for digest in digests])
    if not len(kept):
        return FeatureCache.empty(len(records))
    maps, teacher = store.rows()
    runs = [(int(starts[run[0]]), int(starts[run[-1] + 1])) for run in _consecutive(kept)]
    return FeatureCache(
        Rows([maps[first:last] for first, last in runs]),
        Rows([teacher[first:last] for first, last in runs]),
        joined_parts("labels"),
        joined_parts("overlaps"),
        joined_parts("deltas"),
        joined_parts("certain"),
        torch.from_numpy(np.repeat(kept, np.diff(starts)[kept])),
        len(records),
    )


def _sample(
    records: Sequence[AnnotatedImage],
    proposals: ProposalCache,
    settings: SamplingSettings,
    background_label: int,
    broken: BrokenImages,
    *,
    mirrors: bool,
    first: int = 0,
) -> tuple[list[Regions], list[bytes]]:
    """Sample the regions of every image -> regions and digests; no regions of one that cannot be read.

    Half of the regions are mirrored if ``mirrors`` says so. Where they share the trunk none is: the trunk
    runs once over an image, and one orientation of all its regions is as good as the other.
    """
    regions_of, digests = [], []
    for index, record in enumerate(records, start=first):
        rng = np.random.default_rng([settings.seed, index])
        try:
            proposed, digest = proposals.with_digest(record)
        except ImageError as error:
            broken.report({record.image_id: str(error)})
            regions_of.append(Regions.none())
            digests.append(b"")
            continue
        regions = sample_regions(record, proposed.boxes, background_label, settings, rng)
        regions = regions.with_whole_image(record)
        regions_of.append(regions if mirrors else regions.mirrored_alike(False))
        digests.append(digest)
    return regions_of, digests


def _fill(
    store: MapStore, records: Sequence[AnnotatedImage], compute: Callable[[int], None], broken: BrokenImages
) -> NDArray[np.bool_]:
    """Have ``compute`` put the maps of each image that the store lacks -> which images [N] it has then."""
    whole = store.whole()
    if whole.all():
        return whole
    with store.filling():
        whole = store.whole()  # another run may have filled it meanwhile
        if damaged := int((store.noted() & ~whole).sum()):
            tqdm.write(f"{store.folder}: the maps of {damaged} pictures are damaged, and are made again")
        missing = np.flatnonzero(~whole).tolist()
        # Images beside each other, a thread each: layers shared out among threads wait for each other.
        with ThreadPoolExecutor(os.cpu_count(), initializer=run_alone) as pool:
            problems = pool.map(partial(_problem_of, compute), missing)
            progress = tqdm(problems, total=len(missing), desc="frozen stages", unit="picture")
            for count, (index, problem) in enumerate(zip(missing, progress, strict=True), start=1):
                if problem is not None:
                    broken.report({records[index].image_id: str(problem)})
                    continue
                whole[index] = True
                if count % _NOTED == 0:
                    store.note()
    return whole


def _problem_of(compute: Callable[[int], None], index: int) -> ImageError | None:
    """Compute an image's maps; return why it could not be read, if it could not."""
    try:
        compute(index)
    except ImageError as error:
        return error
    return None


def _consecutive(numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Split ascending numbers into runs without a gap."""
    return np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)


def _key(
    checkpoint: Checkpoint,
    frozen: int,
    preprocessing: Preprocessing,
    shared: SharedMaps | None,
    records: Sequence[AnnotatedImage],
    regions_of: Sequence[Regions],
    digests: Sequence[bytes],
) -> str:
    settings = [_FORMAT, frozen, asdict(preprocessing), *([asdict(shared)] if shared is not None else [])]
    digest = hashlib.sha256(json.dumps(settings).encode())
    for name, value in checkpoint.backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    for record, regions, image_digest in zip(records, regions_of, digests, strict=True):
        digest.update(os.fsencode(record.image_id))
        # The maps do not depend on labels.
        digest.update(regions.boxes.tobytes() + regions.mirrored.tobytes())
        digest.update(image_digest)
    return digest.hexdigest()[:16]


def _shape_after(engine: TorchEngine, preprocessing: Preprocessing) -> tuple[int, int, int]:
    crop = torch.zeros(1, 3, preprocessing.size, preprocessing.size, device=engine.device)
    maps = run_directly(ForwardRequest.of(engine, crop))["maps"]
    return tuple(maps.shape[1:])

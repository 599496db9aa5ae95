"""Training regions and what the frozen stages make of them, computed once and kept on disk.

Letters for shapes: M regions of the whole set; a stored map is [K,h,w] (832 x 7 x 7 after pool4).
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from detector.datasets.pixels import load_record
from detector.datasets.record import Record
from detector.errors import DatasetError, ImageError
from detector.inference.engine import Engine, InferenceNetwork, Outputs, place
from detector.inference.executor import ForwardRequest, run_directly
from detector.inference.region_crops import Preprocessing, reduced
from detector.io.decoding import RGB
from detector.models.backbone import Backbone
from detector.models.checkpoint import Checkpoint
from detector.structures.boxes import Boxes, as_boxes
from training.common.broken_images import BrokenImages
from training.rcnn.map_store import MapStore
from training.rcnn.proposal_cache import ProposalCache
from training.rcnn.region_crops import crops_of
from training.rcnn.sampling import Regions, SamplingSettings, sample_regions

WHOLE = -1
"""Label of a whole picture: no class is asked of it, it only serves to keep what the classifier knows."""

_FORMAT = 2
"""Of the files below a key: those of another one lie elsewhere."""

_NOTED = 50
"""A kill costs the maps of so many pictures at most."""


@dataclass(frozen=True)
class FeatureCache:
    """maps [M,K,h,w] bfloat16 (a memory map), teacher [M,S] float16: the untrained classifier's rows.

    labels [M] int64 (:data:`WHOLE` for whole pictures, :data:`~training.rcnn.sampling.UNKNOWN` for objects
    of unknown class), overlaps [M] float32 (IoU with the nearest object), deltas [M,4] float32 (NaN where
    there are none), sure [M] bool (false for background that may be an object), pictures [M] int64 (the
    record), of ``count`` records; those whose picture could not be read have no rows.
    """

    maps: "Rows"
    teacher: "Rows"
    labels: Tensor
    overlaps: Tensor
    deltas: Tensor
    sure: Tensor
    images: Tensor
    count: int


class Rows:
    """Tensors of the same kind of rows, most often on disk, as if they were one: [M,...]."""

    def __init__(self, parts: Sequence[Tensor]) -> None:
        self.parts = list(parts)
        self._starts = np.cumsum([0] + [len(part) for part in parts])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, rows: Tensor) -> Tensor:
        """Rows [B] int64 -> [B,...]."""
        if len(self.parts) == 1:
            return self.parts[0][rows]
        first = self.parts[0]
        found = first.new_empty(len(rows), *first.shape[1:])
        part_of = np.searchsorted(self._starts, rows.numpy(), side="right") - 1
        for number, part in enumerate(self.parts):
            mine = torch.from_numpy(part_of == number)
            found[mine] = part[rows[mine] - int(self._starts[number])]
        return found


def joined(caches: Sequence[FeatureCache]) -> FeatureCache:
    """Caches one after the other, their pictures numbered through."""
    firsts = np.cumsum([0] + [cache.count for cache in caches[:-1]])
    return FeatureCache(
        Rows([part for cache in caches for part in cache.maps.parts]),
        Rows([part for cache in caches for part in cache.teacher.parts]),
        torch.cat([cache.labels for cache in caches]),
        torch.cat([cache.overlaps for cache in caches]),
        torch.cat([cache.deltas for cache in caches]),
        torch.cat([cache.sure for cache in caches]),
        torch.cat([cache.images + int(first) for cache, first in zip(caches, firsts, strict=True)]),
        sum(cache.count for cache in caches),
    )


class _Logits(nn.Module):
    """The classifier of a backbone: maps [R,1024,h,w] -> logits [R,S]."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, maps: Tensor) -> Outputs:
        return {"logits": self.backbone.pool(maps)}


def _maps(maps: Tensor) -> Outputs:
    return {"maps": maps}


def build_feature_cache(
    folder: Path,
    checkpoint: Checkpoint,
    frozen: int,
    records: Sequence[Record],
    proposals: ProposalCache,
    settings: SamplingSettings,
    *,
    preprocessing: Preprocessing,
    background_label: int,
    device: str,
    broken: BrokenImages,
) -> FeatureCache:
    """Sample every picture's regions and run the first ``frozen`` stages over them.

    A half-built cache is gone on with; one made from another checkpoint, list or setting lies under another
    key and is never used; rows that are not what was written are made again. ``preprocessing`` is that of the
    detector in training. A picture that can no longer be read, though its proposals were found, is left out,
    and ``broken`` is told. Raises DiskSpaceError before anything is computed if the maps find no room.
    """
    plan, digests = [], []
    for index, record in enumerate(records):
        rng = np.random.default_rng([settings.seed, index])
        try:
            found, digest = proposals.found(record)
        except ImageError as error:
            broken.report({record.image_id: str(error)})
            plan.append(_nothing())
            digests.append(b"")
            continue
        plan.append(plan_image(record, found.boxes, settings, background_label, rng))
        digests.append(digest)
    if not any(digests):
        raise DatasetError(f"none of {len(records)} pictures can be read any more")
    folder = folder / _key(checkpoint, frozen, preprocessing, records, plan, digests)
    folder.mkdir(parents=True, exist_ok=True)
    features = checkpoint.backbone.features
    engines = (
        Engine(place(InferenceNetwork(features[:frozen], _maps), device=device)),
        Engine(place(InferenceNetwork(features[frozen:], _Logits(checkpoint.backbone)), device=device)),
    )
    starts = np.cumsum([0] + [len(regions.labels) for regions, _ in plan])
    shape = _shape_after(engines[0], preprocessing)
    store = MapStore(folder, starts, shape, checkpoint.backbone.classifier.out_features)
    whole = store.whole()
    if not whole.all():
        with store.filling():
            whole = store.whole()  # another run may have filled it meanwhile
            if damaged := int((store.noted() & ~whole).sum()):
                tqdm.write(f"{folder}: the maps of {damaged} pictures are damaged, and are made again")
            missing = np.flatnonzero(~whole)
            for count, index in enumerate(tqdm(missing, desc="frozen stages", unit="picture"), start=1):
                regions, without_context = plan[index]
                try:
                    image = load_record(records[index])
                except ImageError as error:
                    broken.report({records[index].image_id: str(error)})
                    continue
                crops = _crops(image, regions, without_context, preprocessing, engines[0].device)
                frozen_maps = run_directly(ForwardRequest.of(engines[0], crops))["maps"]
                request = ForwardRequest.of(engines[1], frozen_maps.to(engines[1].device))
                logits = run_directly(request)["logits"]
                store.put(index, frozen_maps, logits)
                whole[index] = True
                if count % _NOTED == 0:
                    store.note()
    maps, teacher = store.rows()
    kept = np.flatnonzero(whole)
    runs = [(int(starts[run[0]]), int(starts[run[-1] + 1])) for run in _consecutive(kept)]
    regions_of = [plan[index][0] for index in kept]
    return FeatureCache(
        Rows([maps[first:last] for first, last in runs]),
        Rows([teacher[first:last] for first, last in runs]),
        torch.from_numpy(np.concatenate([regions.labels for regions in regions_of])),
        torch.from_numpy(np.concatenate([regions.overlaps for regions in regions_of])),
        torch.from_numpy(np.concatenate([regions.deltas for regions in regions_of])),
        torch.from_numpy(np.concatenate([regions.sure for regions in regions_of])),
        torch.from_numpy(np.repeat(kept, np.diff(starts)[kept])),
        len(records),
    )


def _consecutive(numbers: NDArray[np.int64]) -> list[NDArray[np.int64]]:
    """Ascending numbers in runs without a gap."""
    return np.split(numbers, np.flatnonzero(np.diff(numbers) > 1) + 1)


Plan = tuple[Regions, NDArray[np.bool_]]
"""A picture's regions, and which of them are whole pictures (no context around them)."""


def plan_image(
    record: Record,
    proposals: Boxes,
    settings: SamplingSettings,
    background_label: int,
    rng: np.random.Generator,
) -> Plan:
    """The regions of one picture, and twice the whole of it, once mirrored."""
    regions = sample_regions(record, proposals, background_label, settings, rng)
    image = as_boxes([(0, 0, record.width, record.height)] * 2)
    whole = np.concatenate([np.zeros(len(regions.labels), bool), np.ones(2, bool)])
    return (
        Regions(
            np.concatenate([regions.boxes, image]),
            np.concatenate([regions.mirrored, [False, True]]),
            np.concatenate([regions.labels, [WHOLE, WHOLE]]),
            np.concatenate([regions.overlaps, np.zeros(2, np.float32)]),
            np.concatenate([regions.deltas, np.full((2, 4), np.nan, np.float32)]),
            np.concatenate([regions.sure, np.ones(2, bool)]),
        ),
        whole,
    )


def _nothing() -> Plan:
    """The plan of a picture that cannot be read: no regions."""
    boxes, none = np.zeros((0, 4), np.float32), np.zeros(0, bool)
    return Regions(boxes, none, np.zeros(0, np.int64), np.zeros(0, np.float32), boxes, none), none


def _crops(
    image: RGB,
    regions: Regions,
    whole: NDArray[np.bool_],
    preprocessing: Preprocessing,
    device: torch.device,
) -> Tensor:
    image, factors = reduced(image, preprocessing)
    return crops_of(image, regions.boxes * factors, whole, regions.mirrored, preprocessing, device)


def _key(
    checkpoint: Checkpoint,
    frozen: int,
    preprocessing: Preprocessing,
    records: Sequence[Record],
    plan: Sequence[Plan],
    digests: Sequence[bytes],
) -> str:
    digest = hashlib.sha256(json.dumps([_FORMAT, frozen, asdict(preprocessing)]).encode())
    for name, value in checkpoint.backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    for record, (regions, _), image in zip(records, plan, digests, strict=True):
        digest.update(os.fsencode(record.image_id))
        digest.update(regions.boxes.tobytes() + regions.mirrored.tobytes())  # labels do not touch the maps
        digest.update(image)
    return digest.hexdigest()[:16]


def _shape_after(engine: Engine, preprocessing: Preprocessing) -> tuple[int, int, int]:
    crop = torch.zeros(1, 3, preprocessing.size, preprocessing.size, device=engine.device)
    maps = run_directly(ForwardRequest.of(engine, crop))["maps"]
    return tuple(maps.shape[1:])  # type: ignore[return-value]

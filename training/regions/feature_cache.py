"""Training regions and what the frozen stages make of them, computed once and kept on disk.

Letters for shapes: M regions of the whole set; a stored map is [K,h,w] (832 x 7 x 7 after pool4).
"""

import copy
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

from detector.boxes import Boxes, as_boxes
from detector.checkpoints import Checkpoint
from detector.datasets.record import Record
from detector.engine import Engine
from detector.images import load
from detector.regions import Preprocessing, reduced
from training.regions.crops import crops_of
from training.regions.proposal_cache import ProposalCache
from training.regions.sampling import Regions, SamplingSettings, sample_regions

WHOLE = -1
"""Label of a whole picture: no class is asked of it, it only serves to keep what the classifier knows."""


@dataclass(frozen=True)
class FeatureCache:
    """maps [M,K,h,w] bfloat16 (a memory map), teacher [M,S] float16: the untrained classifier's rows.

    labels [M] int64 (:data:`WHOLE` for whole pictures, :data:`~training.regions.sampling.UNKNOWN` for objects
    of unknown class), overlaps [M] float32 (IoU with the nearest object), deltas [M,4] float32 (NaN where
    there are none), sure [M] bool (false for background that may be an object), pictures [M] int64 (the
    record).
    """

    maps: "Rows"
    teacher: "Rows"
    labels: Tensor
    overlaps: Tensor
    deltas: Tensor
    sure: Tensor
    pictures: Tensor


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
    firsts = np.cumsum([0] + [int(cache.pictures.max()) + 1 for cache in caches[:-1]])
    return FeatureCache(
        Rows([part for cache in caches for part in cache.maps.parts]),
        Rows([part for cache in caches for part in cache.teacher.parts]),
        torch.cat([cache.labels for cache in caches]),
        torch.cat([cache.overlaps for cache in caches]),
        torch.cat([cache.deltas for cache in caches]),
        torch.cat([cache.sure for cache in caches]),
        torch.cat([cache.pictures + int(first) for cache, first in zip(caches, firsts, strict=True)]),
    )


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
) -> FeatureCache:
    """Sample every picture's regions and run the first ``frozen`` stages over them.

    A half-built cache is gone on with; one made from another checkpoint, list or setting lies under another
    key and is never used. ``preprocessing`` is that of the detector in training.
    """
    plan = [
        plan_picture(
            record,
            proposals.of(record).boxes,
            settings,
            background_label,
            np.random.default_rng([settings.seed, index]),
        )
        for index, record in enumerate(records)
    ]
    folder = folder / _key(checkpoint, frozen, preprocessing, records, plan)
    folder.mkdir(parents=True, exist_ok=True)
    backbone = copy.deepcopy(checkpoint.backbone)  # an engine converts what it is given
    features = backbone.features
    engines = (
        Engine(features[:frozen], nn.Identity(), lambda maps: (maps,), device=device),
        Engine(features[frozen:], backbone, lambda maps: (backbone.pool(maps),), device=device),
    )
    shape = _shape_after(engines[0], preprocessing)
    starts = np.cumsum([0] + [len(regions.labels) for regions, _ in plan])
    total, rows = int(starts[-1]), backbone.classifier.out_features
    maps = _mapped(folder / "maps.bf16", torch.bfloat16, (total, *shape))
    teacher = _mapped(folder / "teacher.f16", torch.float16, (total, rows))
    progress = folder / "pictures_done"
    done = int(progress.read_text()) if progress.exists() else 0
    for index in tqdm(
        range(done, len(records)), desc="frozen stages", unit="picture", initial=done, total=len(records)
    ):
        regions, whole = plan[index]
        crops = _crops(records[index], regions, whole, preprocessing, engines[0].device)
        (frozen_maps,) = engines[0].run(crops)
        (logits,) = engines[1].run(frozen_maps.to(engines[1].device))
        maps[starts[index] : starts[index + 1]] = frozen_maps.to(torch.bfloat16)
        teacher[starts[index] : starts[index + 1]] = logits.half()
        if index % 50 == 49 or index + 1 == len(records):
            progress.write_text(str(index + 1))
    return FeatureCache(
        Rows([maps]),
        Rows([teacher]),
        torch.from_numpy(np.concatenate([regions.labels for regions, _ in plan])),
        torch.from_numpy(np.concatenate([regions.overlaps for regions, _ in plan])),
        torch.from_numpy(np.concatenate([regions.deltas for regions, _ in plan])),
        torch.from_numpy(np.concatenate([regions.sure for regions, _ in plan])),
        torch.from_numpy(np.repeat(np.arange(len(plan)), np.diff(starts))),
    )


Plan = tuple[Regions, NDArray[np.bool_]]
"""A picture's regions, and which of them are whole pictures (no context around them)."""


def plan_picture(
    record: Record,
    proposals: Boxes,
    settings: SamplingSettings,
    background_label: int,
    rng: np.random.Generator,
) -> Plan:
    """The regions of one picture, and twice the whole of it, once mirrored."""
    regions = sample_regions(record, proposals, background_label, settings, rng)
    picture = as_boxes([(0, 0, record.width, record.height)] * 2)
    whole = np.concatenate([np.zeros(len(regions.labels), bool), np.ones(2, bool)])
    return (
        Regions(
            np.concatenate([regions.boxes, picture]),
            np.concatenate([regions.mirrored, [False, True]]),
            np.concatenate([regions.labels, [WHOLE, WHOLE]]),
            np.concatenate([regions.overlaps, np.zeros(2, np.float32)]),
            np.concatenate([regions.deltas, np.full((2, 4), np.nan, np.float32)]),
            np.concatenate([regions.sure, np.ones(2, bool)]),
        ),
        whole,
    )


def _crops(
    record: Record,
    regions: Regions,
    whole: NDArray[np.bool_],
    preprocessing: Preprocessing,
    device: torch.device,
) -> Tensor:
    image, factors = reduced(load(record.path), preprocessing)
    return crops_of(image, regions.boxes * factors, whole, regions.mirrored, preprocessing, device)


def _key(
    checkpoint: Checkpoint,
    frozen: int,
    preprocessing: Preprocessing,
    records: Sequence[Record],
    plan: Sequence[Plan],
) -> str:
    digest = hashlib.sha256(json.dumps([frozen, asdict(preprocessing)]).encode())
    for name, value in checkpoint.backbone.state_dict().items():
        digest.update(name.encode())
        digest.update(value.contiguous().numpy().tobytes())
    for record, (regions, _) in zip(records, plan, strict=True):
        digest.update(os.fsencode(record.image_id))
        digest.update(regions.boxes.tobytes() + regions.mirrored.tobytes())  # labels do not touch the maps
        digest.update(record.path.read_bytes())
    return digest.hexdigest()[:16]


def _shape_after(engine: Engine, preprocessing: Preprocessing) -> tuple[int, int, int]:
    (maps,) = engine.run(torch.zeros(1, 3, preprocessing.size, preprocessing.size, device=engine.device))
    return tuple(maps.shape[1:])  # type: ignore[return-value]


def _mapped(path: Path, dtype: torch.dtype, shape: tuple[int, ...]) -> Tensor:
    size = int(np.prod(shape))
    return torch.from_file(str(path), shared=True, size=size, dtype=dtype).view(shape)

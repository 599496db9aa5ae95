"""The maps of images on disk: the trunk runs over each once.

A frozen trunk takes most of the time of an iteration, and makes the same of an image each time. Maps
are kept in 8 bits, each channel from 0 to its largest value: they come after a ReLU. Letters for shapes: K
channels, h x w cells.
"""

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor
from tqdm import tqdm

from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image
from detector.errors import DatasetError, ImageError
from detector.inference.image_scales import ImageScales, padded_side
from detector.threads import run_alone
from training.multibox.anchors import STRIDES
from training.multibox.mapped_images import FrozenTrunk, MappedImages
from training.scaled_images import ImageBatches, image_at_scales, mirrored_record
from training.trainer.command_errors import require
from training.trainer.distributed import ProcessGroup
from training.trainer.excluded_images import BrokenImages
from training.trainer.run_state import read_sealed, write_sealed

DISK_SPACE_ADVICE = "give a lower --cache-gib (pictures are then streamed), or another --cache"
"""What a message advises where maps find no room."""

_FORMAT = 1
"""Version of the files: another one gives other names."""

_LEVELS = 255


def cache_size(records: Sequence[AnnotatedImage], scales: ImageScales, channels: tuple[int, int]) -> int:
    """Return the bytes that the maps of images take, of ``channels`` at the finer and the coarser stride."""
    total = 0
    for record in records:
        short, long = sorted((record.width, record.height))
        for scale in scales.scales:
            ratio = min(scale / short, scales.long_side * scale / long)
            sides = [padded_side(round(side * ratio), scales.padding) for side in (short, long)]
            for stride, depth in zip(STRIDES, channels, strict=False):
                total += depth * (sides[0] // stride) * (sides[1] // stride)
    return total


class MapCache:
    """Maps of images, a file each. Its name is a digest of all that they are made from: what changed since
    is made again, and what several runs share is made once."""

    def __init__(self, folder: Path, trunk: FrozenTrunk, images: ImageBatches) -> None:
        """Keep the maps that ``trunk`` makes of ``images`` in ``folder``, half of the images mirrored, by the
        seed."""
        self._folder, self._trunk, self._images = folder, trunk, images
        settings = [_FORMAT, asdict(images.scales), asdict(images.preprocessing), images.seed, images.mirror]
        self._settings = trunk.digest() + json.dumps(settings).encode()
        self._paths: list[Path | None] = [None] * len(images.records)

    def fill(self, world: ProcessGroup, broken: BrokenImages) -> NDArray[np.int64]:
        """Make the maps that are not there -> the numbers of the images that have maps then. Of several
        processes the first one makes them.

        ``broken`` is told of images that cannot be read. Raises DiskSpaceError before anything is computed
        where the maps find no room, DatasetError if no image can be read.
        """
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            self._paths = list(pool.map(self._path, self._images.records))
        with world.first_alone():
            problems = self._make_missing()
        records = self._images.records
        gone = {record.image_id: "it is gone" for record, path in self._pairs() if path is None}
        broken.report({**gone, **{records[index].image_id: str(why) for index, why in problems.items()}})
        kept = [index for index, (_, path) in enumerate(self._pairs()) if path is not None and path.exists()]
        if not kept:
            raise DatasetError(f"none of {len(records)} pictures can be read")
        return np.array(kept, np.int64)

    def _pairs(self) -> Iterator[tuple[AnnotatedImage, Path | None]]:
        return zip(self._images.records, self._paths, strict=True)

    def _make_missing(self) -> dict[int, ImageError]:
        """Make the maps that are not there; return why each image is left out that cannot be read."""
        missing = [
            index for index, (_, path) in enumerate(self._pairs()) if path is not None and not path.exists()
        ]
        if not missing:
            return {}
        self._folder.mkdir(parents=True, exist_ok=True)
        lacking = [self._images.records[index] for index in missing]
        needed = cache_size(lacking, self._images.scales, self._trunk.channels)
        require(self._folder, needed, "maps of the trunk", DISK_SPACE_ADVICE)
        # Images beside each other, a thread each: layers shared out among threads wait for each other.
        with ThreadPoolExecutor(os.cpu_count(), initializer=run_alone) as pool:
            progress = tqdm(
                pool.map(self._problem_of, missing), total=len(missing), desc="maps", unit="picture"
            )
            reasons = zip(missing, progress, strict=True)
            return {index: reason for index, reason in reasons if reason is not None}

    def _problem_of(self, index: int) -> ImageError | None:
        try:
            self._make(index)
        except ImageError as error:
            return error
        return None

    def digest(self) -> bytes:
        """Return what tells these maps from others."""
        names = [path.name if path is not None else "" for path in self._paths]
        return hashlib.sha256(json.dumps(names).encode()).digest()

    def read(self, index: int) -> MappedImages:
        """Read an image's maps, in float32, as the minibatch of one; a damaged file is made again."""
        path = self._paths[index]
        assert path is not None
        data = read_sealed(path)
        if data is None:
            tqdm.write(f"{path.name}: the maps of a picture are damaged, and are made again")
            data = self._make(index)
        tensors = load_tensors(data)
        numbers = range(len(self._images.scales.scales))
        sizes = tensors["sizes"].tolist()
        record = self._images.records[index]
        return MappedImages(
            [(_restored(tensors, f"fine{k}"), _restored(tensors, f"coarse{k}")) for k in numbers],
            [(height, width) for height, width in sizes],
            [tensors["factors"][k : k + 1] for k in numbers],
            [mirrored_record(record) if self._is_mirrored(path) else record],
        )

    def _path(self, record: AnnotatedImage) -> Path | None:
        """Return where an image's maps lie, None if it cannot be read."""
        try:
            content = record.path.read_bytes()
        except OSError:
            return None
        size = f"{record.width} {record.height}".encode()
        digest = hashlib.blake2b(self._settings + size + content, digest_size=16).hexdigest()
        return self._folder / f"{digest}.maps"

    def _is_mirrored(self, path: Path) -> bool:
        return self._images.mirror and int(path.stem[-1], 16) % 2 == 1

    def _make(self, index: int) -> bytes:
        """Make an image's maps and write them. Raises ImageError if it cannot be read."""
        path, images = self._paths[index], self._images
        assert path is not None
        image = load_image(images.records[index])
        pixels = image_at_scales(image, images.scales, images.preprocessing, mirrored=self._is_mirrored(path))
        tensors = {
            "sizes": torch.tensor([part.size for part in pixels]),
            "factors": torch.cat([part.factors for part in pixels]),
        }
        for k, part in enumerate(pixels):
            fine, coarse = self._trunk.maps(part, images.scales, images.preprocessing)
            for name, maps in (("fine", fine), ("coarse", coarse)):
                values, largest = quantised(maps[0].float().cpu())
                tensors |= {f"{name}{k}": values, f"{name}{k} largest": largest}
        data = save_tensors(tensors)
        write_sealed(path, data)
        return data


def quantised(maps: Tensor) -> tuple[Tensor, Tensor]:
    """Store maps [K,h,w], none below 0, in 8 bits -> values [K,h,w] uint8, and the largest [K] of each
    channel."""
    largest = maps.amax(dim=(1, 2)).clamp_min(torch.finfo(torch.float32).tiny)
    return (maps / largest[:, None, None] * _LEVELS).round().to(torch.uint8).contiguous(), largest


def restored(values: Tensor, largest: Tensor) -> Tensor:
    """Return the maps [K,h,w] float32 of :func:`quantised`, within half a level of each channel."""
    return values.float() * (largest / _LEVELS)[:, None, None]


def _restored(tensors: dict[str, Tensor], name: str) -> Tensor:
    return restored(tensors[name], tensors[f"{name} largest"])[None]

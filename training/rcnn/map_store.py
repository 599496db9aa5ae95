"""Maps of regions on disk, with a checksum for each image, so that what is damaged is made again.

Letters for shapes: N images, M regions of all of them; a map is [K,h,w].
"""

import io
import os
import zlib
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.trainer.command_errors import add_path_to_errors, allocate
from training.trainer.run_folder import cache_folder
from training.trainer.run_state import read_sealed, write_sealed

DISK_SPACE_ADVICE = "give a lower --cache-gib (pictures are then streamed), or another --cache"
"""What a message advises where maps find no room."""

_MISSING = -1
"""In place of the checksum of an image whose rows are not there."""


class MapStore:
    """Rows of maps and of logits of the classifier, those of an image one after the other.

    Rows are written through the file, not through a memory map of it: on a full disk the latter ends the
    process without a message (SIGBUS).
    """

    def __init__(self, folder: Path, starts: NDArray[np.int64], shape: Sequence[int], classes: int) -> None:
        """Open or begin a store in ``folder``.

        ``starts`` [N+1]: image ``i`` has the rows from ``starts[i]`` to before ``starts[i + 1]``, each a map
        of ``shape`` and the logits of ``classes``.
        """
        self.folder, self._starts = folder, starts
        total = int(starts[-1])
        self._parts = (
            (folder / "maps.bf16", torch.bfloat16, (total, *shape)),
            (folder / "teacher.f16", torch.float16, (total, classes)),
        )
        self._sums_path = folder / "checksums"
        self._sums = np.full(len(starts) - 1, _MISSING, np.int64)

    def rows(self) -> tuple[Tensor, Tensor]:
        """Map maps [M,K,h,w] bfloat16 and logits [M,classes] float16 into memory."""
        maps, logits = (
            torch.from_file(str(path), shared=True, size=int(np.prod(shape)), dtype=dtype).view(shape)
            for path, dtype, shape in self._parts
        )
        return maps, logits

    def whole(self) -> NDArray[np.bool_]:
        """Read everything, and tell of each image [N] whether its rows are those that were written."""
        self._sums = self._read_sums()
        if not self._sized():
            self._sums[:] = _MISSING
        there = np.flatnonzero((self._sums != _MISSING) & (np.diff(self._starts) > 0))
        if len(there):
            parts = self.rows()
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                sums = np.fromiter(pool.map(lambda index: self._sum(parts, int(index)), there), np.int64)
            self._sums[there[sums != self._sums[there]]] = _MISSING
        return (self._sums != _MISSING) | (np.diff(self._starts) == 0)

    def noted(self) -> NDArray[np.bool_]:
        """Tell of each image [N] whether it has a checksum, its rows damaged or not."""
        return self._read_sums() != _MISSING

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Be the only process that writes for the block, with room for everything.

        At its end checksums are written. Raises DiskSpaceError where there is too little room.
        """
        with cache_folder(self.folder):
            for path, dtype, shape in self._parts:
                allocate(
                    path, int(np.prod(shape)) * dtype.itemsize, "maps of the frozen stages", DISK_SPACE_ADVICE
                )
            try:
                yield
            finally:
                self.note()

    def put(self, index: int, maps: Tensor, logits: Tensor) -> None:
        """Write the rows of an image: of both kinds as many as it has regions."""
        checksum = 0
        for (path, dtype, shape), values in zip(self._parts, (maps, logits), strict=True):
            data = _bytes(values.to(dtype).cpu().contiguous())
            checksum = zlib.crc32(data, checksum)
            row = int(np.prod(shape[1:])) * dtype.itemsize
            with add_path_to_errors(path), path.open("r+b") as file:
                file.seek(int(self._starts[index]) * row)
                file.write(data)
        self._sums[index] = checksum

    def note(self) -> None:
        """Write the checksums of what was put: a killed run need not make it again."""
        buffer = io.BytesIO()
        np.save(buffer, self._sums)
        write_sealed(self._sums_path, buffer.getvalue())

    def _read_sums(self) -> NDArray[np.int64]:
        missing = np.full_like(self._sums, _MISSING)
        data = read_sealed(self._sums_path) if self._sums_path.exists() else None
        if data is None:
            return missing
        sums = np.load(io.BytesIO(data), allow_pickle=False)
        return sums if sums.shape == missing.shape else missing

    def _sized(self) -> bool:
        return all(
            path.exists() and path.stat().st_size == int(np.prod(shape)) * dtype.itemsize
            for path, dtype, shape in self._parts
        )

    def _sum(self, parts: Sequence[Tensor], index: int) -> int:
        checksum = 0
        for values in parts:
            checksum = zlib.crc32(_bytes(values[self._starts[index] : self._starts[index + 1]]), checksum)
        return checksum


def _bytes(values: Tensor) -> memoryview:
    """View rows as bytes, without a copy."""
    return values.reshape(-1).view(torch.uint8).numpy().data

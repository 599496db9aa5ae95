"""Maps of regions on disk, picture by picture, each with a checksum: what is damaged is told and made again.

Letters for shapes: N pictures, M regions of all of them; a map is [K,h,w].
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

from training.trainer.run_folder import cache_folder
from training.trainer.script import allocate, naming
from training.trainer.state import read_sealed, write_sealed

INSTEAD = "give a lower --cache-gib (pictures are then streamed), or another --cache"
"""What else can be done where maps find no room."""

_NONE = -1
"""In place of the checksum of a picture whose rows are not there."""


class MapStore:
    """Rows of maps and of the classifier's words, those of a picture one after the other.

    Rows are written through the file, not through the map of it: on a full disk the latter ends the process
    without a word (SIGBUS).
    """

    def __init__(self, folder: Path, starts: NDArray[np.int64], shape: Sequence[int], known: int) -> None:
        """``starts`` [N+1]: picture ``i`` has the rows from ``starts[i]`` to before ``starts[i + 1]``, each a
        map of ``shape`` and ``known`` values of the classifier."""
        self._folder, self._starts = folder, starts
        total = int(starts[-1])
        self._parts = (
            (folder / "maps.bf16", torch.bfloat16, (total, *shape)),
            (folder / "teacher.f16", torch.float16, (total, known)),
        )
        self._sums_path = folder / "checksums"
        self._sums = np.full(len(starts) - 1, _NONE, np.int64)

    def rows(self) -> tuple[Tensor, Tensor]:
        """maps [M,K,h,w] bfloat16 and the classifier's words [M,known] float16, mapped from the disk."""
        maps, words = (
            torch.from_file(str(path), shared=True, size=int(np.prod(shape)), dtype=dtype).view(shape)
            for path, dtype, shape in self._parts
        )
        return maps, words

    def whole(self) -> NDArray[np.bool_]:
        """Read everything, and say of each picture [N] whether its rows are those that were written."""
        self._sums = self._read_sums()
        if not self._sized():
            self._sums[:] = _NONE
        there = np.flatnonzero((self._sums != _NONE) & (np.diff(self._starts) > 0))
        if len(there):
            parts = self.rows()
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                found = np.fromiter(pool.map(lambda index: self._sum(parts, int(index)), there), np.int64)
            self._sums[there[found != self._sums[there]]] = _NONE
        return (self._sums != _NONE) | (np.diff(self._starts) == 0)

    def noted(self) -> NDArray[np.bool_]:
        """Say of each picture [N] whether the list of checksums has it, its rows damaged or not."""
        return self._read_sums() != _NONE

    @contextmanager
    def filling(self) -> Iterator[None]:
        """Be the only process that writes, with room for everything; what was put in is noted at the end too.

        Raises DiskSpaceError where there is too little room.
        """
        with cache_folder(self._folder):
            for path, dtype, shape in self._parts:
                allocate(path, int(np.prod(shape)) * dtype.itemsize, "maps of the frozen stages", INSTEAD)
            try:
                yield
            finally:
                self.note()

    def put(self, index: int, maps: Tensor, words: Tensor) -> None:
        """Write the rows of a picture: of each kind as many as it has regions."""
        checksum = 0
        for (path, dtype, shape), values in zip(self._parts, (maps, words), strict=True):
            data = _bytes(values.to(dtype).cpu().contiguous())
            checksum = zlib.crc32(data, checksum)
            row = int(np.prod(shape[1:])) * dtype.itemsize
            with naming(path), path.open("r+b") as file:
                file.seek(int(self._starts[index]) * row)
                file.write(data)
        self._sums[index] = checksum

    def note(self) -> None:
        """Write the list of checksums: what a killed run need not make again."""
        buffer = io.BytesIO()
        np.save(buffer, self._sums)
        write_sealed(self._sums_path, buffer.getvalue())

    def _read_sums(self) -> NDArray[np.int64]:
        nothing = np.full_like(self._sums, _NONE)
        data = read_sealed(self._sums_path) if self._sums_path.exists() else None
        if data is None:
            return nothing
        sums = np.load(io.BytesIO(data), allow_pickle=False)
        return sums if sums.shape == nothing.shape else nothing

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
    """The bytes of rows, where they are; none for no rows."""
    return values.reshape(-1).view(torch.uint8).numpy().data

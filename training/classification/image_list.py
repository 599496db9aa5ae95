"""A list of labelled pictures that stays small with millions of them."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


class PictureList:
    """Paths and labels of N pictures, in three arrays: some 60 bytes a picture.

    A list of objects would take ten times that, and once more in each process that reads pictures: counting
    references writes to memory that a fork had shared.
    """

    def __init__(self, root: Path, pictures: Iterable[tuple[str, int]]) -> None:
        """``pictures``: each one's path below ``root``, with forward slashes, and its label."""
        names, labels = bytearray(), []
        ends = [0]
        for name, label in pictures:
            names += os.fsencode(name)  # a name need not be UTF-8
            ends.append(len(names))
            labels.append(label)
        self.root = root
        self.labels: NDArray[np.int32] = np.array(labels, np.int32)
        self._names = np.frombuffer(bytes(names), np.uint8)
        self._ends = np.array(ends, np.int64)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The path of a picture below the root."""
        return os.fsdecode(self._names[self._ends[index] : self._ends[index + 1]].tobytes())

    def path(self, index: int) -> Path:
        """Where a picture lies."""
        return self.root / self.name(index)

    def chosen(self, indices: Iterable[int]) -> "PictureList":
        """Some of the pictures, in the order given."""
        return PictureList(self.root, ((self.name(index), int(self.labels[index])) for index in indices))

    def of_few_classes(self, count: int) -> "PictureList":
        """``count`` pictures of as few classes as can be: the most frequent classes first."""
        frequency = np.bincount(self.labels)[self.labels]
        return self.chosen(np.lexsort((self.labels, -frequency))[:count])

    def digest(self) -> bytes:
        """What tells this list from others, wherever it lies."""
        parts = (self._names, self._ends, self.labels)
        return hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()

"""What is to be done, fixed before anything is: chunks of pictures, one for each shard of the output.

Chunks are cut by the order of the inputs alone. So a job that was killed, or runs on many machines, makes
the same shards, whoever makes which, and those that are there need not be made again.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

from detector.bulk.sources import Picture, PictureSource
from detector.errors import DatasetError


@dataclass(frozen=True)
class Chunk:
    """The pictures of shard ``number``, counted from 0: parts of the sources, in order."""

    number: int
    parts: tuple[PictureSource, ...]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def pictures(self) -> Iterator[Picture]:
        """Yield just as many pictures as it has. Raises DatasetError where a source changed meanwhile."""
        left = len(self)
        for part in self.parts:
            for picture in part.pictures():
                left -= 1
                yield picture
        if left:
            raise DatasetError(f"shard {self.number}: the inputs changed while they were read: begin anew")


@dataclass(frozen=True)
class Plan:
    """All pictures of a job, in order, and how many of them a shard has."""

    sources: Sequence[PictureSource]
    shard_size: int

    def __len__(self) -> int:
        return sum(map(len, self.sources))

    @property
    def shards(self) -> int:
        """How many there are; the last one may be smaller."""
        return -(-len(self) // self.shard_size)

    def chunks(self) -> Iterator[Chunk]:
        """Yield the chunks, each cut when it is asked for."""
        number, parts, room = 0, [], self.shard_size
        for source in self.sources:
            start = 0
            while start < len(source):
                part = source.part(start, start + room)
                parts.append(part)
                start, room = start + len(part), room - len(part)
                if not room:
                    yield Chunk(number, tuple(parts))
                    number, parts, room = number + 1, [], self.shard_size
        if parts:
            yield Chunk(number, tuple(parts))

    def digest(self) -> str:
        """Return a SHA-256 of the inputs: names in their order, and of tar and Parquet files their sizes.

        What image files hold is not part of it: telling would take reading them all.
        """
        digest = sha256()
        for source in self.sources:
            for line in source.identity():
                digest.update(line.encode() + b"\0")
        return digest.hexdigest()

"""Where the pictures of a job lie: files, members of tar shards, rows of Parquet files.

A source knows how many pictures it has, in a fixed order, before any is read. A part of one is a source too,
small enough to be sent to another machine, which finds the files under the same paths.
"""

import os
import stat
import tarfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from errno import EINVAL
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import pyarrow as pa
import pyarrow.parquet as pq

from detector.bulk.addresses import is_address, read_address
from detector.bulk.parquet_damage import damage_told
from detector.errors import DatasetError, ImageError, ParameterError
from detector.io.decoding import Decoded, Limits, read, read_file
from detector.io.image_paths import has_image_suffix, is_system_file
from detector.io.terminal_text import printable_path, valid_name
from detector.io.video import has_video_suffix

TAR_SUFFIX = ".tar"
PARQUET_SUFFIXES = (".parquet", ".pq")

COLUMNS = ("image", "url", "path", "file_name", "filename", "image_path", "image_bytes", "bytes", "jpg")
"""Columns of a Parquet file that are taken for its pictures, whatever their case, the first that is there."""

_ROWS_AT_ONCE = 16
_MAX_BYTES = Limits().max_bytes


@dataclass(frozen=True)
class Picture:
    """A picture by its name, unique among those of a job that names nothing twice; ``read`` decodes it, and
    raises ImageError or OSError."""

    name: str
    read: Callable[[], Decoded]


class PictureSource(Protocol):
    """Pictures in a fixed order."""

    def __len__(self) -> int:
        """Count them, without reading any."""

    def part(self, start: int, stop: int) -> Self:
        """Return those from number ``start`` on, before ``stop``."""

    def pictures(self) -> Iterator[Picture]:
        """Yield them in order. Raises DatasetError, or OSError, for a container that cannot be read."""

    def identity(self) -> Iterator[str]:
        """Yield what tells the source from others: names, and of containers their sizes."""


@dataclass(frozen=True)
class ImageFiles:
    """Image files: names as the user's input has them, below ``folder`` where they are not absolute."""

    folder: str
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def part(self, start: int, stop: int) -> "ImageFiles":
        return ImageFiles(self.folder, self.names[start:stop])

    def pictures(self) -> Iterator[Picture]:
        for name in self.names:
            yield Picture(valid_name(name), partial(_read_regular, Path(self.folder, name)))

    def identity(self) -> Iterator[str]:
        yield from map(valid_name, self.names)


@dataclass(frozen=True)
class TarMembers:
    """Image files in an uncompressed tar file, as WebDataset's shards are; other members are passed over.

    ``offsets`` are the places of their headers: a part in the middle is read without what stands before it.
    ``doubt`` says why there may have been more, None where all is well.
    By the standard library: WebDataset's own reader begins at the first member, and decodes and shuffles,
    which is for training. A picture is called by the tar file and the member: ``shard.tar/0001.jpg``.
    """

    path: Path
    name: str
    offsets: "array[int]"
    doubt: str | None = None

    @classmethod
    def of(cls, path: Path, name: str) -> "TarMembers":
        """Find the images of a tar file by its headers. Raises DatasetError for one damaged or compressed."""
        offsets = array("Q")
        try:
            with tarfile.open(path, "r:") as tar:
                while (member := tar.next()) is not None:
                    tar.members.clear()  # type: ignore[attr-defined]  # it keeps all that it has seen
                    if _is_picture(member):
                        offsets.append(member.offset)
                doubt = _doubt_of_end(path, tar.offset)
        except tarfile.TarError as error:
            raise DatasetError(
                f"{printable_path(path)} is no whole, uncompressed tar file ({error}): leave it out, or "
                "make it anew"
            ) from error
        return cls(path, name, offsets, doubt)

    def __len__(self) -> int:
        return len(self.offsets)

    def part(self, start: int, stop: int) -> "TarMembers":
        return TarMembers(self.path, self.name, self.offsets[start:stop])

    def pictures(self) -> Iterator[Picture]:
        with self.path.open("rb") as file:
            for offset in self.offsets:
                file.seek(offset)
                try:
                    with tarfile.open(fileobj=file, mode="r:") as tar:
                        member = tar.next()
                        content = None if member is None else tar.extractfile(member)
                        if member is None or content is None:
                            raise tarfile.ReadError("a member is gone")
                        data = content.read(_MAX_BYTES + 1)
                except tarfile.TarError as error:
                    raise DatasetError(
                        f"{printable_path(self.path)} changed while it was read: {error}"
                    ) from error
                yield Picture(valid_name(f"{self.name}/{member.name}"), partial(read, data))

    def identity(self) -> Iterator[str]:
        yield f"{valid_name(self.name)} {self.path.stat().st_size} {len(self)}"


@dataclass(frozen=True)
class ParquetRows:
    """Rows of a Parquet file, of which a column holds pictures: the bytes of files, their paths or addresses,
    or structs of ``bytes`` and ``path``, as the Hugging Face hub has them.

    Paths count from ``folder``, or where nothing is there, from the Parquet file's own. A picture without a
    path is called by the file and the row: ``file.parquet#12``.
    """

    path: Path
    name: str
    folder: str
    column: str
    start: int
    stop: int

    @classmethod
    def of(cls, path: Path, name: str, folder: str, column: str | None) -> "ParquetRows":
        """Find the column of pictures. Raises DatasetError for a file that is none, ParameterError for a
        column that is not there or holds something else."""
        with damage_told(path), pq.ParquetFile(path) as file:
            schema, count = file.schema_arrow, file.metadata.num_rows
        there = {field.name.lower(): field.name for field in reversed(list(schema))}
        chosen = column or next((there[known] for known in COLUMNS if known in there), None)
        if chosen is None or chosen not in schema.names:
            problem = "names no column of pictures" if column is None else f"has no column {column!r}"
            raise ParameterError(
                f"{printable_path(path)} {problem}: it has {', '.join(schema.names)}; name one by --column"
            )
        if not _holds_pictures(schema.field(chosen).type):
            raise ParameterError(
                f"column {chosen!r} of {printable_path(path)} is of type {schema.field(chosen).type}, which "
                "holds neither bytes nor paths: name another by --column"
            )
        return cls(path, name, folder, chosen, 0, count)

    def __len__(self) -> int:
        return self.stop - self.start

    def part(self, start: int, stop: int) -> "ParquetRows":
        return ParquetRows(
            self.path,
            self.name,
            self.folder,
            self.column,
            self.start + start,
            min(self.start + stop, self.stop),
        )

    def pictures(self) -> Iterator[Picture]:
        number = self.start
        for value in self._values():
            yield self._picture(number, value)
            number += 1

    def identity(self) -> Iterator[str]:
        yield f"{valid_name(self.name)} {self.path.stat().st_size} {len(self)} {self.column}"

    def _values(self) -> Iterator[Any]:
        """Yield the column's values, reading of the file no more row groups than hold some of them."""
        with damage_told(self.path), pq.ParquetFile(self.path, pre_buffer=False, buffer_size=1 << 20) as file:
            first = 0
            for group in range(file.num_row_groups):
                end = first + file.metadata.row_group(group).num_rows
                low, high = max(self.start, first), min(self.stop, end)
                if low < high:
                    skip, left = low - first, high - low
                    for batch in file.iter_batches(_ROWS_AT_ONCE, [group], [self.column], use_threads=False):
                        wanted = batch.column(0).slice(skip, left)
                        skip, left = max(0, skip - len(batch)), left - len(wanted)
                        yield from (value.as_py() for value in wanted)
                        if not left:
                            break
                first = end

    def _picture(self, number: int, value: Any) -> Picture:
        here = f"{valid_name(self.name)}#{number}"
        data, path = (value.get("bytes"), value.get("path")) if isinstance(value, dict) else (value, None)
        if isinstance(data, str):
            data, path = None, data
        if data is not None:
            return Picture(path or here, partial(read, data))
        if not path:
            return Picture(here, _nothing)
        if is_address(path):
            return Picture(path, partial(read_address, path))
        below = Path(self.folder, path)
        if not below.exists() and (beside := self.path.parent / path).exists():
            below = beside
        return Picture(path, partial(_read_regular, below))


def sources_of(names: Iterable[str | Path], folder: Path, column: str | None = None) -> list[PictureSource]:
    """Return the sources that are named, in order; image files beside each other are one.

    Names that are not absolute count from ``folder``. ``column`` is that of Parquet files
    (:class:`ParquetRows`). Raises ParameterError for a video, and what the sources raise.
    """
    sources: list[PictureSource] = []
    files: list[str] = []

    def end_files() -> None:
        nonlocal files
        if files:
            sources.append(ImageFiles(os.fspath(folder), files))
            files = []

    for entry in names:
        name = os.fspath(entry)
        suffix = Path(name).suffix.lower()
        if has_video_suffix(Path(name)):
            raise ParameterError(f"{printable_path(name)} is a video: `detector detect` looks at its frames")
        if suffix == TAR_SUFFIX:
            end_files()
            sources.append(TarMembers.of(folder / name, name))
        elif suffix in PARQUET_SUFFIXES:
            end_files()
            sources.append(ParquetRows.of(folder / name, name, os.fspath(folder), column))
        else:
            files.append(name)
    end_files()
    return sources


def _is_picture(member: tarfile.TarInfo) -> bool:
    name = Path(member.name).name
    return member.isreg() and has_image_suffix(name) and not is_system_file(name)


def _doubt_of_end(path: Path, offset: int) -> str | None:
    """Return why a tar file whose members were read up to ``offset`` may have more, None if an empty block
    ends it, with nothing but empty ones behind.

    The standard library takes every end for a good one. Raises TarError for a file that ends, or is damaged,
    within the header of a member.
    """
    with path.open("rb") as file:
        file.seek(offset)
        block = file.read(tarfile.BLOCKSIZE)
        if not block:
            return "it has no end mark, and may be cut off behind its last file"
        if len(block) < tarfile.BLOCKSIZE:
            raise tarfile.ReadError("it ends within the header of a file")
        if any(block):
            raise tarfile.ReadError(f"there is no header of a file at byte {offset:,}")
        while block := file.read(1 << 20):
            if any(block):
                return "it goes on behind its end mark, where nothing is read"
    return None


def _holds_pictures(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return any(kind.field(index).name in ("bytes", "path") for index in range(kind.num_fields))
    kinds = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(holds(kind) for holds in kinds)


def _read_regular(path: Path) -> Decoded:
    if not stat.S_ISREG(path.stat().st_mode):
        raise OSError(EINVAL, "is no file")  # a pipe would wait for ever
    try:
        return read_file(path)
    except ImageError as error:  # the row names the picture, and not where this machine has it
        raise ImageError(error.code, str(error).removeprefix(f"{path}: ")) from error


def _nothing() -> Decoded:
    raise ImageError("empty", "The row has neither bytes nor a path.")

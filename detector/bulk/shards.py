"""Shards of the output: Parquet files with a row for each picture of a chunk."""

from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from detector.bulk.parquet_damage import damage_told
from detector.errors import DatasetError
from detector.io.result_files import Result

_NUMBER = pa.float32()

SCHEMA = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("error", pa.string()),
        (
            "detections",
            pa.list_(
                pa.struct(
                    [
                        ("label", pa.string()),
                        ("class_id", pa.string()),
                        ("score", _NUMBER),
                        ("box", pa.struct([(side, _NUMBER) for side in ("xmin", "ymin", "xmax", "ymax")])),
                    ]
                )
            ),
        ),
    ]
)
"""Of a row. A picture that was looked at has all but ``error``; one that could not be read has ``error``
alone. Scores are rounded to four places and corners to one, as in JSON."""

_JOB = b"job"
_ROWS_AT_ONCE = 64


@dataclass(frozen=True)
class Shard:
    """A finished shard: the bytes of its file, and how many of its pictures could not be read."""

    number: int
    data: bytes
    pictures: int
    failed: int


class ShardBuilder:
    """Takes the rows of one shard; in memory they are Arrow's, not Python's."""

    def __init__(self, number: int, job: str) -> None:
        """``job`` is the digest of the job, by which the file is told from those of others."""
        self._number, self._job = number, job
        self._rows: list[Result] = []
        self._batches: list[pa.RecordBatch] = []
        self._failed = 0
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, image: str, width: int, height: int, detections: list[dict[str, Any]]) -> None:
        """Add a picture and its detections, as ``Detections.as_dicts`` has them."""
        found = [
            {**entry, "class_id": entry["wnid"] if "wnid" in entry else entry["class_id"]}
            for entry in detections
        ]
        self._add({"image": image, "width": width, "height": height, "detections": found})

    def add_error(self, image: str, error: str) -> None:
        """Add a picture that could not be read."""
        self._failed += 1
        self._add({"image": image, "error": error})

    def finish(self) -> Shard:
        """Return the shard."""
        self._pack()
        table = pa.Table.from_batches(self._batches, SCHEMA.with_metadata({_JOB: self._job}))
        file = BytesIO()
        pq.write_table(table, file, compression="zstd")
        return Shard(self._number, file.getvalue(), self._count, self._failed)

    def _add(self, row: Result) -> None:
        self._count += 1
        self._rows.append(row)
        if len(self._rows) == _ROWS_AT_ONCE:
            self._pack()

    def _pack(self) -> None:
        self._batches.append(pa.RecordBatch.from_pylist(self._rows, SCHEMA.with_metadata({_JOB: self._job})))
        self._rows = []


def shard_path(folder: Path, number: int) -> Path:
    """Return where a shard lies."""
    return folder / f"part-{number:05d}.parquet"


def failures_of(path: Path, job: str, pictures: int) -> int | None:
    """Return how many pictures of a finished shard could not be read.

    None for a file that is not there, is damaged, or is not the shard of this job with so many pictures: it
    has to be made.
    """
    try:
        with damage_told(path), pq.ParquetFile(path) as file:
            if (file.schema_arrow.metadata or {}).get(_JOB) != job.encode():
                return None
            if file.metadata.num_rows != pictures:
                return None
            return pictures - file.read(use_threads=False).column("error").null_count
    except (FileNotFoundError, DatasetError):
        return None


def results_of(path: Path) -> Iterator[Result]:
    """Yield the results of a shard's pictures that were looked at, as other files of results take them."""
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, use_threads=False):
            for row in batch.to_pylist():
                if row["error"] is None:
                    yield {**row, "detections": [_rounded(entry) for entry in row["detections"]]}


def _rounded(entry: dict[str, Any]) -> dict[str, Any]:
    """Take back what 32 bits add to a number of few places."""
    box = {side: round(value, 1) for side, value in entry["box"].items()}
    return {**entry, "score": round(entry["score"], 4), "box": box}

"""Pictures, in each of the containers that a job reads."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image


def jpeg(number: int) -> bytes:
    """A small picture, another for each number: 40 + number pixels wide."""
    rng = np.random.default_rng(number)
    file = io.BytesIO()
    Image.fromarray(rng.integers(0, 256, (30, 40 + number, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()


def save_folder(folder: Path, count: int) -> Path:
    """A folder of pictures: 00.jpg and so on."""
    folder.mkdir()
    for number in range(count):
        (folder / f"{number:02}.jpg").write_bytes(jpeg(number))
    return folder


def save_tar(path: Path, members: dict[str, bytes], mode: str = "w") -> Path:
    """A tar file as WebDataset's shards are."""
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return path


def save_parquet(path: Path, columns: dict[str, list], *, row_group_size: int = 4) -> Path:
    """A Parquet file of several row groups."""
    pq.write_table(pa.table(columns), path, row_group_size=row_group_size)
    return path

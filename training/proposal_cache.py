"""Proposals of a data set's pictures, computed side by side on threads and kept on disk."""

import hashlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

import detector.proposals
from detector.boxes import Boxes
from detector.datasets.record import Record
from detector.images import load
from detector.proposals import selective_search


def cached_proposals(records: Sequence[Record], folder: Path, *, threads: int | None = None) -> list[Boxes]:
    """All selective-search boxes [R,4] of each picture, best first.

    Each picture has a file of its own, named after its bytes and the code that proposes: a stale one cannot
    be used. Files are written whole or not at all.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
        found = pool.map(lambda record: _proposals(record, folder), records)
        return list(tqdm(found, total=len(records), desc="proposals", unit="picture"))


def _proposals(record: Record, folder: Path) -> Boxes:
    key = hashlib.sha256(record.path.read_bytes() + _method()).hexdigest()[:24]
    path = folder / f"{key}.npy"
    if path.exists():
        return np.load(path, allow_pickle=False)
    boxes = selective_search(load(record.path)).boxes
    temporary = folder / f".{key}.{os.getpid()}.npy"
    np.save(temporary, boxes)
    temporary.replace(path)
    return boxes


@cache
def _method() -> bytes:
    """Digest of the code that proposes: other code, other boxes."""
    (folder,) = detector.proposals.__path__
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(folder).glob("*.py")))).digest()

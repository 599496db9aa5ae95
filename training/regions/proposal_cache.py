"""Proposals of a data set's pictures, computed side by side on threads and kept on disk."""

import copy
import hashlib
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

import detector.proposals
from detector.checkpoints import Checkpoint
from detector.datasets.record import Record
from detector.files import write_whole
from detector.images import load
from detector.proposals import MultiBox, Profile, Proposals, Proposer
from detector.proposals.multibox_head import stages_read
from detector.regions import Preprocessing

MAX_BOXES = 300
"""Proposals of a picture that are kept: training draws a few dozen of them."""


class ProposalCache:
    """The proposals of each picture, as the detector in training will get them: by ``balanced`` where the
    checkpoint has a MultiBox head, else by ``search``.

    Each picture has a file of its own, named after its bytes, the weights that propose and the code that
    does: a stale one cannot be used. Files are written whole or not at all. Nothing is kept in memory.
    """

    def __init__(
        self, folder: Path, checkpoint: Checkpoint, preprocessing: Preprocessing, *, device: str = "auto"
    ) -> None:
        """``preprocessing`` is that of the detector in training: it says at what size pictures are seen."""
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        multibox = None
        if checkpoint.multibox is not None:
            features = copy.deepcopy(checkpoint.backbone.features)  # an engine converts what it is given
            multibox = MultiBox(features, copy.deepcopy(checkpoint.multibox), preprocessing, device=device)
        self._proposer = Proposer(preprocessing, multibox)
        self._profile = Profile.SEARCH if multibox is None else Profile.BALANCED
        self._method = _method(checkpoint, preprocessing)

    def prepare(self, records: Sequence[Record], *, threads: int | None = None) -> None:
        """Propose for every picture that has no file yet."""
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            done = pool.map(self._prepare, records)
            for _ in tqdm(done, total=len(records), desc="proposals", unit="picture"):
                pass

    def of(self, record: Record) -> Proposals:
        """The proposals of one picture, best first, in its pixels; they are computed if they have to be."""
        path = self._prepare(record)
        columns = np.load(path, allow_pickle=False)  # R x 6
        return Proposals(columns[:, :4].copy(), columns[:, 4].astype(np.int8), columns[:, 5].copy())

    def _prepare(self, record: Record) -> Path:
        key = hashlib.sha256(record.path.read_bytes() + self._method).hexdigest()[:24]
        path = self._folder / key[:2] / f"{key}.npy"
        if not path.exists():
            path.parent.mkdir(exist_ok=True)
            found = self._proposer.propose(load(record.path), self._profile, MAX_BOXES)
            columns = np.concatenate(
                [found.boxes, found.source[:, None], found.objectness[:, None]], axis=1, dtype=np.float32
            )
            buffer = io.BytesIO()
            np.save(buffer, columns)
            write_whole(path, buffer.getvalue())
        return path


def _method(checkpoint: Checkpoint, preprocessing: Preprocessing) -> bytes:
    """Digest of the weights and settings that propose, and of the code: other code, other boxes."""
    digest = hashlib.sha256(_code() + json.dumps([MAX_BOXES, asdict(preprocessing)]).encode())
    if checkpoint.multibox is not None:
        features = checkpoint.backbone.features
        read = features[: stages_read(features, checkpoint.multibox.spec.stages)]
        for module in (read, checkpoint.multibox):
            for name, value in module.state_dict().items():
                digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.digest()


@cache
def _code() -> bytes:
    (folder,) = detector.proposals.__path__
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(folder).glob("*.py")))).digest()

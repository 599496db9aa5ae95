"""Proposals of a data set's images, computed on threads and kept on disk."""

import hashlib
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

import detector.proposals
from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image
from detector.errors import ImageError
from detector.inference.engine import place
from detector.inference.image_maps import ImageMaps, ImageNetwork
from detector.inference.region_crops import Preprocessing
from detector.models.checkpoint import Checkpoint
from detector.models.multibox_head import stages_read
from detector.options import Profile
from detector.proposals.multibox import MultiBox
from detector.proposals.profiles import Proposer
from detector.structures.proposals import Proposals
from training.trainer.run_state import read_sealed, write_sealed

MAX_BOXES = 300
"""Proposals of an image that are kept: training draws a few dozen of them."""

_FORMAT = 2
"""Version of the files: another one gives them other names."""


class ProposalCache:
    """The proposals of each image, as the detector in training will get them.

    There is one file an image, named after a digest of its bytes and of the weights and the code that
    propose: a stale one is never used. Files are written whole or not at all, with a digest: a damaged one is
    made again. Nothing is kept in memory.
    """

    def __init__(
        self,
        folder: Path,
        checkpoint: Checkpoint,
        preprocessing: Preprocessing,
        *,
        shared: bool = False,
        profile: Profile | None = None,
        device: str = "auto",
    ) -> None:
        """Propose as a detector of this checkpoint and of ``preprocessing`` would.

        ``profile`` is balanced if not given, or search without a MultiBox head; ``shared`` says that the
        detector's regions share the trunk.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        multibox = None
        if checkpoint.multibox is not None:
            head = checkpoint.multibox
            network = place(ImageNetwork(checkpoint.backbone.features, head=head), device=device)
            multibox = MultiBox(head.spec, ImageMaps(network, head.spec.image, preprocessing), preprocessing)
        self._proposer = Proposer(preprocessing, multibox, searches_small=shared)
        self._profile = self._proposer.check_profile(profile)
        self._method = _method(checkpoint, preprocessing, [str(self._profile), shared])
        self._damage_reported = False

    def prepare(self, records: Sequence[AnnotatedImage], *, threads: int | None = None) -> None:
        """Propose for every image that has no file yet.

        One that can no longer be read is passed over; :meth:`of` raises for it.
        """
        with ThreadPoolExecutor(threads or os.cpu_count()) as pool:
            done = pool.map(self._prepare, records)
            for _ in tqdm(done, total=len(records), desc="proposals", unit="picture"):
                pass

    def of(self, record: AnnotatedImage) -> Proposals:
        """Return the proposals of one image, best first, in its pixels; compute them where no file has them.

        Raises ImageError if the image cannot be read.
        """
        return self.with_digest(record)[0]

    def with_digest(self, record: AnnotatedImage) -> tuple[Proposals, bytes]:
        """Return the proposals as :meth:`of` does, and a digest of the image's bytes."""
        digest = _digest(record.path)
        key = hashlib.sha256(digest + self._method).hexdigest()[:24]
        path = self._folder / key[:2] / f"{key}.npy"
        data = read_sealed(path) if path.exists() else b""
        if not data:
            if data is None and not self._damage_reported:
                tqdm.write(f"{path} is damaged, perhaps not alone: proposals are made again")
                self._damage_reported = True
            data = self._propose(record)
            write_sealed(path, data)
        columns = np.load(io.BytesIO(data), allow_pickle=False)  # R x 6
        return Proposals(columns[:, :4].copy(), columns[:, 4].astype(np.int8), columns[:, 5].copy()), digest

    def _prepare(self, record: AnnotatedImage) -> None:
        with suppress(ImageError):
            self.with_digest(record)

    def _propose(self, record: AnnotatedImage) -> bytes:
        proposals = self._proposer.propose(load_image(record), self._profile, MAX_BOXES)
        columns = np.concatenate(
            [proposals.boxes, proposals.source[:, None], proposals.objectness[:, None]],
            axis=1,
            dtype=np.float32,
        )  # R x 6
        buffer = io.BytesIO()
        np.save(buffer, columns)
        return buffer.getvalue()


def _digest(path: Path) -> bytes:
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError as error:
        raise ImageError("unreadable", f"{path}: {error.strerror or error}") from error


def _method(checkpoint: Checkpoint, preprocessing: Preprocessing, settings: list[object]) -> bytes:
    """Digest the weights, the settings and the code that propose: other ones give other boxes."""
    whole = [_FORMAT, MAX_BOXES, asdict(preprocessing), *settings]
    digest = hashlib.sha256(_code() + json.dumps(whole).encode())
    if checkpoint.multibox is not None:
        digest.update(json.dumps(checkpoint.multibox.spec.as_json()).encode())
        features = checkpoint.backbone.features
        read = features[: stages_read(features, checkpoint.multibox.spec.stages)]
        for module in (read, checkpoint.multibox):
            for name, value in module.state_dict().items():
                digest.update(name.encode() + value.contiguous().numpy().tobytes())
    return digest.digest()


@cache
def _code() -> bytes:
    (folder,) = detector.proposals.__path__
    return hashlib.sha256(b"".join(file.read_bytes() for file in sorted(Path(folder).rglob("*.py")))).digest()

"""Proposals of a data set's images, computed on threads and kept on disk.

Where MultiBox reads the maps that regions are cut out of, the trunk runs once over an image for both: its
maps are kept in memory until its regions are wanted. Letters for shapes: K channels, h x w cells.
"""

import hashlib
import io
import json
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache, partial
from itertools import pairwise
from pathlib import Path
from threading import Lock

import numpy as np
from tqdm import tqdm

import detector.proposals
from detector.datasets.annotated_image import AnnotatedImage
from detector.datasets.load_image import load_image
from detector.errors import ImageError
from detector.inference.executor import run_directly
from detector.inference.image_maps import ImageMaps, MapsAtScale
from detector.inference.preprocessing import Preprocessing
from detector.inference.region_crops import ImageView
from detector.inference.shared_maps import SharedMaps
from detector.inference.torch_engine import TorchEngine, choose_device, place
from detector.inference.torch_networks import ImageNetwork
from detector.models.checkpoint import Checkpoint
from detector.models.multibox_head import stages_read
from detector.options import Profile
from detector.proposals.multibox import MultiBox
from detector.proposals.profiles import Proposer
from detector.structures.proposals import Proposals
from detector.threads import run_alone
from training.trainer.run_state import read_sealed, write_sealed

MAX_BOXES = 300
"""Proposals of an image that are kept: training draws a few dozen of them."""

_FORMAT = 2
"""Version of the files: another one gives them other names."""

_KEPT_BYTES = 1 << 30
"""Maps in memory: those of about 300 images at two scales. Further ones are made again when wanted."""

_KEPT_IMAGES = 250
"""Images whose maps find room in memory, but for very long ones."""


def profile_to_learn_from(init: Checkpoint, shared: SharedMaps | None) -> Profile | None:
    """Return MultiBox alone where it reads the maps that regions are cut out of: its boxes cost nothing then,
    and selective search would take a third of the time until training begins. None leaves the choice."""
    multibox = init.multibox
    reads = multibox is not None and shared is not None and multibox.spec.image == shared.image
    return Profile.FAST if reads else None


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
        shared: SharedMaps | None = None,
        profile: Profile | None = None,
        device: str = "auto",
    ) -> None:
        """Propose as a detector of this checkpoint and of ``preprocessing`` would.

        ``profile`` is balanced if not given, or search without a MultiBox head; ``shared`` says how the
        detector's regions share the trunk, if they do.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._preprocessing = preprocessing
        head, multibox = checkpoint.multibox, None
        alike = head is None or (shared is not None and head.spec.image == shared.image)
        self._maps: ImageMaps | None = None
        if shared is not None:
            features = checkpoint.backbone.features
            network = ImageNetwork(features, stage=shared.stage, head=head if alike else None)
            self._maps = ImageMaps(_engine(network, device), shared, preprocessing)
        if head is not None:
            maps = self._maps if alike else None
            if maps is None:
                network = ImageNetwork(checkpoint.backbone.features, head=head)
                maps = ImageMaps(_engine(network, device), head.spec.image, preprocessing)
            multibox = MultiBox(head.spec, maps, preprocessing)
        self._proposer = Proposer(preprocessing, multibox, searches_small=shared is not None)
        self._profile = self._proposer.check_profile(profile)
        self._method = _method(checkpoint, preprocessing, [str(self._profile), shared is not None])
        # A GPU has no memory to spare, and makes maps in no time.
        keeps = alike and head is not None and self._profile is not Profile.SEARCH
        self._room = _KEPT_BYTES if keeps and choose_device(device).type == "cpu" else 0
        self._kept: dict[bytes, list[MapsAtScale]] = {}
        self._keeping = Lock()
        self._damage_reported = False

    def groups(self, records: Sequence[AnnotatedImage]) -> list[tuple[int, Sequence[AnnotatedImage]]]:
        """Split images into groups, in order -> the number of each group's first image, and its images.

        The maps of a group find room in memory: who prepares a group and asks for its maps before the next
        one has the trunk run once over each image. One group where no maps are kept.
        """
        count = -(-len(records) // _KEPT_IMAGES) if self._room > 0 else min(len(records), 1)
        bounds = np.linspace(0, len(records), count + 1).astype(int).tolist()
        return [(first, records[first:last]) for first, last in pairwise(bounds)]

    def prepare(
        self, records: Sequence[AnnotatedImage], *, keep_maps: bool = False, threads: int | None = None
    ) -> None:
        """Propose for every image that has no file yet; ``keep_maps`` for :meth:`maps_of`, as far as there is
        room.

        One that can no longer be read is passed over; :meth:`of` raises for it.
        """
        with ThreadPoolExecutor(threads or os.cpu_count(), initializer=run_alone) as pool:
            done = pool.map(partial(self._prepare, keep_maps), records)
            for _ in tqdm(done, total=len(records), desc="proposals", unit="picture"):
                pass

    def of(self, record: AnnotatedImage) -> Proposals:
        """Return the proposals of one image, best first, in its pixels; compute them where no file has them.

        Raises ImageError if the image cannot be read.
        """
        return self.with_digest(record)[0]

    def with_digest(self, record: AnnotatedImage) -> tuple[Proposals, bytes]:
        """Return the proposals as :meth:`of` does, and a digest of the image's bytes."""
        return self._with_digest(record, keep_maps=False)

    def _with_digest(self, record: AnnotatedImage, *, keep_maps: bool) -> tuple[Proposals, bytes]:
        digest = _digest(record.path)
        key = hashlib.sha256(digest + self._method).hexdigest()[:24]
        path = self._folder / key[:2] / f"{key}.npy"
        data = read_sealed(path) if path.exists() else b""
        if not data:
            if data is None and not self._damage_reported:
                tqdm.write(f"{path} is damaged, perhaps not alone: proposals are made again")
                self._damage_reported = True
            data = self._propose(record, digest if keep_maps else None)
            write_sealed(path, data)
        columns = np.load(io.BytesIO(data), allow_pickle=False)  # R x 6
        return Proposals(columns[:, :4].copy(), columns[:, 4].astype(np.int8), columns[:, 5].copy()), digest

    def _prepare(self, keep_maps: bool, record: AnnotatedImage) -> None:
        with suppress(ImageError):
            self._with_digest(record, keep_maps=keep_maps)

    def maps_of(self, record: AnnotatedImage) -> list[MapsAtScale]:
        """Return the ``maps`` [1,K,h,w] at each scale that the regions of one image are cut out of.

        They are rounded to 16 bits, as regions' are on disk: it makes no difference whether they were kept
        since its proposals were made, or are made now. What was kept is handed out once. Raises ImageError if
        the image cannot be read.
        """
        assert self._maps is not None
        if self._kept:
            digest = _digest(record.path)
            with self._keeping:
                kept = self._kept.pop(digest, None)
                self._room += _bytes_of(kept) if kept is not None else 0
            if kept is not None:
                return kept
        view = ImageView(load_image(record), self._preprocessing)
        return _rounded(self._maps.of(view, executor=run_directly))

    def forget_maps(self) -> None:
        """Let go of maps that nobody will ask for."""
        with self._keeping:
            self._room += sum(map(_bytes_of, self._kept.values()))
            self._kept.clear()

    def _keep(self, digest: bytes, view: ImageView) -> None:
        """Keep the maps of an image's view, if there is room."""
        if self._room <= 0:
            return
        assert self._maps is not None
        maps = _rounded(self._maps.of(view, executor=run_directly))
        with self._keeping:
            if digest not in self._kept and _bytes_of(maps) <= self._room:
                self._room -= _bytes_of(maps)
                self._kept[digest] = maps

    def _propose(self, record: AnnotatedImage, digest: bytes | None) -> bytes:
        """Propose; with a ``digest`` keep the maps under it."""
        view = ImageView(load_image(record), self._preprocessing)
        proposals = self._proposer.propose(view, self._profile, MAX_BOXES)
        if digest is not None:
            self._keep(digest, view)
        columns = np.concatenate(  # R x 6
            [proposals.boxes, proposals.source[:, None], proposals.objectness[:, None]],
            axis=1,
            dtype=np.float32,
        )
        buffer = io.BytesIO()
        np.save(buffer, columns)
        return buffer.getvalue()


def _engine(network: ImageNetwork, device: str) -> TorchEngine:
    return TorchEngine(place(network, device=device), batch=1, buckets=())


def _bytes_of(scales: Sequence[MapsAtScale]) -> int:
    return sum(part.outputs["maps"].nbytes for part in scales)


def _rounded(scales: Sequence[MapsAtScale]) -> list[MapsAtScale]:
    return [replace(part, outputs={"maps": part.outputs["maps"].bfloat16()}) for part in scales]


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

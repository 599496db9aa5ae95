"""Detections of pictures kept on disk as they come: an evaluation that is killed goes on where it was."""

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

import detector
from detector.io.atomic_write import write_whole
from detector.structures.boxes import Boxes
from detector.structures.detections import Detections
from training.trainer.run_state import read_sealed, write_sealed

_PARTS = ("boxes", "labels", "scores", "proposals", "seconds")


@dataclass(frozen=True)
class Found:
    """What one run of a detector gave of one picture: proposals [R,4] and detections, and seconds."""

    detections: Detections
    proposals: Boxes
    proposal_seconds: float
    seconds: float


class DetectionCache:
    """A folder of one file a picture, for one detector and one way to run it.

    ``settings`` is everything that detections depend on besides the picture; together with the code of the
    package ``detector`` it is the key. A picture is known by its path, size and time of change.
    """

    def __init__(self, folder: Path, settings: Mapping[str, object]) -> None:
        text = json.dumps({**settings, "code": code_digest()}, sort_keys=True, default=str)
        self._folder = folder / hashlib.sha256(text.encode()).hexdigest()[:20]
        write_whole(self._folder / "settings.json", text.encode())

    def get(self, image: Path) -> Found | None:
        """Return what was kept of a picture, or None; a damaged file counts as none."""
        try:
            data = read_sealed(self._path(image))
            parts = load(data) if data is not None else {}
            boxes, labels, scores, proposals, seconds = (parts[name] for name in _PARTS)
        except (OSError, SafetensorError, KeyError):
            return None
        return Found(Detections(boxes, labels, scores), proposals, float(seconds[0]), float(seconds[1]))

    def put(self, image: Path, found: Found) -> None:
        """Keep what was found in a picture."""
        kept = found.detections
        seconds = np.array([found.proposal_seconds, found.seconds])
        values = kept.boxes, kept.labels, kept.scores, found.proposals, seconds
        tensors = {name: np.ascontiguousarray(value) for name, value in zip(_PARTS, values, strict=True)}
        write_sealed(self._path(image), save(tensors))

    def _path(self, image: Path) -> Path:
        status = image.stat()
        key = f"{image.resolve()} {status.st_size} {status.st_mtime_ns}"
        return self._folder / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}.safetensors"


@cache
def code_digest() -> str:
    """Return a digest of the package's source: what other code has found is not what this code finds."""
    digest = hashlib.sha256()
    home = Path(detector.__file__).parent
    for path in sorted(home.rglob("*.py")):
        digest.update(f"{path.relative_to(home)}\n".encode() + path.read_bytes())
    return digest.hexdigest()

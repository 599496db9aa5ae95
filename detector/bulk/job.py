"""The folder of a job: its manifest, written before any work, and what is still to be done."""

import fcntl
import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from detector import __version__
from detector.bulk.plan import Chunk, Plan
from detector.bulk.shards import Shard, failures_of, shard_path
from detector.errors import ParameterError
from detector.inference.settings import DetectorSettings
from detector.io.atomic_write import check_writable, write_error, write_whole
from detector.io.terminal_text import printable_path

MANIFEST = "_manifest.json"
"""What reads a folder as one table (pandas, Spark) passes over names that begin so."""

QUARANTINE = "_quarantine.json"
"""What :class:`detector.inference.quarantine.Quarantine` notes."""

_LOCK = ".lock"


def manifest_of(plan: Plan, settings: DetectorSettings) -> dict[str, Any]:
    """Describe a job by all that its rows depend on.

    Of weights the digests count, not where they lie; on which device they run is left out.
    """
    classes = settings.classes
    return {
        "version": __version__,
        "inputs": {"pictures": len(plan), "sha256": plan.digest()},
        "shard_size": plan.shard_size,
        "shards": plan.shards,
        "settings": {
            "weights": settings.weights_digests(),
            "engine": str(settings.engine),
            "precision": str(settings.precision),
            "profile": None if settings.profile is None else str(settings.profile),
            "max_proposals": settings.max_proposals,
            "score_threshold": settings.score_threshold,
            "max_detections": settings.max_detections,
            "classes": list(classes) if isinstance(classes, tuple) else classes,
            "tile": settings.tile,
        },
    }


@dataclass
class Job:
    """A job in its folder. ``digest`` tells it from others; ``done`` and ``failed`` count pictures."""

    folder: Path
    plan: Plan
    manifest: dict[str, Any]
    done: int = 0
    failed: int = 0

    @property
    def digest(self) -> str:
        """The SHA-256 of the manifest."""
        return sha256(json.dumps(self.manifest, sort_keys=True).encode()).hexdigest()

    def pending(self) -> list[int]:
        """Count what finished shards hold; return the numbers of those that are to be made."""
        self.done = self.failed = 0
        numbers = []
        for number in range(self.plan.shards):
            size = min(self.plan.shard_size, len(self.plan) - number * self.plan.shard_size)
            failed = failures_of(shard_path(self.folder, number), self.digest, size)
            if failed is None:
                numbers.append(number)
            else:
                self.done += size
                self.failed += failed
        return numbers

    def chunks(self, numbers: list[int]) -> Iterator[Chunk]:
        """Yield the chunks of some shards."""
        wanted = set(numbers)
        return (chunk for chunk in self.plan.chunks() if chunk.number in wanted)

    def keep(self, shard: Shard) -> None:
        """Write a shard, at once or not at all. Raises WriteError."""
        write_whole(shard_path(self.folder, shard.number), shard.data)
        self.done += shard.pictures
        self.failed += shard.failed


@contextmanager
def open_job(folder: Path, plan: Plan, settings: DetectorSettings) -> Iterator[Job]:
    """Begin a job in a folder, or go on with the one that is there; nobody else may meanwhile.

    Raises ParameterError where the folder holds another job, naming what differs, or shards of none, and
    where another process is at work in it; WriteError where it cannot be written.
    """
    path = folder / MANIFEST
    check_writable(path)
    job = Job(folder, plan, manifest_of(plan, settings))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / _LOCK).open("ab")
    except OSError as error:
        raise write_error(folder, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ParameterError(f"another process is at work in {printable_path(folder)}") from error
        except OSError:  # a file system without locks: shards are whole all the same
            pass
        if path.exists():
            _check_same(path, job.manifest)
        elif next(folder.glob("part-*.parquet"), None) is not None:
            raise ParameterError(
                f"{printable_path(folder)} holds shards but no {MANIFEST}: name another folder for the output"
            )
        else:
            write_whole(path, json.dumps(job.manifest, indent=1).encode())
        yield job


def _check_same(path: Path, asked: dict[str, Any]) -> None:
    there: Any = None
    with suppress(ValueError):
        there = json.loads(path.read_bytes())
    if not isinstance(there, dict):
        raise ParameterError(f"{printable_path(path)} is no manifest of a job: name another folder")
    before, now = dict(_leaves(there)), dict(_leaves(asked))
    differences = [
        f"{name} is {json.dumps(before.get(name))} there and {json.dumps(now.get(name))} here"
        for name in {**now, **before}
        if before.get(name) != now.get(name)
    ]
    if differences:
        raise ParameterError(
            f"{printable_path(path.parent)} holds another job: {'; '.join(differences)}. Ask for the "
            "same, or name another folder"
        )


def _leaves(value: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    for name, below in value.items():
        if isinstance(below, dict):
            yield from _leaves(below, f"{before}{name}.")
        else:
            yield f"{before}{name}", below

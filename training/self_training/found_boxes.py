"""What a detector finds of the known class of each picture, kept on disk: a run goes on where it was."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from detector.errors import ParameterError
from detector.inference.detector import Detector
from detector.inference.executor import Executor, run_directly
from detector.io.atomic_write import write_whole
from detector.io.image_header import read_header
from detector.structures.classes import ClassList
from training.self_training.classified_pictures import ClassifiedPicture
from training.trainer.command_errors import add_path_to_errors

FLOOR = 0.05
"""Boxes of a lower score are not kept: nobody would take them for an object."""


@dataclass(frozen=True)
class FoundBoxes:
    """The boxes of its class that were found in a picture, best first.

    ``width`` and ``height`` are those of the stored pixels, which boxes [D,4] are over too; scores [D] in
    :data:`FLOOR` to 1.
    """

    width: int
    height: int
    boxes: list[list[float]]
    scores: list[float]


def find_boxes(
    detector: Detector, picture: ClassifiedPicture, *, executor: Executor = run_directly
) -> FoundBoxes:
    """Find the boxes of a picture's class, suppressed among that class alone; ``executor`` runs the network.

    Raises ImageError for a picture that cannot be read, FileNotFoundError for one that is gone.
    """
    header = read_header(picture.path)
    view = detector.view(picture.path)
    detector.prepare(view, executor=executor)
    proposals = detector.propose(view, executor=executor)
    regions = detector.score(view, proposals, executor=executor)
    found = detector.select(regions, score_threshold=FLOOR, classes=[picture.label])
    boxes = header.stored(found.boxes).astype(float).round(2).tolist()
    return FoundBoxes(header.width, header.height, boxes, found.scores.astype(float).round(4).tolist())


class FoundFile:
    """The boxes that were found, by picture, in a file: JSON, one object a line.

    The first line says with which weights. A picture is known again by its name, class, size and time of
    change. What a kill left of a line is no line.
    """

    def __init__(self, path: Path, detector: Mapping[str, str], classes: ClassList) -> None:
        """Open the file, or begin it; ``detector`` identifies what finds the boxes.

        Raises ParameterError if the file is that of another detector, or no such file.
        """
        self._path, self._classes = path, classes
        self._known: dict[str, FoundBoxes] = {}
        header = {"detector": dict(detector)}
        lines = [json.dumps(header)]
        if path.exists():
            with add_path_to_errors(path):
                first, *rest = path.read_text(errors="replace").split("\n")
            if _parsed(first) != header:
                raise ParameterError(
                    f"{path} holds what another detector found, or is damaged: delete it, or give another "
                    "--output"
                )
            for line in rest[:-1]:  # after the last line feed nothing is whole
                kept = _kept(_parsed(line))
                if kept is not None:
                    self._known[kept[0]] = kept[1]
                    lines.append(line)
        with add_path_to_errors(path):
            write_whole(path, "".join(f"{line}\n" for line in lines).encode())

    def get(self, picture: ClassifiedPicture) -> FoundBoxes | None:
        """Return what was found in a picture; None if it was not looked at, or has changed since."""
        key = self._key(picture)
        return self._known.get(key) if key is not None else None

    def add(self, picture: ClassifiedPicture, found: FoundBoxes) -> None:
        """Keep what was found in a picture; of one that is gone by now nothing, for none is known by it."""
        key = self._key(picture)
        if key is None:
            return
        self._known[key] = found
        with add_path_to_errors(self._path), self._path.open("a") as file:
            file.write(json.dumps({"key": key, **asdict(found)}) + "\n")

    def _key(self, picture: ClassifiedPicture) -> str | None:
        try:
            status = picture.path.stat()
        except OSError:
            return None  # read_header says what is wrong with it
        return f"{self._classes.ids[picture.label]} {status.st_size} {status.st_mtime_ns} {picture.name}"


def file_digest(path: Path) -> str:
    """Return the digest of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except ValueError:
        return None


def _kept(entry: Any) -> tuple[str, FoundBoxes] | None:
    """Return the picture that a line is of and what was found in it, None if the line is damaged."""
    try:
        key = entry.pop("key")
        return key, FoundBoxes(**entry)
    except (AttributeError, KeyError, TypeError):
        return None

"""Pictures with boxes of objects of any class, gathered from several data sets: what MultiBox learns from."""

import hashlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.datasets.formats.agnostic import FILE_NAME, read_agnostic
from detector.datasets.formats.ilsvrc import read_ilsvrc_det
from detector.datasets.formats.ilsvrc_cls import read_ilsvrc_loc
from detector.datasets.open import Format, open_dataset
from detector.datasets.problems import OnProblem, Problem
from detector.errors import DatasetError
from detector.structures.boxes import iou

SAME_IOU = 0.7
"""Boxes of two data sets that overlap by so much in one picture are one object."""


@dataclass(frozen=True)
class _Owned:
    """A record, and whether it is of ILSVRC, whose names of pictures are unique over all its tasks."""

    record: AnnotatedImage
    is_ilsvrc: bool


def read_object_images(
    roots: Sequence[Path],
    exclude: Container[str],
    *,
    validation: Sequence[AnnotatedImage] = (),
    on_problem: OnProblem = OnProblem.REPORT,
) -> Dataset:
    """All pictures with boxes below the given folders, each picture once; labels mean nothing.

    A folder is an ILSVRC download (its DET and CLS-LOC training pictures and ``agnostic_boxes.json`` are
    read, as far as they are there), or a set in another layout, of which every split is read
    (:func:`detector.datasets.open.open_dataset`). One picture is what is one file, what has the same name in
    ILSVRC, or what has the same name and the same bytes elsewhere: files that share only their names are
    several. A picture that several sets hold keeps the boxes of all, and ``partial`` is true only if no set
    has labelled every object; one with crowds has not.

    exclude:
        Names without suffix of pictures to leave out, of whichever set.
    validation:
        Pictures of ILSVRC that are measured: they are left out.

    Raises DatasetError for a folder that holds none of these.
    """
    owned: list[_Owned] = []
    problems: list[Problem] = []
    for root in roots:
        for dataset, is_ilsvrc in _read(root, on_problem):
            owned += [
                _Owned(replace(one, partial=one.partial or len(one.crowds) > 0), is_ilsvrc)
                for one in dataset.records
                if len(one.boxes)
            ]
            problems += dataset.problems
    owned = [one for one in owned if one.record.path.stem not in exclude]
    measured = [_Owned(record, True) for record in validation]
    key_of = _keys([*measured, *owned])
    out = {key_of[id(one)] for one in measured}
    kept = [one for one in owned if key_of[id(one)] not in out]
    records = merged((one.record for one in kept), [key_of[id(one)] for one in kept])
    return Dataset(records, ["object"], problems)


def merged(records: Iterable[AnnotatedImage], keys: Iterable[object]) -> list[AnnotatedImage]:
    """One record a key, which says what picture each is of, in the order of their first."""
    found: dict[object, AnnotatedImage] = {}
    for record, key in zip(records, keys, strict=True):
        record = replace(record, labels=np.zeros(len(record.boxes), np.int64))
        known = found.get(key)
        found[key] = record if known is None else _joined(known, record)
    return list(found.values())


def _keys(owned: Sequence[_Owned]) -> dict[int, object]:
    """What picture each record is of, by the record's identity. Only files of one name are compared."""
    groups: dict[str, list[_Owned]] = {}
    for one in owned:
        groups.setdefault(one.record.path.stem, []).append(one)
    found: dict[int, object] = {}
    for stem, group in groups.items():
        in_ilsvrc = [one for one in group if one.is_ilsvrc]
        prints = {_print(one.record.path) for one in in_ilsvrc} if len(in_ilsvrc) < len(group) else set()
        for one in group:
            if one.is_ilsvrc:
                found[id(one)] = stem
            elif len(group) == 1:
                found[id(one)] = one.record.path
            else:
                mine = _print(one.record.path)
                found[id(one)] = stem if mine in prints else (stem, mine)
    return found


def _print(path: Path) -> object:
    """What tells a file's content from others': a digest; the path itself where the file cannot be read."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError:
        return path


def _joined(a: AnnotatedImage, b: AnnotatedImage) -> AnnotatedImage:
    """The boxes of both, those of the fully labelled one first."""
    if a.partial and not b.partial:
        a, b = b, a
    scale = np.array([a.width / b.width, a.height / b.height] * 2, np.float32)
    boxes = b.boxes * scale
    new = (iou(boxes, a.boxes) < SAME_IOU).all(axis=1)
    boxes = np.concatenate([a.boxes, boxes[new]])
    difficult = np.concatenate([a.difficult, b.difficult[new]])
    return replace(a, boxes=boxes, labels=np.zeros(len(boxes), np.int64), difficult=difficult)


def _read(root: Path, on_problem: OnProblem) -> list[tuple[Dataset, bool]]:
    """The data sets of a folder, and whether each is of ILSVRC."""
    if found := _read_ilsvrc(root, on_problem):
        return [(dataset, True) for dataset in found]
    folder = open_dataset(root)
    if folder.format is Format.ILSVRC:
        raise DatasetError(f"{root} is an ILSVRC download that lists no training pictures (ILSVRC/ImageSets)")
    return [(folder.read(on_problem=on_problem), False)]


def _read_ilsvrc(root: Path, on_problem: OnProblem) -> list[Dataset]:
    """Every part of an ILSVRC download that is there."""
    home = root / "ILSVRC" if (root / "ILSVRC").is_dir() else root
    det, loc = home / "ImageSets" / "DET", home / "ImageSets" / "CLS-LOC"
    found = []
    if _holds(det, "train.txt", "train_1.txt"):
        found.append(read_ilsvrc_det(root, "train", on_problem=on_problem))
    if _holds(loc, "train_loc.txt", "train_cls.txt"):
        found.append(read_ilsvrc_loc(root, "train", on_problem=on_problem))
    if _holds(home.parent, FILE_NAME) and (det.is_dir() or loc.is_dir()):
        found.append(read_agnostic(root, on_problem=on_problem))
    return found


def _holds(folder: Path, *names: str) -> bool:
    return any((folder / name).is_file() for name in names)

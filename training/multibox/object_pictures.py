"""Pictures with boxes of objects of any class, gathered from several data sets: what MultiBox learns from."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from detector.boxes import iou
from detector.datasets.agnostic import FILE_NAME, read_agnostic
from detector.datasets.coco import read_coco
from detector.datasets.ilsvrc_cls import read_ilsvrc_loc
from detector.datasets.ilsvrc_det import read_ilsvrc_det
from detector.datasets.problems import OnProblem
from detector.datasets.record import Dataset, Record
from detector.datasets.voc import read_voc
from detector.datasets.voc_official import is_voc
from detector.errors import DatasetError

SAME_IOU = 0.7
"""Boxes of two data sets that overlap by so much in one picture are one object."""


def read_object_pictures(
    roots: Sequence[Path], exclude: frozenset[str], *, on_problem: OnProblem = OnProblem.REPORT
) -> Dataset:
    """All pictures with boxes below the given folders, each picture once; labels mean nothing.

    A folder is an ILSVRC download (its DET and CLS-LOC training pictures and ``agnostic_boxes.json`` are
    read, as far as they are there), a PASCAL VOC one (``JPEGImages``, ``Annotations``), or a COCO one
    (``annotations/instances_*.json`` beside folders of pictures). A picture is known by its file's name: one
    that several sets hold keeps the boxes of all, and ``partial`` is true only if no set has labelled every
    object. Pictures whose name without suffix is in ``exclude`` are left out.

    Raises DatasetError for a folder that is none of these.
    """
    datasets = [dataset for root in roots for dataset in _read(root, on_problem)]
    records = [
        record
        for dataset in datasets
        for record in dataset.records
        if len(record.boxes) and record.path.stem not in exclude
    ]
    return Dataset(
        merged(records), ["object"], [problem for dataset in datasets for problem in dataset.problems]
    )


def merged(records: Iterable[Record]) -> list[Record]:
    """One record a picture file's name, in the order of their first."""
    found: dict[str, Record] = {}
    for record in records:
        record = replace(record, labels=np.zeros(len(record.boxes), np.int64))
        known = found.get(record.path.stem)
        found[record.path.stem] = record if known is None else _joined(known, record)
    return list(found.values())


def _joined(a: Record, b: Record) -> Record:
    """The boxes of both, those of the fully labelled one first."""
    if a.partial and not b.partial:
        a, b = b, a
    scale = np.array([a.width / b.width, a.height / b.height] * 2, np.float32)
    boxes = b.boxes * scale
    new = (iou(boxes, a.boxes) < SAME_IOU).all(axis=1)
    boxes = np.concatenate([a.boxes, boxes[new]])
    difficult = np.concatenate([a.difficult, b.difficult[new]])
    return replace(a, boxes=boxes, labels=np.zeros(len(boxes), np.int64), difficult=difficult)


def _read(root: Path, on_problem: OnProblem) -> list[Dataset]:
    if found := _read_ilsvrc(root, on_problem):
        return found
    if instances := sorted((root / "annotations").glob("instances_*.json")):
        return [
            read_coco(path, root / path.stem.removeprefix("instances_"), on_problem=on_problem)
            for path in instances
        ]
    if is_voc(root):
        return [read_voc(root, on_problem=on_problem)]
    raise DatasetError(
        f"{root} is no ILSVRC download that lists training pictures (ILSVRC/ImageSets), no PASCAL VOC one "
        "(JPEGImages/) and no COCO one (annotations/instances_*.json)"
    )


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

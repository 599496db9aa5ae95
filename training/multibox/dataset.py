"""Images with boxes of objects of any class, gathered from several data sets: what MultiBox learns from."""

import hashlib
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detector.datasets.annotated_image import AnnotatedImage, Dataset
from detector.datasets.formats.agnostic import FILE_NAME
from detector.datasets.open import DataFolder, Format, open_dataset
from detector.datasets.problems import OnProblem, Problem
from detector.errors import DatasetError
from detector.structures.boxes import iou

SAME_IOU = 0.7
"""Boxes of two data sets that overlap by so much in one picture are one object."""


@dataclass(frozen=True)
class _Sourced:
    """An annotated image, and the layout that it was read from."""

    record: AnnotatedImage
    format: Format


def read_object_images(
    roots: Sequence[Path],
    exclude: Container[str],
    *,
    format: Format | None = None,
    split: str | None = None,
    validation: Sequence[AnnotatedImage] = (),
    validation_format: Format = Format.ILSVRC,
    on_problem: OnProblem = OnProblem.REPORT,
) -> Dataset:
    """Read all images with boxes of the given folders, each image once, with the one class "object".

    Each folder is opened by :func:`detector.datasets.open.open_dataset`. Of an ILSVRC download the training
    images of DET and CLS-LOC and ``agnostic_boxes.json`` are read, as far as they are there; of a set in
    another layout every split. One image is what is one file, what has the same name in ILSVRC, or what has
    the same name and the same bytes elsewhere: files that share only their names are several images. An image
    of several sets keeps the boxes of all. It is ``partial`` if no set has labelled every object in it; a set
    with crowds in it has not.

    exclude:
        Names without suffix of images to leave out, of whichever set.
    format, split:
        The layout of the folders, and the split or list file to read of each, in place of what is said above.
    validation, validation_format:
        Images that are measured, and the layout that they are of: they are left out.

    Raises DatasetError for a folder that holds no data set.
    """
    images: list[_Sourced] = []
    problems: list[Problem] = []
    for root in roots:
        for folder, part in _parts(root, format, split):
            dataset = folder.read(part, on_problem=on_problem)
            images += [
                _Sourced(replace(record, partial=record.partial or len(record.crowds) > 0), folder.format)
                for record in dataset.records
                if len(record.boxes) and record.path.stem not in exclude
            ]
            problems += dataset.problems
    measured = [_Sourced(record, validation_format) for record in validation]
    keys = _keys([*measured, *images])
    left_out, kept = set(keys[: len(measured)]), keys[len(measured) :]
    pairs = [(image.record, key) for image, key in zip(images, kept, strict=True) if key not in left_out]
    records = merged((record for record, _ in pairs), [key for _, key in pairs])
    return Dataset(records, ["object"], problems)


def merged(records: Iterable[AnnotatedImage], keys: Iterable[object]) -> list[AnnotatedImage]:
    """Merge images with the same key into one each, in the order of their first."""
    by_key: dict[object, AnnotatedImage] = {}
    for record, key in zip(records, keys, strict=True):
        record = replace(record, labels=np.zeros(len(record.boxes), np.int64))
        by_key[key] = _merge(by_key[key], record) if key in by_key else record
    return list(by_key.values())


def _keys(images: Sequence[_Sourced]) -> list[object]:
    """Return a key for each image, equal for those that are one image. Only files of one name are
    compared."""
    groups: dict[str, list[int]] = {}
    for index, image in enumerate(images):
        groups.setdefault(image.record.path.stem, []).append(index)
    keys: list[object] = [None] * len(images)
    for stem, group in groups.items():
        of_ilsvrc = [index for index in group if images[index].format.is_ilsvrc]
        is_mixed = len(of_ilsvrc) < len(group)
        known = {_digest(images[index].record.path) for index in of_ilsvrc} if is_mixed else set()
        for index in group:
            path = images[index].record.path
            if images[index].format.is_ilsvrc:
                keys[index] = stem
            elif len(group) == 1:
                keys[index] = path
            else:
                digest = _digest(path)
                keys[index] = stem if digest in known else (stem, digest)
    return keys


def _digest(path: Path) -> object:
    """Return the digest of a file's bytes; the path itself where it cannot be read."""
    try:
        return hashlib.blake2b(path.read_bytes(), digest_size=16).digest()
    except OSError:
        return path


def _merge(a: AnnotatedImage, b: AnnotatedImage) -> AnnotatedImage:
    """Return one image with the boxes of both, those of the fully labelled one first."""
    if a.partial and not b.partial:
        a, b = b, a
    scale = np.array([a.width / b.width, a.height / b.height] * 2, np.float32)
    boxes = b.boxes * scale
    new = (iou(boxes, a.boxes) < SAME_IOU).all(axis=1)
    boxes = np.concatenate([a.boxes, boxes[new]])
    difficult = np.concatenate([a.difficult, b.difficult[new]])
    return replace(a, boxes=boxes, labels=np.zeros(len(boxes), np.int64), difficult=difficult)


def _parts(root: Path, format: Format | None, split: str | None) -> list[tuple[DataFolder, str | None]]:
    """Return the data sets to read of a folder, and the split of each (None: all)."""
    if format is None and split is None:
        home = root / "ILSVRC" if (root / "ILSVRC").is_dir() else root
        det, loc = home / "ImageSets" / "DET", home / "ImageSets" / "CLS-LOC"
        parts: list[tuple[Format, str | None]] = []
        if _holds(det, "train.txt", "train_1.txt"):
            parts.append((Format.ILSVRC, "train"))
        if _holds(loc, "train_loc.txt", "train_cls.txt"):
            parts.append((Format.ILSVRC_LOC, "train"))
        if _holds(home.parent, FILE_NAME) and (det.is_dir() or loc.is_dir()):
            parts.append((Format.AGNOSTIC, None))
        if parts:
            return [(open_dataset(root, part), part_split) for part, part_split in parts]
    folder = open_dataset(root, format)
    if split is None and folder.format in (Format.ILSVRC, Format.ILSVRC_LOC):
        if "train" not in folder.splits:
            raise DatasetError(
                f"{root} is an ILSVRC download that lists no training pictures (ILSVRC/ImageSets)"
            )
        split = "train"
    return [(folder, split)]


def _holds(folder: Path, *names: str) -> bool:
    return any((folder / name).is_file() for name in names)

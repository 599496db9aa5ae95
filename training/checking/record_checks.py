"""What the boxes and the classes of a data set's records say of it."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from detector.datasets.record import Record
from detector.structures.boxes import iou
from detector.structures.classes import ClassList
from training.checking.class_balance import Counts
from training.checking.findings import Finding

TINY_SIDE = 8
"""Pixels; warped to a region's 224 such a side is blown up 28 times, and little of it is left to see."""

SAME_BOX = 0.9
"""IoU from which two boxes are one object drawn twice: people who draw one object agree less."""

FEW_OBJECTS = 20
"""Objects to learn from, under which a class is noted."""


def check_boxes(split: str, records: Sequence[Record], classes: ClassList) -> Iterator[Finding]:
    """Objects that were drawn twice or are tiny, and pictures without any."""
    for record in records:
        if not len(record.boxes):
            yield Finding("no_objects", split, record.image_id, f"{record.path} has no object")
            continue
        names = [classes.names[label] for label in record.labels]
        for index in np.flatnonzero((record.boxes[:, 2:] - record.boxes[:, :2]).min(axis=1) < TINY_SIDE):
            size = "x".join(f"{side:g}" for side in record.boxes[index, 2:] - record.boxes[index, :2])
            message = f"{record.path}: object {index + 1} ({names[index]}) has {size} pixels"
            yield Finding("tiny_box", split, record.image_id, message)
        first, second = np.nonzero(np.triu(iou(record.boxes, record.boxes) >= SAME_BOX, k=1))
        for a, b in zip(first, second, strict=True):
            kind = "duplicate_box" if record.labels[a] == record.labels[b] else "two_classes"
            message = (
                f"{record.path}: objects {a + 1} ({names[a]}) and {b + 1} ({names[b]}) have the same box: "
                f"{', '.join(f'{side:g}' for side in record.boxes[a])}"
            )
            yield Finding(kind, split, record.image_id, message)


def check_classes(counts: Mapping[str, Counts], train: str, classes: ClassList) -> Iterator[Finding]:
    """Classes that cannot be learnt, or not measured; ``train`` is the split that is learnt from."""
    others = [split for split in counts if split != train]
    for label, name in enumerate(classes.names):
        learnt = int(counts[train].objects[label])
        measured = {split: int(counts[split].objects[label]) for split in others}
        if not learnt and not any(measured.values()):
            yield Finding("class_unused", "", name, f"{name} has no object")
        elif not learnt:
            where = ", ".join(f"{number} in {split}" for split, number in measured.items() if number)
            yield Finding("class_not_trained", train, name, f"{name} has {where} and none in {train}")
        else:
            if learnt < FEW_OBJECTS:
                message = f"{name} has {learnt} objects in {train or 'the data set'}"
                yield Finding("few_objects", train, name, message)
            if others and not any(measured.values()):
                message = f"{name} has {learnt} objects in {train} and none in {', '.join(others)}"
                yield Finding("class_not_measured", train, name, message)
    yield from _similar(classes)


def _similar(classes: ClassList) -> Iterator[Finding]:
    seen: dict[str, str] = {}
    for name in classes.names:
        plain = "".join(letter for letter in name.casefold() if letter.isalnum())
        if plain in seen:
            yield Finding("similar_classes", "", name, f"{seen[plain]!r} and {name!r} are two classes")
        seen.setdefault(plain, name)

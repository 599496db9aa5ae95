"""Objects of which only the place is known, joined to pictures in which one class was annotated."""

from collections import Counter
from dataclasses import replace

import numpy as np

from detector.datasets.record import Dataset, Problem, Record
from detector.structures.boxes import iou

SAME_IOU = 0.5
"""A box without a class that overlaps an annotated one by so much is the same object."""


def with_unknown_objects(learned: Dataset, agnostic: Dataset) -> Dataset:
    """The records of ``learned``, an ILSVRC set, those that ``agnostic`` also holds completed by its boxes.

    Such a picture is no longer partial: every object's place is known, though not every object's class;
    unless ``agnostic`` has lost a box of it. It is the same picture if it is the same file, or the only one
    that has the name, which in ILSVRC tells copies of other tasks. Where several learned pictures have the
    name of one, none gets its boxes, which is a problem; so are those of ``agnostic`` itself.
    """
    by_path = {record.path: record for record in agnostic.records}
    by_name = {record.path.stem: record for record in agnostic.records}
    times = Counter(path.stem for path in {record.path for record in learned.records})
    records, problems = [], [*learned.problems, *agnostic.problems]
    for record in learned.records:
        name = record.path.stem
        other = by_path.get(record.path, by_name.get(name))
        if other is not None and record.partial and other.path != record.path and times[name] > 1:
            message = (
                f"boxes without a class are of {other.path}: whether {record.path} is a copy is not known"
            )
            problems.append(Problem(record.image_id, "duplicate_id", message))
            other = None
        records.append(_completed(record, other))
    return Dataset(records, learned.class_ids, problems)


def _completed(record: Record, other: Record | None) -> Record:
    if other is None or not record.partial:
        return record
    scale = np.array([record.width / other.width, record.height / other.height] * 2, np.float32)
    boxes = other.boxes * scale
    further = (iou(boxes, record.boxes) < SAME_IOU).all(axis=1)
    return replace(record, unknown=boxes[further], partial=other.partial)

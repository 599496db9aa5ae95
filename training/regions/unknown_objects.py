"""Objects of which only the place is known, joined to pictures in which one class was annotated."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from detector.boxes import iou
from detector.datasets.record import Dataset, Record

SAME_IOU = 0.5
"""A box without a class that overlaps an annotated one by so much is the same object."""


def with_unknown_objects(records: Sequence[Record], agnostic: Dataset) -> list[Record]:
    """The records, those that ``agnostic`` also holds completed by its boxes.

    Such a picture is no longer partial: every object's place is known, though not every object's class. A
    picture is known by its file's name.
    """
    known = {record.path.stem: record for record in agnostic.records}
    return [_completed(record, known.get(record.path.stem)) for record in records]


def _completed(record: Record, other: Record | None) -> Record:
    if other is None or not record.partial:
        return record
    scale = np.array([record.width / other.width, record.height / other.height] * 2, np.float32)
    boxes = other.boxes * scale
    further = (iou(boxes, record.boxes) < SAME_IOU).all(axis=1)
    return replace(record, unknown=boxes[further], partial=False)

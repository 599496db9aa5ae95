"""The one record that every data set reader yields."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from detector.boxes import Boxes


@dataclass(frozen=True)
class Record:
    """One picture and its objects.

    boxes [G,4] float32, continuous (``xmax`` of a file is ``xmax + 1`` here); labels [G] int64, indices into
    the data set's class list. ``partial`` is true where objects of other classes may stand unlabelled, as
    in ILSVRC DET train: such a picture says nothing about classes it does not list.
    """

    image_id: str
    path: Path
    width: int
    height: int
    boxes: Boxes
    labels: NDArray[np.int64]
    partial: bool = False


@dataclass(frozen=True)
class Problem:
    """Something wrong with one picture or one of its boxes.

    ``kind`` is stable and meant for programs: ``missing_image``, ``unreadable_image``,
    ``missing_annotation``, ``unreadable_annotation``, ``unknown_class``, ``box_outside`` or ``empty_box``.
    """

    image_id: str
    kind: str
    message: str


@dataclass(frozen=True)
class Dataset:
    """Records in the order of the list file, the classes they index, and what was wrong on the way."""

    records: list[Record]
    class_ids: list[str]
    problems: list[Problem] = field(default_factory=list)

"""The one record that every detection reader yields, and its smaller sister for classification.

What a reader does about a broken picture or box: stop at once, or go on and name it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from detector.datasets.folder_tree import FolderTree
from detector.errors import DatasetError, ParameterError
from detector.structures.boxes import Boxes

ProblemKind = Literal[
    "missing_image",
    "unreadable_image",
    "missing_annotation",
    "unreadable_annotation",
    "size_mismatch",
    "unknown_class",
    "unreadable_object",
    "box_outside",
    "empty_box",
    "duplicate_id",
    "filename_mismatch",
    "odd_value",
    "unread_kind",
]


@dataclass(frozen=True)
class AnnotatedImage:
    """One picture and its objects.

    boxes [G,4] float32, continuous (``xmax`` of a file is ``xmax + 1`` here), in pixels of the upright
    picture of ``width`` x ``height``; labels [G] int64, indices into the data set's class list. ``partial``
    is true where objects of other classes may stand unlabelled, as in most of ILSVRC DET train, and where an
    object could not be read: such a picture says nothing about classes it does not list. ``unknown`` [U,4]:
    further objects, of which only the place is known and not the class. ``crowds`` [K,4]: regions of many
    objects that nobody marked one by one: neither objects nor background. difficult [G] bool is PASCAL VOC's
    mark for objects that its measure leaves aside, being too small or too hidden to be asked for; left out,
    none is.

    Raises ParameterError if ``difficult`` does not hold one mark an object.
    """

    image_id: str
    path: Path
    width: int
    height: int
    boxes: Boxes
    labels: NDArray[np.int64]
    partial: bool = False
    unknown: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.float32))
    difficult: NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    crowds: Boxes = field(default_factory=lambda: np.zeros((0, 4), np.float32))

    def __post_init__(self) -> None:
        if not len(self.difficult):
            object.__setattr__(self, "difficult", np.zeros(len(self.boxes), np.bool_))
        if len(self.difficult) != len(self.boxes):
            raise ParameterError(
                f"picture {self.image_id} has {len(self.boxes)} boxes but {len(self.difficult)} marks of "
                "difficulty: give one a box, or none at all"
            )


@dataclass(frozen=True)
class LabelledImage:
    """One picture and its one class, as the classification task has it; ``label`` indexes the class list."""

    image_id: str
    path: Path
    label: int


@dataclass(frozen=True)
class Problem:
    """Something wrong with one picture or one of its boxes.

    ``kind`` is stable and meant for programs; ``message`` names the file and is meant for people.
    """

    image_id: str
    kind: ProblemKind
    message: str


@dataclass(frozen=True)
class Dataset:
    """Records in the order of the list file, the classes they index, and what was wrong on the way."""

    records: list[AnnotatedImage]
    class_ids: list[str]
    problems: list[Problem] = field(default_factory=list)


@dataclass(frozen=True)
class LabelledDataset:
    """Labelled pictures in the order of the list file, their classes, and what was wrong on the way."""

    images: list[LabelledImage]
    class_ids: list[str]
    problems: list[Problem] = field(default_factory=list)


_CONSEQUENCE: dict[ProblemKind, str] = {
    "missing_image": "leaves this picture out",
    "unreadable_image": "leaves this picture out",
    "missing_annotation": "leaves this picture out",
    "unreadable_annotation": "leaves this picture out",
    "size_mismatch": "brings its boxes to the size of the picture file",
    "unknown_class": "leaves this object out",
    "unreadable_object": "leaves this object out",
    "box_outside": "cuts this box at the picture's edge",
    "empty_box": "leaves this object out",
    "duplicate_id": "leaves this picture out",
    "filename_mismatch": "takes the picture that is called as its annotation is",
    "odd_value": "passes over this value",
    "unread_kind": "passes over these files",
}


def left_out(problems: Iterable[Problem]) -> int:
    """Count the pictures that problems have left out: whoever states a figure says so beside it."""
    return len({one.image_id for one in problems if _CONSEQUENCE[one.kind] == _CONSEQUENCE["missing_image"]})


def unread_folders(tree: FolderTree) -> list[Problem]:
    """A problem for each folder of a tree that could not be read."""
    return [
        Problem(
            str(path),
            "unreadable_annotation",
            f"folder {path} cannot be read ({why}): all that lies in it is left out",
        )
        for path, why in tree.unread.items()
    ]


class OnProblem(Enum):
    """``STOP`` raises DatasetError at the first problem; ``REPORT`` goes on and collects them all."""

    STOP = "stop"
    REPORT = "report"


@dataclass(frozen=True)
class ProblemLog:
    """Collects the problems of one reading, or stops at the first."""

    on_problem: OnProblem
    problems: list[Problem] = field(default_factory=list)

    def report(self, image_id: str, kind: ProblemKind, message: str) -> None:
        """Take note of a problem. Raises DatasetError, naming the picture, where the caller chose STOP."""
        if self.on_problem is OnProblem.STOP:
            raise DatasetError(
                f"{image_id}: {message}. Correct the file or take the picture off the list; "
                f"reading with OnProblem.REPORT {_CONSEQUENCE[kind]} and goes on"
            )
        self.problems.append(Problem(image_id, kind, message))
